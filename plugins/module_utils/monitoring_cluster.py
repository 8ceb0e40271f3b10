# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What the cluster says about monitoring: what can be scraped, who owns the CRDs, what is ready and what is not."""

from __future__ import annotations

import base64
import copy
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout
from ansible_collections.appgate.platform.plugins.module_utils.helm_drift import find as find_drifts
from ansible_collections.appgate.platform.plugins.module_utils.helm_release import (
    READY_LABEL,
    History,
    Release,
    Workload,
    secret_name,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    AccessError,
    ApiError,
    Cluster,
    Permission,
    in_parallel,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_diagnosis import last_log_lines
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import resource_path
from ansible_collections.appgate.platform.plugins.module_utils.monitoring_values import services

#: What a CRD was made from, and by which release.
CRD_CONTENT_LABEL = "appgate.platform/crds"
CRD_OWNER_LABEL = "appgate.platform/release"
CRD_PATH = resource_path("apiextensions.k8s.io/v1", "customresourcedefinitions")
CRD_KINDS = (
    "alertmanagerconfigs", "alertmanagers", "podmonitors", "probes", "prometheusagents", "prometheuses",
    "prometheusrules", "scrapeconfigs", "servicemonitors", "thanosrulers",
)  # fmt: skip
#: Of these, both charts make some.
OWN_KINDS = ("prometheuses", "alertmanagers", "servicemonitors", "prometheusrules", "scrapeconfigs")
CRD_NAMES = frozenset(f"{kind}.monitoring.coreos.com" for kind in CRD_KINDS)
OPERATORS = "app.kubernetes.io/name in (prometheus-operator,kube-prometheus-stack-prometheus-operator)"
#: On a namespace that the role has made, so that it may remove it.
MADE_BY_ANNOTATION = "appgate.platform/created-by"
#: The operator's kinds, and the StatefulSet that each becomes.
CUSTOM = {"Prometheus": ("prometheuses", "prometheus-"), "Alertmanager": ("alertmanagers", "alertmanager-")}
#: The label by which the operator says for which of its objects a volume is, and what that is of a release.
CLAIMANTS = {"prometheus": "Prometheus", "alertmanager": "Alertmanager"}
PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
POLL_SECONDS = 0.5
#: How long the operator may refuse an object: it may meet one before what it refers to, so its first word is not its last.
REFUSED_SECONDS = 15.0
#: After this, what the operator made of an object before it got what it holds now is taken for it, if it is ready: the operator
#: had nothing to change. It is never taken for a failure.
OUTDATED_SECONDS = 15.0


@dataclass(frozen=True)
class Crds:
    """The state of the operator's CRDs."""

    current: bool
    present: int
    owner: str = ""


def names(cluster: Cluster, path: str, query: Mapping[str, str]) -> set[str]:
    """Names alone: a table without the objects. The whole CRDs are 4.5 MB."""
    light = copy.copy(cluster)
    light.headers = {**cluster.headers, "Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}
    rows = light.call("GET", path, query={**query, "includeObject": "None"}).json().get("rows") or []
    return {str(row["cells"][0]) for row in rows}


def _each(group: str, resources: Iterable[str], verbs: Iterable[str], namespace: str = "") -> list[Permission]:
    return [Permission(verb, group, resource, namespace) for resource in resources for verb in verbs]


def permissions(
    namespace: str, *, ingress: bool = False, storage: bool = False, grafana_storage: bool = False
) -> list[Permission]:
    """What an install, an upgrade and the wait for it do, with either chart."""
    write = ("get", "list", "create", "patch", "delete")
    wanted = [
        *_looked_at(namespace),
        # Helm keeps its record in Secrets and writes each anew.
        *_each("", ("secrets",), ("update", *write), namespace),
        *_each("", ("services", "configmaps", "serviceaccounts"), write, namespace),
        *_each("apps", ("deployments", "daemonsets"), write, namespace),
        *_each("monitoring.coreos.com", OWN_KINDS, write, namespace),
        # The control plane's parts are found by Services in their own namespace.
        *_each("", ("services",), write, "kube-system"),
        *_each("", ("namespaces",), ("get", "create")),
        *_each("apiextensions.k8s.io", ("customresourcedefinitions",), ("get", "list", "create", "patch")),
        *_each("rbac.authorization.k8s.io", ("clusterroles", "clusterrolebindings"), write),
        # The operator's role holds more than most people do: only who may do these two can hand that on.
        *_each("rbac.authorization.k8s.io", ("clusterroles",), ("escalate", "bind")),
    ]
    if ingress:
        wanted += _each("networking.k8s.io", ("ingresses",), write, namespace)
    if storage:
        wanted += _each("storage.k8s.io", ("storageclasses",), ("list",))
    if grafana_storage:
        wanted += _each("", ("persistentvolumeclaims",), write, namespace)
    return wanted


def removal_permissions(namespace: str, *, data: bool, crds: bool) -> list[Permission]:
    """What taking it all away does."""
    gone = ("get", "delete")
    wanted = [
        *_looked_at(namespace),
        *_each("", ("secrets",), ("update", *gone), namespace),
        *_each("", ("services", "configmaps", "serviceaccounts"), gone, namespace),
        *_each("apps", ("deployments", "daemonsets"), gone, namespace),
        *_each("batch", ("jobs",), ("list",), namespace),
        *_each("monitoring.coreos.com", OWN_KINDS, gone, namespace),
        *_each("", ("services", "endpoints"), gone, "kube-system"),
        *_each("", ("namespaces",), gone),
        *_each("rbac.authorization.k8s.io", ("clusterroles", "clusterrolebindings"), gone),
    ]
    if data:
        wanted += _each("", ("persistentvolumeclaims",), gone, namespace)
    if crds:
        wanted += _each("apiextensions.k8s.io", ("customresourcedefinitions",), ("list", "delete"))
    return wanted


def _looked_at(namespace: str) -> list[Permission]:
    """What every run reads: the release, its pods, and what they say when they fail."""
    return [
        *_each("", ("secrets", "pods", "events", "services", "persistentvolumeclaims"), ("list",), namespace),
        *_each("apps", ("deployments", "daemonsets", "replicasets", "controllerrevisions"), ("list",), namespace),
        *_each("apps", ("statefulsets",), ("get", "list"), namespace),
        Permission("get", "", "pods", namespace, "log"),
        *_each("", ("pods",), ("list",), "kube-system"),
    ]


def crds(cluster: Cluster, namespace: str, release: str, content: str) -> Crds:
    """Are the CRDs there, from this content, and nobody else's?"""
    own = f"{namespace}.{release}"
    selector = f"{CRD_CONTENT_LABEL}={content},{CRD_OWNER_LABEL}={own}"
    current = names(cluster, CRD_PATH, {"labelSelector": selector}) & CRD_NAMES
    if current == CRD_NAMES:
        return Crds(True, len(current))
    present = names(cluster, CRD_PATH, {}) & CRD_NAMES
    if not present or len(names(cluster, CRD_PATH, {"labelSelector": f"{CRD_OWNER_LABEL}={own}"}) & CRD_NAMES):
        return Crds(False, len(present))
    return Crds(False, len(present), _crd_owner(cluster, sorted(present), namespace, release))


def _crd_owner(cluster: Cluster, present: Sequence[str], namespace: str, release: str) -> str:
    """Who has made CRDs that this role has not: another release of Helm, or a running operator."""
    found = cluster.get(f"{CRD_PATH}/{present[0]}") or {}
    metadata = found.get("metadata") or {}
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    owner = (annotations.get("meta.helm.sh/release-namespace"), annotations.get("meta.helm.sh/release-name"))
    if owner[1] and owner != (namespace, release):
        return f"Helm release {owner[1]} in namespace {owner[0]}"
    if labels.get(CRD_OWNER_LABEL):
        other, _, name = str(labels[CRD_OWNER_LABEL]).partition(".")
        query = {"labelSelector": f"owner=helm,name={name}", "limit": "1"}
        if _visible(cluster, resource_path("v1", "secrets", other), query):
            return f"release {name} in namespace {other}"
    for item in _visible(cluster, resource_path("apps/v1", "deployments"), {"labelSelector": OPERATORS}):
        metadata = item["metadata"]
        annotations = metadata.get("annotations") or {}
        name = str(annotations.get("meta.helm.sh/release-name") or "")
        if (metadata["namespace"], name) != (namespace, release):
            what = f"Helm release {name}" if name else f"Deployment {metadata['name']}"
            return f"{what} in namespace {metadata['namespace']}"
    return ""


def _visible(cluster: Cluster, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """What this user may see of a collection that isn't its own: maybe nothing."""
    try:
        return list(cluster.call("GET", path, query=query).json().get("items") or [])
    except ApiError as error:
        if error.status != 403:
            raise
        return []


def missing_secrets(cluster: Cluster, namespace: str, wanted: Sequence[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """Of (variable, Secret, key): which is not there, and why. An empty key asks for the Secret alone."""

    def look(item: tuple[str, str, str]) -> tuple[str, str] | None:
        variable, name, key = item
        secret = cluster.get(resource_path("v1", "secrets", namespace, name))
        if secret is None:
            return variable, f"Secret {name!r} isn't in namespace {namespace}: create it first"
        keys = sorted(secret.get("data") or {})
        if key and key not in keys:
            return (
                variable,
                f"Secret {name!r} in namespace {namespace} has no key {key!r} (it has {', '.join(keys) or 'none'})",
            )
        return None

    return [found for found in in_parallel(look, list(wanted)) if found]


def storage_class_problem(cluster: Cluster, name: str) -> str:
    """Why volumes of this class, or of the default one, can't be made."""
    path = resource_path("storage.k8s.io/v1", "storageclasses")
    items = cluster.call("GET", path).json().get("items") or []
    known = sorted(str(item["metadata"]["name"]) for item in items)
    if name:
        return (
            ""
            if name in known
            else f"{name!r} isn't a StorageClass of this cluster (known: {', '.join(known) or 'none'})"
        )
    default = "storageclass.kubernetes.io/is-default-class"
    if any((item["metadata"].get("annotations") or {}).get(default) == "true" for item in items):
        return ""
    return f"it is empty, and the cluster has no default StorageClass (known: {', '.join(known) or 'none'})"


def listening(cluster: Cluster) -> dict[str, bool]:
    """Which parts of the control plane can be scraped: kubeadm lets them listen on 127.0.0.1 alone."""
    query = {"labelSelector": "tier=control-plane"}
    answer = cluster.call("GET", resource_path("v1", "pods", "kube-system"), query=query).json()
    found = dict.fromkeys(("kube-controller-manager", "kube-scheduler", "etcd"), False)
    node = ""
    for pod in answer.get("items") or []:
        component = str((pod["metadata"].get("labels") or {}).get("component"))
        node = node or str((pod.get("spec") or {}).get("nodeName") or "")
        container = ((pod.get("spec") or {}).get("containers") or [{}])[0]
        command = [*(container.get("command") or []), *(container.get("args") or [])]
        if component in found:
            flag = "--listen-metrics-urls=" if component == "etcd" else "--bind-address="
            value = next((str(word).removeprefix(flag) for word in command if str(word).startswith(flag)), "127.0.0.1")
            found[component] = bool(re.sub(r"(https?://)?(127\.0\.0\.1|localhost|\[::1\]|::1)(:\d+)?,?", "", value))
    found["kube-proxy"] = _kube_proxy(cluster, node)
    return found


def _kube_proxy(cluster: Cluster, node: str) -> bool:
    """Ask a node's kube-proxy through the API server, which reaches it as Prometheus would."""
    if not node:
        nodes = _visible(cluster, resource_path("v1", "nodes"), {"limit": "1"})
        node = str(nodes[0]["metadata"]["name"]) if nodes else ""
    if not node:
        return False
    try:
        path = f"{resource_path('v1', 'nodes', '', f'{node}:10249')}/proxy/healthz"
        return cluster.call("GET", path, timeout_seconds=2).status < 400
    except (ApiError, AccessError):
        return False


def kube_proxy_is_a_process(cluster: Cluster) -> bool:
    """Whether there is no pod of it, which is all that the published chart would find."""
    query = {"labelSelector": "k8s-app=kube-proxy", "limit": "1"}
    return not _visible(cluster, resource_path("v1", "pods", "kube-system"), query)


# -- readiness ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """How far one workload is.

    `controller` is the Deployment, StatefulSet or DaemonSet that makes its pods, empty while there is none. `outdated` is
    set where the operator has made that one before its object got what it holds now.
    """

    workload: Workload
    progress: rollout.Progress
    controller: Mapping[str, Any] = field(default_factory=dict, repr=False)
    outdated: bool = False


def states(cluster: Cluster, workloads: Sequence[Workload]) -> list[State]:
    """Look at all workloads of a release once."""
    return in_parallel(lambda item: _state(cluster, item), list(workloads))


def _state(cluster: Cluster, workload: Workload) -> State:
    subject = f"{workload.kind} {workload.name}"
    if workload.kind not in CUSTOM:
        live = cluster.get(resource_path("apps/v1", PLURALS[workload.kind], workload.namespace, workload.name))
        if live is None:
            return State(workload, rollout.Progress(False, f"{subject} is missing"))
        return State(workload, rollout.progress(live), live)
    plural, prefix = CUSTOM[workload.kind]
    custom = cluster.get(resource_path("monitoring.coreos.com/v1", plural, workload.namespace, workload.name))
    if custom is None:
        return State(workload, rollout.Progress(False, f"{subject} is missing"))
    conditions = {str(item.get("type")): item for item in (custom.get("status") or {}).get("conditions") or []}
    reconciled = conditions.get("Reconciled") or {}
    generation = int(custom["metadata"].get("generation") or 0)
    if reconciled.get("status") == "False":
        # The operator says why: a configuration that it refuses, for example.
        reason = f"{reconciled.get('reason', '')}: {reconciled.get('message', '')}".strip(": ")
        return State(workload, rollout.Progress(False, f"{subject} isn't accepted by the operator: {reason}"))
    if int(reconciled.get("observedGeneration") or 0) < generation:
        return State(workload, _unseen(workload))
    path = resource_path("apps/v1", "statefulsets", workload.namespace, f"{prefix}{workload.name}")
    stateful_set = cluster.get(path)
    if stateful_set is None:
        return State(workload, rollout.Progress(False, f"{subject} has no StatefulSet yet"))
    # The operator writes the generation that is there when it gets to the status, not the one that it has worked on.
    outdated = _written(stateful_set) < _written(custom)
    return State(workload, rollout.progress(stateful_set), stateful_set, outdated)


def _unseen(workload: Workload) -> rollout.Progress:
    return rollout.Progress(False, f"{workload.kind} {workload.name} hasn't been seen by the operator")


def _written(item: Mapping[str, Any]) -> str:
    """When something other than its status was last written, in UTC."""
    entries = item["metadata"].get("managedFields") or []
    return max((str(entry.get("time") or "") for entry in entries if not entry.get("subresource")), default="")


def _selector(live: Mapping[str, Any]) -> str:
    labels = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _newest(cluster: Cluster, controller: Mapping[str, Any]) -> str:
    """What selects the pods of a controller's newest revision; empty while that one isn't known."""
    metadata, status = controller.get("metadata") or {}, controller.get("status") or {}
    if int(status.get("observedGeneration") or 0) < int(metadata.get("generation") or 0):
        return ""
    selector, namespace = _selector(controller), str(metadata.get("namespace"))
    label, revision = "controller-revision-hash", ""

    def made(plural: str) -> list[dict[str, Any]]:
        path = resource_path("apps/v1", plural, namespace)
        return list(cluster.call("GET", path, query={"labelSelector": selector}).json().get("items") or [])

    if controller.get("kind") == "Deployment":
        label = "pod-template-hash"
        newest = rollout.newest_replica_set(made("replicasets"), controller)
        revision = _label(newest, label)
    elif controller.get("kind") == "DaemonSet":
        own = [
            item
            for item in made("controllerrevisions")
            if any(owner.get("uid") == metadata.get("uid") for owner in item["metadata"].get("ownerReferences") or [])
        ]
        revision = _label(max(own, key=lambda item: int(item.get("revision") or 0), default=None), label)
    else:
        revision = str(status.get("updateRevision") or "")
    return f"{selector},{label}={revision}" if revision else ""


def _label(item: Mapping[str, Any] | None, name: str) -> str:
    return str((((item or {}).get("metadata") or {}).get("labels") or {}).get(name) or "")


def await_ready(cluster: Cluster, workloads: Sequence[Workload], timeout_seconds: float) -> str:
    """Wait until all is ready; an empty text, or the reason why it isn't and can't or didn't become so."""
    start = time.monotonic()
    end = start + timeout_seconds
    refused_since = 0.0
    before: dict[tuple[str, str], int] = {}
    while True:
        found = states(cluster, workloads)
        now = time.monotonic()
        counts = now - start >= OUTDATED_SECONDS
        found = [
            State(item.workload, _unseen(item.workload))
            if item.outdated and not (counts and item.progress.done)
            else item
            for item in found
        ]
        waiting = [item for item in found if not item.progress.done]
        if not waiting:
            return ""
        failures = _failures(cluster, waiting, before)
        if any(failure.hopeless for failure in failures) or any(item.progress.failed for item in waiting):
            return _report(cluster, "can't become ready", waiting, failures)
        refused = any("isn't accepted by the operator" in item.progress.text for item in waiting)
        refused_since = (refused_since or now) if refused else 0.0
        if refused and now - refused_since > min(REFUSED_SECONDS, timeout_seconds):
            return _report(cluster, "can't become ready", waiting, failures)
        if now > end:
            return _report(cluster, f"isn't ready after {timeout_seconds:g} s", waiting, failures)
        time.sleep(POLL_SECONDS)


def _pods(cluster: Cluster, item: State) -> list[Mapping[str, Any]]:
    # A pod of the revision before may fail for what this one mends, and stay until a new pod is ready.
    selector = _newest(cluster, item.controller)
    if not selector:
        return []
    path = resource_path("v1", "pods", item.workload.namespace)
    return list(cluster.call("GET", path, query={"labelSelector": selector}).json().get("items") or [])


def _failures(cluster: Cluster, waiting: Iterable[State], before: dict[tuple[str, str], int]) -> list[rollout.Failure]:
    found: list[rollout.Failure] = []
    for item in waiting:
        for pod in _pods(cluster, item):
            if not (pod.get("metadata") or {}).get("deletionTimestamp"):
                found.extend(rollout.since_first_look(rollout.pod_failures(pod), before))
    return found


def _report(cluster: Cluster, what: str, waiting: Sequence[State], failures: Sequence[rollout.Failure]) -> str:
    namespace = waiting[0].workload.namespace
    events: list[str] = []
    logs: list[str] = []
    pods = {failure.pod for failure in failures if failure.pod}
    if pods:
        answer = cluster.call("GET", resource_path("v1", "events", namespace)).json().get("items") or []
        events = rollout.describe_events(
            item for item in answer if (item.get("involvedObject") or {}).get("name") in pods
        )
    for failure in failures:
        if failure.previous_logs and not logs:
            logs = last_log_lines(cluster, namespace, failure)
    return rollout.report(
        f"Monitoring in namespace {namespace} {what}.",
        [
            ("What is missing:", [item.progress.text for item in waiting]),
            ("Why:", [failure.sentence() for failure in failures]),
            ("Events:", events),
            ("Last log lines:", logs),
        ],
    )


def mark_ready(cluster: Cluster, release: Release) -> None:
    """Note on a revision that all of it has been seen ready."""
    path = resource_path("v1", "secrets", release.namespace, secret_name(release))
    mark = {"metadata": {"labels": {READY_LABEL: str(release.revision)}}}
    cluster.call("PATCH", path, mark, content_type="application/merge-patch+json")


def with_ready(cluster: Cluster, history: History) -> History:
    """The history, with the newest revision as one seen ready if it is: its pods may have come up after a run was killed."""
    newest = history.newest
    if newest is None or newest.status != "deployed" or newest.ready or find_drifts(cluster, newest):
        return history
    if not all(item.progress.done for item in states(cluster, newest.workloads())):
        return history
    return replace(history, newest=replace(newest, ready=True))


def addresses(
    cluster: Cluster, namespace: str, services: Mapping[str, Mapping[str, Any]], timeout_seconds: float
) -> dict[str, str]:
    """Where Services (`service` and `port` by a name for each) answer, as soon as all of type LoadBalancer have an address.

    Those that have none after `timeout_seconds` are left out, and those of another type without a wait.
    """
    end = time.monotonic() + timeout_seconds
    while True:
        found = {
            name: (cluster.get(resource_path("v1", "services", namespace, str(item["service"]))) or {}, item["port"])
            for name, item in services.items()
        }
        answers = {name: _balanced(service, int(port)) for name, (service, port) in found.items()}
        waiting = any(
            not answers[name] and (service.get("spec") or {}).get("type") == "LoadBalancer"
            for name, (service, _) in found.items()
        )
        if not waiting or time.monotonic() > end:
            return {name: address for name, address in answers.items() if address}
        time.sleep(POLL_SECONDS)


def load_balancer(cluster: Cluster, namespace: str, name: str, port: int) -> str:
    """Where a Service of type LoadBalancer answers."""
    return _balanced(cluster.get(resource_path("v1", "services", namespace, name)) or {}, port)


def _balanced(service: Mapping[str, Any], port: int) -> str:
    for entry in (((service.get("status") or {}).get("loadBalancer") or {}).get("ingress")) or []:
        host = str(entry.get("hostname") or entry.get("ip") or "")
        if host:
            return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    return ""


def secret_data(values: Mapping[str, str]) -> dict[str, str]:
    """Values of a Secret."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


# -- removal -----------------------------------------------------------------------------------------------------


def claims(cluster: Cluster, namespace: str, release: str) -> list[str]:
    """This release's volumes with stored data: of Prometheus and Alertmanager (the operator labels them), and of Grafana."""
    items = cluster.call("GET", resource_path("v1", "persistentvolumeclaims", namespace)).json().get("items") or []
    own = services(release)
    found = []
    for item in items:
        labels = item["metadata"].get("labels") or {}
        # To the operator, an instance is one of its objects: it may have the name of another's release.
        if labels.get("app.kubernetes.io/managed-by") == "prometheus-operator":
            made_for = ((labels.get(label), own[part][0]) for label, part in CLAIMANTS.items())
            is_own = any(name == wanted for name, wanted in made_for)
        else:
            is_own = labels.get("app.kubernetes.io/instance") == release
        if is_own:
            found.append(str(item["metadata"]["name"]))
    return sorted(found)


def others(cluster: Cluster, namespace: str, release: str) -> list[str]:
    """What in the namespace belongs to somebody else: it keeps the namespace."""
    # What is stored may be somebody's whose pods are gone, and goes with the namespace.
    found = []
    own_claims = claims(cluster, namespace, release)
    for version, plural in (
        ("v1", "persistentvolumeclaims"),
        ("apps/v1", "deployments"),
        ("apps/v1", "statefulsets"),
        ("apps/v1", "daemonsets"),
        ("batch/v1", "jobs"),
        ("v1", "services"),
        ("v1", "secrets"),
    ):
        for item in cluster.call("GET", resource_path(version, plural, namespace)).json().get("items") or []:
            metadata = item["metadata"]
            annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
            helms = annotations.get("meta.helm.sh/release-name") == release or (
                item.get("type") == "helm.sh/release.v1" and labels.get("name") == release
            )
            name = str(metadata["name"])
            own = name in own_claims if plural == "persistentvolumeclaims" else name == f"{release}-grafana-admin"
            if not (
                helms or own or labels.get("managed-by") == "prometheus-operator" or metadata.get("ownerReferences")
            ):
                found.append(f"{plural}/{name}")
    return found


def own_namespace(cluster: Cluster, namespace: str) -> bool:
    """Whether the role has made the namespace."""
    found = cluster.get(resource_path("v1", "namespaces", "", namespace)) or {}
    metadata = found.get("metadata") or {}
    return bool((metadata.get("annotations") or {}).get(MADE_BY_ANNOTATION)) and not metadata.get("deletionTimestamp")
