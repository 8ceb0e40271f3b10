# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What is said of two loads must follow from their figures, and no more than that."""

from __future__ import annotations

import json
import random

import pytest

from benchmarks.scrape import LoadError, Scraping, latencies


def hits(*codes: int) -> str:
    return "\n".join(json.dumps({"code": code, "latency": 1_500_000, "error": f"error {code}"}) for code in codes)


def measured(scraped_factor: float, noise: float, pairs: int = 12) -> Scraping:
    """Pairs of segments: of one kind they differ by the noise, of two by the factor as well."""
    chance = random.Random(1)  # noqa: S311 # nothing secret
    found = Scraping(rate=100, segment_seconds=1)
    for _ in range(pairs):
        for segments, factor in ((found.alone, 1.0), (found.scraped, scraped_factor)):
            level = factor * (1 + chance.uniform(-noise, noise))
            segments.append([level * value / 100 for value in range(100, 300)])
    return found


def test_latencies_are_milliseconds() -> None:
    assert latencies(hits(200, 200)) == [1.5, 1.5]


@pytest.mark.parametrize(
    ("encoded", "says"),
    [(hits(200, 503), "1 of 2 requests failed, such as: 503 error 503"), ("", "0 of 0 requests failed.*no request")],
)
def test_a_load_with_errors_measures_nothing(encoded: str, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        latencies(encoded)


def test_both_kinds_take_turns_in_the_same_number() -> None:
    switched: list[bool] = []
    scraping = Scraping(rate=100, segment_seconds=1)
    scraping.run(4, switched.append, lambda: [1.0, 2.0])
    assert switched == [False, True, True, False, False, True, True, False]
    assert len(scraping.scraped) == len(scraping.alone) == 4


@pytest.mark.parametrize(
    ("factor", "noise", "says"),
    [(1.0, 0.002, "Met"), (1.01, 0.002, "Met"), (1.1, 0.002, "Missed"), (1.0, 0.3, "Not decided")],
)
def test_the_verdict_says_no_more_than_the_figures(factor: float, noise: float, says: str) -> None:
    assert f"**{says}**" in measured(factor, noise).verdict()


def test_the_table_has_both_kinds_and_the_verdict() -> None:
    text = "\n".join(measured(1.0, 0.002).report())
    assert "| not scraped |" in text
    assert "| scraped every 5 s |" in text
    assert "| 12 | 2400 |" in text
    assert "**Met**" in text
