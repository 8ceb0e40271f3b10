# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What it costs the app to be scraped: the load at a fixed rate, with and without, and what can be said of the two.

benchmarks/monitoring.py runs it.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: What the two may be apart.
GOAL_PERCENT = 2.0
RESAMPLES = 5000


class LoadError(Exception):
    """The load did not go through."""


def latencies(encoded: str) -> list[float]:
    """Milliseconds of each request, from `vegeta encode --to json`."""
    hits = [json.loads(line) for line in encoded.splitlines() if line]
    bad = [hit for hit in hits if hit["code"] != 200]
    if not hits or bad:
        reason = f"{bad[0]['code']} {bad[0]['error']}" if bad else "no request was sent"
        raise LoadError(f"{len(bad)} of {len(hits)} requests failed, such as: {reason}")
    return [hit["latency"] / 1e6 for hit in hits]


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent are not above."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


@dataclass
class Scraping:
    """Segments of load, in pairs of which one was scraped."""

    rate: int
    segment_seconds: int
    scraped: list[list[float]] = field(default_factory=list)
    alone: list[list[float]] = field(default_factory=list)

    def run(self, pairs: int, switch: Callable[[bool], None], load: Callable[[], list[float]]) -> None:
        """Both, by turns: A B B A, so that a machine that gets slower does it to both."""
        for pair in range(pairs):
            for scraped in (True, False) if pair % 2 else (False, True):
                switch(scraped)
                (self.scraped if scraped else self.alone).append(load())

    def of_segments(self, percent: int, segments: Sequence[Sequence[float]]) -> list[float]:
        return [percentile(segment, percent) for segment in segments]

    def apart_percent(self) -> float:
        """How much more the median p99 of the scraped segments is."""
        return _apart(self.of_segments(99, self.scraped), self.of_segments(99, self.alone))

    def interval(self) -> tuple[float, float]:
        """Where 95 % of such differences lie when the pairs are drawn again, by bootstrap with a fixed seed."""
        pairs = list(zip(self.of_segments(99, self.scraped), self.of_segments(99, self.alone), strict=True))
        chance = random.Random(0)  # noqa: S311 # nothing secret
        found = sorted(
            _apart([one for one, _ in drawn], [other for _, other in drawn])
            for drawn in (chance.choices(pairs, k=len(pairs)) for _ in range(RESAMPLES))
        )
        return found[int(RESAMPLES * 0.025)], found[int(RESAMPLES * 0.975)]

    def verdict(self) -> str:
        """What these figures say of the goal, and what they don't."""
        low, high = self.interval()
        said = f"p99 is {self.apart_percent():+.1f} % with scraping; 95 % of resamples are from {low:+.1f} to {high:+.1f} %."
        if high <= GOAL_PERCENT:
            return f"{said} **Met**: no more than {GOAL_PERCENT:g} % apart."
        if low > GOAL_PERCENT:
            return f"{said} **Missed**: more than {GOAL_PERCENT:g} % apart."
        noise = max(self.spread_percent(self.alone), self.spread_percent(self.scraped))
        return (
            f"{said} **Not decided**: p99 differs by up to {noise:.0f} % between segments of the same kind, so "
            f"{GOAL_PERCENT:g} % can't be told from noise with so few."
        )

    def spread_percent(self, segments: Sequence[Sequence[float]]) -> float:
        """How far the segments of one kind are apart among themselves."""
        found = self.of_segments(99, segments)
        return 100 * (max(found) - min(found)) / statistics.median(found)

    def report(self) -> list[str]:
        """Table and verdict, in Markdown."""
        lines = [
            "| Requests for `/` | p50 (ms) | p99 (ms) | p99, least and most of a segment (ms) | Segments | Requests |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for name, segments in (("not scraped", self.alone), ("scraped every 5 s", self.scraped)):
            p50, p99 = self.of_segments(50, segments), self.of_segments(99, segments)
            lines.append(
                f"| {name} | {statistics.median(p50):.2f} | {statistics.median(p99):.2f} | {min(p99):.2f} to {max(p99):.2f} "
                f"| {len(segments)} | {sum(map(len, segments))} |"
            )
        return [*lines, "", self.verdict()]


def _apart(scraped: Sequence[float], alone: Sequence[float]) -> float:
    return 100 * (statistics.median(scraped) / statistics.median(alone) - 1)
