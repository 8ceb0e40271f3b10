# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Runs for appgate.platform.cluster_report on the controller, where the page is written and variables know their place."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import re
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    CONNECTION,
    AccessError,
    ApiError,
    Names,
    connect,
)
from ansible_collections.appgate.platform.plugins.module_utils.observability import catalog as catalogs
from ansible_collections.appgate.platform.plugins.module_utils.report import collect, page, plots
from ansible_collections.appgate.platform.plugins.module_utils.report.model import BAD, OFF, WARN, Report
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction

ROOT = Path(__file__).resolve().parents[2]
CATALOG = ROOT / "observability" / "catalog.yml"
TEMPLATES = ROOT / "roles" / "report" / "templates"
LEAST_HOURS, MOST_HOURS = 0.25, 720.0


class ActionModule(ControllerAction):
    """Asks, draws, writes. See plugins/modules/cluster_report.py for what it takes and gives."""

    arguments: ClassVar[dict[str, Any]] = {
        **CONNECTION,
        "dir": {"type": "str", "required": True},
        "cluster_name": {"type": "str", "required": True},
        "siblings": {"type": "list", "elements": "str", "default": []},
        "hours": {"type": "float", "default": 1},
        "namespaces": {"type": "list", "elements": "str", "default": []},
        "app_namespace": {"type": "str", "default": "appgate"},
        "app_release": {"type": "str", "default": "appgate"},
        "monitoring_namespace": {"type": "str", "default": "prometheus"},
        "monitoring_release": {"type": "str", "default": "prometheus"},
        "prometheus_service": {"type": "str", "default": ""},
        "policy_enforced": {"type": "str", "default": "auto"},
    }

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        target = self._target(given)
        try:
            cluster = connect(
                given["kubeconfig"],
                given["context"],
                Names(
                    kubeconfig="report_kubeconfig (or appgate_kubeconfig in the inventory)",
                    context="report_context (or appgate_context in the inventory)",
                ),
                given["connect_timeout_seconds"],
            )
        except AccessError as error:
            raise AnsibleActionFail(str(error)) from None
        now = datetime.datetime.now(datetime.UTC)
        about = (given["cluster_name"], given["context"], cluster.entry.server, given["hours"], now)
        report = Report(*about)
        try:
            collect.collect(cluster, self._settings(given), self._catalog(given), now, report)
        except collect.InputError as error:
            raise AnsibleActionFail(self.sentence(error.variable, error.text)) from None
        except (AccessError, ApiError) as error:
            report = Report(*about, unreachable=str(error))
        try:
            text = page.render(report, TEMPLATES, given["siblings"])
        except plots.NoLibrary:
            raise AnsibleActionFail(
                "The Python package pygal, which draws the plots, is not installed beside Ansible. In a checkout run "
                "`make venv`, elsewhere `pip install pygal`."
            ) from None
        changed = page.stated(target) != report.fingerprint(page.layout(TEMPLATES))
        if not self._task.check_mode:
            try:
                page.write(target, text)
            except OSError as error:
                problem = f"{target} can't be written ({error.strerror or error}). Name another directory"
                raise AnsibleActionFail(self.sentence("report_dir", problem)) from None
        if report.unreachable:
            raise AnsibleActionFail(report.unreachable)
        return {
            "changed": changed,
            "path": str(target),
            "verdict": report.verdict,
            "state": report.state,
            "parts": [dataclasses.asdict(part) for part in report.parts],
            "rows": _rows(report, target, written=not self._task.check_mode),
        }

    def _target(self, given: dict[str, Any]) -> Path:
        """The page's path, once all that needs no cluster has been found right."""
        problems = []
        hours = given["hours"]
        if not (math.isfinite(hours) and LEAST_HOURS <= hours <= MOST_HOURS):
            problems.append(
                self.sentence("report_hours", f"{hours:g} is not between {LEAST_HOURS:g} and {MOST_HOURS:g} hours")
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", given["cluster_name"]):
            problems.append(
                self.sentence(
                    "report_cluster_name",
                    f"{given['cluster_name']!r} names a file, so give letters, digits, dots, dashes and underscores",
                )
            )
        policy = given["policy_enforced"].lower()
        if policy not in ("auto", "true", "false"):
            problems.append(
                self.sentence(
                    "report_network_policy_enforced", f"{given['policy_enforced']!r} is none of auto, true, false"
                )
            )
        for name in ("app_namespace", "monitoring_namespace"):
            if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", given[name]):
                problems.append(self.sentence(f"report_{name}", f"{given[name]!r} can't be the name of a namespace"))
        if not given["dir"]:
            problems.append(self.sentence("report_dir", "it is empty; name a directory, such as build/reports"))
        target = Path(os.path.abspath(os.path.expanduser(given["dir"]))) / f"{given['cluster_name']}.html"
        unwritable = page.unwritable(target) if given["dir"] else ""
        if unwritable:
            problems.append(self.sentence("report_dir", f"{given['dir']!r}: {unwritable}. Name another directory"))
        if problems:
            raise AnsibleActionFail("\n".join(problems))
        return target

    def _settings(self, given: dict[str, Any]) -> collect.Settings:
        return collect.Settings(
            cluster=given["cluster_name"],
            app_namespace=given["app_namespace"],
            app_release=given["app_release"],
            monitoring_namespace=given["monitoring_namespace"],
            monitoring_release=given["monitoring_release"],
            hours=given["hours"],
            namespaces=tuple(given["namespaces"]),
            prometheus_service=given["prometheus_service"],
            policy_enforced=given["policy_enforced"].lower(),
        )

    def _catalog(self, given: dict[str, Any]) -> catalogs.Catalog:
        return catalogs.with_parameters(catalogs.read([CATALOG]), {"app_namespaces": [given["app_namespace"]]})


def _rows(report: Report, target: Path, *, written: bool) -> dict[str, str]:
    """Rows of the closing table: where the page is, and what it would tell first."""
    rows = {"16 Report": str(target) if written else f"{target} (check mode: not written)", "17 State": report.verdict}
    for number, part in enumerate([*report.of_state(BAD, WARN), *report.of_state(OFF)][:9], start=90):
        rows[f"{number} {part.name}"] = part.text
    return rows
