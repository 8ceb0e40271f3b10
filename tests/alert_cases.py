# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""promtool evaluates alerts over samples that fire them and over samples that must not.

A file of cases has `labels`, which are short names for labels that many series have, and `alerts`: by the alert's name `fires` and
`quiet`, each a mapping from a series to its samples, one a minute, in promtool's notation; `both`, which is in each; and `at`, when it
is looked at (default 30m). `told` holds the labels of the one alert that fires, but for its severity, and its words where
they are no plain text.
"""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import yaml

from tests.parts import program

KINDS = ("fires", "quiet")


def read(path: Path) -> dict[str, Any]:
    """A file of cases."""
    cases: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return cases


def series(cases: dict[str, Any], name: str, kind: str) -> list[dict[str, str]]:
    """The samples of a case, as promtool takes them."""

    def labels(match: re.Match[str]) -> str:
        return str(cases["labels"][match.group(1)])

    case = cases["alerts"][name]
    given = {**case.get("both", {}), **case.get(kind, {})}
    return [{"series": re.sub(r"<(\w+)>", labels, key), "values": str(values)} for key, values in given.items()]


def unit_test(cases: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    """One test: whether the alert fires at its time."""
    return {
        "name": f"{name}-{kind}",
        "interval": "1m",
        "input_series": series(cases, name, kind),
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
                "eval_time": cases["alerts"][name].get("at", "30m"),
                "exp_samples": [{"labels": "{}", "value": 1}] if kind == "fires" else [],
            }
        ],
    }


def told(cases: dict[str, Any], rule: dict[str, Any]) -> dict[str, Any]:
    """What joins the test of a firing alert: its labels and its words, whole."""
    case = cases["alerts"][rule["alert"]]
    labels = dict(case["told"])
    annotations = {text: labels.pop(text, rule["annotations"][text]) for text in ("summary", "description")}
    return {
        "alert_rule_test": [
            {
                "alertname": rule["alert"],
                "eval_time": case.get("at", "30m"),
                "exp_alerts": [{"exp_labels": {**rule["labels"], **labels}, "exp_annotations": annotations}],
            }
        ]
    }


def failures(directory: Path, documents: list[dict[str, Any]]) -> dict[str, str]:
    """What promtool says of the tests that failed, by their names; one run of it for all."""
    paths = []
    for number, document in enumerate(documents):
        path = directory / f"test-{number}.yml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        paths.append(str(path))
    report = directory / "report.xml"
    done = subprocess.run(
        [program("prometheus", "promtool"), "test", "rules", f"--junit={report}", *paths],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert report.is_file(), done.stdout + done.stderr
    found = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 (promtool wrote it)
    assert {case.get("name") for case in found} == {
        test["name"] for document in documents for test in document["tests"]
    }
    return {
        str(case.get("name")): "\n".join(failure.get("message", "") + (failure.text or "") for failure in case)
        for case in found
        if len(case)
    }


def write_rules(path: Path, groups: list[dict[str, Any]]) -> str:
    """A file of rules for promtool."""
    path.write_text(json.dumps({"groups": groups}), encoding="utf-8")
    return str(path)
