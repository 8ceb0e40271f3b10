# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Whose pods are judged, which revision counts as ready and where things answer, against a real API server."""

from __future__ import annotations

import base64
import concurrent.futures
import gzip
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils import helm_release as helm
from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_cluster as live
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import ApiError, Cluster
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import resource_path

from tests.unit.app_role.fake_node import FakeNode
from tests.unit.control_plane import ControlPlane

MERGE = "application/merge-patch+json"
GONE, STUCK, GOOD = (f"registry.test/{name}@sha256:{'a' * 64}" for name in ("missing", "stuck", "good"))
#: How a rollout of each kind is held with a pod of the earlier revision left.
HELD: dict[str, dict[str, Any]] = {
    "StatefulSet": {
        "replicas": 2,
        "serviceName": "one",
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
    },
    # Without another one that is available, the old pod stays.
    "Deployment": {"replicas": 1, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
}
GO_BACK = """
- name: Go to a revision
  hosts: all
  gather_facts: false
  tasks:
    - name: Go to it
      ansible.builtin.include_role:
        name: appgate.platform.monitoring
        tasks_from: rollback
"""
HAND_ON = """
- name: Hand on what is there
  hosts: all
  gather_facts: false
  vars:
    __monitoring_plan:
      chart: {source: embedded, path: a}
      rows: {12 Prometheus: kubectl port-forward, 13 Alertmanager: http://alerts.example.com/}
      services_awaited: {12 Prometheus: {service: one, port: 9090}}
      pending: "{{ is_pending }}"
  tasks:
    - name: Hand it on
      ansible.builtin.include_role:
        name: appgate.platform.monitoring
        tasks_from: outputs
"""
Play = Callable[..., subprocess.CompletedProcess[str]]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Iterator[FakeNode]:
    """Pods fare as their image says."""
    with FakeNode(cluster) as fake:
        yield fake


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"monitoring-{next(_numbers)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    cluster.call("POST", resource_path("v1", "namespaces"), body)
    yield name
    cluster.call("DELETE", resource_path("v1", "namespaces", "", name))


def until(found: Callable[[], Any]) -> Any:
    """What is found in the end."""
    end = time.monotonic() + 60
    while not (answer := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return answer


def workload(kind: str, image: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": "one"}
    container = {"name": "main", "image": image}
    pod = {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "one"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            **spec,
        },
    }


def pods(cluster: Cluster, namespace: str, image: str) -> list[str]:
    """Of this image, with a word from their node."""
    items = cluster.call("GET", resource_path("v1", "pods", namespace)).json()["items"]
    return sorted(
        item["metadata"]["name"]
        for item in items
        if item["spec"]["containers"][0]["image"] == image
        and item["status"].get("containerStatuses")
        and not item["metadata"].get("deletionTimestamp")
    )


def judge(cluster: Cluster, state: live.State) -> list[tuple[str, bool]]:
    """The pods that say why it isn't ready, and whether waiting is no use."""
    return [
        (failure.pod, failure.hopeless) for pod in live._pods(cluster, state) for failure in rollout.pod_failures(pod)
    ]


@pytest.mark.parametrize("kind", HELD)
def test_a_pod_of_the_earlier_revision_says_nothing_about_the_new_one(
    cluster: Cluster, node: FakeNode, namespace: str, kind: str
) -> None:
    path = resource_path("apps/v1", live.PLURALS[kind], namespace)
    cluster.call("POST", path, workload(kind, GONE, **HELD[kind]))
    until(lambda: len(pods(cluster, namespace, GONE)) == HELD[kind]["replicas"])

    def judged() -> list[Any]:
        found = live.states(cluster, [helm.Workload(kind, namespace, "one")])
        assert not found[0].progress.done
        return judge(cluster, found[0])

    # The revision's own pods are judged.
    assert until(lambda: [item for item in judged() if item[1]])
    mended = {"spec": {"template": workload(kind, STUCK)["spec"]["template"]}}
    cluster.call("PATCH", f"{path}/one", mended, content_type=MERGE)
    [new] = until(lambda: pods(cluster, namespace, STUCK))
    [old] = pods(cluster, namespace, GONE)
    assert old != new
    assert judged() == [(new, False)]


def test_a_pod_of_a_daemon_sets_earlier_revision_says_nothing_either(
    cluster: Cluster, node: FakeNode, namespace: str
) -> None:
    machines = ["one", "two"]
    for name in machines:
        machine = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"{namespace}-{name}"}}
        cluster.call("POST", resource_path("v1", "nodes"), machine)
    try:
        path = resource_path("apps/v1", "daemonsets", namespace)
        cluster.call("POST", path, workload("DaemonSet", GONE, updateStrategy={"type": "OnDelete"}))
        before = until(lambda: (found := pods(cluster, namespace, GONE)) and len(found) == len(machines) and found)
        mended = {"spec": {"template": workload("DaemonSet", STUCK)["spec"]["template"]}}
        cluster.call("PATCH", f"{path}/one", mended, content_type=MERGE)
        cluster.call("DELETE", resource_path("v1", "pods", namespace, before[0]))
        [new] = until(lambda: pods(cluster, namespace, STUCK))
        found = live.states(cluster, [helm.Workload("DaemonSet", namespace, "one")])
        assert judge(cluster, found[0]) == [(new, False)]
    finally:
        for name in machines:
            cluster.call("DELETE", resource_path("v1", "nodes", "", f"{namespace}-{name}"))


def test_nothing_is_judged_before_the_controller_has_seen_the_change(cluster: Cluster, namespace: str) -> None:
    seen = workload("StatefulSet", GONE, **HELD["StatefulSet"])
    seen["metadata"].update(namespace=namespace, generation=2)
    seen["status"] = {"observedGeneration": 1, "updateRevision": "one-before"}
    assert live._newest(cluster, seen) == ""
    seen["status"]["observedGeneration"] = 2
    assert live._newest(cluster, seen) == "app=one,controller-revision-hash=one-before"


@pytest.fixture
def prometheuses(cluster: Cluster) -> Iterator[None]:
    """The API serves the operator's kind Prometheus, for as long as the test runs."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "prometheuses.monitoring.coreos.com",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/prometheus-operator"},
        },
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": "Prometheus", "plural": "prometheuses"},
            "versions": [version],
        },
    }
    cluster.call("POST", live.CRD_PATH, body)
    yield
    made = f"{live.CRD_PATH}/prometheuses.monitoring.coreos.com"
    cluster.call("DELETE", made)
    until(lambda: cluster.get(made) is None)


def answered(call: Callable[[], Any]) -> Callable[[], Any]:
    """Once its storage is set up, the API answers for a new kind."""

    def found() -> Any:
        try:
            return call()
        except ApiError:
            return None

    return found


def prometheus_changed_after(cluster: Cluster, namespace: str, image: str) -> helm.Workload:
    """A Prometheus that was changed after the operator had made its StatefulSet, with pods of this image."""
    kind = resource_path("monitoring.coreos.com/v1", "prometheuses", namespace)
    custom = {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": {"name": "one"}, "spec": {}}
    until(answered(lambda: cluster.call("POST", kind, custom)))
    made = workload("StatefulSet", image, replicas=1, serviceName="one", podManagementPolicy="Parallel")
    made["metadata"]["name"] = "prometheus-one"
    cluster.call("POST", resource_path("apps/v1", "statefulsets", namespace), made)
    until(lambda: pods(cluster, namespace, image))
    asked = helm.Workload("Prometheus", namespace, "one")

    def change() -> bool:
        """The API server's times are whole seconds: change it again until it is newer."""
        changed = cluster.call("PATCH", f"{kind}/one", {"spec": {"at": time.time()}}, content_type=MERGE).json()
        # The operator notes the newest generation as reconciled while it still works on the one before.
        condition = {
            "type": "Reconciled",
            "status": "True",
            "reason": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": changed["metadata"]["generation"],
        }
        cluster.call("PATCH", f"{kind}/one/status", {"status": {"conditions": [condition]}}, content_type=MERGE)
        return live.states(cluster, [asked])[0].outdated

    until(change)
    return asked


def test_what_the_operator_made_before_a_change_is_not_judged(
    cluster: Cluster, node: FakeNode, namespace: str, prometheuses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prometheus_changed_after(cluster, namespace, GONE)
    [broken] = pods(cluster, namespace, GONE)
    [found] = live.states(cluster, [asked])
    assert judge(cluster, found) == [(broken, True)]
    looked = threading.Semaphore(0)

    def states(*arguments: Any) -> list[live.State]:
        looked.release()
        return look(*arguments)

    look = live.states
    monkeypatch.setattr(live, "states", states)
    # However long the operator takes.
    monkeypatch.setattr(live, "OUTDATED_SECONDS", 0)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waited = pool.submit(live.await_ready, cluster, [asked], 60)
        for _ in range(2):
            assert looked.acquire(timeout=60)
        mended = {"spec": {"template": workload("StatefulSet", GOOD)["spec"]["template"]}}
        cluster.call(
            "PATCH", resource_path("apps/v1", "statefulsets", namespace, "prometheus-one"), mended, content_type=MERGE
        )
        assert waited.result() == ""


def test_what_the_operator_leaves_as_it_is_counts_once_it_is_ready(
    cluster: Cluster, node: FakeNode, namespace: str, prometheuses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prometheus_changed_after(cluster, namespace, GOOD)
    assert "hasn't been seen by the operator" in live.await_ready(cluster, [asked], 2)
    monkeypatch.setattr(live, "OUTDATED_SECONDS", 0)
    assert live.await_ready(cluster, [asked], 60) == ""


def record(namespace: str, revision: int, manifest: dict[str, Any], *, ready: bool) -> dict[str, Any]:
    """A revision as Helm writes it."""
    status = "deployed" if revision == 2 else "superseded"
    content = {
        "name": "prometheus",
        "namespace": namespace,
        "version": revision,
        "info": {"status": status},
        "chart": {"metadata": {"name": "monitoring", "version": "0.1.0"}},
        "config": {},
        "manifest": f"---\n{yaml.safe_dump(manifest)}",
    }
    labels = {"owner": "helm", "name": "prometheus", "version": str(revision), "status": status}
    if ready:
        labels[helm.READY_LABEL] = str(revision)
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
    name = f"sh.helm.release.v1.prometheus.v{revision}"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "helm.sh/release.v1",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": {"release": packed},
    }


def killed_while_waiting(cluster: Cluster, namespace: str, image: str) -> None:
    """Revision 1 was seen ready; the run that made revision 2 was killed while it waited, and its pods came up since."""
    manifest = workload("Deployment", image, replicas=1)
    cluster.call("POST", resource_path("apps/v1", "deployments", namespace), manifest)
    for revision in (1, 2):
        body = record(namespace, revision, manifest, ready=revision == 1)
        cluster.call("POST", resource_path("v1", "secrets", namespace), body)
    until(lambda: pods(cluster, namespace, image))
    if image == GOOD:
        until(lambda: live.states(cluster, [helm.Workload("Deployment", namespace, "one")])[0].progress.done)


@pytest.mark.parametrize(("image", "leads"), [(GOOD, 2), (STUCK, 1)])
def test_a_revision_that_came_up_by_itself_is_the_one_to_go_back_to(
    cluster: Cluster, node: FakeNode, namespace: str, image: str, leads: int
) -> None:
    killed_while_waiting(cluster, namespace, image)

    def history() -> helm.History:
        return helm.read_history(cluster, namespace, "prometheus")

    assert history().undo(changing=True) == 1
    assert live.with_ready(cluster, history()).undo(changing=True) == leads
    # To look is not to write.
    assert history().undo(changing=True) == 1


def one_host(folder: Path, control_plane: ControlPlane, namespace: str, **more: Any) -> str:
    """An inventory."""
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "monitoring_kubeconfig": str(control_plane.kubeconfig),
        "monitoring_context": control_plane.context,
        "monitoring_namespace": namespace,
        **more,
    }
    path = folder / "inventory.yml"
    path.write_text(json.dumps({"all": {"hosts": {"one": variables}}}))
    return str(path)


def test_a_run_with_nothing_to_do_notes_that_the_revision_is_ready(
    cluster: Cluster,
    control_plane: ControlPlane,
    node: FakeNode,
    namespace: str,
    ansible_playbook: Play,
    tmp_path: Path,
) -> None:
    killed_while_waiting(cluster, namespace, GOOD)
    inventory = one_host(tmp_path, control_plane, namespace, monitoring_revision=2)
    for arguments, noted in ((["--check"], False), ([], True)):
        result = ansible_playbook(GO_BACK, *arguments, inventory=inventory)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "changed=0 " in result.stdout
        newest = helm.read_history(cluster, namespace, "prometheus").newest
        assert newest is not None
        assert newest.ready == noted


def service(kind: str) -> dict[str, Any]:
    spec = {"type": kind, "selector": {"app": "one"}, "ports": [{"port": 9090}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": spec}


def test_the_address_of_a_load_balancer_is_waited_for(cluster: Cluster, node: FakeNode, namespace: str) -> None:
    cluster.call("POST", resource_path("v1", "services", namespace), service("LoadBalancer"))
    asked = {"12 Prometheus": {"service": "one", "port": 9090}}
    assert live.addresses(cluster, namespace, asked, 60) == {"12 Prometheus": "http://127.0.0.1:9090/"}


def test_an_address_that_never_comes_is_not_waited_for(cluster: Cluster, node: FakeNode, namespace: str) -> None:
    cluster.call("POST", resource_path("v1", "services", namespace), service("ClusterIP"))
    asked = {"12 Prometheus": {"service": "one", "port": 9090}, "13 Alertmanager": {"service": "two", "port": 9093}}
    # A day: neither of these can get one.
    assert live.addresses(cluster, namespace, asked, 86400) == {}


@pytest.mark.parametrize(
    ("pending", "shown"), [(["an install"], "http://127.0.0.1:9090/"), ([], "kubectl port-forward")], ids=["new", "old"]
)
def test_the_table_shows_the_address_that_came_with_the_run(
    cluster: Cluster,
    control_plane: ControlPlane,
    node: FakeNode,
    namespace: str,
    ansible_playbook: Play,
    tmp_path: Path,
    pending: list[str],
    shown: str,
) -> None:
    cluster.call("POST", resource_path("v1", "services", namespace), service("LoadBalancer"))
    inventory = one_host(tmp_path, control_plane, namespace, is_pending=pending)
    result = ansible_playbook(HAND_ON, "-v", inventory=inventory)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f'"12 Prometheus": "{shown}", "13 Alertmanager": "http://alerts.example.com/"' in result.stdout
