# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a report says about a cluster, before it becomes a page."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: A part is as wanted, may need a look, needs one, or is not there.
GOOD, WARN, BAD, OFF = "good", "warn", "bad", "off"
#: Where a table has nothing to say.
NOTHING = "\N{EN DASH}"
STATE_WORDS = {GOOD: "well", WARN: "look", BAD: "broken", OFF: "missing"}


@dataclass(frozen=True)
class Part:
    """One thing that a person asks about first; the text holds nothing that changes with every run."""

    name: str
    state: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Node:
    """A node of the cluster."""

    name: str
    state: str
    text: str
    roles: str
    version: str
    system: str
    cpu: str
    memory: str


@dataclass(frozen=True)
class Workload:
    """What runs pods."""

    namespace: str
    kind: str
    name: str
    state: str
    ready: int
    wanted: int
    text: str
    restarts: int


@dataclass(frozen=True)
class Image:
    """An image in use. Its places are namespace, pod and container."""

    name: str
    version: str
    reference: str
    used_by: tuple[str, ...]
    places: tuple[tuple[str, str, str], ...] = ()

    @property
    def short(self) -> str:
        """The reference with a digest that a person can compare."""
        name, _, digest = self.reference.partition("@sha256:")
        return f"{name}@sha256:{digest[:12]}\N{HORIZONTAL ELLIPSIS}" if digest else name


@dataclass(frozen=True)
class Chart:
    """A release of Helm."""

    release: str
    namespace: str
    name: str
    version: str
    status: str
    revision: int


@dataclass(frozen=True)
class Target:
    """Something that Prometheus asks for metrics and that does not answer."""

    job: str
    instance: str
    error: str
    since: str


@dataclass(frozen=True)
class Job:
    """All targets of one job."""

    name: str
    up: int
    total: int
    state: str


@dataclass(frozen=True)
class Alert:
    """An alert that fires, or is about to."""

    name: str
    state: str
    severity: str
    where: str
    summary: str
    detail: str
    remedy: str
    since: str


@dataclass(frozen=True)
class Series:
    """One line of a plot. The tone is the name of a colour of the page."""

    name: str
    tone: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Plot:
    """One plot, or the reason why there is none."""

    key: str
    title: str
    text: str
    unit: str
    stacked: bool = False
    times: tuple[int, ...] = ()
    series: tuple[Series, ...] = ()
    reason: str = ""
    good: bool = False


@dataclass(frozen=True)
class Marker:
    """A moment that a person wants to see in every plot."""

    time: int
    text: str


@dataclass
class Report:
    """Everything about one cluster. A list that could not be read has its reason in `reasons`, by the list's name."""

    cluster: str
    context: str
    server: str
    hours: float
    made: datetime.datetime
    version: str = ""
    unreachable: str = ""
    parts: list[Part] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    workloads: list[Workload] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    targets_down: list[Target] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    alerts_quiet: int = 0
    heartbeats: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    markers: list[Marker] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def of_state(self, *states: str) -> list[Part]:
        """The parts in one of these states."""
        return [part for part in self.parts if part.state in states]

    @property
    def state(self) -> str:
        """The worst of the parts; one that is not there is no fault."""
        if self.unreachable:
            return BAD
        return next((state for state in (BAD, WARN) if self.of_state(state)), GOOD)

    @property
    def verdict(self) -> str:
        """The whole in one line."""
        if self.unreachable:
            return "This cluster can't be reached"
        troubled = [part.name for part in self.of_state(BAD, WARN)]
        missing = listed(part.name for part in self.of_state(OFF))
        absent = f"; missing: {missing}" if missing else ""
        if troubled:
            return f"Needs a look: {listed(troubled)}{absent}"
        return f"All that is installed is well{absent}" if missing else "All is well"

    def fingerprint(self, layout: str) -> str:
        """Equal for two pages that say the same about the cluster: without times, durations and measured values."""
        said: Any = [
            layout,
            self.hours,
            self.version,
            self.unreachable,
            [(part.name, part.state, part.text) for part in self.parts],
            [(item.name, item.state, item.text, item.version) for item in self.nodes],
            [(item.namespace, item.kind, item.name, item.ready, item.wanted, item.text) for item in self.workloads],
            [item.reference for item in self.images],
            [(item.release, item.namespace, item.name, item.version, item.revision) for item in self.charts],
            [(item.job, item.instance) for item in self.targets_down],
            [(item.name, item.state, item.where) for item in self.alerts],
            sorted(self.reasons.items()),
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def count(number: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    found: Sequence[str] = list(names)
    rest = len(found) - most
    return ", ".join(found[:most]) + (f" and {rest} more" if rest > 0 else "")


def duration(seconds: float) -> str:
    """How long, in the two units that matter."""
    whole = max(0, int(seconds))
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole // 60} min" if whole >= 60 else f"{whole} s"
