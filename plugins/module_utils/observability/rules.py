# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Recording and alerting rules from the catalog."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import Alert, Catalog, Metric, Slo

#: The windows over which an objective's errors are counted, in seconds.
WINDOWS = {"5m": 300, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21600, "1d": 86400, "3d": 259200}
#: Long windows change slowly and are expensive to read.
LONG = ("6h", "1d", "3d")
LONG_INTERVAL = "2m"

#: How fast a budget of 30 days burns, with a long and a short window (Site Reliability Workbook, table 5-8).
FAST = ((14.4, "1h", "5m"), (6.0, "6h", "30m"))
SLOW = ((3.0, "1d", "2h"), (1.0, "3d", "6h"))


@dataclass(frozen=True)
class Rule:
    """One rule, and the entry of the catalog that it comes from."""

    entry: str
    body: dict[str, Any]


@dataclass
class Group:
    """Rules that are evaluated one after the other."""

    name: str
    system: str
    rules: list[Rule] = field(default_factory=list)
    interval: str = ""

    def body(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        interval = {"interval": self.interval} if self.interval else {}
        return {"name": self.name, **interval, "rules": [rule.body for rule in self.rules]}


@dataclass(frozen=True)
class Texts:
    """What a run adds to each alert."""

    runbook_url: str = ""
    labels: dict[str, str] = field(default_factory=dict)


def error_record(slo: Slo, window: str) -> str:
    """The name of an objective's recorded error ratio."""
    return f"namespace:appgate_{slo.name}_errors:ratio_rate{window}"


def budget(catalog: Catalog, slo: Slo) -> float:
    """The share of requests that may fail."""
    return round(1 - float(catalog.parameters[slo.objective]) / 100, 10)


def groups(catalog: Catalog, texts: Texts | None = None) -> list[Group]:
    """All rules of the catalog, grouped by what they are for."""
    texts = texts or Texts()
    found: list[Group] = []
    for slo in catalog.slos:
        found += _slo_groups(catalog, slo, texts)
    for system in catalog.systems:
        recordings = Group(f"appgate.{system}.recordings", system)
        alerts = Group(f"appgate.{system}.alerts", system)
        for item in catalog.recordings:
            if item.system == system:
                body = {"record": item.record, "expr": catalog.for_rule(item.expr)}
                recordings.rules.append(Rule(f"{item.file}: recordings ({item.record})", body))
        for metric in catalog.metrics:
            if metric.system == system and metric.alert:
                alerts.rules.append(_metric_rule(catalog, metric, metric.alert, texts))
        found += [group for group in (recordings, alerts) if group.rules]
    return found


def _slo_groups(catalog: Catalog, slo: Slo, texts: Texts) -> list[Group]:
    entry = f"{slo.file}: slos ({slo.name})"
    short = Group(f"appgate.slo.{slo.name}", slo.system)
    long = Group(f"appgate.slo.{slo.name}.long", slo.system, interval=LONG_INTERVAL)
    alerts = Group(f"appgate.slo.{slo.name}.alerts", slo.system)
    for window in WINDOWS:
        expr = f"({catalog.for_rule(slo.errors, window)})\n/ ({catalog.for_rule(slo.total, window)})"
        group = long if window in LONG else short
        group.rules.append(Rule(entry, {"record": error_record(slo, window), "expr": expr}))
    share = f"{budget(catalog, slo):.10g}"
    short.rules.append(
        Rule(
            entry, {"record": "appgate:slo_error_budget:ratio", "expr": f"vector({share})", "labels": {"slo": slo.name}}
        )
    )
    if slo.name == "latency":
        seconds = f"{float(catalog.parameters['slo_latency_seconds']):.10g}"
        short.rules.append(
            Rule(entry, {"record": "appgate:slo_latency_threshold:seconds", "expr": f"vector({seconds})"})
        )
    description = f"{slo.why} Objective: {catalog.parameters[slo.objective]:g} %."
    for alert, burns in ((slo.fast, FAST), (slo.slow, SLOW)):
        parts = [
            f"({error_record(slo, long_)} > {factor:g} * {share} and {error_record(slo, short_)} > {factor:g} * {share})"
            for factor, long_, short_ in burns
        ]
        expr = "\nor ".join(parts)
        if slo.minimum_requests:
            # A single slow request in a quiet hour is no trend.
            window = burns[0][1]
            expr = f"({expr})\nand ({catalog.for_rule(slo.total, window)}) * {WINDOWS[window]} > {slo.minimum_requests}"
        alerts.rules.append(Rule(entry, _alert_body(alert, expr, slo.system, description, texts)))
    return [short, long, alerts]


def _metric_rule(catalog: Catalog, metric: Metric, alert: Alert, texts: Texts) -> Rule:
    expr = catalog.for_rule(alert.expr) if alert.expr else f"({catalog.for_rule(metric.expr)})\n{metric.threshold}"
    description = f"{metric.why} Threshold: {metric.threshold}. {metric.reason}"
    return Rule(f"{metric.file}: metrics ({metric.name})", _alert_body(alert, expr, metric.system, description, texts))


def _alert_body(alert: Alert, expr: str, system: str, description: str, texts: Texts) -> dict[str, Any]:
    annotations = {"summary": alert.summary, "description": description, "runbook": alert.runbook}
    if texts.runbook_url:
        annotations["runbook_url"] = f"{texts.runbook_url.rstrip('#')}#{alert.name.lower()}"
    return {
        "alert": alert.name,
        "expr": expr,
        "for": alert.duration,
        "labels": {"severity": alert.severity, "system": system, **texts.labels},
        "annotations": annotations,
    }
