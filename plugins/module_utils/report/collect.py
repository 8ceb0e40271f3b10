# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Ask a cluster and its Prometheus for everything that a report says. Nothing is changed, and no secret is kept.

What a user may not read, and what does not answer, becomes a sentence in the report instead of an error.
"""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils import helm_release as helm
from ansible_collections.appgate.platform.plugins.module_utils import kube_revisions, monitoring_values
from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    ApiError,
    Cluster,
    in_parallel,
    policy_engine,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import (
    RELEASE_LABEL,
    quantity,
    resource_path,
)
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import Catalog
from ansible_collections.appgate.platform.plugins.module_utils.report import metrics
from ansible_collections.appgate.platform.plugins.module_utils.report.model import (
    BAD,
    GOOD,
    NOTHING,
    OFF,
    WARN,
    Chart,
    Image,
    Marker,
    Node,
    Part,
    Report,
    Workload,
    count,
    duration,
    listed,
)

Manifest = dict[str, Any]
ALL = "*"
EMBEDDED_CHART = "monitoring"
SYSTEM_NAMESPACE = "kube-system"
WORKLOADS = (("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets"))
NODE_ROLE = "node-role.kubernetes.io/"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
PROMETHEUS_PORTS = ("http-web", "web", "http", "9090")
FAILURES_SHOWN = 3
INSTALL_APP = "`ansible-playbook site.yml`"
INSTALL_MONITORING = "`ansible-playbook playbooks/monitoring.yml`"
ARM = "`ansible-playbook playbooks/observability.yml`"


class InputError(Exception):
    """A variable of the caller's doesn't fit the cluster."""

    def __init__(self, variable: str, text: str) -> None:
        super().__init__(f"{variable}: {text}")
        self.variable = variable
        self.text = text


@dataclass(frozen=True)
class Settings:
    """What a person has said about the cluster."""

    cluster: str
    app_namespace: str
    app_release: str
    monitoring_namespace: str
    monitoring_release: str
    hours: float = 1.0
    namespaces: tuple[str, ...] = ()
    prometheus_service: str = ""
    policy_enforced: str = "auto"


@dataclass
class Seen:
    """What one look at the API server has found."""

    namespaces: list[str]
    workloads: dict[str, list[Manifest]] = field(default_factory=dict)
    pods: dict[str, list[Manifest]] = field(default_factory=dict)


class Reader:
    """Lists that a user may read, or the reason why not."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._light = copy.copy(cluster)
        self._light.headers = {**cluster.headers, "Accept": METADATA_ONLY}

    def items(
        self, version: str, plural: str, namespace: str = "", *, labels: str = "", light: bool = False
    ) -> tuple[list[Manifest], str]:
        """Objects of a kind; without their content if that is not needed."""
        cluster = self._light if light else self.cluster
        path = resource_path(version, plural, namespace)
        try:
            answer = cluster.call("GET", path, query={"labelSelector": labels} if labels else None).json()
        except ApiError as error:
            return [], self.reason(error, plural, namespace)
        return [item for item in answer.get("items") or [] if isinstance(item, dict)], ""

    def reason(self, error: ApiError, plural: str, namespace: str = "") -> str:
        """Why there is no list, for the page."""
        if error.status == 403:
            where = f"in namespace {namespace}" if namespace else "of the cluster"
            return f"user {self.cluster.entry.user_name!r} may not list {plural} {where}"
        if error.status == 404:
            return f"the cluster has no {plural}"
        return f"the API server does not tell {plural}: {error.message[:200]}"

    def has_namespace(self, name: str) -> bool:
        """Whether a namespace is there; one that may not be asked for is taken to be."""
        try:
            return self.cluster.get(resource_path("v1", "namespaces", "", name)) is not None
        except ApiError as error:
            if error.status == 403:
                return True
            raise


def collect(cluster: Cluster, settings: Settings, catalog: Catalog, now: datetime.datetime, report: Report) -> None:
    """Fill a report. What the settings name and the cluster doesn't have is an InputError."""
    report.version = cluster.version()
    reader = Reader(cluster)
    seen = Seen(_namespaces(reader, settings))
    service = _prometheus_service(reader, settings, seen)
    _nodes(reader, report)
    _workloads(reader, seen, report)
    app = _app(reader, settings, seen, report)
    release = _charts(reader, settings, seen, report)
    monitoring = _monitoring(settings, seen, release, service)
    report.parts += [app, *_workload_part(report), *monitoring]
    if service is not None:
        _ask_prometheus(cluster, settings, catalog, now, report, service)
    else:
        reason = f"no Prometheus was found in namespace {settings.monitoring_namespace}"
        report.reasons.update(dict.fromkeys(("plots", "alerts", "targets"), reason))
    report.parts += [*_grafana(settings, seen, release, service), *_policies(reader, settings, seen)]


# -- the cluster -------------------------------------------------------------------------------------------------


def _namespaces(reader: Reader, settings: Settings) -> list[str]:
    """The namespaces to look at, the app's first."""
    own = [settings.app_namespace, settings.monitoring_namespace, SYSTEM_NAMESPACE]
    wanted = list(dict.fromkeys([*own, *(name for name in settings.namespaces if name != ALL)]))
    there = dict(zip(wanted, in_parallel(reader.has_namespace, wanted), strict=True))
    unknown = [name for name in settings.namespaces if name != ALL and not there[name]]
    found = [name for name in wanted if there[name]]
    if not unknown and ALL not in settings.namespaces:
        return found
    listing, why = reader.items("v1", "namespaces", light=True)
    known = sorted(str(item["metadata"]["name"]) for item in listing)
    if unknown:
        raise InputError(
            "report_namespaces",
            f"{listed(unknown)} {'is' if len(unknown) == 1 else 'are'} not in the cluster "
            f"(known: {', '.join(known) or why}). Correct the name, or leave it out",
        )
    if why:
        raise InputError("report_namespaces", f"{ALL!r} stands for all namespaces, but {why}. Name them one by one")
    return list(dict.fromkeys([*found, *known]))


def _nodes(reader: Reader, report: Report) -> None:
    found, why = reader.items("v1", "nodes")
    if why:
        report.reasons["nodes"] = why
        report.parts.append(Part("Nodes", WARN, f"not shown: {why}"))
        return
    usage, no_usage = reader.items("metrics.k8s.io/v1beta1", "nodes")
    used = {str(item["metadata"]["name"]): item.get("usage") or {} for item in usage}
    if no_usage:
        report.reasons["usage"] = "use is not shown, as this cluster has no metrics-server that answers"
    report.nodes += [_node(item, used) for item in found]
    ready = [node for node in report.nodes if node.state != BAD]
    state = GOOD if all(node.state == GOOD for node in report.nodes) else WARN if ready else BAD
    troubled = "; ".join(f"{node.name}: {node.text}" for node in report.nodes if node.state != GOOD)
    text = f"{len(ready)} of {count(len(found), 'node')} ready, Kubernetes {report.version}"
    report.parts.append(
        Part(
            "Nodes",
            state,
            f"{text}; {troubled}" if troubled else text,
            ""
            if state == GOOD
            else "`kubectl describe node` names the reason; an embedded cluster is repaired by `ansible-playbook playbooks/cluster.yml`",
        )
    )


def _node(item: Manifest, used: Mapping[str, Mapping[str, Any]]) -> Node:
    metadata, status = item["metadata"], item.get("status") or {}
    conditions = {str(entry.get("type")): entry for entry in status.get("conditions") or []}
    ready = (conditions.get("Ready") or {}).get("status") == "True"
    pressed = [name for name in PRESSURES if (conditions.get(name) or {}).get("status") == "True"]
    cordoned = bool((item.get("spec") or {}).get("unschedulable"))
    notes = [*pressed, *(["takes no new pods"] if cordoned else [])]
    text = "ready" if ready else str((conditions.get("Ready") or {}).get("message") or "not ready")
    info = status.get("nodeInfo") or {}
    roles = [key.removeprefix(NODE_ROLE) for key in metadata.get("labels") or {} if key.startswith(NODE_ROLE)]
    name = str(metadata["name"])
    capacity = status.get("capacity") or {}
    return Node(
        name=name,
        state=BAD if not ready else WARN if notes else GOOD,
        text=", ".join([text, *notes]),
        roles=", ".join(sorted(roles)) or "worker",
        version=str(info.get("kubeletVersion", "")),
        system=f"{info.get('osImage', '')}, {info.get('containerRuntimeVersion', '').replace('://', ' ')}",
        cpu=_use(used.get(name, {}).get("cpu"), capacity.get("cpu"), lambda value: f"{value:.3g}", "cores"),
        memory=_use(
            used.get(name, {}).get("memory"), capacity.get("memory"), lambda value: f"{value / 2**30:.3g}", "GiB"
        ),
    )


def _use(used: object, capacity: object, text: Callable[[float], str], unit: str) -> str:
    whole = _amount(capacity)
    part = _amount(used)
    if part is None or not whole:
        return f"{text(whole)} {unit}" if whole else NOTHING
    return f"{text(part)} of {text(whole)} {unit} ({100 * part / whole:.0f} %)"


def _amount(value: object) -> float | None:
    """A quantity; metrics-server counts CPU in billionths and millionths."""
    text = str(value or "")
    for suffix, factor in (("n", 1e-9), ("u", 1e-6)):
        if text.endswith(suffix) and text[:-1].isdigit():
            return float(text[:-1]) * factor
    try:
        return quantity(text) if text else None
    except ValueError:
        return None


# -- what runs ---------------------------------------------------------------------------------------------------


def _workloads(reader: Reader, seen: Seen, report: Report) -> None:
    kinds = [(kind, "apps/v1", plural) for kind, plural in WORKLOADS] + [("Pod", "v1", "pods")]
    wanted = [(namespace, *kind) for namespace in seen.namespaces for kind in kinds]
    answers = in_parallel(lambda item: reader.items(item[2], item[3], item[0]), wanted)
    refused = []
    for (namespace, kind, _version, _plural), (items, why) in zip(wanted, answers, strict=True):
        if why:
            refused.append(why)
        elif kind == "Pod":
            seen.pods[namespace] = items
        else:
            seen.workloads.setdefault(namespace, []).extend({**item, "kind": kind} for item in items)
    if refused:
        report.reasons["workloads"] = listed(refused, 3)
    for namespace in seen.namespaces:
        pods = seen.pods.get(namespace, [])
        report.workloads += [_workload(namespace, item, pods) for item in seen.workloads.get(namespace, [])]
        report.workloads += [_static(namespace, pod) for pod in pods if _owner(pod) == "Node"]
    report.images += _images(seen)


def _workload(namespace: str, item: Manifest, pods: Sequence[Manifest]) -> Workload:
    own = [pod for pod in pods if _selects(item, pod)]
    progress = rollout.progress(item)
    status, spec = item.get("status") or {}, item.get("spec") or {}
    if item["kind"] == "DaemonSet":
        wanted, ready = status.get("desiredNumberScheduled") or 0, status.get("numberAvailable") or 0
    else:
        wanted, ready = spec.get("replicas", 1), status.get("availableReplicas") or 0
    text = "" if progress.done else re.sub(rf"^{item['kind']} \S+?:? (?=\S)", "", progress.text)
    if not progress.done:
        reasons = [failure.sentence() for pod in own for failure in rollout.pod_failures(pod)]
        text = "; ".join([text, *reasons[:FAILURES_SHOWN]])
    elif not wanted:
        text = "scaled to 0"
    return Workload(
        namespace=namespace,
        kind=str(item["kind"]),
        name=str(item["metadata"]["name"]),
        state=GOOD if progress.done else BAD if not ready and wanted else WARN,
        ready=int(ready),
        wanted=int(wanted),
        text=text,
        restarts=sum(_restarts(pod) for pod in own),
    )


def _static(namespace: str, pod: Manifest) -> Workload:
    """A pod that a node's kubelet runs by itself, such as etcd."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)
    return Workload(
        namespace=namespace,
        kind="Static pod",
        name=str(pod["metadata"]["name"]),
        state=GOOD if ready else BAD,
        ready=int(ready),
        wanted=1,
        text="" if ready else "; ".join(item.sentence() for item in rollout.pod_failures(pod)[:FAILURES_SHOWN]),
        restarts=_restarts(pod),
    )


def _owner(pod: Manifest) -> str:
    owners = pod["metadata"].get("ownerReferences") or []
    return str(owners[0].get("kind")) if owners else ""


def _selects(item: Manifest, pod: Manifest) -> bool:
    wanted = ((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return bool(wanted) and wanted.items() <= (pod["metadata"].get("labels") or {}).items()


def _restarts(pod: Manifest) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(int(item.get("restartCount") or 0) for item in statuses)


def _workload_part(report: Report) -> list[Part]:
    if not report.workloads:
        return []
    troubled = [item for item in report.workloads if item.state != GOOD]
    total = count(len(report.workloads), "workload")
    if not troubled:
        return [Part("Workloads", GOOD, f"all of {total} ready")]
    names = listed(f"{item.namespace}/{item.name} ({item.ready} of {item.wanted})" for item in troubled)
    state = BAD if any(item.state == BAD for item in troubled) else WARN
    text = f"{len(report.workloads) - len(troubled)} of {total} ready; not: {names}"
    return [Part("Workloads", state, text, "The table Workloads says why.")]


def _images(seen: Seen) -> list[Image]:
    """Images of pods that run, with what uses them."""
    users: dict[str, set[str]] = {}
    versions: dict[str, str] = {}
    places: dict[str, list[tuple[str, str, str]]] = {}
    for namespace, pods in seen.pods.items():
        for pod in pods:
            labels = pod["metadata"].get("labels") or {}
            owner = next((item for item in seen.workloads.get(namespace, []) if _selects(item, pod)), pod)
            spec = pod.get("spec") or {}
            containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
            alone = len({item.get("image") for item in containers}) == 1
            for item in containers:
                reference = str(item.get("image"))
                users.setdefault(reference, set()).add(f"{namespace}/{owner['metadata']['name']}")
                places.setdefault(reference, []).append(
                    (namespace, str(pod["metadata"]["name"]), str(item.get("name")))
                )
                versions[reference] = versions.get(reference) or _version(reference, labels, alone=alone)
    found = [
        Image(_image_name(name), versions[name] or NOTHING, name, tuple(sorted(users[name])), tuple(places[name]))
        for name in users
    ]
    return sorted(found, key=lambda item: (item.name, item.reference))


def _image_name(reference: str) -> str:
    """Without registry, tag and digest."""
    name = reference.partition("@")[0]
    host, _, rest = name.partition("/")
    if rest and ("." in host or ":" in host or host == "localhost"):
        name = rest
    head, _, last = name.rpartition("/")
    return f"{head}/{last.partition(':')[0]}".lstrip("/")


def _version(reference: str, labels: Mapping[str, str], *, alone: bool) -> str:
    """The tag; else the version that the pod's labels give, if they mean this image."""
    name = reference.partition("@")[0]
    tag = name.rpartition("/")[2].partition(":")[2]
    known = labels.get("app.kubernetes.io/version", "")
    own = {labels.get(f"app.kubernetes.io/{key}") for key in ("name", "part-of", "instance")}
    return tag or (known if alone or name.rpartition("/")[2] in own else "")


# -- the app -----------------------------------------------------------------------------------------------------


def _app(reader: Reader, settings: Settings, seen: Seen, report: Report) -> Part:
    namespace, release = settings.app_namespace, settings.app_release
    if namespace not in seen.namespaces:
        return Part(
            "App",
            OFF,
            f"not deployed: there is no namespace {namespace}",
            f"{INSTALL_APP}, or correct `report_app_namespace`",
        )
    own = [
        item
        for item in seen.workloads.get(namespace, [])
        if (item["metadata"].get("labels") or {}).get(RELEASE_LABEL) == release
    ]
    if not own:
        why = report.reasons.get("workloads", "")
        text = (
            f"not shown: {why}" if why else f"not deployed: no workload of release {release} in namespace {namespace}"
        )
        return Part("App", WARN if why else OFF, text, "" if why else f"{INSTALL_APP}, or correct `report_app_release`")
    state, texts = GOOD, []
    for item in own:
        shown = next(
            found
            for found in report.workloads
            if (found.namespace, found.kind, found.name) == (namespace, item["kind"], item["metadata"]["name"])
        )
        state = BAD if BAD in (state, shown.state) else WARN if WARN in (state, shown.state) else GOOD
        why = [*shown.text.split("; "), ""][1]  # the first reason, after the numbers
        texts.append(f"{shown.ready} of {shown.wanted} replicas" + (f" ({why})" if why else ""))
    revision, trouble = _revision(reader, namespace, release, report)
    address = _address(reader, namespace, release)
    remedy = (
        ""
        if state == GOOD
        else f"`kubectl -n {namespace} get pods`, then `ansible-playbook playbooks/rollback.yml` if it came with a deploy"
    )
    if trouble and state == GOOD:
        state, remedy = WARN, "`ansible-playbook playbooks/app.yml` deploys again"
    return Part("App", state, ", ".join(part for part in (*texts, revision, trouble, address) if part), remedy)


def _revision(reader: Reader, namespace: str, release: str, report: Report) -> tuple[str, str]:
    """The revision that serves, and what is to be said of a later one. The records' content is not read."""
    selector = f"{RELEASE_LABEL}={release},{kube_revisions.REVISION_LABEL}"
    items, why = reader.items("v1", "secrets", namespace, labels=selector, light=True)
    if why:
        return f"revision not shown: {why}", ""
    history = []
    for item in items:
        labels, notes = item["metadata"].get("labels") or {}, item["metadata"].get("annotations") or {}
        number = int(labels.get(kube_revisions.REVISION_LABEL) or 0)
        status = str(labels.get(kube_revisions.STATUS_LABEL) or "")
        history.append((number, status))
        moment = notes.get(kube_revisions.TIME_ANNOTATION)
        if moment and status != kube_revisions.PENDING:
            applied = datetime.datetime.fromisoformat(str(moment).replace("Z", "+00:00"))
            report.markers.append(
                Marker(int(applied.timestamp()), f"Revision {number} ({status}), {applied:%H:%M} UTC")
            )
    serving = max((number for number, status in history if status == kube_revisions.DEPLOYED), default=0)
    newest, status = max(history, default=(0, ""))
    trouble = ""
    if newest > serving and status == kube_revisions.FAILED:
        trouble = f"revision {newest} failed and was put back"
    elif newest > serving and status == kube_revisions.PENDING:
        trouble = f"revision {newest} is being deployed, or its run was interrupted"
    return f"revision {serving}" if serving else "no revision is deployed", trouble


def _address(reader: Reader, namespace: str, release: str) -> str:
    services, _why = reader.items("v1", "services", namespace, labels=f"{RELEASE_LABEL}={release}")
    for service in services:
        for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
            host = str(entry.get("hostname") or entry.get("ip") or "")
            port = ((service.get("spec") or {}).get("ports") or [{}])[0].get("port", 80)
            if host:
                return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    return ""


# -- monitoring --------------------------------------------------------------------------------------------------


def _charts(reader: Reader, settings: Settings, seen: Seen, report: Report) -> helm.Release | None:
    """The newest record of every Helm release; gives that of monitoring. Only names and versions of them are kept."""
    answers = in_parallel(
        lambda name: reader.items("v1", "secrets", name, labels="owner=helm", light=True), seen.namespaces
    )
    newest: dict[tuple[str, str], Manifest] = {}
    refused = []
    for namespace, (items, why) in zip(seen.namespaces, answers, strict=True):
        if why:
            refused.append(why)
        for item in items:
            key = (namespace, str((item["metadata"].get("labels") or {}).get("name")))
            if key not in newest or helm.revision_of(item) > helm.revision_of(newest[key]):
                newest[key] = item
    if refused:
        report.reasons["charts"] = listed(refused, 3)
    monitoring = None
    for (namespace, name), item in sorted(newest.items()):
        try:
            secret = reader.cluster.get(resource_path("v1", "secrets", namespace, item["metadata"]["name"])) or {}
            record = helm.decode(secret)
        except (helm.ReleaseError, ApiError) as error:
            report.reasons["charts"] = str(error)
            continue
        if (namespace, name) == (settings.monitoring_namespace, settings.monitoring_release):
            monitoring = record
        report.charts.append(
            Chart(name, namespace, record.chart_name, record.chart_version, record.status, record.revision)
        )
    return monitoring


def _monitoring(
    settings: Settings, seen: Seen, release: helm.Release | None, service: metrics.Service | None
) -> list[Part]:
    namespace = settings.monitoring_namespace
    if namespace not in seen.namespaces:
        text = f"not installed: there is no namespace {namespace}"
        return [Part("Monitoring", OFF, text, f"{INSTALL_MONITORING}, or correct `report_monitoring_namespace`")]
    if release is None and service is None:
        text = (
            f"not installed: namespace {namespace} has neither release {settings.monitoring_release} nor a Prometheus"
        )
        return [Part("Monitoring", OFF, text, f"{INSTALL_MONITORING}, or correct `report_monitoring_release`")]
    if release is None:
        return []
    text = f"release {release.name}, chart {release.chart_name} {release.chart_version}"
    if release.status == "deployed":
        return [Part("Monitoring", GOOD, f"{text}, revision {release.revision}")]
    return [Part("Monitoring", BAD, f"{text} is {release.status}", f"{INSTALL_MONITORING} repairs it")]


def _grafana(
    settings: Settings, seen: Seen, release: helm.Release | None, service: metrics.Service | None
) -> list[Part]:
    namespace = settings.monitoring_namespace
    label = "app.kubernetes.io/name"
    own = [
        item
        for item in seen.workloads.get(namespace, [])
        if (item["metadata"].get("labels") or {}).get(label) == "grafana"
    ]
    if own:
        progress = rollout.progress(own[0])
        remedy = "" if progress.done else "The table Workloads says why."
        return [Part("Grafana", GOOD if progress.done else BAD, "ready" if progress.done else progress.text, remedy)]
    if release is None and service is None:
        return []
    if release is None:
        why = f"nothing of it runs in namespace {namespace}"
    elif release.chart_name == EMBEDDED_CHART:
        # The release says the same for both.
        why = "`monitoring_grafana` is `disabled`, or no published image of it was in reach at the installation"
    else:
        why = f"release {release.name} leaves it out"
    return [
        Part(
            "Grafana",
            OFF,
            f"not installed: {why}",
            "Set `monitoring_grafana=enabled` and, for example, `monitoring_grafana_image=registry.example.com/grafana/grafana:13.2.0` "
            f"(an image that the nodes can pull), then {INSTALL_MONITORING}",
        )
    ]


def _policies(reader: Reader, settings: Settings, seen: Seen) -> list[Part]:
    if settings.app_namespace not in seen.namespaces:
        return []
    found, why = reader.items("networking.k8s.io/v1", "networkpolicies", settings.app_namespace, light=True)
    name = "Policy enforcement"
    if why:
        return [Part(name, WARN, f"not shown: {why}")]
    if not found:
        return []
    what = f"NetworkPolicy: {len(found)} in namespace {settings.app_namespace}"
    if settings.policy_enforced == "false":
        remedy = "Use a cluster whose pod network has a policy engine, such as Calico, Cilium or Antrea"
        return [Part(name, OFF, f"{what}, but this cluster has no engine that enforces it", remedy)]
    try:
        engine = policy_engine(reader.cluster.groups())
    except ApiError:
        engine = None
    if engine or settings.policy_enforced == "true":
        return [
            Part(name, GOOD, f"{what}, enforced by {engine or 'this cluster, as app_network_policy_enforced says'}")
        ]
    return [
        Part(name, OFF, f"{what}; whether this cluster enforces it can't be told", "Set `app_network_policy_enforced`")
    ]


def _prometheus_service(reader: Reader, settings: Settings, seen: Seen) -> metrics.Service | None:
    """The Service that was named; else the one that the charts make, or the operator."""
    namespace = settings.monitoring_namespace
    given = settings.prometheus_service
    match = re.fullmatch(r"(?:(https?):)?([a-z0-9]([-a-z0-9]*[a-z0-9])?)(?::([a-z0-9-]+))?", given)
    if given and not match:
        raise InputError(
            "report_prometheus_service", f"{given!r} isn't a Service: give its name, or name:port, or https:name:port"
        )
    if namespace not in seen.namespaces:
        if given:
            raise InputError(
                "report_prometheus_service",
                f"{given!r} can't be there, as there is no namespace {namespace!r}. Correct report_monitoring_namespace",
            )
        return None
    services, why = reader.items("v1", "services", namespace)
    known = {str(item["metadata"]["name"]): item for item in services}
    if match and given:
        if match[2] not in known and not why:
            raise InputError(
                "report_prometheus_service",
                f"{match[2]!r} isn't a Service of namespace {namespace} (known: {', '.join(sorted(known)) or 'none'})",
            )
        return metrics.Service(namespace, match[2], match[4] or _port(known.get(match[2], {})), match[1] or "http")
    made = monitoring_values.services(settings.monitoring_release)["Prometheus"][0]
    label = "operated-prometheus"
    operated = sorted(name for name, item in known.items() if label in (item["metadata"].get("labels") or {}))
    name = next((name for name in (made, *operated) if name in known), "")
    return metrics.Service(namespace, name, _port(known[name])) if name else None


def _port(service: Mapping[str, Any]) -> str:
    """Prometheus' own port among those of a Service."""
    ports = (service.get("spec") or {}).get("ports") or []
    for wanted in PROMETHEUS_PORTS:
        for port in ports:
            if wanted in (port.get("name"), str(port.get("port"))):
                return str(port.get("port"))
    return str(ports[0].get("port")) if ports else "9090"


def _ask_prometheus(
    cluster: Cluster,
    settings: Settings,
    catalog: Catalog,
    now: datetime.datetime,
    report: Report,
    service: metrics.Service,
) -> None:
    prometheus = metrics.Prometheus(cluster, service)
    try:
        build = prometheus.ask("status/buildinfo")
        told, ruled, reached = in_parallel(
            lambda item: prometheus.ask(item[0], **item[1]),
            [("targets", {"state": "active"}), ("rules", {"type": "alert"}), ("alertmanagers", {})],
        )
        report.parts.append(Part("Prometheus", GOOD, f"v{str(build.get('version', 'unknown')).lstrip('v')} answers"))
        _targets(told, now, report)
        _alerts(ruled, catalog, now, report)
        _alertmanagers(reached, report)
        span = metrics.Range.until(now, settings.hours)
        hours = "the last hour" if settings.hours == 1 else f"the last {duration(settings.hours * 3600)}"
        scrape = metrics.scrape_seconds(told, "appgate-app")
        if not scrape and any(part.name == "App" and part.state != OFF for part in report.parts):
            report.parts.append(Part("App's metrics", OFF, "Prometheus has no target of the app", ARM))
        report.images = metrics.with_versions(prometheus, report.images)
        report.plots += metrics.app_plots(prometheus, catalog, span, scrape, hours)
    except metrics.NoAnswer as error:
        reason = f"Prometheus can't be asked: {error}"
        remedy = f"`kubectl -n {service.namespace} get pods`; {INSTALL_MONITORING} repairs the release"
        report.parts = [part for part in report.parts if part.name != "Prometheus"]
        report.parts.append(
            Part("Prometheus", WARN, f"not shown: {error}")
            if error.forbidden
            else Part("Prometheus", BAD, f"does not answer: {error}", remedy)
        )
        for name, there in (("plots", report.plots), ("alerts", report.alerts_quiet), ("targets", report.jobs)):
            if not there:
                report.reasons[name] = reason


def _targets(data: Mapping[str, Any], now: datetime.datetime, report: Report) -> None:
    report.jobs, report.targets_down = metrics.targets(data, now)
    total = sum(job.total for job in report.jobs)
    up = sum(job.up for job in report.jobs)
    if not total:
        report.parts.append(Part("Targets", OFF, "Prometheus has nothing to scrape", ARM))
        report.reasons["targets"] = "Prometheus has nothing to scrape"
    elif up == total:
        report.parts.append(Part("Targets", GOOD, f"all of {total} up, in {count(len(report.jobs), 'job')}"))
    else:
        down = listed(dict.fromkeys(item.job for item in report.targets_down))
        state = BAD if any(not job.up for job in report.jobs) else WARN
        report.parts.append(
            Part("Targets", state, f"{up} of {total} up; down: {down}", "The table Targets has the last error of each.")
        )


def _alerts(data: Mapping[str, Any], catalog: Catalog, now: datetime.datetime, report: Report) -> None:
    found = metrics.alerts(data, now)
    report.alerts, report.alerts_quiet, report.heartbeats = found.active, found.quiet, found.heartbeats
    firing = [item for item in found.active if item.state == "firing"]
    pending = [item for item in found.active if item.state == "pending"]
    if not found.names:
        report.parts.append(Part("Alerts", OFF, "none is armed", ARM))
        report.reasons["alerts"] = "Prometheus has no alerting rules"
        return
    quiet = f"{len(found.names)} armed"
    critical = any(item.severity == "critical" for item in firing)
    state = BAD if critical else WARN if firing or pending else GOOD
    texts = [f"{len(firing)} firing", f"{len(pending)} pending", quiet]
    if firing:
        texts[0] += f" ({listed(dict.fromkeys(item.name for item in firing), 3)})"
    report.parts.append(
        Part("Alerts", state, ", ".join(texts), "" if state == GOOD else "The table Alerts says what to do.")
    )
    if found.unhealthy:
        text = f"{count(len(found.unhealthy), 'rule')} can't be evaluated: {listed(found.unhealthy)}"
        report.parts.append(Part("Rules", BAD, text, next(iter(found.unhealthy.values()))))
    own = {alert.name for alert in catalog.alerts()}
    if not own & found.names:
        report.parts.append(Part("App's alerts", OFF, "none of those in docs/metrics.md is armed", ARM))


def _alertmanagers(data: Mapping[str, Any], report: Report) -> None:
    there = len(data.get("activeAlertmanagers") or [])
    if there:
        report.parts.append(
            Part(
                "Alertmanager",
                GOOD,
                "takes alerts from Prometheus" if there == 1 else f"{there} of them take alerts from Prometheus",
            )
        )
    else:
        report.parts.append(
            Part(
                "Alertmanager",
                BAD,
                "Prometheus knows none, so an alert reaches nobody",
                f"{INSTALL_MONITORING} repairs the release",
            )
        )
