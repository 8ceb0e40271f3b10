# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Each alert of the catalog over samples that fire it and over samples that must not."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.observability import rules

from tests import alert_cases
from tests.unit.observability import support

CASES = alert_cases.read(Path(__file__).parent / "alerts.yml")
#: Between the evaluations of a test over days: less than the 5 min for which a sample counts.
LONG_INTERVAL = "4m"
ALERTS = [alert.name for alert in support.catalog().alerts()]


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
