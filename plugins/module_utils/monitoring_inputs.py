# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What the variables of the role `monitoring` must be, one by one and together. All mistakes are told at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.image_delivery import names_registry
from ansible_collections.appgate.platform.plugins.module_utils.input_problems import Problem, out_of_bounds
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import is_dns_label, quantity

_DURATION = re.compile(r"^(?=.)((\d+)y)?((\d+)w)?((\d+)d)?((\d+)h)?((\d+)m)?((\d+)s)?((\d+)ms)?$")
_SIZE = re.compile(r"^\d+(\.\d+)?(B|KB|MB|GB|TB|PB|EB|KiB|MiB|GiB|TiB|PiB|EiB)$")
_VERSION = re.compile(r"^v?\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)*$")
_LABEL_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
_HOST = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_NUMBERS: dict[str, tuple[int, int]] = {
    "monitoring_prometheus_replicas": (1, 100),
    "monitoring_alertmanager_replicas": (1, 100),
    "monitoring_timeout_seconds": (10, 86400),
    "monitoring_pending_wait_seconds": (0, 3600),
    "monitoring_history_limit": (2, 100),
    "monitoring_revision": (0, 2**31),
}
#: Rules of both charts and of the app take rates over 2 minutes, for which they need two samples.
_INTERVAL = {"monitoring_scrape_interval_seconds": (1, 60)}
SWITCHES = (
    "monitoring_chart_plain_http", "monitoring_grafana_required", "monitoring_image_registry_plain_http",
    "monitoring_nodes_pull_published", "monitoring_remove_crds", "monitoring_remove_data", "monitoring_select_all",
)  # fmt: skip
#: What a receiver of each type must say besides name and type. `secret` and `key` are where the secret part is.
RECEIVERS: dict[str, tuple[str, ...]] = {
    "slack": ("secret", "key", "channel"),
    "email": ("to", "from", "smarthost"),
    "pagerduty": ("secret", "key"),
    "webhook": (),
}
_RECEIVER_KEYS = {
    "name", "type", "secret", "key", "channel", "to", "from", "smarthost", "username", "require_tls", "url", "severities",
    "send_resolved",
}  # fmt: skip
#: Keys of values that hold something secret, as Alertmanager, Prometheus and Grafana call it.
_SECRET_KEY = re.compile(
    r"(?i)(password|secret_?key|token|api_url|webhook_?url|routing_key|service_key|user_key|api_?key|(api|client)_?secret|"
    r"credentials)$"
)
#: What Grafana replaces by the content of a file or of an environment variable.
_REFERENCE = re.compile(r"\$(__\w+)?\{[^{}]*\}")
_USERINFO = re.compile(r"^\w+://[^/]*:[^/]*@")
#: Values of a chart, and which of the role's variables become them. The longest one that a path begins with counts.
PLACES: dict[str, str] = {
    "global.imagePullSecrets": "monitoring_image_pull_secrets",
    "global.imageRegistry": "monitoring_image_mirror",
    "prometheus.prometheusSpec.replicas": "monitoring_prometheus_replicas",
    "prometheus.prometheusSpec.retention": "monitoring_retention",
    "prometheus.prometheusSpec.retentionSize": "monitoring_retention_size",
    "prometheus.prometheusSpec.scrapeInterval": "monitoring_scrape_interval_seconds",
    "prometheus.prometheusSpec.evaluationInterval": "monitoring_scrape_interval_seconds",
    "prometheus.prometheusSpec.externalLabels": "monitoring_external_labels",
    "prometheus.prometheusSpec.externalLabels.cluster": "monitoring_cluster_name",
    "prometheus.prometheusSpec.resources": "monitoring_prometheus_resources",
    "prometheus.prometheusSpec.remoteWrite": "monitoring_remote_write",
    "prometheus.prometheusSpec.storageSpec": "monitoring_storage_size",
    "alertmanager.config": "monitoring_receivers",
    "alertmanager.alertmanagerSpec.replicas": "monitoring_alertmanager_replicas",
    "alertmanager.alertmanagerSpec.secrets": "monitoring_receivers",
    "alertmanager.alertmanagerSpec.storage": "monitoring_alertmanager_storage_size",
    "grafana.admin.existingSecret": "monitoring_grafana_admin_secret",
    "grafana.persistence.size": "monitoring_grafana_storage_size",
    "grafana.persistence.storageClassName": "monitoring_storage_class",
    "grafana.image": "monitoring_grafana_image",
    **{
        f"{part}.{place}": variable.format(part)
        for part in ("prometheus", "alertmanager", "grafana")
        for place, variable in (
            ("service.type", "monitoring_service_type"),
            ("ingress.hosts", "monitoring_{}_host"),
            ("ingress.ingressClassName", "monitoring_ingress_class"),
            ("ingress.annotations", "monitoring_ingress_annotations"),
            ("ingress.tls", "monitoring_ingress_tls_secret"),
        )
    },
}


def problems(values: Mapping[str, Any]) -> list[Problem]:
    """Every mistake that shows without asking anybody."""
    found: list[Problem] = []
    for check in (_names, _numbers, _samples, _chart, _mirror, _sizes, _labels, _hosts, _receivers, _values):
        found.extend(check(values))
    return found


def names_problems(values: Mapping[str, Any]) -> list[Problem]:
    """What matters for a release that is there: to remove it, or to go back."""
    return [*_names(values), *_numbers(values)]


def _names(values: Mapping[str, Any]) -> Iterator[Problem]:
    for variable, longest in (("monitoring_namespace", 63), ("monitoring_release", 53)):
        value = values.get(variable)
        if not is_dns_label(value) or len(str(value)) > longest:
            yield Problem(
                variable,
                f"{value!r} isn't a name that Kubernetes and Helm take: at most {longest} of a-z, 0-9 and '-', "
                "with a letter or digit at both ends",
            )


def _numbers(values: Mapping[str, Any]) -> Iterator[Problem]:
    return out_of_bounds(values, _NUMBERS)


def _samples(values: Mapping[str, Any]) -> Iterator[Problem]:
    for problem in out_of_bounds(values, _INTERVAL):
        yield Problem(
            problem.variable,
            f"{problem.text}: rules take rates over 2 minutes, and with fewer samples they would never fire",
        )
    retention = values.get("monitoring_retention")
    if not _DURATION.match(str(retention)):
        example = f"{retention}d" if str(retention).isdigit() else "10d"
        yield Problem(
            "monitoring_retention",
            f"{str(retention)!r} isn't a duration with a unit (y, w, d, h, m, s): write for example {example}",
        )
    size = str(values.get("monitoring_retention_size") or "")
    if size and not _SIZE.match(size):
        yield Problem("monitoring_retention_size", f"{size!r} isn't a size with a unit: write for example 8GiB")


def _chart(values: Mapping[str, Any]) -> Iterator[Problem]:
    version = values.get("monitoring_chart_version")
    if not _VERSION.match(str(version)):
        yield Problem(
            "monitoring_chart_version",
            f"{str(version)!r} isn't one exact version such as 88.5.3: a range or 'latest' would be another one tomorrow",
        )
    if not values.get("monitoring_chart_ref"):
        yield Problem(
            "monitoring_chart_ref", "it is empty: give oci://..., the https:// address of a chart repository, or a file"
        )
    if bool(values.get("monitoring_chart_username")) != bool(values.get("monitoring_chart_password")):
        yield Problem(
            "monitoring_chart_username", "only one of it and monitoring_chart_password is set: give both or neither"
        )


def _mirror(values: Mapping[str, Any]) -> Iterator[Problem]:
    mirror = values.get("monitoring_image_mirror")
    if mirror and not names_registry(str(mirror)):
        yield Problem(
            "monitoring_image_mirror",
            f"{str(mirror)!r} names no registry: give host[:port][/prefix], for example registry.example.com/mirror, or leave "
            "it empty",
        )


def _sizes(values: Mapping[str, Any]) -> Iterator[Problem]:
    for variable in (
        "monitoring_storage_size",
        "monitoring_alertmanager_storage_size",
        "monitoring_grafana_storage_size",
    ):
        value = values.get(variable)
        if not value:
            continue
        try:
            good = quantity(value) >= 2**20
        except ValueError:
            good = False
        if not good:
            yield Problem(variable, f"{value!r} isn't a size of a volume such as 10Gi")
    if values.get("monitoring_storage_class") and not any(
        values.get(name)
        for name in (
            "monitoring_storage_size",
            "monitoring_alertmanager_storage_size",
            "monitoring_grafana_storage_size",
        )
    ):
        yield Problem(
            "monitoring_storage_class",
            f"{values['monitoring_storage_class']!r} is given, but no volume is asked for: set monitoring_storage_size",
        )


def _labels(values: Mapping[str, Any]) -> Iterator[Problem]:
    labels = values.get("monitoring_external_labels") or {}
    for name, value in labels.items():
        if not _LABEL_NAME.match(str(name)):
            yield Problem("monitoring_external_labels", f"{name!r} isn't a label's name (letters, digits and _)")
        if not isinstance(value, str):
            yield Problem("monitoring_external_labels", f"{name} is {value!r}: a label's value is a text, so quote it")
    for number, item in enumerate(values.get("monitoring_remote_write") or [], start=1):
        if not isinstance(item, Mapping) or not str(item.get("url", "")).startswith(("http://", "https://")):
            yield Problem("monitoring_remote_write", f"item {number} has no url that begins with http:// or https://")
        elif _USERINFO.search(str(item["url"])):
            yield Problem(
                "monitoring_remote_write",
                f"the url of item {number} holds a password: use basicAuth with an existing Secret instead",
            )


def _hosts(values: Mapping[str, Any]) -> Iterator[Problem]:
    names = [f"monitoring_{part}_host" for part in ("prometheus", "alertmanager", "grafana")]
    for variable in names:
        value = values.get(variable)
        if value and not _HOST.match(str(value)):
            yield Problem(variable, f"{value!r} isn't a host name")
    for variable in ("monitoring_ingress_class", "monitoring_ingress_tls_secret"):
        if values.get(variable) and not any(values.get(name) for name in names):
            yield Problem(variable, f"it is set, but no Ingress is asked for: set one of {', '.join(names)}")


def _receivers(values: Mapping[str, Any]) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, item in enumerate(values.get("monitoring_receivers") or [], start=1):
        variable = "monitoring_receivers"
        if not isinstance(item, Mapping):
            yield Problem(variable, f"item {number} must be a mapping with name and type")
            continue
        name = str(item.get("name") or "")
        label = f"receiver {name!r}" if name else f"item {number}"
        if not name or name == "null" or name in seen:
            yield Problem(variable, f"{label} needs a name of its own (not 'null')")
        seen.add(name)
        kind = str(item.get("type"))
        if kind not in RECEIVERS:
            yield Problem(variable, f"{label} has the type {kind!r}; there are {', '.join(RECEIVERS)}")
            continue
        unknown = sorted(set(map(str, item)) - _RECEIVER_KEYS)
        if unknown:
            yield Problem(variable, f"{label} has {', '.join(unknown)}, which no receiver knows")
        missing = [key for key in RECEIVERS[kind] if not item.get(key)]
        if kind == "webhook" and not item.get("url") and not (item.get("secret") and item.get("key")):
            missing.append("url (where it is no secret), or secret and key")
        if kind == "email" and item.get("username") and not (item.get("secret") and item.get("key")):
            missing.append("secret and key (of the password)")
        if missing:
            yield Problem(variable, f"{label} ({kind}) lacks {', '.join(missing)}")
        url = str(item.get("url") or "")
        if url and (kind != "webhook" or not url.startswith(("http://", "https://"))):
            yield Problem(
                variable,
                f"{label}: url is for a webhook whose address is no secret, and begins with http:// or https://; "
                "else name the Secret that holds it with secret and key",
            )
        elif _USERINFO.search(url):
            yield Problem(
                variable,
                f"{label}: its url holds a password: put the address into a Secret and name that with secret and key",
            )


def _values(values: Mapping[str, Any]) -> Iterator[Problem]:
    given = values.get("monitoring_values") or {}
    for path, value in _walk(given, ()):
        if not (path and isinstance(value, str) and value and _SECRET_KEY.search(path[-1])):
            continue
        if not _REFERENCE.fullmatch(value):
            yield Problem(
                "monitoring_values",
                f"{'.'.join(path)} would put a secret into the release, where many can read it: "
                "keep it in a Secret and name that instead",
            )


def _walk(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _walk(value, (*path, str(key)))
    elif isinstance(node, list):
        for item in node:
            yield from _walk(item, path)
    else:
        yield path, node


def refused_by_schema(schema: Mapping[str, Any], merged: Mapping[str, Any], own: Mapping[str, Any]) -> list[Problem]:
    """What a chart's schema refuses of all values of the release, of which `own` are those of monitoring_values.

    Each variable with the first few of its mistakes; nothing where jsonschema isn't installed, for Helm checks it too.
    """
    try:
        import jsonschema
    except ImportError:
        return []
    errors = sorted(
        jsonschema.Draft7Validator(schema).iter_errors(merged), key=lambda error: list(map(str, error.absolute_path))
    )
    texts: dict[str, list[str]] = {}
    for error in errors:
        place = ".".join(map(str, error.absolute_path))
        texts.setdefault(_variable(list(error.absolute_path), own), []).append(f"{place or 'the top'}: {error.message}")
    return [Problem(name, f"the chart's schema refuses {'; '.join(found[:5])}") for name, found in texts.items()]


def _variable(path: Sequence[str | int], own: Mapping[str, Any]) -> str:
    """The variable to which values at this path are due."""
    node: Any = own
    for key in path:
        if isinstance(node, list) or not (isinstance(node, Mapping) and key in node):
            break
        node = node[key]
    else:
        return "monitoring_values"
    if isinstance(node, list):
        # Values join mappings alone: a list is one's own as a whole.
        return "monitoring_values"
    places = [".".join(map(str, path[:end])) for end in range(len(path), 0, -1)]
    return next((PLACES[place] for place in places if place in PLACES), "monitoring_values")
