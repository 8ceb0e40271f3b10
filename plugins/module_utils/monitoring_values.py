# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The role's variables as values of a chart. kube-prometheus-stack and the embedded chart take the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.helm_release import merge

#: Where the operator mounts the Secrets that Alertmanager is given.
SECRETS = "/etc/alertmanager/secrets"
#: How the charts call what is scraped of the control plane.
CONTROL_PLANE = {
    "kube-controller-manager": "kubeControllerManager",
    "kube-scheduler": "kubeScheduler",
    "etcd": "kubeEtcd",
    "kube-proxy": "kubeProxy",
}


def fullname(release: str) -> str:
    """The start of the objects' names, as both charts make it."""
    name = "kube-prometheus-stack"
    return (release if name in release else f"{release}-{name}")[:26].rstrip("-")


def subname(release: str, name: str) -> str:
    """The name of a subchart's objects."""
    return (release if name in release else f"{release}-{name}")[:63].rstrip("-")


def services(release: str) -> dict[str, tuple[str, int, int]]:
    """Service, its port, and the local port that people know, of each thing with an address."""
    return {
        "Prometheus": (f"{fullname(release)}-prometheus", 9090, 9090),
        "Alertmanager": (f"{fullname(release)}-alertmanager", 9093, 9093),
        "Grafana": (subname(release, "grafana"), 80, 3000),
    }


def build(
    given: Mapping[str, Any],
    *,
    embedded: bool,
    images: Mapping[str, Mapping[str, str]],
    versions: Mapping[str, str],
    scraped: Mapping[str, bool],
    grafana: bool,
    kube_proxy_by_node: bool = False,
) -> dict[str, Any]:
    """All values of the release: the role's, and over them the person's."""
    values: dict[str, Any] = {
        "prometheus": {
            "prometheusSpec": _prometheus(given),
            **_entrance(given, "prometheus"),
        },
        "alertmanager": {
            "config": alertmanager_config(given["monitoring_receivers"]),
            "alertmanagerSpec": _alertmanager(given),
            **_entrance(given, "alertmanager"),
        },
        "grafana": _grafana(given, embedded) if grafana else {"enabled": False},
        **{CONTROL_PLANE[name]: {"enabled": wanted} for name, wanted in scraped.items()},
    }
    pull_secrets = [{"name": name} for name in given["monitoring_image_pull_secrets"]]
    if pull_secrets:
        values["global"] = {"imagePullSecrets": pull_secrets}
    if given["monitoring_image_mirror"]:
        # Both charts put it in the place of every image's registry, the operator's flags and Grafana's sidecars included.
        values.setdefault("global", {})["imageRegistry"] = str(given["monitoring_image_mirror"])
    if kube_proxy_by_node:
        values = merge(values, _kube_proxy(str(given["monitoring_release"])))
    special = merge(_embedded(images, versions), _copied(images)) if embedded else _upstream()
    return merge(merge(values, special), given["monitoring_values"])


def _prometheus(given: Mapping[str, Any]) -> dict[str, Any]:
    own = not given["monitoring_select_all"]
    spec: dict[str, Any] = {
        "replicas": int(given["monitoring_prometheus_replicas"]),
        "retention": str(given["monitoring_retention"]),
        "scrapeInterval": f"{int(given['monitoring_scrape_interval_seconds'])}s",
        "evaluationInterval": f"{int(given['monitoring_scrape_interval_seconds'])}s",
        "externalLabels": {"cluster": str(given["monitoring_cluster_name"]), **given["monitoring_external_labels"]},
        **{
            f"{what}SelectorNilUsesHelmValues": own
            for what in ("serviceMonitor", "podMonitor", "probe", "scrapeConfig", "rule")
        },
    }
    if given["monitoring_retention_size"]:
        spec["retentionSize"] = str(given["monitoring_retention_size"])
    if given["monitoring_prometheus_resources"]:
        spec["resources"] = given["monitoring_prometheus_resources"]
    if given["monitoring_remote_write"]:
        spec["remoteWrite"] = given["monitoring_remote_write"]
    if given["monitoring_storage_size"]:
        spec["storageSpec"] = _volume(given, given["monitoring_storage_size"])
    return spec


def _alertmanager(given: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"replicas": int(given["monitoring_alertmanager_replicas"])}
    secrets = sorted({str(item["secret"]) for item in given["monitoring_receivers"] if item.get("secret")})
    if secrets:
        spec["secrets"] = secrets
    if given["monitoring_alertmanager_storage_size"]:
        spec["storage"] = _volume(given, given["monitoring_alertmanager_storage_size"])
    return spec


def _volume(given: Mapping[str, Any], size: object) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(size)}},
    }
    if given["monitoring_storage_class"]:
        spec["storageClassName"] = given["monitoring_storage_class"]
    return {"volumeClaimTemplate": {"spec": spec}}


def _entrance(given: Mapping[str, Any], part: str) -> dict[str, Any]:
    """How it is reached from outside."""
    entrance: dict[str, Any] = {}
    if given["monitoring_service_type"] != "ClusterIP":
        entrance["service"] = {"type": given["monitoring_service_type"]}
    host = given[f"monitoring_{part}_host"]
    if host:
        ingress: dict[str, Any] = {
            "enabled": True,
            "ingressClassName": given["monitoring_ingress_class"],
            "annotations": given["monitoring_ingress_annotations"],
            "hosts": [host],
            "tls": [],
        }
        if part != "grafana":
            ingress["paths"] = ["/"]
        if given["monitoring_ingress_tls_secret"]:
            ingress["tls"] = [{"hosts": [host], "secretName": given["monitoring_ingress_tls_secret"]}]
        entrance["ingress"] = ingress
    return entrance


def grafana_secret(given: Mapping[str, Any]) -> str:
    """The Secret with Grafana's administrator: the person's, or the one that the role makes."""
    return str(given["monitoring_grafana_admin_secret"] or f"{given['monitoring_release']}-grafana-admin")


def _grafana(given: Mapping[str, Any], embedded: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "enabled": True,
        "admin": {
            "existingSecret": grafana_secret(given),
            "userKey": "admin-user",
            "passwordKey": "admin-password",
        },
        **_entrance(given, "grafana"),
    }
    if given["monitoring_grafana_storage_size"]:
        values["persistence"] = {"enabled": True, "size": str(given["monitoring_grafana_storage_size"])}
        if given["monitoring_storage_class"]:
            values["persistence"]["storageClassName"] = given["monitoring_storage_class"]
        if not embedded:
            # A volume that one node holds: the new pod would wait for the old one, which waits for the new one.
            values["deploymentStrategy"] = {"type": "Recreate"}
    if given["monitoring_grafana_image"]:
        values["image"] = grafana_image(str(given["monitoring_grafana_image"]), embedded)
    return values


def _embedded(images: Mapping[str, Mapping[str, str]], versions: Mapping[str, str]) -> dict[str, Any]:
    def image(name: str) -> dict[str, str]:
        return dict(images[name])

    return {
        "prometheusOperator": {
            "image": image("prometheus-operator"),
            "prometheusConfigReloader": {"image": image("prometheus-config-reloader")},
        },
        "prometheus": {"prometheusSpec": {"image": image("prometheus"), "version": versions["prometheus"]}},
        "alertmanager": {"alertmanagerSpec": {"image": image("alertmanager"), "version": versions["alertmanager"]}},
        "kube-state-metrics": {"image": image("kube-state-metrics")},
        "prometheus-node-exporter": {"image": image("node-exporter")},
    }


def _copied(images: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Grafana's, where they come from the nodes' registry."""
    grafana: dict[str, Any] = {}
    if "grafana" in images:
        grafana["image"] = dict(images["grafana"])
    if "grafana-sidecar" in images:
        grafana["sidecar"] = {"image": dict(images["grafana-sidecar"])}
    return {"grafana": grafana} if grafana else {}


def _upstream() -> dict[str, Any]:
    return {
        # The role applies them itself: Helm never upgrades them.
        "crds": {"enabled": False},
        # Without webhooks no job has to make a certificate; the operator checks what it loads anyway.
        "prometheusOperator": {"admissionWebhooks": {"enabled": False}, "tls": {"enabled": False}},
        "grafana": {
            "grafana.ini": {
                "analytics": {
                    "check_for_updates": False,
                    "check_for_plugin_updates": False,
                    "reporting_enabled": False,
                },
                "auth.anonymous": {"enabled": False},
                # It would fetch some at each start, and wait for them where it reaches nobody.
                "plugins": {"preinstall_disabled": True},
                "users": {"allow_sign_up": False},
            },
            "sidecar": {
                "dashboards": {
                    "searchNamespace": "ALL",
                    # The annotation names a directory; only with the second line a directory is a folder in Grafana.
                    "folderAnnotation": "grafana_folder",
                    "provider": {"foldersFromFilesStructure": True},
                }
            },
        },
    }


def _kube_proxy(release: str) -> dict[str, Any]:
    """kube-proxy as a process of each node. The published chart's own Service finds pods; its alert asks for the job alone."""

    def label(target: str, **more: Any) -> dict[str, Any]:
        return {"action": "replace", "targetLabel": target, **more}

    spec = {
        "kubernetesSDConfigs": [{"role": "Node"}],
        "relabelings": [
            label("__address__", sourceLabels=["__meta_kubernetes_node_address_InternalIP"], replacement="$1:10249"),
            label("node", sourceLabels=["__meta_kubernetes_node_name"]),
            label("job", replacement="kube-proxy"),
            label("namespace", replacement="kube-system"),
        ],
    }
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "ScrapeConfig",
        "metadata": {"name": f"{fullname(release)}-kube-proxy", "labels": {"release": release}},
        "spec": spec,
    }
    return {
        "kubeProxy": {"service": {"enabled": False}, "serviceMonitor": {"enabled": False}},
        # As a mapping, so that a person's own join it.
        "extraManifests": {"kube-proxy": manifest},
    }


def alertmanager_config(receivers: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Alertmanager's configuration. A secret comes in as the path of a file, never as text."""
    routes: list[dict[str, Any]] = [{"matchers": ['alertname = "Watchdog"'], "receiver": "null"}]
    for item in receivers:
        severities = [str(name) for name in item.get("severities") or ("critical", "warning")]
        routes.append(
            {"matchers": [f'severity =~ "{"|".join(severities)}"'], "receiver": str(item["name"]), "continue": True}
        )
    return {
        "global": {"resolve_timeout": "5m"},
        "route": {
            "receiver": "null",
            "group_by": ["cluster", "namespace", "alertname"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "12h",
            "routes": routes,
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity = "critical"'],
                "target_matchers": ['severity =~ "warning|info"'],
                "equal": ["cluster", "namespace", "alertname"],
            },
        ],
        "receivers": [{"name": "null"}, *(_receiver(item) for item in receivers)],
        "templates": ["/etc/alertmanager/config/*.tmpl"],
    }


def _receiver(item: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(item["type"])
    file = f"{SECRETS}/{item['secret']}/{item['key']}" if item.get("secret") else ""
    settings: dict[str, Any] = {"send_resolved": bool(item.get("send_resolved", True))}
    if kind == "slack":
        settings.update(api_url_file=file, channel=str(item["channel"]))
    elif kind == "pagerduty":
        settings.update(routing_key_file=file)
    elif kind == "email":
        settings.update(to=str(item["to"]), smarthost=str(item["smarthost"]))
        settings["from"] = str(item["from"])
        settings["require_tls"] = bool(item.get("require_tls", True))
        if item.get("username"):
            settings.update(auth_username=str(item["username"]), auth_password_file=file)
    elif file:
        settings.update(url_file=file)
    else:
        settings.update(url=str(item["url"]))
    return {"name": str(item["name"]), f"{kind}_configs": [settings]}


def grafana_image(reference: str, embedded: bool) -> dict[str, str]:
    """registry/repository:tag or @digest as the charts' values. Grafana's own has a name of its own for the digest."""
    name, _, digest = reference.partition("@")
    head, _, tail = name.rpartition("/")
    last, _, tag = tail.partition(":")
    registry, _, path = head.partition("/")
    if not ("." in registry or ":" in registry or registry == "localhost"):
        registry, path = "docker.io", head
    hashed = {"digest": digest} if embedded else {"sha": digest.removeprefix("sha256:")}
    return {"registry": registry, "repository": f"{path}/{last}".lstrip("/"), "tag": tag, **hashed}
