# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Each alert of the embedded chart over samples that fire it, with what it then tells, and over samples that must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import alert_cases

CASES = alert_cases.read(Path(__file__).parent / "alerts.yml")
RULES = sorted((Path(__file__).resolve().parents[3] / "charts" / "monitoring" / "files" / "rules").glob("*.yaml"))
#: It fires always: its silence is what alarms.
ALWAYS = "Watchdog"


def alerts(path: Path) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


ALERTS = [name for path in RULES for name in alerts(path)]
KINDS = [(name, kind) for name in ALERTS for kind in alert_cases.KINDS if (name, kind) != (ALWAYS, "quiet")]


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    documents: list[dict[str, Any]] = []
    for path in RULES:
        tests = []
        for name, rule in alerts(path).items():
            tests.append({**alert_cases.unit_test(CASES, name, "fires"), **alert_cases.told(CASES, rule)})
            if name != ALWAYS:
                tests.append(alert_cases.unit_test(CASES, name, "quiet"))
        documents.append({"rule_files": [str(path)], "evaluation_interval": "1m", "tests": tests})
    return alert_cases.failures(tmp_path_factory.mktemp("rules"), documents)


def test_each_alert_has_a_case_and_each_case_an_alert() -> None:
    assert sorted(CASES["alerts"]) == sorted(ALERTS)
    for name, case in CASES["alerts"].items():
        assert name == ALWAYS or case["fires"] != case["quiet"], name


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_alert(name: str, kind: str, failures: dict[str, str]) -> None:
    assert f"{name}-{kind}" not in failures, failures[f"{name}-{kind}"]
