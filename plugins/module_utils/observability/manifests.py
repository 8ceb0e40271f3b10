# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The objects that plug into a Prometheus operator and a Grafana by the community's labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import CatalogError, kind
from ansible_collections.appgate.platform.plugins.module_utils.observability.rules import Group

Manifest = dict[str, Any]

API = "monitoring.coreos.com/v1"
#: Jobs, as the selectors of the catalog name them.
JOB_HAPROXY, JOB_APP = "appgate-haproxy", "appgate-app"
#: Series of HAProxy that nothing asks for: a quarter of what it exports (110 of 433 a pod).
UNUSED = "haproxy_(.+_(agg_.+|http_comp_.+|http_cache_.+|check_status|max_.+_time_seconds)|listener_.+|sticktable_.+)"
#: A ConfigMap holds at most 1 MiB.
LARGEST_DASHBOARD = 1_000_000


@dataclass(frozen=True)
class Place:
    """What all objects of a release share."""

    release: str
    namespace: str
    labels: Mapping[str, str]

    def metadata(self, name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The metadata of an object of this release."""
        return {
            "name": f"{self.release}-{name}",
            "namespace": self.namespace,
            "labels": {
                **self.labels,
                **(labels or {}),
                "app.kubernetes.io/part-of": "appgate",
                "app.kubernetes.io/managed-by": "appgate-platform",
            },
        }


@dataclass(frozen=True)
class Scrape:
    """Which pods are scraped, and how often."""

    namespaces: Sequence[str]
    selector: Mapping[str, str]
    port: str = "operations"
    interval_seconds: int = 15
    timeout_seconds: int = 10


@dataclass(frozen=True)
class Folder:
    """How Grafana's sidecar finds dashboards, and where it puts them."""

    labels: Mapping[str, str] = field(default_factory=lambda: {"grafana_dashboard": "1"})
    annotation: str = "grafana_folder"
    name: str = "Appgate"


def pod_monitor(place: Place, scrape: Scrape) -> Manifest:
    """Both metric pages of the operations port. The Service doesn't publish that port, so pods are asked themselves."""

    def endpoint(path: str, job: str, drop: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {
            "port": scrape.port,
            "path": path,
            "interval": f"{scrape.interval_seconds}s",
            "scrapeTimeout": f"{scrape.timeout_seconds}s",
            "relabelings": [{"action": "replace", "targetLabel": "job", "replacement": job}],
        }
        if drop:
            found["metricRelabelings"] = [{"action": "drop", "sourceLabels": ["__name__"], "regex": drop}]
        return found

    return {
        "apiVersion": API,
        "kind": "PodMonitor",
        "metadata": place.metadata("app"),
        "spec": {
            "namespaceSelector": {"matchNames": list(scrape.namespaces)},
            "selector": {"matchLabels": dict(scrape.selector)},
            "podMetricsEndpoints": [
                endpoint("/metrics", JOB_HAPROXY, UNUSED),
                endpoint("/app/metrics", JOB_APP),
            ],
        },
    }


def prometheus_rules(place: Place, groups: Sequence[Group]) -> list[Manifest]:
    """One object for each system."""
    return [
        {
            "apiVersion": API,
            "kind": "PrometheusRule",
            "metadata": place.metadata(system.replace("_", "-")),
            "spec": {"groups": [group.body() for group in groups if group.system == system]},
        }
        for system in dict.fromkeys(group.system for group in groups)
    ]


def read_dashboards(
    directories: Sequence[Path], left_out: Sequence[str] = (), taken: Path | None = None
) -> dict[str, str]:
    """The text of each dashboard by its file's name, checked; `taken` holds those whose names and uids are in use."""
    found: dict[str, str] = {}
    uids: dict[str, str] = {}
    in_use = sorted(taken.glob("*.json")) if taken else []
    for path in in_use:
        uids[examine(path)[1]] = str(path)
    problems: list[str] = []
    for directory in directories:
        files = sorted(directory.glob("*.json")) if directory.is_dir() else []
        if not files:
            problems.append(f"observability_dashboard_dirs: {directory} holds no file *.json.")
        for path in files:
            name = path.stem
            if name in left_out:
                continue
            problem, uid = examine(path)
            if problem:
                problems.append(f"{path}: {problem}.")
            elif name in found or name in [other.stem for other in in_use]:
                problems.append(f"{path}: there is a dashboard file of this name already. Rename it.")
            elif uid in uids:
                problems.append(f"{path}: uid {uid!r} is that of {uids[uid]}. Give each dashboard a uid of its own.")
            else:
                found[name] = path.read_text(encoding="utf-8")
                uids[uid] = str(path)
    if problems:
        raise CatalogError(problems)
    return found


def examine(path: Path) -> tuple[str, str]:
    """What is wrong with a dashboard's file, and its uid."""
    try:
        text = path.read_text(encoding="utf-8")
        dashboard = json.loads(text)
    except OSError as error:
        return f"can't be read ({error.strerror})", ""
    except UnicodeDecodeError:
        return "is not text", ""
    except json.JSONDecodeError as error:
        return f"is not JSON at line {error.lineno}, column {error.colno}: {error.msg}", ""
    if not isinstance(dashboard, dict):
        return f"is not a dashboard: it holds {kind(dashboard)} and no mapping", ""
    if "dashboard" in dashboard and "panels" not in dashboard:
        return "is the answer of Grafana's API around a dashboard. Keep only what is under the key dashboard", ""
    if not isinstance(dashboard.get("title"), str) or not isinstance(dashboard.get("panels"), list):
        return "is not a dashboard: one has a title and a list of panels", ""
    uid = dashboard.get("uid")
    if not isinstance(uid, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", uid):
        return "has no uid of up to 40 letters, digits, - and _, so that links to it would break", ""
    if len(text.encode()) > LARGEST_DASHBOARD:
        return "is larger than a ConfigMap may be (1 MB)", ""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", path.stem):
        return "must be named in lower-case letters, digits and -, because an object is named after it", ""
    return "", uid


def dashboards(place: Place, found: Mapping[str, str], folder: Folder) -> list[Manifest]:
    """A ConfigMap for each dashboard."""
    manifests = []
    for name, text in sorted(found.items()):
        metadata = place.metadata(f"dashboard-{name}", folder.labels)
        if folder.annotation and folder.name:
            metadata["annotations"] = {folder.annotation: folder.name}
        manifests.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata,
                "data": {f"{place.release}-{name}.json": text},
            }
        )
    return manifests
