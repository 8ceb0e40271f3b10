# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The catalog: each mistake is told with its file and entry, and all of them at once."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.observability import rules
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import (
    LATENCY_BUCKETS,
    CatalogError,
    Selector,
    only_systems,
    read,
    with_parameters,
)
from appgate import metrics as app_metrics

from tests.unit.observability import support


def problems(tmp_path: Path, data: Any) -> str:
    path = support.write(tmp_path / "extra.yml", data)
    with pytest.raises(CatalogError) as caught:
        read([support.CATALOG, path])
    return "\n".join(caught.value.problems).replace(str(path), "extra.yml")


def test_the_projects_own_catalog_is_right_and_complete() -> None:
    catalog = support.catalog()
    assert list(catalog.systems) == ["app", "haproxy", "gunicorn", "cluster", "monitoring"]
    for metric in catalog.metrics:
        assert metric.alert or metric.covered_by
        assert metric.reason
        assert catalog.shown_on(metric.name), f"no panel shows {metric.name}"


def test_an_added_catalog_adds(tmp_path: Path) -> None:
    path = support.write(tmp_path / "extra.yml", support.added())
    catalog = read([support.CATALOG, path])
    assert "shop" in catalog.systems
    [group] = [group for group in rules.groups(catalog) if group.system == "shop"]
    assert group.rules[0].body["expr"] == '(sum(till_open{job=~".+"}))\n< 1'
    assert group.rules[0].body["labels"] == {"severity": "critical", "system": "shop"}


ALERT = support.metric()["alert"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "extra.yml: the catalog: must be a mapping with version, not a list."),
        (support.added(version=2), "extra.yml: version: is 2, this reader knows 1."),
        (support.added(metrcis=[]), "extra.yml: the catalog: 'metrcis' is not a known key"),
        (support.added(metrics={}), "extra.yml: metrics: must be a list, not a mapping."),
        (support.added(dashboards=[{}]), "extra.yml: dashboards: an added catalog has none"),
        (support.added(support.metric(why=None)), "extra.yml: metrics[0] (till): why is missing."),
        (support.added(support.metric(why="", unit=None)), "metrics[0] (till): unit is missing."),
        (support.added(support.metric(why="")), "why must be a text that is not empty, not ''."),
        (support.added(support.metric(expr=3)), "expr must be a text that is not empty, not 3."),
        (support.added(support.metric(name="A b")), "metrics[0] (A b): name is 'A b', it must match"),
        (support.added(support.metric(sytem="x")), "'sytem' is not a known key; known are name, system"),
        (support.added(support.metric(system="shp")), "metrics (till): system is 'shp', known are app, haproxy"),
        (support.added(support.metric(expr="up{${apps}}")), "metrics (till): ${apps} stands for nothing; known are window, app,"),
        (support.added(support.metric(alert=None)), "has neither an alert nor covered_by"),
        (support.added(support.metric(alert=None, threshold=None, covered_by="Nobody", reason="x")), "covered_by is 'Nobody', which is not an alert."),
        (support.added(support.metric(alert=None, threshold=None, covered_by="AppgateDown")), "reason is missing"),
        (support.added(support.metric(covered_by="AppgateDown")), "give alert or covered_by, not both."),
        (support.added(support.metric(threshold=None)), "metrics[0] (till) threshold: must be a mapping with reason, not nothing."),
        (support.added(support.metric(threshold={"reason": "x"})), "threshold: give one of above and below."),
        (support.added(support.metric(threshold={"reason": "x", "above": "1"})), "above is '1', it must be a number."),
        (support.added(support.metric(alert={**ALERT, "severity": "bad"})), "alert (ShopTillShut): severity is 'bad', it must be one of critical, warning, info."),
        (support.added(support.metric(alert={**ALERT, "for": "5 minutes"})), "for is '5 minutes', it must match"),
        (support.added(support.metric(alert={**ALERT, "name": "AppgateDown"})), "metrics (till): the alert AppgateDown is given already by metrics (serving_backends) of"),
        (support.added(support.metric(), support.metric(name="till2")), "metrics (till2): the alert ShopTillShut is given already by metrics (till) of extra.yml. Give each a name of its own."),
        (support.added(support.metric(name="queue")), "the name of metric queue is given already by"),
        (support.added(selectors={"app": {"matchers": "a", "scope": "app"}}), "selectors.app: this name is taken already."),
        (support.added(selectors={"s": {"matchers": 'a="b"', "scope": "pod"}}), "scope is 'pod', it must be one of app, namespace, cluster."),
    ],
)  # fmt: skip
def test_a_mistake_is_told(data: Any, message: str, tmp_path: Path) -> None:
    assert message in problems(tmp_path, data)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, support.added(support.metric(why=None, system="no"), support.metric(unit=3)))
    assert len(found.splitlines()) == 5, found


def test_what_is_no_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "extra.yml"
    path.write_text("version: 1\nmetrics: [\n")
    with pytest.raises(CatalogError, match=r"extra.yml: not YAML at line 3, column 1"):
        read([support.CATALOG, path])
    with pytest.raises(CatalogError, match=r"nowhere.yml: can't be read \(No such file or directory\)"):
        read([support.CATALOG, tmp_path / "nowhere.yml"])


def test_parameters_change_the_rules() -> None:
    given = {
        "app_namespaces": ["one", "two"],
        "slo_availability_percent": 99.0,
        "slo_latency_percent": 95.0,
        "slo_latency_seconds": 1,
    }
    catalog = with_parameters(support.catalog(), given)
    bodies = {
        rule.body.get("alert", rule.body.get("record")): rule.body
        for group in rules.groups(catalog)
        for rule in group.rules
    }
    assert "> 14.4 * 0.01 and" in bodies["AppgateAvailabilityBurnFast"]["expr"]
    assert "> 14.4 * 0.05 and" in bodies["AppgateLatencyBurnFast"]["expr"]
    assert 'le="1.0"' in bodies["namespace:appgate_latency_errors:ratio_rate1h"]["expr"]
    assert 'namespace=~"one|two"' in bodies["AppgateDown"]["expr"]
    one = with_parameters(catalog, {**given, "app_namespaces": ["one"]})
    assert 'namespace="one"' in one.for_rule("up{${app}}")
    assert 'namespace=~"$namespace"' in one.for_dashboard("up{${app}}")
    # PromQL knows no escaped hyphen in a string.
    hyphens = with_parameters(catalog, {**given, "app_namespaces": ["one-shop", "two-shops"]})
    assert 'namespace=~"one-shop|two-shops"' in hyphens.for_rule("up{${app}}")
    assert 'namespace="one-shop"' in with_parameters(catalog, {**given, "app_namespaces": ["one-shop"]}).for_rule(
        "up{${app}}"
    )
    assert (
        one.for_dashboard("rate(x{${node}}[${window}])")
        == 'rate(x{job="node-exporter", cluster=~"$cluster"}[$__rate_interval])'
    )


@pytest.mark.parametrize(
    ("expr", "made"),
    [
        ("absent(up{${app}})", '(absent(up{job="a(", namespace="one"}) or absent(up{job="a(", namespace="two"}))'),
        (
            "x > 1 and absent_over_time (sum(rate(up{${app}}[${window}]))[1h:]) > 0",
            'x > 1 and (absent_over_time (sum(rate(up{job="a(", namespace="one"}[5m]))[1h:]) '
            'or absent_over_time (sum(rate(up{job="a(", namespace="two"}[5m]))[1h:])) > 0',
        ),
        (
            """absent(up{a=")", b='(', c=`)`, ${app}}) or y{${app}}""",
            """(absent(up{a=")", b='(', c=`)`, job="a(", namespace="one"}) """
            """or absent(up{a=")", b='(', c=`)`, job="a(", namespace="two"})) or y{job="a(", namespace=~"one|two"}""",
        ),
        # What is not the app's has no namespace to be asked for one by one.
        ("absent(up{${any}})", 'absent(up{job=~".+"})'),
        ("not_absent(up{${app}})", 'not_absent(up{job="a(", namespace=~"one|two"})'),
        # A mistake stays as it is, for promtool to tell.
        ("absent(up{${app}}", 'absent(up{job="a(", namespace=~"one|two"}'),
    ],
)
def test_what_is_absent_is_asked_for_in_each_namespace(expr: str, made: str) -> None:
    catalog = with_parameters(support.catalog(), {"app_namespaces": ["one", "two"]})
    catalog = replace(catalog, selectors={**catalog.selectors, "app": Selector('job="a("', "app")})
    assert catalog.for_rule(expr) == made
    one = with_parameters(catalog, {"app_namespaces": ["one"]})
    assert one.for_rule("absent(up{${app}})") == 'absent(up{job="a(", namespace="one"})'


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("slo_availability_percent", 100.0, "observability_slo_availability_percent is 100.0: give a percentage above 0 and below 100"),
        ("slo_latency_percent", 0, "observability_slo_latency_percent is 0"),
        ("slo_latency_seconds", 0.3, "observability_slo_latency_seconds is 0.3: give a bucket of the app's histogram, one of 0.001"),
        ("app_namespaces", [], "observability_app_namespaces is []: give at least one name of a namespace."),
        ("app_namespaces", ["A b"], "observability_app_namespaces is ['A b']"),
    ],
)  # fmt: skip
def test_a_parameter_that_does_not_fit_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(CatalogError, match=re.escape(message)):
        with_parameters(support.catalog(), {name: value})


def test_systems_can_be_left_out(tmp_path: Path) -> None:
    path = support.write(tmp_path / "extra.yml", support.added())
    catalog = read([support.CATALOG, path])
    shipped = list(support.catalog().systems)
    kept = only_systems(catalog, ["app"], shipped)
    assert list(kept.systems) == ["app", "shop"]
    assert {group.system for group in rules.groups(kept)} == {"app", "shop"}
    assert [dashboard.name for dashboard in kept.dashboards] == ["app"]
    with pytest.raises(
        CatalogError, match="observability_systems: apps is not a system of the catalog; known are app,"
    ):
        only_systems(catalog, ["apps"], shipped)


def test_the_buckets_are_those_of_the_app() -> None:
    assert app_metrics._BUCKETS == LATENCY_BUCKETS
