"""Each bad input of the role monitoring is refused with its variable, and good ones are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.monitoring_inputs import (
    SWITCHES,
    names_problems,
    problems,
)

GOOD: dict[str, Any] = {
    "monitoring_namespace": "prometheus",
    "monitoring_release": "prometheus",
    "monitoring_retention": "10d",
    "monitoring_chart_version": "88.5.3",
    "monitoring_chart_ref": "oci://ghcr.io/prometheus-community/charts/kube-prometheus-stack",
}
RECEIVERS: list[dict[str, Any]] = [
    {"name": "chat", "type": "slack", "secret": "chat", "key": "url", "channel": "#alerts"},
    {"name": "mail", "type": "email", "to": "a@example.com", "from": "b@example.com", "smarthost": "mail:587"},
    {"name": "call", "type": "pagerduty", "secret": "call", "key": "key", "severities": ["critical"]},
    {"name": "hook", "type": "webhook", "url": "http://hook/"},
]


def test_good_input_is_taken() -> None:
    more = {"monitoring_receivers": RECEIVERS, "monitoring_storage_size": "10Gi", "monitoring_storage_class": "fast"}
    assert problems({**GOOD, **more}) == []


@pytest.mark.parametrize("retention", ["15d", "2w", "1d12h", "36h", "500ms"])
def test_durations(retention: str) -> None:
    assert problems({**GOOD, "monitoring_retention": retention}) == []


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("monitoring_namespace", "Prometheus", "isn't a name"),
        ("monitoring_release", "a" * 54, "at most 53"),
        ("monitoring_retention", "10", "for example 10d"),
        ("monitoring_retention", 10, "for example 10d"),
        ("monitoring_retention", "", "isn't a duration"),
        ("monitoring_retention", "a while", "isn't a duration"),
        ("monitoring_retention_size", "8", "8GiB"),
        ("monitoring_chart_version", "latest", "exact version"),
        ("monitoring_chart_version", ">=88", "exact version"),
        ("monitoring_chart_ref", "", "empty"),
        ("monitoring_chart_username", "me", "give both or neither"),
        ("monitoring_image_mirror", True, "names no registry: give host"),
        ("monitoring_image_mirror", "https://mirror.example.com", "names no registry: give host"),
        ("monitoring_image_mirror", "mirror/charts", "registry.example.com/mirror"),
        ("monitoring_storage_size", "ten", "10Gi"),
        ("monitoring_storage_class", "fast", "no volume is asked for"),
        ("monitoring_prometheus_replicas", 0, "from 1 to 100"),
        ("monitoring_prometheus_replicas", "two", "whole number"),
        ("monitoring_external_labels", {"a-b": "c"}, "label's name"),
        ("monitoring_external_labels", {"a": 1}, "quote it"),
        ("monitoring_remote_write", [{}], "has no url"),
        ("monitoring_remote_write", [{"url": "https://me:pass@host/"}], "holds a password"),
        ("monitoring_grafana_host", "http://grafana", "isn't a host name"),
        ("monitoring_ingress_class", "nginx", "no Ingress is asked for"),
        ("monitoring_receivers", ["chat"], "must be a mapping"),
        ("monitoring_receivers", [{"type": "slack"}], "name of its own"),
        ("monitoring_receivers", [{"name": "null", "type": "webhook", "url": "http://h"}], "name of its own"),
        ("monitoring_receivers", [{"name": "a", "type": "teams"}], "there are slack"),
        ("monitoring_receivers", [{"name": "a", "type": "slack", "channel": "#a"}], "lacks secret, key"),
        ("monitoring_receivers", [{"name": "a", "type": "webhook"}], "url (where it is no secret)"),
        ("monitoring_receivers", [{**RECEIVERS[0], "url": "https://hooks"}], "url is for a webhook"),
        ("monitoring_receivers", [{**RECEIVERS[1], "username": "me"}], "secret and key (of the password)"),
        ("monitoring_receivers", [{**RECEIVERS[0], "chanel": "#b"}], "chanel"),
        ("monitoring_receivers", [RECEIVERS[3], RECEIVERS[3]], "name of its own"),
        ("monitoring_values", {"grafana": {"adminPassword": "x"}}, "keep it in a Secret"),
        (
            "monitoring_values",
            {"alertmanager": {"config": {"receivers": [{"slack_configs": [{"api_url": "x"}]}]}}},
            "Secret",
        ),
    ],
)
def test_bad_input_is_named(variable: str, value: Any, says: str) -> None:
    found = problems({**GOOD, variable: value})
    assert [item for item in found if item.variable == variable and says in item.text], found


def test_no_secret_is_repeated() -> None:
    given = {
        **GOOD,
        "monitoring_values": {"grafana": {"adminPassword": "hunter2"}},
        "monitoring_remote_write": [{"url": "https://me:hunter2@host/"}],
    }
    texts = [item.text for item in problems(given)]
    assert len(texts) == 2
    assert not any("hunter2" in text for text in texts)


def test_removal_asks_for_names_alone() -> None:
    assert names_problems({**GOOD, "monitoring_retention": "x"}) == []
    assert names_problems({**GOOD, "monitoring_release": "X"})


def test_every_switch_is_read_as_one(root: Path) -> None:
    specs = yaml.safe_load((root / "roles/monitoring/meta/argument_specs.yml").read_text())["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in spec["options"].items()}
    assert sorted(SWITCHES) == sorted(name for name, option in options.items() if option["type"] == "bool")
