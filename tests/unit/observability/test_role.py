# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The role `observability`, run as a person runs it, against a real API server with the operator's definitions."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import ApiError, Cluster

from tests import parts
from tests.unit.control_plane import ControlPlane
from tests.unit.observability import support

Play = Callable[..., subprocess.CompletedProcess[str]]

PLAY = """
- name: Watch
  hosts: all
  gather_facts: false
  roles:
    - role: appgate.platform.observability
"""
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "/apis/monitoring.coreos.com/v1/namespaces/prometheus"


class Loader(yaml.SafeLoader):
    """YAML 1.1 gives a bare `=` a meaning that the definitions don't mean."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


@pytest.fixture
def play(ansible_playbook: Play, tmp_path: Path, control_plane: ControlPlane) -> Play:
    """Run the role with these variables."""

    def run(*arguments: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "observability_kubeconfig": str(control_plane.kubeconfig),
            "observability_context": control_plane.context,
            **changes,
        }
        path = tmp_path / "inventory.yml"
        path.write_text(json.dumps({"all": {"hosts": {"one": variables}}}))
        return ansible_playbook(PLAY, *arguments, inventory=str(path))

    return run


def text(result: subprocess.CompletedProcess[str]) -> str:
    return " ".join((result.stdout + result.stderr).split())


def changed(result: subprocess.CompletedProcess[str], count: int) -> None:
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"changed={count} " in result.stdout, result.stdout


def names(cluster: Cluster, plural: str, root: str = GROUP) -> set[str]:
    return {item["metadata"]["name"] for item in (cluster.get(f"{root}/{plural}") or {"items": []})["items"]}


def refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 2, result.stdout
    assert "changed=0 " in result.stdout
    for part in parts:
        assert part in text(result)


def test_a_cluster_without_the_definitions_is_refused_and_check_mode_goes_on(play: Play, cluster: Cluster) -> None:
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "prometheus"}})
    refused(
        play(),
        "does not know PodMonitor, PrometheusRule of monitoring.coreos.com/v1",
        "its CustomResourceDefinitions are not installed. Install what brings them first; nothing was changed.",
    )
    shown = play("--check", "--diff")
    changed(shown, 1)
    assert "PodMonitor could not be validated: the cluster does not know monitoring.coreos.com/v1 yet" in text(shown)
    assert "alert: AppgateDown" in shown.stdout


def served(cluster: Cluster, kind: str) -> bool:
    try:
        return cluster.get(f"{GROUP}/{kind}") is not None
    except ApiError:  # the storage is being set up
        return False


@pytest.fixture(scope="module")
def definitions(cluster: Cluster) -> None:
    """The operator's CustomResourceDefinitions, from the cache."""
    folder = parts.files("prometheus-operator")
    for kind in ("podmonitors", "prometheusrules"):
        body = yaml.load((folder / f"monitoring.coreos.com_{kind}.yaml").read_text(), Loader=Loader)  # noqa: S506
        if not cluster.get(f"{CRDS}/{body['metadata']['name']}"):
            cluster.call("POST", CRDS, body)
        end = time.monotonic() + 60
        while not served(cluster, kind):
            assert time.monotonic() < end, f"{kind} are not served"
            time.sleep(0.2)
    if not cluster.get("/api/v1/namespaces/prometheus"):
        cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "prometheus"}})


@pytest.mark.usefixtures("definitions")
def test_it_applies_once_repairs_and_takes_all_back(play: Play, cluster: Cluster) -> None:
    changed(play("--check"), 1)
    assert names(cluster, "podmonitors") == set()
    first = play()
    changed(first, 1)
    assert "Watched 37 alerts, 5 dashboards" in text(first)
    assert names(cluster, "podmonitors") == {"appgate-observability-app"}
    systems = {"app", "haproxy", "gunicorn", "cluster", "monitoring"}
    assert names(cluster, "prometheusrules") == {f"appgate-observability-{name}" for name in systems}
    boards = {f"appgate-observability-dashboard-{name}" for name in systems}
    assert boards <= names(cluster, "configmaps", "/api/v1/namespaces/prometheus")
    board = cluster.get("/api/v1/namespaces/prometheus/configmaps/appgate-observability-dashboard-app")
    assert board
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert board["metadata"]["annotations"]["grafana_folder"] == "Appgate"
    [file] = board["data"].values()
    assert json.loads(file)["uid"] == "appgate-app"
    monitor = cluster.get(f"{GROUP}/podmonitors/appgate-observability-app")
    assert monitor
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["appgate"]}

    changed(play(), 0)
    changed(play("--check", "--diff"), 0)

    edit: dict[str, Any] = {"spec": {"podMetricsEndpoints": []}}
    where = f"{GROUP}/podmonitors/appgate-observability-app"
    cluster.call("PATCH", where, edit, content_type="application/merge-patch+json")
    shown = play("--check", "--diff")
    changed(shown, 1)
    assert "+ path: /app/metrics" in text(shown)
    changed(play(), 1)

    # What is no longer wanted goes, and an objective of one's own arrives.
    changed(play(observability_systems=["app"], observability_slo_availability_percent=99.5), 1)
    assert names(cluster, "prometheusrules") == {"appgate-observability-app"}
    rule = cluster.get(f"{GROUP}/prometheusrules/appgate-observability-app")
    assert "vector(0.005)" in json.dumps(rule)

    changed(play("--check", observability_state="absent"), 1)
    changed(play(observability_state="absent"), 1)
    assert names(cluster, "podmonitors") == names(cluster, "prometheusrules") == set()
    changed(play(observability_state="absent"), 0)
    assert cluster.get("/api/v1/namespaces/prometheus")


@pytest.mark.usefixtures("definitions")
def test_catalogs_and_dashboards_of_ones_own(play: Play, cluster: Cluster, tmp_path: Path) -> None:
    boards = tmp_path / "boards"
    boards.mkdir()
    (boards / "mine.json").write_text('{"title": "Mine {{ pod }}", "uid": "mine", "panels": []}')
    own = {
        "observability_extra_catalogs": [str(support.write(tmp_path / "extra.yml", support.added()))],
        "observability_dashboard_dirs": [str(boards)],
        "observability_promtool": support.promtool(),
        "observability_systems": ["app"],
        "observability_alert_labels": {"team": "web"},
        "observability_runbook_url": "https://example.com/metrics.md",
    }
    changed(play(**own), 1)
    rule = cluster.get(f"{GROUP}/prometheusrules/appgate-observability-shop")
    assert rule
    [alert] = rule["spec"]["groups"][0]["rules"]
    assert alert["labels"] == {"severity": "critical", "system": "shop", "team": "web"}
    assert alert["annotations"]["runbook_url"] == "https://example.com/metrics.md#shoptillshut"
    board = cluster.get("/api/v1/namespaces/prometheus/configmaps/appgate-observability-dashboard-mine")
    assert board
    assert "Mine {{ pod }}" in board["data"]["appgate-observability-mine.json"]
    changed(play(**own), 0)
    changed(play(observability_state="absent"), 1)


@pytest.mark.usefixtures("definitions")
@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"observability_namespace": "nowhere"}, ["Namespace nowhere does not exist", "nothing was changed"]),
        ({"observability_context": ""}, ["observability_context", "is empty"]),
        ({"observability_slo_latency_seconds": 0.3}, ["observability_slo_latency_seconds is 0.3: give a bucket"]),
        ({"observability_slo_availability_percent": 100}, ["give a percentage above 0 and below 100"]),
        ({"observability_systems": ["apps"]}, ["observability_systems: apps is not a system of the catalog"]),
        ({"observability_scrape_timeout_seconds": 30}, ["observability_scrape_timeout_seconds is 30: give 1 to 15"]),
        ({"observability_app_selector": {}}, ["observability_app_selector is empty, which would scrape every pod"]),
        ({"observability_labels": {"bad label": "x"}}, ["refuses", "nothing was changed", "bad label"]),
        ({"observability_namspace": "x"}, ["observability_namspace", "Did you mean observability_namespace?"]),
        (
            {"observability_extra_catalogs": ["/nowhere.yml"], "observability_promtool": "/bin/true"},
            ["/nowhere.yml: can't be read (No such file or directory)."],
        ),
        (
            {"observability_extra_catalogs": ["extra.yml"], "observability_promtool": "/nowhere/promtool"},
            ["observability_promtool is '/nowhere/promtool', which does not exist"],
        ),
        ({"observability_dashboard_dirs": ["."]}, ["broken.json: is not JSON at line 1"]),
    ],
)
def test_bad_input_is_refused_before_anything_changes(
    changes: dict[str, Any], parts: list[str], play: Play, tmp_path: Path
) -> None:
    support.write(tmp_path / "extra.yml", support.added())
    (tmp_path / "broken.json").write_text("{")
    refused(play(**changes), *parts)


@pytest.mark.usefixtures("definitions")
def test_a_syntax_error_is_told_in_promtools_words_with_the_entrys_name(play: Play, tmp_path: Path) -> None:
    path = support.write(tmp_path / "extra.yml", support.added(support.metric(expr="sum(till_open")))
    refused(
        play(observability_extra_catalogs=[str(path)], observability_promtool=support.promtool()),
        "Refused before anything was changed:",
        "extra.yml: metrics (till), rule ShopTillShut: parse error: unclosed left parenthesis.",
    )
