# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers and times as plots write them, and what is drawn of data with gaps."""

from __future__ import annotations

import datetime
import itertools
import re
from xml.etree import ElementTree

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.report import metrics, model, plots

NOW = datetime.datetime(2026, 11, 23, 8, 15, 42, tzinfo=datetime.UTC)


def plot(unit: str, *values: float | None, stacked: bool = False) -> model.Plot:
    times = tuple(range(1763884800, 1763884800 + 60 * len(values), 60))
    series = (model.Series("one", "ok", values),)
    return model.Plot("key", "Title", "text", unit, stacked, times, series)


@pytest.mark.parametrize(
    ("hours", "step", "points"), [(0.25, 15, 61), (1, 60, 61), (6, 600, 37), (24, 1800, 49), (720, 43200, 61)]
)
def test_moments_are_as_far_apart_as_the_range_is_long_and_end_now(hours: float, step: int, points: int) -> None:
    span = metrics.Range.until(NOW, hours)
    assert (span.step, span.points) == (step, points)
    assert len(span.times) == points
    assert {later - earlier for earlier, later in itertools.pairwise(span.times)} == {step}
    assert span.times[-1] == int(NOW.timestamp()) // min(step, 60) * min(step, 60)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0984, "0.0984"), (4.804, "4.8"), (36.31, "36.3"), (1234.6, "1,235"), (1e-9, "0")]
)
def test_three_digits(value: float, text: str) -> None:
    assert plots.digits(value) == text


@pytest.mark.parametrize(
    ("unit", "highest", "value", "text"),
    [
        ("seconds", 0.2, 0.0048, "4.8 ms"),
        ("seconds", 3.0, 0.5, "0.5 s"),
        ("share", 0.02, 0.012, "1.2 %"),
        ("rate", 40.0, 31.04, "31/s"),
        ("rate", 40.0, None, "\N{EN DASH}"),
    ],
)
def test_a_value_has_its_unit(unit: str, highest: float, value: float | None, text: str) -> None:
    assert plots.scale(unit, highest).text(value) == text


@pytest.mark.parametrize("highest", [1e-6, 0.0042, 0.7, 1, 38.2, 99, 12345, 7e9])
def test_ticks_are_round_and_reach_beyond_the_highest(highest: float) -> None:
    marks = plots.ticks(highest, "rate")
    assert marks[0] == 0
    assert highest < marks[-1] < highest * 2.2
    assert 3 <= len(marks) <= 6


@pytest.mark.parametrize("highest", [0.76, 0.97, 1.0])
def test_no_share_is_more_than_all(highest: float) -> None:
    assert plots.ticks(highest, "share")[-1] == 1


def test_one_value_between_gaps_is_seen() -> None:
    svg = plots.svg(plot("seconds", None, 0.001, None), plots.WIDE)
    assert re.search(r'<path d="M([0-9. ]+) L\1" class="line alone"', svg)


def test_a_gap_stays_a_gap() -> None:
    svg = plots.svg(plot("seconds", 0.001, 0.002, None, None, 0.003, 0.002), plots.WIDE)
    paths = re.findall(r'<path d="([^"]+)" class="line reactive', svg)
    assert len(paths) == 2
    bars = plots.svg(plot("rate", 1.0, None, 3.0, 0.0, stacked=True), plots.WIDE)
    assert len(re.findall(r'class="rect reactive', bars)) == 2


def test_a_plot_is_for_any_page_and_for_those_who_do_not_see_it() -> None:
    marker = model.Marker(1763884860, "Revision 3 <deployed>")
    svg = plots.svg(plot("rate", 1.0, 2.0, 3.0, stacked=True), plots.WIDE, [marker])
    root = ElementTree.fromstring(svg)  # noqa: S314 (our own)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "Title, text. one: 3/s now, 2/s on average, 3/s at most."
    assert "id" not in root.attrib
    assert not re.search(r"<(script|style|defs)|<!--|https?://(?!www\.w3\.org/)", svg)
    assert svg.count('class="moment"') == 3
    assert "Revision 3 &lt;deployed&gt;" in svg
    assert "08:01 UTC\none 2/s" in svg
    # A phone has no pointer to rest on a plot.
    assert 'class="moment"' not in plots.svg(plot("rate", 1.0, 2.0, 3.0), plots.NARROW)


@pytest.mark.parametrize("hours", [0.25, 0.5, 1, 3, 24, 168, 720])
@pytest.mark.parametrize("size", [plots.WIDE, plots.NARROW])
def test_times_below_a_plot_have_room(hours: float, size: tuple[str, int, int, int]) -> None:
    times = metrics.Range.until(NOW, hours).times
    shown = plots.labelled(times, size[3])
    assert 2 <= len(shown) <= size[3] + 1
    for point, moment in shown.items():
        assert 0 <= times[point] - moment < times[1] - times[0]


def test_a_round_time_stands_where_it_belongs() -> None:
    times = metrics.Range.until(NOW, 6).times
    series = (model.Series("one", "ok", tuple(1.0 for _moment in times)),)
    found = plots.svg(model.Plot("key", "Title", "text", "rate", False, times, series), plots.WIDE)
    places = dict(re.findall(r'<text x="([0-9.]+)" y="[0-9.]+" class="major">([0-9]{2}:[0-9]{2})<', found))
    assert list(places.values()) == ["03:00", "04:00", "05:00", "06:00", "07:00", "08:00"]
    points = [
        float(x)
        for x, _y in re.findall(r"[ML ]([0-9.]+) ([0-9.]+)", found.partition("line reactive")[0].rpartition('d="')[2])
    ]
    hour = (points[-1] - points[0]) / 6
    assert float(list(places)[-1]) == pytest.approx(points[-1] - hour / 4, abs=0.2)


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (61, "1 min"), (3600, "1 h"), (8000, "2 h 13 min"), (90000, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert model.duration(seconds) == text
