# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""From the role's variables to checked manifests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.observability import manifests, promtool, rules
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import (
    Catalog,
    CatalogError,
    only_systems,
    read,
    with_parameters,
)

ARGUMENTS: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "labels": {"type": "dict", "default": {}},
    "app_namespaces": {"type": "list", "elements": "str", "required": True},
    "app_selector": {"type": "dict", "required": True},
    "app_port": {"type": "str", "default": "operations"},
    "scrape_interval_seconds": {"type": "int", "default": 15},
    "scrape_timeout_seconds": {"type": "int", "default": 10},
    "systems": {"type": "list", "elements": "str", "default": []},
    "own_catalog": {"type": "path", "required": True},
    "own_dashboards": {"type": "path", "required": True},
    "catalog": {"type": "str", "default": ""},
    "extra_catalogs": {"type": "list", "elements": "str", "default": []},
    "slo_availability_percent": {"type": "float", "default": 99.9},
    "slo_latency_percent": {"type": "float", "default": 99.0},
    "slo_latency_seconds": {"type": "float", "default": 0.25},
    "alert_labels": {"type": "dict", "default": {}},
    "runbook_url": {"type": "str", "default": ""},
    "promtool": {"type": "str", "default": ""},
    "dashboards_enabled": {"type": "bool", "default": True},
    "dashboard_dirs": {"type": "list", "elements": "str", "default": []},
    "dashboard_labels": {"type": "dict", "default": {"grafana_dashboard": "1"}},
    "dashboard_folder": {"type": "str", "default": "Appgate"},
    "dashboard_folder_annotation": {"type": "str", "default": "grafana_folder"},
}
#: Beyond it, the shortest ranges of the rules hold too few samples for a rate.
LONGEST_INTERVAL_SECONDS = 60
_PARAMETERS = ("app_namespaces", "slo_availability_percent", "slo_latency_percent", "slo_latency_seconds")


@dataclass
class Plan:
    """What is to be applied, and what there is to say about it."""

    manifests: list[manifests.Manifest]
    alerts: list[str]
    dashboards: list[str]
    warnings: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """One line for the end of a run."""
        return f"{len(self.alerts)} alerts, {len(self.dashboards)} dashboards"


def make(given: Mapping[str, Any], *, check_mode: bool = False, cache_dir: Path | None = None) -> Plan:
    """Read, check and build everything; nothing is asked of a cluster."""
    _check_values(given)
    own = not given["catalog"]
    main = os.path.normpath(given["own_catalog"]) if own else given["catalog"]
    catalog = read([main, *given["extra_catalogs"]])
    catalog = with_parameters(catalog, {name: given[name] for name in _PARAMETERS})
    shipped = list(read([main]).systems) if given["extra_catalogs"] else list(catalog.systems)
    catalog = only_systems(catalog, given["systems"] or shipped, shipped)
    texts = rules.Texts(given["runbook_url"], {str(key): str(value) for key, value in given["alert_labels"].items()})
    groups = rules.groups(catalog, texts)
    warnings = _check_expressions(
        given, groups, checked=own and not given["extra_catalogs"], check_mode=check_mode, cache_dir=cache_dir
    )
    place = manifests.Place(
        given["release"], given["namespace"], {key: str(value) for key, value in given["labels"].items()}
    )
    scrape = manifests.Scrape(
        given["app_namespaces"],
        given["app_selector"],
        given["app_port"],
        given["scrape_interval_seconds"],
        given["scrape_timeout_seconds"],
    )
    boards = _dashboards(given, catalog, place, own=own)
    return Plan(
        manifests=[
            manifests.pod_monitor(place, scrape),
            *manifests.prometheus_rules(place, groups),
            *boards,
        ],
        alerts=[alert.name for alert in catalog.alerts()],
        dashboards=[str(item["metadata"]["name"]) for item in boards],
        warnings=warnings,
    )


def _check_values(given: Mapping[str, Any]) -> None:
    problems = []
    interval, timeout = given["scrape_interval_seconds"], given["scrape_timeout_seconds"]
    if interval < 1:
        problems.append(f"observability_scrape_interval_seconds is {interval}: give at least 1.")
    elif interval > LONGEST_INTERVAL_SECONDS:
        problems.append(
            f"observability_scrape_interval_seconds is {interval}: give at most {LONGEST_INTERVAL_SECONDS}. The rules take "
            "rates over a few minutes, and with fewer samples they would never fire."
        )
    elif not 1 <= timeout <= interval:
        problems.append(
            f"observability_scrape_timeout_seconds is {timeout}: give 1 to {interval}, which is "
            "observability_scrape_interval_seconds. Prometheus refuses a timeout beyond the interval."
        )
    if not given["app_selector"]:
        problems.append(
            "observability_app_selector is empty, which would scrape every pod: give labels of the app's pods."
        )
    if problems:
        raise CatalogError(problems)


def _check_expressions(
    given: Mapping[str, Any], groups: list[rules.Group], *, checked: bool, check_mode: bool, cache_dir: Path | None
) -> list[str]:
    program = os.path.expanduser(given["promtool"])
    if program and os.path.exists(program):
        if not checked:
            promtool.check(program, groups, cache_dir or promtool.cache_root())
        return []
    if checked and not program:
        return []
    if check_mode:
        return ["The expressions of the catalog were not checked, because promtool is not there yet."]
    raise CatalogError(
        [
            f"observability_promtool is {program!r}, which does not exist: give the path of promtool, or leave it empty "
            "and the role sources takes it."
        ]
    )


def _dashboards(
    given: Mapping[str, Any], catalog: Catalog, place: manifests.Place, *, own: bool
) -> list[manifests.Manifest]:
    if not given["dashboards_enabled"]:
        return []
    shipped = Path(given["own_dashboards"])
    wanted = [dashboard.name for dashboard in catalog.dashboards] if own else []
    left_out = [path.stem for path in shipped.glob("*.json") if path.stem not in wanted]
    own_files = manifests.read_dashboards([shipped], left_out) if wanted else {}
    added = manifests.read_dashboards([Path(path).expanduser() for path in given["dashboard_dirs"]], taken=shipped)
    folder = manifests.Folder(
        {str(key): str(value) for key, value in given["dashboard_labels"].items()},
        given["dashboard_folder_annotation"],
        given["dashboard_folder"],
    )
    return manifests.dashboards(place, {**own_files, **added}, folder)
