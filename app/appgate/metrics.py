# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Rate, errors and duration of requests, and how busy the workers are."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

import prometheus_client
from prometheus_client import multiprocess, registry, values

from appgate import __version__, multiproc

# Methods that get a label of their own. Anything else a client may make up is OTHER: labels that
# clients choose are a way to fill up the memory.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# The page answers in about a millisecond: buckets from there to the proxy's own time limit.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

if multiproc.VARIABLE in os.environ:
    # Files by slot, not by process id: see appgate.multiproc.
    values.ValueClass = values.MultiProcessValue(multiproc.slot)

REGISTRY = prometheus_client.CollectorRegistry()

DURATION = prometheus_client.Histogram(
    "appgate_http_request_duration_seconds",
    "Time from the request's first byte in the app to the response's last.",
    ("method", "route", "status"),
    buckets=_BUCKETS,
    registry=REGISTRY,
)
IN_FLIGHT = prometheus_client.Gauge(
    "appgate_http_requests_in_flight",
    "Requests that are being answered now.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
THREADS = prometheus_client.Gauge(
    "appgate_worker_threads",
    "Threads of all live workers: what in-flight requests can use.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
WORKERS = prometheus_client.Gauge(
    "appgate_workers",
    "Live worker processes.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
STARTED = prometheus_client.Counter(
    "appgate_workers_started",
    "Workers started since the server began; more than appgate_workers means replacements.",
    registry=REGISTRY,
)
BUILD = prometheus_client.Gauge(
    "appgate_build_info",
    "Always 1; the labels say what is running.",
    ("version", "revision"),
    multiprocess_mode="max",
    registry=REGISTRY,
)


def method_label(method: str) -> str:
    """The method, if it is one that gets its own label."""
    return method if method in _METHODS else "OTHER"


@functools.lru_cache(maxsize=1024)
def _duration(method: str, route: str, status: str) -> prometheus_client.Histogram:
    return DURATION.labels(method, route, status)


def observe(method: str, route: str, status: str, seconds: float) -> None:
    """Count one finished request."""
    _duration(method_label(method), route, status).observe(seconds)


def worker_started(threads: int, revision: str) -> None:
    """Announce this worker: called once in it, after it has its slot."""
    # A slot that is taken over has its counters kept. Its live gauges are gone with the dead
    # worker's file, so setting them starts afresh.
    WORKERS.set(1)
    THREADS.set(threads)
    IN_FLIGHT.set(0)
    STARTED.inc()
    BUILD.labels(__version__, revision).set(1)


def worker_died(slot: str) -> None:
    """Remove what a dead worker no longer does: called in the arbiter."""
    multiprocess.mark_process_dead(slot)


class _Workers(registry.Collector):
    """The metrics of all workers, without the files that one of them is making just now.

    Such a file has no length for a moment, and prometheus_client's own collector fails as a whole:
    https://github.com/prometheus/client_python/issues/1199
    """

    def collect(self) -> Iterable[prometheus_client.Metric]:
        files = [str(file) for file in Path(os.environ[multiproc.VARIABLE]).glob("*.db") if _has_length(file)]
        merged: Iterable[prometheus_client.Metric] = multiprocess.MultiProcessCollector.merge(files)
        return merged


def _has_length(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # the live gauges of a worker that has just died
        return False


def exposition() -> tuple[bytes, str]:
    """The metrics of all workers as text, and its content type."""
    source = REGISTRY
    if multiproc.VARIABLE in os.environ:
        source = prometheus_client.CollectorRegistry()
        source.register(_Workers())
    return prometheus_client.generate_latest(source), prometheus_client.CONTENT_TYPE_LATEST
