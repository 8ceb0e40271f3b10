# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""From variables to manifests, without a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import kube_objects
from ansible_collections.appgate.platform.plugins.module_utils.observability import manifests, plan
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import CatalogError

from tests.unit.observability import support


def make(cache_dir: Path | None = None, check_mode: bool = False, **changes: Any) -> plan.Plan:
    given = {name: argument.get("default") for name, argument in plan.ARGUMENTS.items()}
    given.update(
        release="watch",
        namespace="prometheus",
        app_namespaces=["appgate"],
        app_selector={"app": "hello"},
        own_catalog=str(support.CATALOG),
        own_dashboards=str(support.DASHBOARDS),
    )
    return plan.make({**given, **changes}, check_mode=check_mode, cache_dir=cache_dir)


def by_kind(made: plan.Plan, kind: str) -> list[str]:
    return [item["metadata"]["name"] for item in made.manifests if item["kind"] == kind]


def test_defaults_make_a_monitor_five_rules_and_five_dashboards() -> None:
    made = make()
    assert by_kind(made, "PodMonitor") == ["watch-app"]
    assert len(by_kind(made, "PrometheusRule")) == len(by_kind(made, "ConfigMap")) == 5
    assert made.summary == "37 alerts, 5 dashboards"
    assert not made.warnings
    # The same input makes the same objects, or no run would ever be unchanged.
    assert kube_objects.checksum(make().manifests) == kube_objects.checksum(made.manifests)
    kube_objects.check_manifests(made.manifests, "prometheus")


def test_the_two_metric_pages_are_jobs_of_their_own() -> None:
    [monitor] = [item for item in make().manifests if item["kind"] == "PodMonitor"]
    pages = {item["path"]: item["relabelings"][0]["replacement"] for item in monitor["spec"]["podMetricsEndpoints"]}
    assert pages == {"/metrics": manifests.JOB_HAPROXY, "/app/metrics": manifests.JOB_APP}


def test_no_series_that_the_catalog_needs_is_dropped() -> None:

    used = set(re.findall(r"haproxy_\w+", support.CATALOG.read_text()))
    assert used
    assert not [name for name in used if re.fullmatch(manifests.UNUSED, name)]
    assert re.fullmatch(manifests.UNUSED, "haproxy_backend_agg_check_status")


def test_dashboards_can_be_left_out() -> None:
    assert by_kind(make(dashboards_enabled=False), "ConfigMap") == []
    assert by_kind(make(dashboard_folder=""), "ConfigMap")
    [board] = [item for item in make(systems=["app"]).manifests if item["kind"] == "ConfigMap"]
    assert json.loads(board["data"]["watch-app.json"])["uid"] == "appgate-app"


def test_a_catalog_in_the_place_of_the_projects_own(tmp_path: Path) -> None:
    selectors = {"any": {"matchers": 'job=~".+"', "scope": "cluster"}}
    path = support.write(tmp_path / "own.yml", support.added(selectors=selectors))
    made = make(tmp_path / "cache", catalog=str(path), promtool=support.promtool())
    assert by_kind(made, "PrometheusRule") == ["watch-shop"]
    assert by_kind(made, "ConfigMap") == []
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_without_promtool_an_added_catalog_is_refused_and_check_mode_says_so(tmp_path: Path) -> None:
    extra = [str(support.write(tmp_path / "extra.yml", support.added()))]
    with pytest.raises(CatalogError, match="observability_promtool is '', which does not exist"):
        make(extra_catalogs=extra)
    assert make(check_mode=True, extra_catalogs=extra).warnings == [
        "The expressions of the catalog were not checked, because promtool is not there yet."
    ]


@pytest.mark.parametrize(("seconds", "says"), [(0, "at least 1"), (61, "at most 60. The rules take rates")])
def test_an_interval_with_which_no_rule_has_samples_is_refused(seconds: int, says: str) -> None:
    with pytest.raises(CatalogError, match=f"observability_scrape_interval_seconds is {seconds}: give {says}"):
        make(scrape_interval_seconds=seconds)
    assert make(scrape_interval_seconds=60, scrape_timeout_seconds=60).alerts
