# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""kube-state-metrics reads what something asks about, and nothing else: each kind costs memory and a permission."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

QUERIES = ("charts/monitoring/files/rules", "observability", "roles/observability/files", "plugins/module_utils/report")
PLURALS = {"ingresses": "ingress", "storageclasses": "storageclass", "networkpolicies": "networkpolicy"}


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """The kinds of the metrics in rules, dashboards and the report."""
    root = Path(__file__).resolve().parents[3]
    files = [path for folder in QUERIES for path in (root / folder).rglob("*") if path.is_file()]
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix in (".yaml", ".yml", ".json", ".py")]
    return {name for text in texts for name in re.findall(r"\bkube_([a-z]+)(?:_[a-z]|\{)", text)}


@pytest.fixture(scope="module")
def collected() -> set[str]:
    root = Path(__file__).resolve().parents[3]
    values = yaml.safe_load((root / "charts/monitoring/values.yaml").read_text(encoding="utf-8"))
    return {PLURALS.get(name, name.removesuffix("s")) for name in values["kube-state-metrics"]["collectors"]}


def test_what_is_asked_about_is_collected(asked: set[str], collected: set[str]) -> None:
    assert asked
    assert asked - collected == set()


def test_nothing_else_is(asked: set[str], collected: set[str]) -> None:
    assert collected - asked == set()
