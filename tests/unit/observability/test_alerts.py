# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Each alert of the catalog over samples that fire it and over samples that must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.observability import rules
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import Catalog, with_parameters

from tests import alert_cases
from tests.unit.observability import support

CASES = alert_cases.read(Path(__file__).parent / "alerts.yml")
#: Between the evaluations of a test over days: less than the 5 min for which a sample counts.
LONG_INTERVAL = "4m"
ALERTS = [alert.name for alert in support.catalog().alerts()]
FURTHER: list[dict[str, Any]] = CASES["further"]


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("rules")
    catalog = support.catalog()
    groups = rules.groups(catalog)
    part_of = {alert.name: "slo" for slo in catalog.slos for alert in (slo.fast, slo.slow)}
    part_of |= {metric.alert.name: metric.system for metric in catalog.metrics if metric.alert}
    documents = []
    # Rules that a test doesn't need only cost time, and so do samples each minute over days.
    for part in sorted(set(part_of.values())):
        for long in (False, True):
            interval = LONG_INTERVAL if long else "1m"
            bodies = [
                {**group.body(), "interval": interval} for group in groups if group.name.startswith(f"appgate.{part}.")
            ]
            tests = [
                alert_cases.unit_test(CASES, name, kind)
                for name, case in CASES["alerts"].items()
                for kind in alert_cases.KINDS
                if part_of[name] == part and case.get("at", "").endswith("h") == long
            ]
            if tests:
                rule_file = alert_cases.write_rules(directory / f"rules-{part}-{long}.json", bodies)
                documents.append({"rule_files": [rule_file], "evaluation_interval": interval, "tests": tests})
    return alert_cases.failures(directory, documents)


def test_each_alert_has_a_case_and_each_case_an_alert() -> None:
    assert sorted(CASES["alerts"]) == sorted(ALERTS)
    for name, case in CASES["alerts"].items():
        assert case["fires"], name
        assert case["quiet"], name
        assert case["fires"] != case["quiet"], name


@pytest.mark.parametrize("kind", alert_cases.KINDS)
@pytest.mark.parametrize("name", ALERTS)
def test_alert(name: str, kind: str, failures: dict[str, str]) -> None:
    assert f"{name}-{kind}" not in failures, failures[f"{name}-{kind}"]


def alert_rules(catalog: Catalog) -> dict[str, dict[str, Any]]:
    """The alerts by their names, as Prometheus reads them."""
    return {
        rule.body["alert"]: rule.body for group in rules.groups(catalog) for rule in group.rules if "alert" in rule.body
    }


@pytest.fixture(scope="module")
def further_failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("further")
    documents = []
    for number, case in enumerate(FURTHER):
        catalog = support.catalog()
        if "namespaces" in case:
            catalog = with_parameters(catalog, {"app_namespaces": case["namespaces"]})
        rule = alert_rules(catalog)[case["alert"]]
        rule["annotations"].pop("runbook")
        cases = {"labels": CASES["labels"], "alerts": {case["alert"]: case}}
        told = alert_cases.told(cases, rule)
        tests = [
            {**alert_cases.unit_test(cases, case["alert"], kind), **(told if kind == "fires" else {})}
            for kind in alert_cases.KINDS
        ]
        for test, kind in zip(tests, alert_cases.KINDS, strict=True):
            test["name"] = f"{case['alert']}, {case['about']}: {kind}"
        rule_file = alert_cases.write_rules(directory / f"rules-{number}.json", [{"name": "further", "rules": [rule]}])
        documents.append({"rule_files": [rule_file], "evaluation_interval": "1m", "tests": tests})
    return alert_cases.failures(directory, documents)


@pytest.mark.parametrize("kind", alert_cases.KINDS)
@pytest.mark.parametrize("case", FURTHER, ids=lambda case: f"{case['alert']}, {case['about']}")
def test_what_else_an_alert_is_looked_at_for(case: dict[str, Any], kind: str, further_failures: dict[str, str]) -> None:
    name = f"{case['alert']}, {case['about']}: {kind}"
    assert name not in further_failures, further_failures[name]
