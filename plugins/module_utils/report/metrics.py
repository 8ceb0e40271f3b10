# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What Prometheus knows: targets, alerts, and the app's last hours. It is asked through the API server, as kubectl asks."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    AccessError,
    ApiError,
    Cluster,
    in_parallel,
    is_timeout,
)
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import Catalog
from ansible_collections.appgate.platform.plugins.module_utils.report.model import (
    BAD,
    GOOD,
    NOTHING,
    WARN,
    Alert,
    Image,
    Job,
    Plot,
    Series,
    Target,
    duration,
)

ANSWER_SECONDS = 20.0
#: A plot has about this many points.
POINTS = 60
STEPS = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200)
#: A rate needs a few scrapes; four, as Grafana takes them.
SCRAPES_OF_A_RATE = 4
#: Alerts with this severity fire for ever, to show that the way of an alert works.
HEARTBEAT = "none"
BUILD_INFO = '{__name__=~".+_build_info", pod!=""}'
UNTOLD = ("unknown", "devel", "(devel)")
SUBJECTS = ("namespace", "pod", "container", "deployment", "statefulset", "daemonset", "node")
TELLERS = ("job", "instance")
SEVERITIES = ("critical", "warning", "info")
TONES = {"2": "ok", "3": "calm", "4": "warn", "5": "bad"}
QUANTILES = (("p99", 0.99, "high"), ("p95", 0.95, "middle"), ("p50", 0.5, "low"))


class NoAnswer(Exception):
    """Prometheus could not be asked; the text says why. It may be well all the same, if the user may not ask."""

    def __init__(self, text: str, *, forbidden: bool = False) -> None:
        super().__init__(text)
        self.forbidden = forbidden


@dataclass(frozen=True)
class Service:
    """Where Prometheus is: a Service, its port, and how it is spoken to."""

    namespace: str
    name: str
    port: str
    scheme: str = "http"

    @property
    def path(self) -> str:
        """The path of its API through the API server."""
        return f"/api/v1/namespaces/{self.namespace}/services/{self.scheme}:{self.name}:{self.port}/proxy/api/v1"

    def __str__(self) -> str:
        return f"Service {self.namespace}/{self.name}, port {self.port}"


class Prometheus:
    """A Prometheus behind its Service."""

    def __init__(self, cluster: Cluster, service: Service) -> None:
        self._cluster = cluster
        self.service = service

    def ask(self, what: str, **query: str) -> Any:
        """The data of an answer."""
        try:
            answer = self._cluster.call(
                "GET", f"{self.service.path}/{what}", query=query, timeout_seconds=ANSWER_SECONDS
            ).json()
        except ApiError as error:
            raise NoAnswer(self._explain(error), forbidden=error.status == 403) from None
        except AccessError as error:
            # The API server has answered before, so it is what stands behind it that does not.
            reason = "no answer in time" if is_timeout(error) or "did not answer" in str(error) else str(error)
            raise NoAnswer(f"{self.service}: {reason}") from None
        except ValueError:
            raise NoAnswer(f"{self.service} answers, but not as Prometheus does") from None
        if answer.get("status") != "success":
            raise NoAnswer(f"{self.service}: {answer.get('error') or 'it answers, but not as Prometheus does'}")
        return answer.get("data")

    def _explain(self, error: ApiError) -> str:
        if error.status == 403:
            return (
                f"user {self._cluster.entry.user_name!r} may not reach it through the API server "
                f"(get services/proxy in namespace {self.service.namespace})"
            )
        if error.status == 503:
            return f"{self.service} has no pod that is ready"
        return (
            f"{self.service}: {error.message.strip().splitlines()[0][:200] if error.message.strip() else error.status}"
        )


def step_seconds(hours: float) -> int:
    """How far apart the points of a plot are."""
    return next((step for step in STEPS if step * POINTS >= hours * 3600), STEPS[-1])


def time_text(text: str, now: datetime.datetime) -> str:
    """How long ago Prometheus' time was."""
    try:
        moment = datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00"))
    except ValueError:
        return ""
    return "" if moment.year < 1971 else duration((now - moment).total_seconds())


# -- targets -----------------------------------------------------------------------------------------------------


def targets(data: Mapping[str, Any], now: datetime.datetime) -> tuple[list[Job], list[Target]]:
    """Jobs with how many of their targets are up, and those that are down with what they last said."""
    counted: dict[str, list[int]] = {}
    down = []
    for item in data.get("activeTargets") or []:
        labels = item.get("labels") or {}
        job = str(labels.get("job") or item.get("scrapePool") or "unknown")
        up, total = counted.get(job, (0, 0))
        # One that has not been asked yet is no fault.
        well = item.get("health") != "down"
        counted[job] = [up + well, total + 1]
        if not well:
            instance = str(labels.get("pod") or labels.get("instance") or item.get("scrapeUrl") or "")
            path = str(labels.get("metrics_path") or "")
            down.append(
                Target(
                    job=job,
                    instance=f"{instance} {path}".strip() if path not in ("", "/metrics") else instance,
                    error=str(item.get("lastError") or "no reason given")[:300],
                    since=time_text(str(item.get("lastScrape") or ""), now),
                )
            )
    jobs = [
        Job(name, up, total, GOOD if up == total else BAD if up == 0 else WARN)
        for name, (up, total) in sorted(counted.items())
    ]
    return jobs, sorted(down, key=lambda item: (item.job, item.instance))


def scrape_seconds(data: Mapping[str, Any], job: str) -> float:
    """How often a job is scraped; 0 where it is not."""
    for item in data.get("activeTargets") or []:
        if (item.get("labels") or {}).get("job") == job:
            match = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", str(item.get("scrapeInterval") or ""))
            return float(match[1] or 0) * 60 + float(match[2] or 0) if match else 60.0
    return 0.0


# -- alerts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alerts:
    """Alerting rules by what they do now."""

    active: list[Alert]
    quiet: int
    heartbeats: list[str]
    names: frozenset[str]
    unhealthy: dict[str, str]


def alerts(data: Mapping[str, Any], now: datetime.datetime) -> Alerts:
    """What fires, what is about to, and how many rules watch quietly."""
    active: list[Alert] = []
    heartbeats: list[str] = []
    names: set[str] = set()
    unhealthy: dict[str, str] = {}
    quiet = 0
    for group in data.get("groups") or []:
        for rule in group.get("rules") or []:
            if rule.get("type") != "alerting":
                continue
            name = str(rule.get("name"))
            names.add(name)
            if rule.get("health") == "err":
                unhealthy[name] = str(rule.get("lastError") or "no reason given")[:200]
            if str((rule.get("labels") or {}).get("severity", "")) == HEARTBEAT:
                if rule.get("state") == "firing":
                    heartbeats.append(name)
                continue
            if rule.get("state") not in ("firing", "pending"):
                quiet += 1
            active += [_alert(name, item, now) for item in rule.get("alerts") or [] if item.get("state") != "inactive"]
    active.sort(key=lambda item: (item.state != "firing", _rank(item.severity), item.name, item.where))
    return Alerts(active, quiet, sorted(set(heartbeats)), frozenset(names), unhealthy)


def _alert(name: str, item: Mapping[str, Any], now: datetime.datetime) -> Alert:
    labels, notes = item.get("labels") or {}, item.get("annotations") or {}
    # What the alert is about. The job and the instance are often only those of who has told it.
    subject = [labels[key] for key in SUBJECTS if labels.get(key)] or [
        labels[key] for key in TELLERS if labels.get(key)
    ]
    texts = [str(notes[key]) for key in ("summary", "description", "message") if notes.get(key)]
    return Alert(
        name=name,
        state=str(item.get("state")),
        severity=str(labels.get("severity") or ""),
        where=" · ".join(dict.fromkeys(map(str, subject))),
        summary=texts[0] if texts else "",
        detail=texts[1] if len(texts) > 1 else "",
        remedy=str(notes.get("runbook") or notes.get("runbook_url") or ""),
        since=time_text(str(item.get("activeAt") or ""), now),
    )


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


# -- versions ----------------------------------------------------------------------------------------------------


def with_versions(prometheus: Prometheus, images: Sequence[Image]) -> list[Image]:
    """Images that are named by a digest alone, with the version that the program in them tells of itself."""
    data = prometheus.ask("query", query=f"count by (namespace, pod, container, version) ({BUILD_INFO})")
    known = {}
    for item in data.get("result") or []:
        labels = item.get("metric") or {}
        version = str(labels.get("version") or "")
        if version and version not in UNTOLD:
            known[labels.get("namespace"), labels.get("pod"), labels.get("container")] = version
    return [
        replace(image, version=next((known[place] for place in image.places if place in known), image.version))
        if image.version == NOTHING
        else image
        for image in images
    ]


# -- plots -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """The time that plots cover."""

    end: int
    step: int
    points: int

    @classmethod
    def until(cls, now: datetime.datetime, hours: float) -> Range:
        """The last hours, up to the last whole minute: a cluster that is young has something to show in a long range."""
        step = step_seconds(hours)
        whole = min(step, 60)
        return cls(int(now.timestamp()) // whole * whole, step, max(2, round(hours * 3600 / step) + 1))

    @property
    def times(self) -> tuple[int, ...]:
        """The moment of each point."""
        start = self.end - (self.points - 1) * self.step
        return tuple(range(start, self.end + 1, self.step))


def query_range(
    prometheus: Prometheus, expr: str, span: Range
) -> list[tuple[dict[str, str], tuple[float | None, ...]]]:
    """Each series of an expression: its labels, and a value or None for every moment."""
    times = span.times
    data = prometheus.ask("query_range", query=expr, start=str(times[0]), end=str(times[-1]), step=str(span.step))
    found = []
    for item in data.get("result") or []:
        values = {int(float(moment)): _number(text) for moment, text in item.get("values") or []}
        found.append((dict(item.get("metric") or {}), tuple(values.get(moment) for moment in times)))
    return found


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _rate(metric: str, selector: str, *narrowed: str) -> tuple[str, ...]:
    """The rate of a counter, once for each further matcher; the catalog knows what the names in it stand for."""
    return tuple(f"rate({metric}{{${{{selector}}}{f', {more}' if more else ''}}}[${{window}}])" for more in narrowed)


def app_plots(prometheus: Prometheus, catalog: Catalog, span: Range, scrape: float, hours_text: str) -> list[Plot]:
    """Traffic, duration, errors and fullness of the app."""
    window = f"{max(span.step, math.ceil(max(scrape, 15.0) * SCRAPES_OF_A_RATE))}s"
    traffic, failed = _rate("appgate_http_request_duration_seconds_count", "traffic", "", 'status=~"5.."')
    answers, refused = _rate("haproxy_frontend_http_responses_total", "http", "", 'code="5xx"')
    (buckets,) = _rate("appgate_http_request_duration_seconds_bucket", "traffic", "")
    expressions = {
        "requests": f"sum by (status) ({traffic})",
        **{name: f"histogram_quantile({quantile}, sum by (le) ({buckets}))" for name, quantile, _tone in QUANTILES},
        "user_errors": f"(sum({refused}) or 0 * sum({answers})) / sum({answers})",
        "app_errors": f"(sum({failed}) or 0 * sum({traffic})) / sum({traffic})",
        "busy": (
            "max(sum by (pod) (appgate_http_requests_in_flight{${app}}) "
            "/ (sum by (pod) (appgate_worker_threads{${app}}) > 0))"
        ),
    }
    asked = [catalog.for_rule(expr, window) for expr in expressions.values()]
    found = dict(zip(expressions, in_parallel(lambda expr: query_range(prometheus, expr, span), asked), strict=True))
    return [
        _requests(found["requests"], span, hours_text),
        _durations(found, span, hours_text),
        _errors(found, span, hours_text),
        _busy(found["busy"], span, hours_text),
    ]


Found = list[tuple[dict[str, str], tuple[float | None, ...]]]
NOBODY = "Nobody asked for a page in {hours}, probes apart."
NOT_COUNTED = "Prometheus has no requests of the app from {hours}: it was not scraped, or it did not run."


def _some(values: Sequence[float | None]) -> bool:
    return any(value is not None for value in values)


def _requests(found: Found, span: Range, hours: str) -> Plot:
    plot = Plot("requests", "Requests", "by status code, probes apart", "rate", stacked=True)
    classes: dict[str, list[float | None]] = {}
    for labels, values in found:
        line = classes.setdefault(str(labels.get("status", ""))[:1] or "?", [None] * span.points)
        for at, value in enumerate(values):
            if value is not None:
                line[at] = (line[at] or 0.0) + value
    shown = {name: line for name, line in sorted(classes.items()) if any(line)}
    if not shown:
        return _without(plot, NOBODY if any(_some(line) for line in classes.values()) else NOT_COUNTED, hours)
    series = [Series(f"{name}xx", TONES.get(name, "calm"), tuple(line)) for name, line in shown.items()]
    return _with(plot, span, series)


def _durations(found: Mapping[str, Found], span: Range, hours: str) -> Plot:
    plot = Plot("duration", "Duration", "of half, 95 % and 99 % of the requests at most", "seconds")
    series = [
        Series(name, tone, found[name][0][1])
        for name, _quantile, tone in QUANTILES
        if found[name] and _some(found[name][0][1])
    ]
    if not series:
        return _without(plot, NOBODY if found["requests"] else NOT_COUNTED, hours)
    return _with(plot, span, series)


def _errors(found: Mapping[str, Found], span: Range, hours: str) -> Plot:
    plot = Plot("errors", "Errors", "share of answers with 5xx", "share")
    names = (("user_errors", "as users see it", "bad"), ("app_errors", "made by the application", "warn"))
    series = [
        Series(name, tone, found[key][0][1]) for key, name, tone in names if found[key] and _some(found[key][0][1])
    ]
    if not series:
        return _without(plot, NOBODY if found["requests"] else NOT_COUNTED, hours)
    if not any(any(line.values) for line in series):
        return _without(plot, "No error in {hours}: not one answer was a 5xx.", hours, good=True)
    return _with(plot, span, series)


def _busy(found: Found, span: Range, hours: str) -> Plot:
    plot = Plot("busy", "Busy threads", "of the fullest pod; at 100 % requests wait", "share")
    if not found or not _some(found[0][1]):
        return _without(plot, NOT_COUNTED, hours)
    if not any(found[0][1]):
        return _without(plot, "Whenever Prometheus looked in {hours}, no thread was busy.", hours, good=True)
    return _with(plot, span, [Series("fullest pod", "middle", found[0][1])])


def _with(plot: Plot, span: Range, series: list[Series]) -> Plot:
    return Plot(plot.key, plot.title, plot.text, plot.unit, plot.stacked, span.times, tuple(series))


def _without(plot: Plot, reason: str, hours: str, good: bool = False) -> Plot:
    return Plot(plot.key, plot.title, plot.text, plot.unit, reason=reason.format(hours=hours), good=good)
