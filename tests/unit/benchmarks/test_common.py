# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Tables and plots are written by a command that runs for long: they must not fail at its end."""

from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path

import pytest

from benchmarks import common, converge, monitoring
from benchmarks.common import BenchmarkError, Work, plot, results, write

WORKS = (
    Work("fast", "one", "Fast & good", "`fast`", goal_seconds=5),
    Work("slow", "one", "Slow", "`slow`", by_hand=True),
    Work("never", "two", "Never run", "`never`"),
)
SECONDS = {"fast": [4.0, 2.0, 3.0], "slow": [60.0]}


def test_the_table_has_what_was_run() -> None:
    lines = results(WORKS, SECONDS)
    assert lines[2:] == [
        "| Fast & good | `fast` | 3.00 | 2.00 | 4.00 | 3 | 5: met |",
        "| Slow | `slow` | 60.00 | 60.00 | 60.00 | 1 |  |",
    ]


def test_the_plot_is_a_picture_of_it() -> None:
    texts = [element.text for element in xml.etree.ElementTree.fromstring(plot(WORKS, SECONDS)).iter()]  # noqa: S314 # our own
    assert {"Fast & good", "Slow", "3.00", "60.00"} <= set(texts)
    assert "Never run" not in texts


@pytest.mark.parametrize("works", [converge.WORKS, monitoring.WORKS])
def test_each_line_belongs_to_a_group_that_can_be_asked_for(works: tuple[Work, ...]) -> None:
    groups = {*converge.GROUPS, *monitoring.GROUPS}
    assert {work.group for work in works} <= groups
    assert len({work.key for work in works}) == len(works)


@pytest.mark.parametrize("name", ["converge", "monitoring"])
def test_the_document_has_a_place_for_each_benchmark(name: str) -> None:
    text = common.DOCUMENT.read_text(encoding="utf-8")
    assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1


def test_a_section_takes_the_place_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "docs" / "page.md"
    document.parent.mkdir()
    document.write_text("before\n\n<!-- x: begin -->\nold\n<!-- x: end -->\n\nafter\n", encoding="utf-8")
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setattr(common, "DOCUMENT", document)
    for _ in range(2):
        write("x", ["new"], "<svg/>")
    assert document.read_text(encoding="utf-8") == "before\n\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\n\nafter\n"
    assert (tmp_path / "docs" / "images" / "x.svg").read_text(encoding="utf-8") == "<svg/>"


def test_a_document_without_a_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "page.md"
    document.write_text("nothing\n", encoding="utf-8")
    monkeypatch.setattr(common, "DOCUMENT", document)
    with pytest.raises(BenchmarkError, match=r"page\.md lacks the marks <!-- x: begin -->"):
        write("x", ["new"], "<svg/>")


def test_the_memory_of_pods_goes_by_names_that_a_person_knows() -> None:
    lines = monitoring.memory_table(
        {
            "prometheus-kube-state-metrics-7db6f87f78-mz4xs": 18.0,
            "prometheus-prometheus-node-exporter-mxprk": 8.0,
            "prometheus-prometheus-kube-prometheus-prometheus-0": 171.0,
        }
    )
    assert lines[2:] == [
        "| prometheus-prometheus-kube-prometheus-prometheus | 171 |",
        "| prometheus-kube-state-metrics | 18 |",
        "| prometheus-prometheus-node-exporter | 8 |",
        "| **Together** (goal: under 400: met) | **197** |",
    ]
