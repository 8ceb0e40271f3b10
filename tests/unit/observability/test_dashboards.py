# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Dashboards and page are those of the catalog, and dashboards of a person's own are looked at before they are taken."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.observability import manifests, promtool, rules
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import CatalogError, read

from observability import dashboards, generate, live
from tests import alert_cases
from tests.unit.observability import support

FILES = sorted(support.DASHBOARDS.glob("*.json"))
each_dashboard = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))


def load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_what_is_checked_in_is_what_the_catalog_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_check_tells_what_is_stale_and_a_run_repairs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("observability/catalog.yml", "docs/metrics.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(support.ROOT / name, tmp_path / name)
    shutil.copytree(support.DASHBOARDS, tmp_path / generate.DASHBOARDS)
    assert generate.main(["--check"], tmp_path) == 0
    stray = tmp_path / generate.DASHBOARDS / "stray.json"
    stray.write_text("{}")
    page = tmp_path / generate.REFERENCE
    page.write_text(page.read_text().replace("Critical", "Important"))
    assert generate.main(["--check"], tmp_path) == 1
    error = capsys.readouterr().err
    assert "+# Critical metrics" in error
    assert "stray.json is not in the catalog" in error
    assert "Write them: make docs" in error
    assert generate.main([], tmp_path) == 0
    assert not stray.exists()
    assert generate.main(["--check"], tmp_path) == 0


@each_dashboard
def test_each_panel_explains_itself_and_asks_the_variables(path: Path) -> None:
    dashboard = load(path)
    assert dashboard["uid"] == f"appgate-{path.stem}"
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "cluster", "namespace"]
    assert [note["name"] for note in dashboard["annotations"]["list"]] == ["Deploys"]
    assert dashboard["links"][0]["tags"] == ["appgate"]
    assert dashboard["links"][0]["includeVars"]
    assert "appgate" in dashboard["tags"]
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
    for panel in panels(dashboard):
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            known = {"$cluster", "$namespace", "$__rate_interval"}
            assert set(re.findall(r"\$\{?\w+\}?", target["expr"])) <= known, target["expr"]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        (
            "app",
            rf"histogram_quantile\({quantile}, sum by \(.*\ble\) \(rate\(appgate_http_request_duration_seconds_bucket{{",
        )
        for quantile in ("0.50", "0.95", "0.99")
    ]
    + [
        ("app", r"rate\(appgate_http_request_duration_seconds_count{"),
        ("app", r'rate\(haproxy_frontend_http_responses_total{.*code="5xx"'),
        ("app", r'rate\(appgate_http_request_duration_seconds_count{.*status=~"5'),
        ("haproxy", r'haproxy_backend_current_queue{.*proxy="flask"'),
        ("haproxy", r"sum by \(proxy, state\) \(haproxy_backend_status{"),
        ("haproxy", r'rate\(haproxy_frontend_http_responses_total{.*code="5xx"'),
        ("haproxy", r"haproxy_frontend_current_sessions{.*/ \(haproxy_frontend_limit_sessions{"),
        ("haproxy", r"sum by \(pod\) \(haproxy_frontend_current_sessions{"),
        ("gunicorn", r"sum by \(pod\) \(appgate_workers{"),
        ("gunicorn", r"appgate_workers{.*/ .*max_over_time\(appgate_workers{"),
        ("gunicorn", r"appgate_worker_threads{"),
    ],
)
def test_what_a_person_looks_for_has_a_panel(name: str, asked: str) -> None:
    dashboard = load(support.DASHBOARDS / f"{name}.json")
    queries = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    assert [expr for expr in queries if re.search(asked, expr)], queries


def pods(replica_set: str, samples: str, *names: str, asked: str = "ksm-a") -> dict[str, str]:
    """Pods of a ReplicaSet as a kube-state-metrics tells of them, a sample a minute."""
    return {
        f'kube_pod_owner{{job="kube-state-metrics", instance="{asked}", namespace="appgate", pod="{replica_set}-{name}", '
        f'owner_kind="ReplicaSet", owner_name="{replica_set}"}}': samples
        for name in names
    }


#: A step of an autoscaler changes it too.
GENERATION = {
    'kube_deployment_status_observed_generation{job="kube-state-metrics", namespace="appgate", deployment="appgate"}': "1x9 2x20"
}
#: What happens ten minutes after the start, and the ReplicaSets that get a line for it.
HAPPENINGS: dict[str, tuple[dict[str, str], list[str]]] = {
    "nothing": (pods("appgate-1", "1x30", "a", "b"), []),
    "an autoscaler's step": ({**pods("appgate-1", "1x30", "a"), **pods("appgate-1", "_x10 1x20", "b", "c"), **GENERATION}, []),
    "fewer replicas": ({**pods("appgate-1", "1x30", "a"), **pods("appgate-1", "1x9 stale", "b", "c")}, []),
    "a pod that is replaced": ({**pods("appgate-1", "1x9 stale", "a"), **pods("appgate-1", "_x10 1x20", "b")}, []),
    "a rollout": (
        {**pods("appgate-1", "1x10 stale", "a", "b"), **pods("appgate-2", "_x10 1x20", "a", "b"), **GENERATION},
        ["appgate-2"],
    ),
    "a rollout with nothing in common": (
        {**pods("appgate-1", "1x8 stale", "a"), **pods("appgate-2", "_x10 1x20", "a")},
        ["appgate-2"],
    ),
    "the way back": (
        {**pods("appgate-1", "1x3 stale _x5 1x20", "a"), **pods("appgate-2", "1x10 stale", "a")},
        ["appgate-1"],
    ),
    "a rollout that stays half done": (
        {**pods("appgate-1", "1x30", "a", "b"), **pods("appgate-2", "_x10 1x20", "a")},
        ["appgate-2"],
    ),
    "another kube-state-metrics": (
        {**pods("appgate-1", "1x7 stale", "a", "b"), **pods("appgate-1", "_x10 1x20", "a", "b", asked="ksm-b")},
        [],
    ),
    "the first pods of a namespace": (pods("appgate-1", "_x10 1x20", "a"), []),
    "a Job": ({**pods("appgate-1", "1x30", "a"), 'kube_pod_owner{job="kube-state-metrics", namespace="appgate", pod="j-1", owner_kind="Job", owner_name="j"}': "_x10 1x20"}, []),
}  # fmt: skip


def test_a_line_for_each_rollout_and_for_nothing_else(tmp_path: Path) -> None:
    [expr] = {note["expr"] for path in FILES for note in load(path)["annotations"]["list"]}
    for name, value in {**live.VARIABLES, "$__rate_interval": "2m"}.items():
        expr = expr.replace(name, value)
    tests = []
    for happening, (series, lines) in HAPPENINGS.items():
        shown = [{"labels": f'{{namespace="appgate", owner_name="{name}"}}', "value": 1} for name in lines]
        tests.append(
            {
                "name": happening,
                "interval": "1m",
                "input_series": [{"series": key, "values": values} for key, values in series.items()],
                "promql_expr_test": [
                    {"expr": expr, "eval_time": "9m", "exp_samples": []},
                    {"expr": expr, "eval_time": "10m", "exp_samples": shown},
                    # Over when the window is, however long the rollout takes.
                    {"expr": expr, "eval_time": "14m", "exp_samples": []},
                    # Without the comparison there is always a value, by which it is known to work.
                    {"expr": f"group({expr.removesuffix(' > 0')})", "eval_time": "14m", "exp_samples": [{"labels": "{}", "value": 1}]},
                ],
            }
        )  # fmt: skip
    assert alert_cases.failures(tmp_path, [{"rule_files": [], "evaluation_interval": "1m", "tests": tests}]) == {}


@each_dashboard
def test_panels_fill_the_grid_and_do_not_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in load(path)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= dashboards.GRID_WIDTH
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    assert len(taken) == dashboards.GRID_WIDTH * (max(y for _x, y in taken) + 1)


def test_promtool_reads_all_expressions() -> None:
    found = rules.groups(support.catalog())
    for path in FILES:
        dashboard = load(path)
        group = rules.Group(f"dashboard.{path.stem}", path.stem)
        queries = [(panel["title"], target["expr"]) for panel in panels(dashboard) for target in panel["targets"]]
        queries += [(note["name"], note["expr"]) for note in dashboard["annotations"]["list"]]
        for title, expr in queries:
            body = {
                "record": "x",
                "expr": expr.replace("$__rate_interval", "5m"),
                "labels": {"n": str(len(group.rules))},
            }
            group.rules.append(rules.Rule(f"{path.name}: {title}", body))
        found.append(group)
    promtool.check(support.promtool(), found)


def test_promtools_complaint_names_the_entry(tmp_path: Path) -> None:
    path = support.write(
        tmp_path / "extra.yml",
        support.added(
            support.metric(expr="sum(till_open"),
            support.metric(
                name="second", alert={**support.metric()["alert"], "name": "Second", "summary": "{{ $lables.pod }}"}
            ),
        ),
    )
    with pytest.raises(CatalogError) as caught:
        promtool.check(support.promtool(), rules.groups(read([support.CATALOG, path])), tmp_path / "cache")
    first, second = caught.value.problems
    assert first.startswith(f"{path}: metrics (till), rule ShopTillShut: parse error: unclosed left parenthesis")
    assert "The expression is: (sum(till_open) < 1" in first
    assert second.startswith(f'{path}: metrics (second), rule Second: annotation "summary"')
    assert not (tmp_path / "cache").exists()


def test_what_was_right_is_not_asked_again(tmp_path: Path) -> None:
    groups = rules.groups(support.catalog())
    promtool.check(support.promtool(), groups, tmp_path)
    [mark] = list(tmp_path.iterdir())
    before = mark.stat().st_mtime_ns
    promtool.check(support.promtool(), groups, tmp_path)
    assert mark.stat().st_mtime_ns == before
    with pytest.raises(CatalogError, match="observability_promtool: /nonexistent can't be run"):
        promtool.check("/nonexistent", groups, tmp_path)


GOOD = {"title": "Mine", "uid": "mine", "panels": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON at line 1, column 2"),
        ("[]", "is not a dashboard: it holds a list and no mapping"),
        ('{"a": 1}', "one has a title and a list of panels"),
        (json.dumps({"dashboard": GOOD, "meta": {}}), "is the answer of Grafana's API around a dashboard"),
        (json.dumps({**GOOD, "uid": None}), "has no uid"),
        (json.dumps({**GOOD, "uid": "appgate-app"}), "uid 'appgate-app' is that of"),
        (json.dumps({**GOOD, "description": "x" * 1_000_001}), "is larger than a ConfigMap may be"),
    ],
)
def test_what_is_no_dashboard_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(CatalogError) as caught:
        manifests.read_dashboards([tmp_path], taken=support.DASHBOARDS)
    [problem] = caught.value.problems
    assert str(tmp_path / "mine.json") in problem
    assert message in problem


def test_names_of_dashboards_are_checked(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"observability_dashboard_dirs: .* holds no file \*.json"):
        manifests.read_dashboards([tmp_path])
    (tmp_path / "Mine_1.json").write_text(json.dumps(GOOD))
    (tmp_path / "app.json").write_text(json.dumps({**GOOD, "uid": "other"}))
    with pytest.raises(CatalogError) as caught:
        manifests.read_dashboards([tmp_path], taken=support.DASHBOARDS)
    assert "Mine_1.json: must be named in lower-case letters" in caught.value.problems[0]
    assert "app.json: there is a dashboard file of this name already" in caught.value.problems[1]
