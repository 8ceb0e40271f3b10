# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a live Prometheus is asked for is all that the dashboards ask for."""

from __future__ import annotations

import json

from ansible_collections.appgate.platform.plugins.module_utils.observability import promtool, rules

from observability import live
from tests.unit.observability import support


def test_panels_variables_and_annotations_are_asked_for() -> None:
    found = dict(live.expressions(support.ROOT))
    assert found["dashboard app, variable cluster"] == "group by (cluster) (up)"
    namespaces = 'group by (namespace) (up{job="appgate-haproxy", cluster=~".*"})'
    assert found["dashboard app, variable namespace"] == namespaces
    for path in sorted(support.DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        entries = {entry for entry in found if entry.startswith(f"dashboard {path.stem}, ")}
        queries = [item for item in dashboard["templating"]["list"] if item["type"] == "query"]
        assert {f"dashboard {path.stem}, variable {item['name']}" for item in queries} <= entries
        notes = [f"dashboard {path.stem}, annotation {item['name']}" for item in dashboard["annotations"]["list"]]
        assert notes
        # That there was a rollout lately is no part of the question.
        assert all(found[note].startswith("sum by") and not found[note].endswith("> 0") for note in notes)
        for panel in dashboard["panels"]:
            assert not panel.get("targets") or any(f", {panel['title']}, " in entry for entry in entries)


def test_what_is_asked_for_is_promql_without_grafanas_variables() -> None:
    group = rules.Group("live", "live")
    for number, (entry, expr) in enumerate(live.expressions(support.ROOT)):
        assert "$" not in expr, entry
        group.rules.append(rules.Rule(entry, {"record": "x", "expr": expr, "labels": {"n": str(number)}}))
    promtool.check(support.promtool(), [group])
