# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What the scenario waits for is what the catalog's alerts say."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.observability import rules

from tests.unit.observability import support

TEXT = (support.ROOT / "molecule/observability/vars/provoked.yml").read_text(encoding="utf-8")
PROVOKED: list[dict[str, Any]] = yaml.safe_load(TEXT)["provoked"]


@pytest.mark.parametrize("wanted", PROVOKED, ids=lambda item: str(item["alert"]))
def test_the_scenario_knows_the_words(wanted: dict[str, Any]) -> None:
    bodies = [rule.body for group in rules.groups(support.catalog()) for rule in group.rules]
    [body] = [body for body in bodies if body.get("alert") == wanted["alert"]]
    assert body["labels"]["severity"] == wanted["severity"]
    assert wanted["runbook"] in body["annotations"]["runbook"]
    summary = body["annotations"]["summary"]
    for name, value in {
        "$labels.namespace": wanted["namespace"],
        "$labels.pod": "appgate-6c5d8f7b9-x2x4q",
        "$value": "12",
    }.items():
        summary = summary.replace(f"{{{{ {name} }}}}", value)
    assert re.fullmatch(wanted["summary"], summary)
