"""The role's variables as values: the same shape for both charts, no secret in them, the person's own on top."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_values as values

ROOT = Path(__file__).resolve().parents[3]
IMAGES = {
    name: {"registry": "r:5000", "repository": f"monitoring/{name}", "tag": "", "digest": f"sha256:{'0' * 64}"}
    for name in (
        "prometheus-operator",
        "prometheus-config-reloader",
        "prometheus",
        "alertmanager",
        "kube-state-metrics",
        "node-exporter",
    )
}
VERSIONS = {"prometheus": "v3.15.0", "alertmanager": "v0.31.1"}
SCRAPED = {"kube-controller-manager": True, "kube-scheduler": True, "etcd": False, "kube-proxy": True}


def defaults() -> dict[str, Any]:
    text = (ROOT / "roles/monitoring/defaults/main.yml").read_text(encoding="utf-8")
    return {**yaml.safe_load(text), "monitoring_cluster_name": "one"}


def build(embedded: bool = True, grafana: bool = False, **given: Any) -> dict[str, Any]:
    return values.build(
        {**defaults(), **given}, embedded=embedded, images=IMAGES, versions=VERSIONS, scraped=SCRAPED, grafana=grafana
    )


FULL: dict[str, Any] = {
    "monitoring_storage_size": "10Gi",
    "monitoring_storage_class": "fast",
    "monitoring_alertmanager_storage_size": "1Gi",
    "monitoring_grafana_storage_size": "1Gi",
    "monitoring_retention_size": "8GiB",
    "monitoring_prometheus_host": "prometheus.example.com",
    "monitoring_grafana_host": "grafana.example.com",
    "monitoring_ingress_tls_secret": "tls",
    "monitoring_service_type": "LoadBalancer",
    "monitoring_remote_write": [{"url": "https://remote/"}],
    "monitoring_prometheus_resources": {"limits": {"memory": "1Gi"}},
    "monitoring_image_pull_secrets": ["pull"],
    "monitoring_receivers": [
        {"name": "chat", "type": "slack", "secret": "chat", "key": "url", "channel": "#a"},
        {"name": "call", "type": "pagerduty", "secret": "call", "key": "routing", "severities": ["critical"]},
        {"name": "mail", "type": "email", "to": "a@b", "from": "c@d", "smarthost": "m:587", "username": "me",
         "secret": "mail", "key": "password"},
        {"name": "hook", "type": "webhook", "url": "http://hook/"},
        {"name": "hidden", "type": "webhook", "secret": "hook", "key": "url"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("given", [{}, FULL], ids=["defaults", "everything"])
def test_the_embedded_chart_takes_them(given: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "charts/monitoring/values.schema.json").read_bytes())
    jsonschema.Draft7Validator(schema).validate(build(grafana=bool(given), **given))


def test_secrets_come_in_as_files() -> None:
    alertmanager = build(**FULL)["alertmanager"]
    assert alertmanager["alertmanagerSpec"]["secrets"] == ["call", "chat", "hook", "mail"]
    receivers = {item["name"]: item for item in alertmanager["config"]["receivers"]}
    base = "/etc/alertmanager/secrets"
    assert receivers["chat"]["slack_configs"][0]["api_url_file"] == f"{base}/chat/url"
    assert receivers["call"]["pagerduty_configs"][0]["routing_key_file"] == f"{base}/call/routing"
    assert receivers["mail"]["email_configs"][0]["auth_password_file"] == f"{base}/mail/password"
    assert receivers["hidden"]["webhook_configs"][0]["url_file"] == f"{base}/hook/url"
    routes = {route["receiver"]: route for route in alertmanager["config"]["route"]["routes"]}
    assert routes["call"]["matchers"] == ['severity =~ "critical"']


def test_the_persons_values_win() -> None:
    merged = build(monitoring_retention="1d", monitoring_values={"prometheus": {"prometheusSpec": {"retention": "2d"}}})
    assert merged["prometheus"]["prometheusSpec"]["retention"] == "2d"
    assert merged["prometheus"]["prometheusSpec"]["externalLabels"] == {"cluster": "one"}


def test_every_image_can_come_from_a_mirror() -> None:
    for embedded in (True, False):
        merged = build(embedded, monitoring_image_mirror="mirror:5000/all", monitoring_image_pull_secrets=["pull"])
        assert merged["global"] == {"imageRegistry": "mirror:5000/all", "imagePullSecrets": [{"name": "pull"}]}
        # The app's own registry says nothing about where the charts' images are.
        assert "global" not in build(embedded, monitoring_image_registry="registry:5000")


def test_what_does_not_listen_is_not_scraped() -> None:
    merged = build()
    assert merged["kubeEtcd"] == {"enabled": False}
    assert merged["kubeProxy"] == {"enabled": True}


def test_a_kube_proxy_that_is_no_pod_is_found_by_its_node() -> None:
    own = {"extraManifests": {"mine": {"kind": "ConfigMap"}}}
    merged = values.build(
        {**defaults(), "monitoring_values": own},
        embedded=False,
        images={},
        versions={},
        scraped=SCRAPED,
        grafana=False,
        kube_proxy_by_node=True,
    )
    assert merged["kubeProxy"] == {
        "enabled": True,
        "service": {"enabled": False},
        "serviceMonitor": {"enabled": False},
    }
    assert sorted(merged["extraManifests"]) == ["kube-proxy", "mine"]
    assert merged["extraManifests"]["kube-proxy"]["kind"] == "ScrapeConfig"
    assert "extraManifests" not in build(False)


def test_names_are_those_of_the_community() -> None:
    assert values.services("prometheus") == {
        "Prometheus": ("prometheus-kube-prometheus-prometheus", 9090, 9090),
        "Alertmanager": ("prometheus-kube-prometheus-alertmanager", 9093, 9093),
        "Grafana": ("prometheus-grafana", 80, 3000),
    }
    assert values.fullname("monitoring") == "monitoring-kube-prometheus"


@pytest.mark.parametrize(
    ("reference", "embedded", "wanted"),
    [
        ("grafana/grafana:13.2.0", True, ("docker.io", "grafana/grafana", "13.2.0", "digest", "")),
        ("r:5000/a/grafana:1", False, ("r:5000", "a/grafana", "1", "sha", "")),
        ("r.example/g@sha256:ab", True, ("r.example", "g", "", "digest", "sha256:ab")),
        # The published chart writes `@sha256:` itself.
        ("r.example/g@sha256:ab", False, ("r.example", "g", "", "sha", "ab")),
    ],
)
def test_grafanas_image_as_each_chart_reads_it(reference: str, embedded: bool, wanted: tuple[str, ...]) -> None:
    registry, repository, tag, key, digest = wanted
    image = build(embedded, grafana=True, monitoring_grafana_image=reference)["grafana"]["image"]
    assert image == {"registry": registry, "repository": repository, "tag": tag, key: digest}


def test_the_published_grafana_shows_our_folders_and_fetches_nothing() -> None:
    grafana = build(False, grafana=True, monitoring_grafana_storage_size="1Gi")["grafana"]
    assert grafana["sidecar"]["dashboards"] == {
        "searchNamespace": "ALL",
        "folderAnnotation": "grafana_folder",
        "provider": {"foldersFromFilesStructure": True},
    }
    assert grafana["grafana.ini"]["plugins"] == {"preinstall_disabled": True}
    assert grafana["deploymentStrategy"] == {"type": "Recreate"}
