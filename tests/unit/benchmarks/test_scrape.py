# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What is said of two loads must follow from their figures, and no more than that."""

from __future__ import annotations

import json
import random

import pytest

from benchmarks.scrape import LoadError, Request, Scrape, Scraping, requests


def hits(*codes: int) -> str:
    shared = {"timestamp": "2026-01-01T00:00:00.123456789Z", "latency": 1_500_000}
    return "\n".join(json.dumps({**shared, "code": code, "error": f"error {code}"}) for code in codes)


def measured(*, slow_percent: float, pairs: int = 4) -> Scraping:
    """Segments of 10 s with 200 requests a second of 1 to 2 ms. Of those that a scrape touches, some are ten times as slow."""
    chance = random.Random(1)  # noqa: S311 # nothing secret
    found = Scraping()
    for pair in range(pairs):
        # From one segment to the next all is up to three times as slow: that must not be taken for the scrapes' doing.
        noise = chance.uniform(1, 3)
        sent = [Request(1000 * pair + number / 200, noise * chance.uniform(1, 2)) for number in range(2000)]
        scrapes = [Scrape(1000 * pair + second, 0.1) for second in (1, 6)]
        found.alone.append(sent)
        found.scrapes.append(scrapes)
        found.scraped.append(
            [
                request._replace(milliseconds=request.milliseconds * 10)
                if any(scrape.touches(request) for scrape in scrapes) and chance.uniform(0, 100) < slow_percent
                else request
                for request in sent
            ]
        )
    return found


def test_latencies_are_milliseconds_and_times_are_seconds() -> None:
    found = requests(hits(200, 200))
    assert [request.milliseconds for request in found] == [1.5, 1.5]
    assert found[0].start == pytest.approx(1767225600.123456)


@pytest.mark.parametrize(
    ("encoded", "says"),
    [(hits(200, 503), "1 of 2 requests failed, such as: 503 error 503"), ("", "0 of 0 requests failed.*no request")],
)
def test_a_load_with_errors_measures_nothing(encoded: str, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        requests(encoded)


def test_both_kinds_take_turns_in_the_same_number() -> None:
    switched: list[bool] = []
    scraping = Scraping()
    scraping.run(4, switched.append, lambda: [Request(0, 1), Request(0, 2)], lambda: [Scrape(0, 1)])
    assert switched == [False, True, True, False, False, True, True, False]
    assert len(scraping.scraped) == len(scraping.alone) == len(scraping.scrapes) == 4


@pytest.mark.parametrize(
    ("start", "milliseconds", "touched"),
    # How long it took says nothing: one that is slow for another reason is not touched.
    [(9.94, 1000, False), (9.96, 1, True), (10.1, 1, True), (10.29, 1, True), (10.31, 1, False)],
)
def test_a_request_is_touched_by_a_scrape_that_is_near_when_it_is_sent(
    start: float, milliseconds: float, touched: bool
) -> None:
    assert Scrape(10, 0.2).touches(Request(start, milliseconds)) == touched


@pytest.mark.parametrize(("slow_percent", "says"), [(0, "Met"), (60, "Missed"), (20, "Not decided")])
def test_the_verdict_says_no_more_than_the_figures(slow_percent: float, says: str) -> None:
    assert f"**{says}**" in measured(slow_percent=slow_percent).within()


def test_a_segment_that_is_slow_as_a_whole_does_not_hide_what_scrapes_cost_in_the_others() -> None:
    found = measured(slow_percent=60, pairs=6)
    found.scraped[0] = [request._replace(milliseconds=100 * request.milliseconds) for request in found.alone[0]]
    assert "**Missed**" in found.within()


def test_the_table_has_both_kinds_and_the_verdict() -> None:
    text = "\n".join(measured(slow_percent=0).report())
    assert "| not scraped |" in text
    assert "| scraped every 5 s |" in text
    assert "| 4 | 8000 |" in text
    assert "Between the segments, p99 is +0.0 % with scraping" in text
    assert "**Met**" in text
