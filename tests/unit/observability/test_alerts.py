# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""promtool evaluates each alert over samples that fire it and over samples that must not."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.observability import rules

from tests.unit.observability import support

CASES = yaml.safe_load((Path(__file__).parent / "alerts.yml").read_text(encoding="utf-8"))
#: Between the evaluations of a test over days: less than the 5 min for which a sample counts.
LONG_INTERVAL = "4m"
ALERTS = [alert.name for alert in support.catalog().alerts()]


def series(case: dict[str, Any], kind: str) -> list[dict[str, str]]:
    def labels(match: re.Match[str]) -> str:
        return str(CASES["labels"][match.group(1)])

    given = {**case.get("both", {}), **case[kind]}
    return [{"series": re.sub(r"<(\w+)>", labels, name), "values": str(values)} for name, values in given.items()]


def unit_test(name: str, kind: str) -> dict[str, Any]:
    case = CASES["alerts"][name]
    return {
        "name": f"{name}-{kind}",
        "interval": "1m",
        "input_series": series(case, kind),
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
                "eval_time": case.get("at", "30m"),
                "exp_samples": [{"labels": "{}", "value": 1}] if kind == "fires" else [],
            }
        ],
    }


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What promtool says of the tests that failed; one run of it for all."""
    directory = tmp_path_factory.mktemp("rules")
    catalog = support.catalog()
    groups = rules.groups(catalog)
    part_of = {alert.name: "slo" for slo in catalog.slos for alert in (slo.fast, slo.slow)}
    part_of |= {metric.alert.name: metric.system for metric in catalog.metrics if metric.alert}
    paths, names = [], []
    # Rules that a test doesn't need only cost time, and so do samples each minute over days.
    for part in sorted(set(part_of.values())):
        for long in (False, True):
            interval = LONG_INTERVAL if long else "1m"
            bodies = [
                {**group.body(), "interval": interval} for group in groups if group.name.startswith(f"appgate.{part}.")
            ]
            tests = [
                unit_test(name, kind)
                for name, case in CASES["alerts"].items()
                for kind in ("fires", "quiet")
                if part_of[name] == part and case.get("at", "").endswith("h") == long
            ]
            names += [test["name"] for test in tests]
            rule_file = directory / f"rules-{part}-{long}.json"
            rule_file.write_text(json.dumps({"groups": bodies}), encoding="utf-8")
            document = {"rule_files": [str(rule_file)], "evaluation_interval": interval, "tests": tests}
            if tests:
                paths.append(str(support.write(directory / f"test-{part}-{long}.yml", document)))
    report = directory / "report.xml"
    done = subprocess.run(
        [support.promtool(), "test", "rules", f"--junit={report}", *paths],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert report.is_file(), done.stdout + done.stderr
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 (promtool wrote it)
    assert {case.get("name") for case in cases} == set(names)
    return {
        str(case.get("name")): "\n".join(failure.get("message", "") + (failure.text or "") for failure in case)
        for case in cases
        if len(case)
    }


def test_each_alert_has_a_case_and_each_case_an_alert() -> None:
    assert sorted(CASES["alerts"]) == sorted(ALERTS)
    for name, case in CASES["alerts"].items():
        assert case["fires"], name
        assert case["quiet"], name
        assert case["fires"] != case["quiet"], name


@pytest.mark.parametrize("kind", ["fires", "quiet"])
@pytest.mark.parametrize("name", ALERTS)
def test_alert(name: str, kind: str, failures: dict[str, str]) -> None:
    assert f"{name}-{kind}" not in failures, failures[f"{name}-{kind}"]
