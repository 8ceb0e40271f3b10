#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: monitoring_objects
short_description: What Helm doesn't do for a monitoring release
description:
  - V(prepared) makes the namespace, applies the operator's CRDs server-side (Helm never upgrades them, and the largest are
    too large for another way), and makes Grafana's administrator Secret if it is missing.
  - V(ready) puts back what was changed by hand in the release's objects, then waits once for all workloads of the release, those of the operator's Prometheus and Alertmanager included, and
    fails with the container, the reason and the last log lines as soon as it is clear that they can't become ready.
  - V(reached) waits up to half a minute until the load balancer has given O(services) an address each, and changes nothing.
  - V(removed) removes what C(helm uninstall) leaves.
version_added: 0.1.0
author: The Appgate platform authors
extends_documentation_fragment:
  - appgate.platform.connection
options:
  state:
    description: What to do.
    type: str
    choices: [prepared, ready, reached, removed]
    required: true
  namespace:
    description: Namespace of the release.
    type: str
    required: true
  release:
    description: Name of the release.
    type: str
    required: true
  crds_dir:
    description: Directory with the CRDs. Empty takes those of O(chart).
    type: path
    default: ""
  chart:
    description: Chart (a directory or .tgz) that holds the CRDs.
    type: path
    default: ""
  crds_content:
    description: What the CRDs are labelled with. Empty applies none.
    type: str
    default: ""
  grafana_secret:
    description: Name of a Secret to make with a random password, if it isn't there. Empty makes none.
    type: str
    default: ""
  services:
    description: With O(state=reached), the Services to ask for, each with V(service), V(port) and a name of its own.
    type: dict
    default: {}
  remove_data:
    description: With O(state=removed), remove the volumes with stored data.
    type: bool
    default: false
  remove_crds:
    description: With O(state=removed), remove the CRDs, and with them all objects of their kinds in the cluster.
    type: bool
    default: false
  timeout_seconds:
    description: How long to wait.
    type: float
    default: 300
attributes:
  check_mode:
    description: Changes nothing; says what would change.
    support: full
"""

EXAMPLES = r"""
- name: Wait until all of monitoring is ready
  appgate.platform.monitoring_objects:
    state: ready
    kubeconfig: "{{ appgate_kubeconfig }}"
    context: "{{ appgate_context }}"
    namespace: prometheus
    release: prometheus
"""

RETURN = r"""
changes:
  description: What was done.
  returned: success
  type: list
  elements: str
  sample: ["namespace prometheus", "10 CRDs"]
addresses:
  description: With O(state=reached), the addresses of O(services) by their names, without those that have none.
  returned: success
  type: dict
  sample: {"12 Prometheus": "http://192.0.2.7:9090/"}
"""

import secrets
import time
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.appgate.platform.plugins.module_utils import helm_chart, helm_drift, helm_release
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_cluster as live
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    CONNECTION,
    AccessError,
    ApiError,
    Cluster,
    connect,
    in_parallel,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import resource_path
from ansible_collections.appgate.platform.plugins.module_utils.monitoring_values import fullname

APPLY = "application/apply-patch+yaml"
#: How long a load balancer may take to give addresses, before a run ends without them.
ADDRESS_SECONDS = 30.0
#: What an API server says that has too much to do.
BUSY = (429, 503, 504)
MANAGER = {"fieldManager": "appgate-platform", "force": "true"}


def load_crd(text: str) -> dict[str, Any]:
    """A CRD. YAML 1.1 gives a bare `=` a meaning of its own, which is none here."""

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))
    parsed = yaml.load(text, Loader=Loader)  # noqa: S506 (derived from the safe loader)
    return dict(parsed)


def make_namespace(cluster: Cluster, name: str) -> list[str]:
    """The namespace, marked as made here."""
    if cluster.get(resource_path("v1", "namespaces", "", name)):
        return []
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "annotations": {live.MADE_BY_ANNOTATION: "appgate.platform.monitoring"},
            # node-exporter looks at the node itself.
            "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
        },
    }
    try:
        cluster.call("POST", resource_path("v1", "namespaces"), body)
    except ApiError as error:
        if error.status != 409:
            raise
        return []
    return [f"namespace {name}"]


def apply_crds(cluster: Cluster, given: dict[str, Any]) -> list[str]:
    """All CRDs server-side, then wait until the API serves them."""
    if given["crds_dir"]:
        texts = [path.read_text(encoding="utf-8") for path in sorted(Path(given["crds_dir"]).glob("*.yaml"))]
    else:
        texts = helm_chart.crds(Path(given["chart"]))
    definitions = [item for item in map(load_crd, texts) if item.get("kind") == "CustomResourceDefinition"]
    if not definitions:
        raise AccessError(f"No CRDs were found in {given['crds_dir'] or given['chart']}.")
    for item in definitions:
        item["metadata"].setdefault("labels", {}).update(
            {
                live.CRD_CONTENT_LABEL: given["crds_content"],
                live.CRD_OWNER_LABEL: f"{given['namespace']}.{given['release']}",
            }
        )

    end = time.monotonic() + given["timeout_seconds"]

    def apply(item: dict[str, Any]) -> None:
        path = f"{live.CRD_PATH}/{item['metadata']['name']}"
        while True:
            try:
                cluster.call("PATCH", path, item, query=MANAGER, content_type=APPLY, timeout_seconds=60)
                return
            except ApiError as error:
                # They are large, and applying one again does no harm.
                if error.status not in BUSY or time.monotonic() > end:
                    raise
            time.sleep(1)

    in_parallel(apply, definitions)
    group = "/apis/monitoring.coreos.com/v1"
    while not any(item["name"] == "prometheuses" for item in (cluster.get(group) or {}).get("resources", [])):
        if time.monotonic() > end:
            raise AccessError(f"The API server doesn't serve the CRDs after {given['timeout_seconds']:g} s.")
        time.sleep(0.2)
    return [f"{len(definitions)} CRDs"]


def make_grafana_secret(cluster: Cluster, given: dict[str, Any]) -> list[str]:
    """A random password, once."""
    name = given["grafana_secret"]
    if not name or cluster.get(resource_path("v1", "secrets", given["namespace"], name)):
        return []
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "monitoring"}},
        "type": "Opaque",
        "data": live.secret_data({"admin-user": "admin", "admin-password": secrets.token_urlsafe(24)}),
    }
    cluster.call("POST", resource_path("v1", "secrets", given["namespace"]), body)
    return [f"Secret {name}"]


def await_ready(cluster: Cluster, given: dict[str, Any]) -> list[str]:
    """Put back what was changed by hand, wait, and note on the release that it has been seen ready."""
    newest = helm_release.read_history(cluster, given["namespace"], given["release"]).newest
    if newest is None:
        raise AccessError(f"There is no release {given['release']} in namespace {given['namespace']}.")
    drifts = helm_drift.find(cluster, newest)
    helm_drift.repair(cluster, newest, drifts)
    reason = live.await_ready(cluster, newest.workloads(), given["timeout_seconds"])
    if reason:
        raise AccessError(reason)
    if not newest.ready:
        live.mark_ready(cluster, newest)
    return [item.sentence() for item in drifts]


def delete(cluster: Cluster, path: str) -> bool:
    """Delete an object; whether it was there."""
    try:
        cluster.call("DELETE", path, query={"propagationPolicy": "Background"})
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def remove(cluster: Cluster, given: dict[str, Any]) -> list[str]:
    """What helm uninstall leaves: the kubelet's Service, stored data, CRDs, the namespace."""
    namespace, release = given["namespace"], given["release"]
    changes = []
    kubelet = f"{fullname(release)}-kubelet"
    for version, plural in (("v1", "services"), ("v1", "endpoints")):
        if delete(cluster, resource_path(version, plural, "kube-system", kubelet)) and plural == "services":
            changes.append(f"Service kube-system/{kubelet}")
    claims = live.claims(cluster, namespace, release)
    if given["remove_data"]:
        for name in claims:
            delete(cluster, resource_path("v1", "persistentvolumeclaims", namespace, name))
            changes.append(f"PersistentVolumeClaim {name}")
        delete(cluster, resource_path("v1", "secrets", namespace, f"{release}-grafana-admin"))
    if given["remove_crds"]:
        own = {"labelSelector": f"{live.CRD_OWNER_LABEL}={namespace}.{release}"}
        for name in sorted(live.names(cluster, live.CRD_PATH, own) & live.CRD_NAMES):
            delete(cluster, f"{live.CRD_PATH}/{name}")
            changes.append(f"CRD {name}")
    kept = (claims and not given["remove_data"]) or live.others(cluster, namespace, release)
    if live.own_namespace(cluster, namespace) and not kept:
        path = resource_path("v1", "namespaces", "", namespace)
        delete(cluster, path)
        end = time.monotonic() + given["timeout_seconds"]
        while cluster.get(path):
            if time.monotonic() > end:
                raise AccessError(f"Namespace {namespace} is still being removed after {given['timeout_seconds']:g} s.")
            time.sleep(0.5)
        changes.append(f"namespace {namespace}")
    return changes


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            "state": {"type": "str", "choices": ["prepared", "ready", "reached", "removed"], "required": True},
            "namespace": {"type": "str", "required": True},
            "release": {"type": "str", "required": True},
            "crds_dir": {"type": "path", "default": ""},
            "chart": {"type": "path", "default": ""},
            "crds_content": {"type": "str", "default": ""},
            "grafana_secret": {"type": "str", "default": "", "no_log": False},
            "services": {"type": "dict", "default": {}},
            "remove_data": {"type": "bool", "default": False},
            "remove_crds": {"type": "bool", "default": False},
            "timeout_seconds": {"type": "float", "default": 300},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        # What would be done is what the plan has said.
        module.exit_json(changed=False, changes=[], addresses={})
    changes: list[str] = []
    addresses: dict[str, str] = {}
    try:
        cluster = connect(given["kubeconfig"], given["context"], None, given["connect_timeout_seconds"])
        if given["state"] == "prepared":
            changes += make_namespace(cluster, given["namespace"])
            if given["crds_content"]:
                changes += apply_crds(cluster, given)
            changes += make_grafana_secret(cluster, given)
        elif given["state"] == "ready":
            changes += await_ready(cluster, given)
        elif given["state"] == "reached":
            addresses = live.addresses(cluster, given["namespace"], given["services"], ADDRESS_SECONDS)
        else:
            changes += remove(cluster, given)
    except (AccessError, ApiError, helm_chart.ChartError, helm_release.ReleaseError) as error:
        module.fail_json(msg=str(error), changed=bool(changes), changes=changes)
    module.exit_json(changed=bool(changes), changes=changes, addresses=addresses)


if __name__ == "__main__":
    main()
