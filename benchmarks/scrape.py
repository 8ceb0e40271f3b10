# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What it costs the app to be scraped: the load at a fixed rate, with and without, and what can be said of the two.

benchmarks/monitoring.py runs it. Segments with and without scraping differ by the machine's noise, which is far more than the goal.
So what is held against the goal is within the segments that are scraped: the p99 of all requests, next to the p99 of those that no
scrape can have touched. Both have the same noise.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

#: What the two may be apart.
GOAL_PERCENT = 2.0
RESAMPLES = 1000
#: How long before a scrape a request may have been sent that it holds up, and how long after it one that waits for what it held up.
#: By the time of sending alone: with the time of the answer, slow requests would count as touched because they are slow.
BEFORE_SECONDS = 0.05
AFTER_SECONDS = 0.1


class LoadError(Exception):
    """The load did not go through."""


class Request(NamedTuple):
    """A request: when it was sent, in seconds since 1970, and how long its answer took."""

    start: float
    milliseconds: float


class Scrape(NamedTuple):
    """A scrape: when it began, in seconds since 1970, and how long it took."""

    start: float
    seconds: float

    def touches(self, request: Request) -> bool:
        """Whether the scrape can have held up the request."""
        return self.start - BEFORE_SECONDS <= request.start <= self.start + self.seconds + AFTER_SECONDS


def requests(encoded: str) -> list[Request]:
    """The requests of `vegeta encode --to json`."""
    hits = [json.loads(line) for line in encoded.splitlines() if line]
    bad = [hit for hit in hits if hit["code"] != 200]
    if not hits or bad:
        reason = f"{bad[0]['code']} {bad[0]['error']}" if bad else "no request was sent"
        raise LoadError(f"{len(bad)} of {len(hits)} requests failed, such as: {reason}")
    return [Request(datetime.fromisoformat(hit["timestamp"]).timestamp(), hit["latency"] / 1e6) for hit in hits]


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent are not above."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


@dataclass
class Scraping:
    """Segments of load, in pairs of which one was scraped, and the scrapes."""

    scraped: list[list[Request]] = field(default_factory=list)
    alone: list[list[Request]] = field(default_factory=list)
    scrapes: list[list[Scrape]] = field(default_factory=list)

    def run(
        self,
        pairs: int,
        switch: Callable[[bool], None],
        load: Callable[[], list[Request]],
        scrapes: Callable[[], list[Scrape]],
    ) -> None:
        """Both, by turns: A B B A, so that a machine that gets slower does it to both."""
        for pair in range(pairs):
            for scraped in (True, False) if pair % 2 else (False, True):
                switch(scraped)
                (self.scraped if scraped else self.alone).append(load())
                if scraped:
                    self.scrapes.append(scrapes())

    # -- between the segments --------------------------------------------------------------------

    def between(self) -> str:
        """How far the segments of the two kinds are apart, next to those of one kind."""
        scraped, alone = _of_segments(99, self.scraped), _of_segments(99, self.alone)
        chance = random.Random(0)  # noqa: S311 # nothing secret
        pairs = list(zip(scraped, alone, strict=True))
        drawn = (chance.choices(pairs, k=len(pairs)) for _ in range(RESAMPLES))
        low, high = _middle([_apart(*(statistics.median(kind) for kind in zip(*some, strict=True))) for some in drawn])
        noise = max(100 * (max(found) - min(found)) / statistics.median(found) for found in (scraped, alone))
        return (
            f"Between the segments, p99 is {_apart(statistics.median(scraped), statistics.median(alone)):+.1f} % with scraping "
            f"(95 % of resamples: {low:+.1f} to {high:+.1f} %), while segments of the same kind differ by up to {noise:.0f} %."
        )

    # -- within those that were scraped ----------------------------------------------------------

    def _costs(self) -> list[float]:
        """By segment: how much more the p99 of all requests is than that of those that no scrape can have touched, in percent."""
        found = []
        for segment, scrapes in zip(self.scraped, self.scrapes, strict=True):
            everyone = [request.milliseconds for request in segment]
            untouched = [request.milliseconds for request in segment if not _touched(request, scrapes)]
            found.append(_apart(percentile(everyone, 99), percentile(untouched, 99)))
        return found

    def within(self) -> str:
        """What the requests that a scrape can have touched do to the p99, and what that says of the goal."""
        costs = self._costs()
        chance = random.Random(0)  # noqa: S311 # nothing secret
        low, high = _middle([statistics.median(chance.choices(costs, k=len(costs))) for _ in range(RESAMPLES)])
        pairs = zip(self.scraped, self.scrapes, strict=True)
        touched = [_touched(request, scrapes) for segment, scrapes in pairs for request in segment]
        if max(abs(low), abs(high)) <= GOAL_PERCENT:
            verdict = f"**Met**: no more than {GOAL_PERCENT:g} % apart"
        elif low > GOAL_PERCENT:
            verdict = f"**Missed**: more than {GOAL_PERCENT:g} % apart"
        else:
            verdict = f"**Not decided**: {GOAL_PERCENT:g} % can't be told from noise with so few"
        took = statistics.median(1000 * scrape.seconds for scrapes in self.scrapes for scrape in scrapes)
        return (
            f"A scrape took {took:.1f} ms (median). While scraped, {100 * sum(touched) / len(touched):.1f} % of the requests were sent "
            f"from {1000 * BEFORE_SECONDS:.0f} ms before a scrape to {1000 * AFTER_SECONDS:.0f} ms after it. With them, the p99 of a "
            f"segment is {statistics.median(costs):+.1f} % (median; 95 % of resamples: {low:+.1f} to {high:+.1f} %). {verdict}."
        )

    def report(self) -> list[str]:
        """Table and verdict, in Markdown."""
        lines = [
            "| Requests for `/` | p50 (ms) | p99 (ms) | p99, least and most of a segment (ms) | Segments | Requests |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for name, segments in (("not scraped", self.alone), ("scraped every 5 s", self.scraped)):
            p50, p99 = _of_segments(50, segments), _of_segments(99, segments)
            lines.append(
                f"| {name} | {statistics.median(p50):.2f} | {statistics.median(p99):.2f} | {min(p99):.2f} to {max(p99):.2f} "
                f"| {len(segments)} | {sum(map(len, segments))} |"
            )
        return [*lines, "", self.between(), self.within()]


def _of_segments(percent: int, segments: Sequence[Sequence[Request]]) -> list[float]:
    return [percentile([request.milliseconds for request in segment], percent) for segment in segments]


def _touched(request: Request, scrapes: Sequence[Scrape]) -> bool:
    return any(scrape.touches(request) for scrape in scrapes)


def _apart(scraped: float, alone: float) -> float:
    return 100 * (scraped / alone - 1)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """Where 95 % of the values lie."""
    ordered = sorted(values)
    return ordered[int(len(ordered) * 0.025)], ordered[int(len(ordered) * 0.975)]
