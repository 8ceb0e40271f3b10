# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The role `app` and its playbooks, run as a person runs them, against a real API server."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import Cluster

from tests.unit.app_role.conftest import GOOD
from tests.unit.control_plane import ControlPlane

pytestmark = pytest.mark.usefixtures("node")

Play = Callable[..., subprocess.CompletedProcess[str]]

CONFIG = "frontend http\n    bind *:8080\n    # {}\nfrontend operations\n    bind *:8404\n"
PLAY = """
- name: Deploy
  hosts: all
  gather_facts: false
  roles:
    - role: appgate.platform.app
"""
BACK = """
- name: Go back
  hosts: all
  gather_facts: false
  tasks:
    - name: Go back
      ansible.builtin.import_role:
        name: appgate.platform.app
        tasks_from: rollback
"""


@pytest.fixture
def play(
    ansible_playbook: Play, tmp_path: Path, control_plane: ControlPlane, app_server: dict[str, Any], namespace: str
) -> Play:
    """Run a playbook with the variables of a working app, changed by keywords."""

    def run(*arguments: str, playbook: str = PLAY, **changes: Any) -> subprocess.CompletedProcess[str]:
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "app_kubeconfig": str(control_plane.kubeconfig),
            "app_context": control_plane.context,
            "app_namespace": namespace,
            "app_image": GOOD,
            "app_haproxy_config": CONFIG.format("first"),
            "app_service_port": app_server["port"],
            "app_rollout_timeout_seconds": 60,
            "app_probe_timeout_seconds": 2,
            **changes,
        }
        inventory = tmp_path / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"one": variables}}}))
        return ansible_playbook(playbook, *arguments, inventory=str(inventory))

    return run


def recap(done: subprocess.CompletedProcess[str]) -> str:
    return next(line for line in done.stdout.splitlines() if line.startswith("one ") and "changed=" in line)


def objects(cluster: Cluster, namespace: str, path: str) -> list[dict[str, Any]]:
    return list(cluster.call("GET", path.format(namespace)).json()["items"])


def applied(item: dict[str, Any]) -> list[dict[str, Any]]:
    """What was said of the object by server-side apply."""
    return [entry for entry in item["metadata"]["managedFields"] if entry["operation"] == "Apply"]


def test_a_life(play: Play, cluster: Cluster, namespace: str, app_server: dict[str, Any]) -> None:
    # Nothing is there yet, and check mode leaves it so.
    done = play("--check", "--diff")
    assert done.returncode == 0, done.stdout
    assert f"+++ after: Deployment {namespace}/appgate" in done.stdout
    assert cluster.get(f"/api/v1/namespaces/{namespace}") is None

    done = play()
    assert done.returncode == 0, done.stdout
    assert "changed=1" in recap(done)
    url = f"http://127.0.0.1:{app_server['port']}/"
    assert f"curl {url}" in done.stdout

    for arguments in ((), ("--check", "--diff")):
        done = play(*arguments)
        assert done.returncode == 0, done.stdout
        assert "changed=0" in recap(done)
        assert "+++" not in done.stdout

    # Somebody's edit is shown, alone, and put back.
    deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/appgate"
    edit = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 30}}}}
    cluster.call("PATCH", deployment, edit, content_type="application/merge-patch+json")
    done = play("--check", "--diff")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("+", "-")) and line[1:3] not in ("++", "--")]
    assert [line.split() for line in lines] == [
        ["-", "terminationGracePeriodSeconds:", "30"],
        ["+", "terminationGracePeriodSeconds:", "62"],
    ]
    assert "changed=1" in recap(play())

    # Another configuration is another ConfigMap; the diff shows the line, and the old one goes.
    done = play("--diff", app_haproxy_config=CONFIG.format("second"))
    assert done.returncode == 0, done.stdout
    assert "-        # first" in done.stdout
    assert "+        # second" in done.stdout
    own = [
        item["data"]["haproxy.cfg"]
        for item in objects(cluster, namespace, "/api/v1/namespaces/{}/configmaps")
        if item["metadata"]["name"].startswith("appgate-haproxy-")
    ]
    assert own == [CONFIG.format("second")]

    # One that doesn't come up is put back.
    done = play(app_image=GOOD.replace("/good@", "/broken@"))
    assert done.returncode == 2
    said = " ".join(done.stdout.split())
    assert "Revision 3 of appgate" in said
    assert "container gunicorn of pod appgate-" in said
    assert "Revision 2 has been put back and serves" in said
    assert "changed=0" in recap(play(app_haproxy_config=CONFIG.format("second")))

    # To an earlier one, and to one that there isn't.
    done = play(playbook=BACK)
    assert done.returncode == 0, done.stdout
    done = play("-e", "app_revision=77", playbook=BACK)
    assert done.returncode == 2
    assert "There is no revision 77 to go back to. Set app_revision to one of these" in done.stdout
    assert "app_revision is set in <CLI option '-e'>" in done.stdout
    assert "rollback to revision 1" in done.stdout

    done = play(app_state="absent")
    assert done.returncode == 0, done.stdout
    assert "changed=1" in recap(done)
    assert cluster.get(f"/api/v1/namespaces/{namespace}") is None
    assert "changed=0" in recap(play(app_state="absent"))


def test_another_run_is_waited_for_or_refused(play: Play, cluster: Cluster, namespace: str) -> None:
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    cluster.version()
    now = cluster.server_time().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {
        "holderIdentity": "ci-7/4711/then",
        "leaseDurationSeconds": 15,
        "acquireTime": now,
        "renewTime": now,
    }
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    cluster.call("POST", leases, {"metadata": {"name": "appgate-deploy"}, "spec": spec})
    done = play(app_lock_wait_seconds=0)
    assert done.returncode == 2
    assert "changed=0" in recap(done)
    said = " ".join(done.stdout.split())
    assert "is being changed by process 4711 on host ci-7 (since 20" in said
    assert "Run again when that run has ended, or have this one wait for it longer: app_lock_wait_seconds." in said

    # Whoever that was gives no more sign of life.
    done = play()
    assert done.returncode == 0, done.stdout
    said = " ".join((done.stdout + done.stderr).split())
    assert "is being changed by process 4711 on host ci-7" in said
    assert "waiting for up to 300 s." in said
    assert "which is dead: went on from there." in said
    assert cluster.get(f"{leases}/appgate-deploy") is None


def test_secret_values_appear_nowhere(play: Play, cluster: Cluster, namespace: str) -> None:
    secret = "hunter2-and-more"
    done = play("--diff", "-vvv", app_secret_env={"TOKEN": secret}, app_probe_enabled=False)
    assert done.returncode == 0, done.stdout
    output = done.stdout + done.stderr
    for form in (secret, base64.b64encode(secret.encode()).decode()):
        assert form not in output
    [live] = [
        item
        for item in objects(cluster, namespace, "/api/v1/namespaces/{}/secrets")
        if item["metadata"]["name"].startswith("appgate-env-")
    ]
    assert base64.b64decode(live["data"]["TOKEN"]).decode() == secret


def test_all_options_together_are_accepted_by_the_server(play: Play, cluster: Cluster, namespace: str) -> None:
    done = play(
        app_probe_enabled=False,
        app_autoscaling_enabled=True,
        app_ingress_host="appgate.example.com",
        app_ingress_class="nginx",
        app_ingress_tls_secret="appgate-tls",
        app_ingress_annotations={"example.com/a": "b"},
        app_labels={"team": "web"},
        app_annotations={"example.com/owner": "web"},
        app_pod_annotations={"example.com/pod": "yes"},
        app_service_annotations={"example.com/lb": "internal"},
        app_service_external_traffic_policy="Local",
        app_node_selector={"kubernetes.io/os": "linux"},
        app_tolerations=[{"key": "dedicated", "operator": "Exists"}],
        app_topology_keys=["kubernetes.io/hostname", "topology.kubernetes.io/zone"],
        app_image_pull_secrets=["registry"],
        app_env={"APPGATE_LOG_LEVEL": "debug", "APPGATE_THREADS": 8, "APPGATE_ACCESS_LOG": True},
        app_env_from_secrets=[{"name": "DSN", "secret": "database", "key": "dsn"}],
        app_network_policy_http_from=[{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        app_network_policy_egress=[{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 5432}]}],
        app_network_policy_enforced=False,
        app_gunicorn_cpu_limit="",
        app_haproxy_cpu_limit="",
        app_version="1.2.3",
        app_replicas=3,
        app_autoscaling_max_replicas=7,
        app_autoscaling_cpu_percent=60,
        app_haproxy_memory_request="96Mi",
        app_haproxy_memory_limit="200Mi",
    )
    assert done.returncode == 0, done.stdout
    assert "this cluster has no engine that enforces it" in " ".join(done.stdout.split())
    [deployment] = objects(cluster, namespace, "/apis/apps/v1/namespaces/{}/deployments")
    sidecar = deployment["spec"]["template"]["spec"]["initContainers"][0]
    environment = {item["name"]: item.get("value") for item in sidecar["env"]}
    assert environment["APPGATE_ACCESS_LOG"] == "true"
    assert environment["APPGATE_THREADS"] == "8"
    assert "cpu" not in sidecar["resources"]["limits"]
    assert deployment["metadata"]["labels"]["app.kubernetes.io/name"] == "load-balancer-appgate"
    pod = deployment["spec"]["template"]
    assert [(rule["topologyKey"], rule["maxSkew"]) for rule in pod["spec"]["topologySpreadConstraints"]] == [
        ("kubernetes.io/hostname", 1),
        ("topology.kubernetes.io/zone", 1),
    ]
    [proxy] = pod["spec"]["containers"]
    assert proxy["resources"] == {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "200Mi"}}
    for container in (sidecar, proxy):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"livenessProbe", "readinessProbe"} <= set(container)
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True

    # How many pods there are is the autoscaler's business, which would lose against each run otherwise.
    [scaler] = objects(cluster, namespace, "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers")
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "appgate"}
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (3, 7)
    assert scaler["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}
    assert not any("f:replicas" in entry["fieldsV1"]["f:spec"] for entry in applied(deployment))

    [ingress] = objects(cluster, namespace, "/apis/networking.k8s.io/v1/namespaces/{}/ingresses")
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["appgate.example.com"], "secretName": "appgate-tls"}]
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] == "appgate.example.com"
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "appgate-service", "port": {"name": "http"}}

    [budget] = objects(cluster, namespace, "/apis/policy/v1/namespaces/{}/poddisruptionbudgets")
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert budget["spec"]["maxUnavailable"] == 1
    # Options that are switched off again take their objects with them.
    assert play(app_probe_enabled=False).returncode == 0
    assert objects(cluster, namespace, "/apis/networking.k8s.io/v1/namespaces/{}/ingresses") == []
    assert objects(cluster, namespace, "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers") == []
    [deployment] = objects(cluster, namespace, "/apis/apps/v1/namespaces/{}/deployments")
    assert any("f:replicas" in entry["fieldsV1"]["f:spec"] for entry in applied(deployment))


def test_one_cluster_that_is_wrong_does_not_stop_the_others(
    ansible_playbook: Play, tmp_path: Path, control_plane: ControlPlane, namespace: str
) -> None:
    base = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "app_image": GOOD,
        "app_haproxy_config": CONFIG,
        "app_namespace": namespace,
        "app_probe_enabled": False,
        "app_kubeconfig": str(control_plane.kubeconfig),
        "app_context": control_plane.context,
    }
    hosts = {
        "good": base,
        "no_context": {**base, "app_context": "production"},
        "expired": {**base, "app_kubeconfig": str(control_plane.write_kubeconfig("late", days=-1))},
        "no_rights": {**base, "app_kubeconfig": str(control_plane.write_kubeconfig("guest"))},
        "unreachable": {
            **base,
            "app_kubeconfig": str(control_plane.write_kubeconfig("lost", server="https://127.0.0.1:1")),
        },
    }
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    done = ansible_playbook(PLAY, inventory=str(inventory))
    said = " ".join(done.stdout.split())
    assert done.returncode == 2
    assert "'production' isn't a context of" in said
    assert "the client certificate of user 'late'" in said
    assert "User 'guest' of context 'testing'" in said
    assert "can't be reached: connection refused" in said
    recaps = {line.split()[0]: line for line in done.stdout.splitlines() if "failed=" in line}
    assert "failed=0" in recaps["good"]
    assert all("failed=1" in line for host, line in recaps.items() if host != "good")
