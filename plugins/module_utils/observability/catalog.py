# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The catalog of critical metrics: read, checked as a whole, and told in full what is wrong with it.

An expression in the catalog names selectors and parameters as ``${name}``. What they stand for depends on where the
expression goes: a rule knows the app's namespaces, a dashboard asks its variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

SCOPES = ("app", "namespace", "cluster")
SEVERITIES = ("critical", "warning", "info")
KINDS = ("timeseries", "stat", "heatmap")
RULE_WINDOW = "5m"
DASHBOARD_WINDOW = "$__rate_interval"
#: The buckets of the app's histogram (app/appgate/metrics.py): a latency objective must be one of them.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_ABSENT = re.compile(r"\babsent(?:_over_time)?\s*(?=\()")
#: A parenthesis, or a string of PromQL, in which one means nothing.
_PARENTHESIS = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`|[()]""")
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_METRIC = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
_ALERT = re.compile(r"^[A-Z][A-Za-z0-9]+$")
_DURATION = re.compile(r"^([0-9]+(ms|[smhdwy]))+$")
_DNS = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")


class CatalogError(Exception):
    """What is wrong with a catalog: one line for each mistake, each with its file and entry."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Selector:
    """Matchers by name, and what narrows them."""

    matchers: str
    scope: str


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Alert:
    """An alert rule; without an expression of its own it is the metric beyond its threshold."""

    name: str
    severity: str
    summary: str
    runbook: str
    duration: str
    expr: str = ""


@dataclass(frozen=True)
class Metric:
    """One critical metric."""

    name: str
    system: str
    title: str
    expr: str
    unit: str
    why: str
    legend: str
    reason: str
    also: tuple[Target, ...] = ()
    above: float | None = None
    below: float | None = None
    alert: Alert | None = None
    covered_by: str = ""
    file: str = ""

    @property
    def threshold(self) -> str:
        """The limit as a comparison, empty where another alert covers the metric."""
        if self.above is not None:
            return f"> {self.above:.10g}"
        return f"< {self.below:.10g}" if self.below is not None else ""


@dataclass(frozen=True)
class Slo:
    """An objective for the share of good requests."""

    name: str
    system: str
    title: str
    objective: str
    errors: str
    total: str
    why: str
    reason: str
    fast: Alert
    slow: Alert
    minimum_requests: int = 0
    file: str = ""


@dataclass(frozen=True)
class Recording:
    """A recording rule."""

    record: str
    system: str
    expr: str
    text: str
    file: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel: a metric of the catalog, or one of its own."""

    title: str
    kind: str
    unit: str
    text: str
    targets: tuple[Target, ...]
    metric: str = ""


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard."""

    name: str
    system: str
    title: str
    text: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class System:
    """What metrics are grouped by."""

    name: str
    title: str
    text: str


@dataclass
class Catalog:
    """Everything that was read, checked."""

    parameters: dict[str, Any] = field(default_factory=dict)
    selectors: dict[str, Selector] = field(default_factory=dict)
    systems: dict[str, System] = field(default_factory=dict)
    slos: list[Slo] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    dashboards: list[Dashboard] = field(default_factory=list)

    def alerts(self) -> list[Alert]:
        """All alerts, those of the objectives first."""
        found = [alert for slo in self.slos for alert in (slo.fast, slo.slow)]
        return found + [metric.alert for metric in self.metrics if metric.alert]

    def shown_on(self, metric: str) -> list[tuple[Dashboard, Panel]]:
        """The panels that show a metric."""
        return [
            (dashboard, panel)
            for dashboard in self.dashboards
            for row in dashboard.rows
            for panel in row.panels
            if panel.metric == metric
        ]

    def for_rule(self, expr: str, window: str = RULE_WINDOW) -> str:
        """An expression as Prometheus evaluates it in a rule; what is absent is asked for in each namespace by itself."""

        def resolved(text: str, names: Sequence[str]) -> str:
            # DNS labels: nothing in them means more than itself.
            own = f'namespace="{names[0]}"' if len(names) == 1 else f'namespace=~"{"|".join(names)}"'
            return self._resolve(text, window, {"app": own, "namespace": "", "cluster": ""})

        names = namespaces(self.parameters)
        found = ""
        for part, absent in _absences(expr):
            # Of several namespaces in one absent(), all would have to be gone, and the label would name none of them.
            each = list(dict.fromkeys(resolved(part, [name]) for name in names)) if absent else []
            found += f"({' or '.join(each)})" if len(each) > 1 else resolved(part, names)
        return found

    def for_dashboard(self, expr: str) -> str:
        """An expression as a panel asks it."""
        cluster = 'cluster=~"$cluster"'
        narrow = f'{cluster}, namespace=~"$namespace"'
        return self._resolve(expr, DASHBOARD_WINDOW, {"app": narrow, "namespace": narrow, "cluster": cluster})

    def _resolve(self, expr: str, window: str, narrow: Mapping[str, str]) -> str:
        def value(match: re.Match[str]) -> str:
            name = match.group(1)
            if name == "window":
                return window
            if name in self.selectors:
                selector = self.selectors[name]
                return ", ".join(part for part in (selector.matchers, narrow[selector.scope]) if part)
            return number(self.parameters[name])

        return _PLACEHOLDER.sub(value, expr)

    def unknown(self, expr: str) -> list[str]:
        """Names in an expression that stand for nothing."""
        known = {"window", *self.selectors, *self.parameters}
        return sorted({name for name in _PLACEHOLDER.findall(expr) if name not in known})


def _absences(expr: str) -> Iterator[tuple[str, bool]]:
    """An expression in pieces, each with whether it is a whole call of absent() or absent_over_time()."""
    done = 0
    for call in _ABSENT.finditer(expr):
        depth = 0
        for mark in _PARENTHESIS.finditer(expr, call.end()):
            depth += {"(": 1, ")": -1}.get(mark.group(), 0)
            if depth == 0:
                if call.start() >= done:
                    yield expr[done : call.start()], False
                    yield expr[call.start() : mark.end()], True
                    done = mark.end()
                break
    yield expr[done:], False


def number(value: Any) -> str:
    """A parameter as PromQL writes it; a float as the label `le` of a histogram has it (0.25, 1.0)."""
    return repr(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def namespaces(parameters: Mapping[str, Any]) -> list[str]:
    """The app's namespaces."""
    given = parameters.get("app_namespaces", [])
    return [str(name) for name in ([given] if isinstance(given, str) else given)]


class _Reader:
    """Takes nodes of a YAML file apart and remembers each mistake with its place."""

    def __init__(self, file: str, problems: list[str]) -> None:
        self.file = file
        self.problems = problems

    def wrong(self, where: str, text: str) -> None:
        self.problems.append(f"{self.file}: {where}: {text}.")

    def mapping(self, node: Any, where: str, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
        """A mapping with these keys; empty where it isn't one, so that reading goes on."""
        if not isinstance(node, dict):
            self.wrong(where, f"must be a mapping with {', '.join(required)}, not {kind(node)}")
            return {}
        for key in node:
            if key not in required and key not in optional:
                self.wrong(where, f"{key!r} is not a known key; known are {', '.join([*required, *optional])}")
        missing = [key for key in required if node.get(key) is None]
        if missing:
            self.wrong(where, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        return node

    def listing(self, node: Any, where: str) -> list[Any]:
        """A list; nothing counts as an empty one."""
        if node is None:
            return []
        if not isinstance(node, list):
            self.wrong(where, f"must be a list, not {kind(node)}")
            return []
        return node

    def entries(self, node: Any, where: str, key: str = "") -> Iterator[tuple[Any, str]]:
        """The items of a list, each with its place and, where it has that key, with its name."""
        for index, item in enumerate(self.listing(node, where)):
            name = item.get(key) if key and isinstance(item, dict) else None
            yield item, f"{where}[{index}] ({name})" if name else f"{where}[{index}]"

    def text(self, node: Mapping[str, Any], key: str, where: str, pattern: re.Pattern[str] | None = None) -> str:
        """A text that isn't empty; a missing one was told already."""
        value = node.get(key)
        if value is None:
            return ""
        if not isinstance(value, str) or not value.strip():
            self.wrong(where, f"{key} must be a text that is not empty, not {value!r}")
            return ""
        if pattern and not pattern.match(value):
            self.wrong(where, f"{key} is {value!r}, it must match {pattern.pattern}")
        return value.strip()

    def texts(self, node: Mapping[str, Any], where: str, *keys: str, **patterns: re.Pattern[str]) -> dict[str, str]:
        """Several texts by their keys."""
        return {key: self.text(node, key, where, patterns.get(key)) for key in keys}

    def choice(self, node: Mapping[str, Any], key: str, where: str, choices: Sequence[str], default: str = "") -> str:
        """One of some texts."""
        value = node.get(key, default)
        if value is not None and value not in choices:
            self.wrong(where, f"{key} is {value!r}, it must be one of {', '.join(choices)}")
        return str(value)


def kind(node: Any) -> str:
    """What a YAML node is, for a person."""
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "a boolean", type(None): "nothing"}
    return names.get(type(node), "a number")


def parse(file: str, text: str) -> Any:
    """YAML as data; a syntax error names line and column."""
    # A safe loader, written in C where PyYAML has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506 (both are safe loaders)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise CatalogError([f"{file}: not YAML{place}: {getattr(error, 'problem', error)}."]) from None


def read(paths: Sequence[Path | str]) -> Catalog:
    """Read catalogs; the first one is the main one, the others add to it."""
    catalog = Catalog()
    problems: list[str] = []
    for index, path in enumerate(paths):
        file = str(path)
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise CatalogError([f"{file}: can't be read ({reason})."]) from None
        _add(catalog, _Reader(file, problems), parse(file, text), main=index == 0)
    _check(catalog, problems)
    if problems:
        raise CatalogError(problems)
    return catalog


def _add(catalog: Catalog, reader: _Reader, data: Any, *, main: bool) -> None:
    sections = ("parameters", "selectors", "systems", "slos", "recordings", "metrics", "dashboards")
    top = reader.mapping(data, "the catalog", ("version",), sections)
    if top.get("version") not in (1, None):
        reader.wrong("version", f"is {top['version']!r}, this reader knows 1")
    if not main and top.get("dashboards"):
        reader.wrong(
            "dashboards", "an added catalog has none: give a directory of dashboards in observability_dashboard_dirs"
        )
    for name, value in (top.get("parameters") or {}).items():
        if isinstance(value, bool) or not isinstance(value, (int, float, str, list)):
            reader.wrong(f"parameters.{name}", "must be a number or a text")
        catalog.parameters.setdefault(str(name), value)
    for name, node in (top.get("selectors") or {}).items():
        where = f"selectors.{name}"
        fields = reader.mapping(node, where, ("matchers", "scope"))
        if name in catalog.selectors or name in catalog.parameters or name == "window":
            reader.wrong(where, "this name is taken already")
        scope = reader.choice(fields, "scope", where, SCOPES, "cluster")
        catalog.selectors[str(name)] = Selector(reader.text(fields, "matchers", where), scope)
    for node, where in reader.entries(top.get("systems"), "systems", "name"):
        keys = ("name", "title", "text")
        system = System(**reader.texts(reader.mapping(node, where, keys), where, *keys, name=_NAME))
        if system.name in catalog.systems:
            reader.wrong(where, "there is a system of this name already")
        catalog.systems[system.name] = system
    catalog.slos += [_slo(reader, *entry) for entry in reader.entries(top.get("slos"), "slos", "name")]
    for node, where in reader.entries(top.get("recordings"), "recordings", "record"):
        required = ("record", "system", "expr", "text")
        texts = reader.texts(reader.mapping(node, where, required), where, *required, record=_METRIC)
        catalog.recordings.append(Recording(**texts, file=reader.file))
    catalog.metrics += [_metric(reader, *entry) for entry in reader.entries(top.get("metrics"), "metrics", "name")]
    if main:
        for node, where in reader.entries(top.get("dashboards"), "dashboards", "name"):
            catalog.dashboards.append(_dashboard(reader, node, where, catalog.metrics))


def _alert(reader: _Reader, node: Any, where: str, name_key: str = "name", *, timed: bool = True) -> Alert:
    required = [name_key, "severity", "summary", "runbook", *(["for"] if timed else [])]
    fields = reader.mapping(node, where, required, ("expr",) if timed else ())
    if fields.get(name_key):
        where = f"{where} ({fields[name_key]})"
    return Alert(
        name=reader.text(fields, name_key, where, _ALERT),
        severity=reader.choice(fields, "severity", where, SEVERITIES, SEVERITIES[0]),
        summary=reader.text(fields, "summary", where),
        runbook=reader.text(fields, "runbook", where),
        # The windows of an objective's alert say how long already; two minutes skip a single bad evaluation.
        duration=reader.text(fields, "for", where, _DURATION) if timed else "2m",
        expr=reader.text(fields, "expr", where),
    )


def _slo(reader: _Reader, node: Any, where: str) -> Slo:
    required = ("name", "system", "title", "objective", "errors", "total", "why", "reason", "fast", "slow")
    fields = reader.mapping(node, where, required, ("minimum_requests",))
    minimum = fields.get("minimum_requests", 0)
    if not isinstance(minimum, int) or isinstance(minimum, bool) or minimum < 0:
        reader.wrong(where, f"minimum_requests is {minimum!r}, it must be a whole number from 0")
        minimum = 0
    for key in ("errors", "total"):
        if "${window}" not in str(fields.get(key, "${window}")):
            reader.wrong(where, f"{key} must use ${{window}}, because it is evaluated over seven windows")
    return Slo(
        **reader.texts(fields, where, *required[:8], name=_NAME),
        fast=_alert(reader, fields.get("fast") or {}, f"{where} fast", "alert", timed=False),
        slow=_alert(reader, fields.get("slow") or {}, f"{where} slow", "alert", timed=False),
        minimum_requests=minimum,
        file=reader.file,
    )


def _targets(reader: _Reader, node: Any, where: str) -> tuple[Target, ...]:
    keys = ("expr", "legend")
    return tuple(
        Target(**reader.texts(reader.mapping(item, place, keys), place, *keys))
        for item, place in reader.entries(node, where)
    )


def _metric(reader: _Reader, node: Any, where: str) -> Metric:
    required = ("name", "system", "title", "expr", "legend", "unit", "why")
    fields = reader.mapping(node, where, required, ("also", "threshold", "alert", "covered_by", "reason"))
    above = below = None
    alert = None
    reason = reader.text(fields, "reason", where)
    covered_by = reader.text(fields, "covered_by", where)
    if fields.get("alert") is not None:
        alert = _alert(reader, fields["alert"], f"{where} alert")
        threshold = reader.mapping(fields.get("threshold"), f"{where} threshold", ("reason",), ("above", "below"))
        reason = reader.text(threshold, "reason", f"{where} threshold")
        limits = [key for key in ("above", "below") if key in threshold]
        if threshold and len(limits) != 1:
            reader.wrong(f"{where} threshold", "give one of above and below")
        for key in limits:
            value = threshold[key]
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                reader.wrong(f"{where} threshold", f"{key} is {value!r}, it must be a number")
            elif key == "above":
                above = float(value)
            else:
                below = float(value)
        if covered_by:
            reader.wrong(where, "give alert or covered_by, not both")
    elif not covered_by:
        reader.wrong(where, "has neither an alert nor covered_by, the alert that covers it: a critical metric has one")
    elif not reason:
        reader.wrong(where, "reason is missing: say why another alert covers this metric")
    return Metric(
        **reader.texts(fields, where, *required, name=_NAME),
        reason=reason,
        also=_targets(reader, fields.get("also"), f"{where} also"),
        above=above,
        below=below,
        alert=alert,
        covered_by=covered_by,
        file=reader.file,
    )


def _dashboard(reader: _Reader, node: Any, where: str, metrics: Sequence[Metric]) -> Dashboard:
    fields = reader.mapping(node, where, ("name", "system", "title", "text", "rows"))
    known = {metric.name: metric for metric in metrics}
    rows = []
    for row, place in reader.entries(fields.get("rows"), f"{where} rows"):
        parts = reader.mapping(row, place, ("title", "panels"))
        panels = [_panel(reader, *entry, known) for entry in reader.entries(parts.get("panels"), f"{place} panels")]
        rows.append(Row(reader.text(parts, "title", place), tuple(panels)))
    return Dashboard(**reader.texts(fields, where, "name", "system", "title", "text", name=_DNS), rows=tuple(rows))


def _panel(reader: _Reader, node: Any, where: str, metrics: Mapping[str, Metric]) -> Panel:
    if isinstance(node, dict) and "metric" in node:
        fields = reader.mapping(node, where, ("metric",), ("kind",))
        shape = reader.choice(fields, "kind", where, KINDS, "timeseries")
        metric = metrics.get(str(fields["metric"]))
        if metric is None:
            reader.wrong(where, f"{fields['metric']!r} is not a metric of this catalog")
            return Panel("", shape, "", "", ())
        targets = (Target(metric.expr, metric.legend), *metric.also)
        return Panel(metric.title, shape, metric.unit, metric.why, targets, metric.name)
    fields = reader.mapping(node, where, ("title", "kind", "unit", "text", "targets"))
    return Panel(
        **reader.texts(fields, where, "title", "unit", "text"),
        kind=reader.choice(fields, "kind", where, KINDS, "timeseries"),
        targets=_targets(reader, fields.get("targets"), f"{where} targets"),
    )


def _check(catalog: Catalog, problems: list[str]) -> None:
    """What only shows in the whole: names that come twice, and names that lead nowhere."""
    seen: dict[str, str] = {}
    alerts: dict[str, str] = {}

    def unique(table: dict[str, str], name: str, file: str, entry: str, what: str) -> None:
        if name and name in table:
            problems.append(
                f"{file}: {entry}: {what} {name} is given already by {table[name]}. Give each a name of its own."
            )
        table.setdefault(name, f"{entry} of {file}")

    def placed(file: str, entry: str, system: str, *expressions: str) -> None:
        if system and system not in catalog.systems:
            problems.append(f"{file}: {entry}: system is {system!r}, known are {', '.join(catalog.systems)}.")
        for expr in expressions:
            for name in catalog.unknown(expr):
                known = ", ".join(["window", *catalog.selectors, *catalog.parameters])
                problems.append(f"{file}: {entry}: ${{{name}}} stands for nothing; known are {known}.")

    for slo in catalog.slos:
        entry = f"slos ({slo.name})"
        unique(seen, f"slo {slo.name}", slo.file, entry, "the name of")
        placed(slo.file, entry, slo.system, slo.errors, slo.total)
        if slo.objective and slo.objective not in catalog.parameters:
            problems.append(f"{slo.file}: {entry}: objective is {slo.objective!r}, which is not in parameters.")
        for alert in (slo.fast, slo.slow):
            unique(alerts, alert.name, slo.file, entry, "the alert")
    for recording in catalog.recordings:
        entry = f"recordings ({recording.record})"
        unique(seen, f"record {recording.record}", recording.file, entry, "the name of")
        placed(recording.file, entry, recording.system, recording.expr)
    for metric in catalog.metrics:
        entry = f"metrics ({metric.name})"
        unique(seen, f"metric {metric.name}", metric.file, entry, "the name of")
        own = [metric.alert.expr] if metric.alert else []
        placed(metric.file, entry, metric.system, metric.expr, *own, *(target.expr for target in metric.also))
        if metric.alert:
            unique(alerts, metric.alert.name, metric.file, entry, "the alert")
    for metric in catalog.metrics:
        if metric.covered_by and metric.covered_by not in alerts:
            problems.append(
                f"{metric.file}: metrics ({metric.name}): covered_by is {metric.covered_by!r}, which is not an alert."
            )
    for dashboard in catalog.dashboards:
        entry = f"dashboards ({dashboard.name})"
        expressions = [target.expr for row in dashboard.rows for panel in row.panels for target in panel.targets]
        placed("the catalog", entry, dashboard.system, *expressions)


def with_parameters(catalog: Catalog, given: Mapping[str, Any]) -> Catalog:
    """The catalog with a run's own parameters; what does not fit is told with what would."""
    problems = []
    for name, value in given.items():
        if name.endswith("_percent") and not (_is_number(value) and 0 < value < 100):
            problems.append(
                f"observability_{name} is {value!r}: give a percentage above 0 and below 100, such as 99.9."
            )
        if name == "slo_latency_seconds" and not (_is_number(value) and float(value) in LATENCY_BUCKETS):
            known = ", ".join(f"{bucket:g}" for bucket in LATENCY_BUCKETS)
            problems.append(
                f"observability_{name} is {value!r}: give a bucket of the app's histogram, one of {known}, "
                "because between them nobody counts."
            )
    names = namespaces(given)
    if "app_namespaces" in given and (not names or not all(_DNS.match(name) for name in names)):
        problems.append(f"observability_app_namespaces is {names!r}: give at least one name of a namespace.")
    if problems:
        raise CatalogError(problems)
    return replace(catalog, parameters={**catalog.parameters, **given})


def only_systems(catalog: Catalog, wanted: Sequence[str], shipped: Sequence[str]) -> Catalog:
    """Leave out the shipped systems that a run doesn't want; those of added catalogs stay."""
    unknown = [name for name in wanted if name not in shipped]
    if unknown:
        raise CatalogError(
            [
                f"observability_systems: {', '.join(unknown)} is not a system of the catalog; known are {', '.join(shipped)}."
            ]
        )
    kept = [name for name in catalog.systems if name not in shipped or name in wanted]
    return replace(
        catalog,
        systems={name: catalog.systems[name] for name in kept},
        slos=[item for item in catalog.slos if item.system in kept],
        recordings=[item for item in catalog.recordings if item.system in kept],
        metrics=[item for item in catalog.metrics if item.system in kept],
        dashboards=[item for item in catalog.dashboards if item.system in kept],
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
