"""Each bad input of the role monitoring is refused with its variable, and good ones are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.monitoring_inputs import (
    PLACES,
    SWITCHES,
    names_problems,
    problems,
    refused_by_schema,
)

from tests.unit.monitoring.test_values import FULL, build

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
        ("monitoring_scrape_interval_seconds", 0, "from 1 to 60"),
        ("monitoring_scrape_interval_seconds", 61, "2 minutes"),
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
        ("monitoring_receivers", [{**RECEIVERS[3], "url": "https://me:pass@hook/"}], "holds a password"),
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


@pytest.mark.parametrize(
    "key",
    [
        "password", "auth_password", "bot_token", "secret_key", "api_url", "slack_api_url", "routing_key", "service_key",
        "api_key", "opsgenie_api_key", "apiKey", "webhook_url", "api_secret", "client_secret", "clientSecret", "user_key",
        "credentials",
    ],
)  # fmt: skip
def test_a_secret_in_the_values_is_refused_by_its_name(key: str) -> None:
    def found(value: Any, name: str = key) -> list[str]:
        config = {"receivers": [{"name": "a", "some_configs": [{name: value}]}]}
        return [item.text for item in problems({**GOOD, "monitoring_values": {"alertmanager": {"config": config}}})]

    [text] = found("hunter2")
    assert f"alertmanager.config.receivers.some_configs.{key}" in text
    assert "hunter2" not in text
    # Where it is, in place of what it is.
    assert found("/etc/alertmanager/secrets/a", f"{key}_file") == []
    assert found({"name": "a", "key": "b"}) == []
    assert found("") == []


@pytest.mark.parametrize(
    "values",
    [
        {"grafana": {"admin": {"existingSecret": "a", "userKey": "user", "passwordKey": "password"}}},
        {"grafana": {"grafana.ini": {"auth.generic_oauth": {"client_secret": "$__file{/etc/secrets/oauth}"}}}},
        {"grafana": {"grafana.ini": {"smtp": {"password": "${SMTP_PASSWORD}"}}}},
        {"alertmanager": {"ingress": {"tls": [{"secretName": "a"}]}}},
    ],
)
def test_the_name_of_a_secret_is_none(values: dict[str, Any]) -> None:
    assert problems({**GOOD, "monitoring_values": values}) == []


def test_no_secret_is_repeated() -> None:
    given = {
        **GOOD,
        "monitoring_values": {"grafana": {"adminPassword": "hunter2"}},
        "monitoring_remote_write": [{"url": "https://me:hunter2@host/"}],
        "monitoring_receivers": [{**RECEIVERS[3], "url": "https://me:hunter2@hook/"}],
    }
    texts = [item.text for item in problems(given)]
    assert len(texts) == 3
    assert not any("hunter2" in text for text in texts)


def test_removal_asks_for_names_alone() -> None:
    assert names_problems({**GOOD, "monitoring_retention": "x", "monitoring_scrape_interval_seconds": 120}) == []
    assert names_problems({**GOOD, "monitoring_release": "X"})


def test_every_switch_is_read_as_one(root: Path) -> None:
    specs = yaml.safe_load((root / "roles/monitoring/meta/argument_specs.yml").read_text())["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in spec["options"].items()}
    assert sorted(SWITCHES) == sorted(name for name, option in options.items() if option["type"] == "bool")


def test_what_the_schema_refuses_is_laid_to_the_variable_that_says_it(root: Path) -> None:
    schema = json.loads((root / "charts/monitoring/values.schema.json").read_bytes())

    def found(own: dict[str, Any], **given: Any) -> dict[str, str]:
        merged = build(grafana=True, monitoring_values=own, **given)
        return {item.variable: item.text for item in refused_by_schema(schema, merged, own)}

    def spec(**values: Any) -> dict[str, Any]:
        return {"prometheus": {"prometheusSpec": values}}

    wrong = {"request": {"cpu": "1"}}
    [(variable, text)] = found({}, monitoring_prometheus_resources=wrong).items()
    assert variable == "monitoring_prometheus_resources"
    assert "prometheus.prometheusSpec.resources" in text
    assert "request" in text
    # Somebody's own values beside it are not to blame.
    assert list(found(spec(retention="1d"), monitoring_prometheus_resources=wrong)) == [
        "monitoring_prometheus_resources"
    ]
    assert list(found(spec(resources=wrong))) == ["monitoring_values"]
    assert list(found({"promteheus": {}})) == ["monitoring_values"]
    assert list(found({"prometheus": {"spec": {}}})) == ["monitoring_values"]
    assert list(found({"global": {"imagePullSecrets": [{"nam": "a"}]}})) == ["monitoring_values"]
    both = found(spec(retention=1), monitoring_external_labels={"a": 1})
    assert list(both) == ["monitoring_external_labels", "monitoring_values"]


def test_every_value_that_a_variable_becomes_is_one(root: Path) -> None:
    full = {
        **FULL,
        "monitoring_alertmanager_host": "a.example.com",
        "monitoring_grafana_image": "grafana/grafana:1",
        "monitoring_image_mirror": "mirror.example.com",
    }
    merged = build(grafana=True, **full)
    for place in PLACES:
        node: Any = merged
        for key in place.split("."):
            assert key in node, place
            node = node[key]
    specs = yaml.safe_load((root / "roles/monitoring/meta/argument_specs.yml").read_text())["argument_specs"]
    assert set(PLACES.values()) <= set(specs["main"]["options"])
