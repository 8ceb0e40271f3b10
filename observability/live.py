# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Ask a live Prometheus for every expression of the catalog and of the dashboards, and name those without data.

python -m observability.live --kubeconfig FILE --context NAME

Prometheus is reached through the API server, so this works wherever kubectl does.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    AccessError,
    ApiError,
    Cluster,
    connect,
    in_parallel,
)
from ansible_collections.appgate.platform.plugins.module_utils.observability import rules
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import read

from observability import ROOT
from observability.generate import CATALOG, DASHBOARDS

#: What Grafana puts in the place of its variables when everything is chosen.
VARIABLES = {"$cluster": ".*", "$namespace": ".+", "$__rate_interval": "5m"}
#: A query of Grafana's own, for the values of a variable.
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)$")
POLL_SECONDS = 5.0


def expressions(root: Path) -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression: metrics, recording rules, panels, variables, annotations."""
    catalog = read([root / CATALOG])
    for metric in catalog.metrics:
        yield f"metric {metric.name}", catalog.for_rule(metric.expr)
    for group in rules.groups(catalog):
        for rule in group.rules:
            if "record" in rule.body:
                labels = ", ".join(f'{key}="{value}"' for key, value in rule.body.get("labels", {}).items())
                yield f"recording {rule.body['record']}", f"{rule.body['record']}{{{labels}}}"
    for path in sorted((root / DASHBOARDS).glob("*.json")):
        dashboard: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for place, expr in _of_dashboard(dashboard):
            for name, value in VARIABLES.items():
                expr = expr.replace(name, value)
            yield f"dashboard {path.stem}, {place}", expr


def _of_dashboard(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']}, {target['legendFormat']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        # A store of one cluster may have no label cluster: a series without the label is an answer.
        if values := LABEL_VALUES.match(str(variable.get("query"))):
            yield f"variable {variable['name']}", f"group by ({values['label']}) ({values['series']})"
    for note in dashboard["annotations"]["list"]:
        # An annotation shows what happens seldom: without the comparison, it has a value at any time.
        yield f"annotation {note['name']}", note["expr"].removesuffix(" > 0")


class Prometheus:
    """A Prometheus behind its Service."""

    def __init__(self, cluster: Cluster, namespace: str, service: str) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{namespace}/services/http:{service}/proxy/api/v1/query"

    def complaint(self, expr: str) -> str:
        """Why an expression has no data; empty where it has."""
        query = urllib.parse.urlencode({"query": expr})
        try:
            answer = self._cluster.call("GET", f"{self._path}?{query}", timeout_seconds=30).json()
        except (ApiError, AccessError) as error:
            return str(error)
        return "" if answer.get("data", {}).get("result") else "no data"


def empty(prometheus: Prometheus, wanted: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """The expressions without data, by where they stand, with the reason."""
    found = in_parallel(lambda item: prometheus.complaint(item[1]), wanted)
    return {entry: (why, expr) for (entry, expr), why in zip(wanted, found, strict=True) if why}


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m observability.live", description=__doc__.split("\n")[0])
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--context", required=True)
    parser.add_argument("--namespace", default="prometheus")
    parser.add_argument("--service", default="prometheus-kube-prometheus-prometheus:9090")
    parser.add_argument("--timeout-seconds", type=float, default=0, help="ask again for so long before giving up")
    given = parser.parse_args(arguments)
    try:
        prometheus = Prometheus(connect(given.kubeconfig, given.context), given.namespace, given.service)
    except AccessError as error:
        print(error, file=sys.stderr)
        return 2
    wanted = list(expressions(ROOT))
    end = time.monotonic() + given.timeout_seconds
    missing = empty(prometheus, wanted)
    while missing and time.monotonic() < end:
        time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))
        missing = empty(prometheus, [(entry, expr) for entry, (_why, expr) in missing.items()])
    for entry, (why, expr) in missing.items():
        print(f"{entry}: {why}: {expr}", file=sys.stderr)
    print(f"{len(wanted) - len(missing)} of {len(wanted)} expressions have data")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
