# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Bad input to the role `app`, as a person gives it: real runs, against an address where nobody listens.

A run that got as far as the cluster would say that it can't be reached, so the right message proves that nothing was
tried before.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import app_inputs

Run = Callable[..., subprocess.CompletedProcess[str]]

IMAGE = "registry.test/appgate@sha256:" + "a" * 64
CONFIG = "frontend http\n    bind *:8080\nfrontend operations\n    bind *:8404\n"
PLAY = """
- name: Deploy
  hosts: all
  gather_facts: false
  roles:
    - role: appgate.platform.app
"""
VALID: dict[str, Any] = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "app_image": IMAGE,
    "app_haproxy_config": CONFIG,
    "app_kubeconfig": "/no/such/kubeconfig",
    "app_context": "testing",
}

#: Variables to set, and what must be said. Each line is one way to be wrong.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"app_replicas": 0}, "app_replicas: 0 must be a whole number from 1 to 1000"),
    ({"app_replicas": -1}, "app_replicas: -1 must be a whole number from 1 to 1000"),
    (
        {"app_gunicorn_memory_limit": "64Mi"},
        "app_gunicorn_memory_limit: '64Mi' is less than app_gunicorn_memory_request",
    ),
    ({"app_haproxy_cpu_limit": "10m"}, "app_haproxy_cpu_limit: '10m' is less than app_haproxy_cpu_request ('50m')"),
    ({"app_gunicorn_memory_request": "lots"}, "'lots' isn't a quantity such as 250m, 1.5, 64Mi or 1Gi"),
    ({"app_haproxy_memory_limit": "0"}, "'0' must be more than nothing"),
    ({"app_run_volume_size": "1Gi"}, "'1Gi' is more than app_gunicorn_memory_limit"),
    ({"app_namespace": "My_Space"}, "app_namespace: 'My_Space' isn't a name that Kubernetes takes (DNS-1123)"),
    ({"app_release": "-x"}, "app_release: '-x' isn't a name that Kubernetes takes"),
    ({"app_service_name": "1st"}, "app_service_name: '1st' must start with a letter"),
    ({"app_release": "a" * 50}, "longer than 40 characters"),
    ({"app_image": "registry.test/appgate:1.0"}, "has no digest: add @sha256:"),
    ({"app_image": "registry.test/appgate:latest", "app_image_allow_tag": True}, "names no version"),
    ({"app_image": "localhost/appgate:latest"}, "names no version"),
    (
        {"app_image": "appgate@sha256:" + "a" * 64},
        "has no registry, and every node would look for it somewhere else: write it whole",
    ),
    ({"app_image": "registry.test/Appgate@sha256:12"}, "isn't an image reference"),
    ({"app_image": ""}, "app_image: is empty"),
    ({"app_service_port": 70000}, "app_service_port: 70000 must be a port from 1 to 65535"),
    ({"app_http_port": 80}, "app_http_port: 80 must be a port from 1024 to 65535"),
    ({"app_operations_port": 8080}, "app_operations_port: 8080 is already app_http_port"),
    ({"app_http_port": 8081}, "8081 isn't bound by app_haproxy_config: set haproxy_http_port"),
    ({"app_haproxy_config": ""}, "app_haproxy_config: is empty"),
    ({"app_env": {"1A": "x"}}, "'1A' can't be the name of an environment variable"),
    ({"app_env": {"APPGATE_BIND": "x"}}, "'APPGATE_BIND' is set by the role itself"),
    (
        {"app_env": {"A": "x"}, "app_secret_env": {"A": "y"}},
        "app_secret_env: 'A' is given twice; it is also in app_env",
    ),
    ({"app_labels": {"version": 2}}, "version: 2 can't be a label's value"),
    ({"app_annotations": {"a": True}}, "a: True must be a text"),
    ({"app_autoscaling_enabled": True, "app_autoscaling_max_replicas": 1}, "1 is less than app_replicas (2)"),
    ({"app_rollout_timeout_seconds": 10}, "10 is less than app_start_timeout_seconds (60)"),
    ({"app_probe_path": "ready"}, "app_probe_path: 'ready' must start with '/'"),
    ({"app_ingress_host": "no host"}, "app_ingress_host: 'no host' isn't a host name"),
    ({"app_version": "a b"}, "app_version: 'a b' can't be a label"),
    # Told by Ansible itself, from the role's argument_specs.
    ({"app_replicas": "two"}, "app_replicas"),
    ({"app_service_type": "Balancer"}, "LoadBalancer, NodePort, ClusterIP"),
    ({"app_labels": "team"}, "app_labels"),
    ({"app_replica": 3}, "app_replicas"),
    # What comes after all of these: the way to the cluster.
    ({}, "/no/such/kubeconfig does not exist"),
    ({"app_context": ""}, "/no/such/kubeconfig does not exist"),
]


@pytest.fixture(scope="module")
def outputs(root: Any, run_ansible: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One run with one host for each way to be wrong: they don't disturb each other."""
    folder = tmp_path_factory.mktemp("inputs")
    hosts = {f"case{number}": {**VALID, **values} for number, (values, _text) in enumerate(REFUSED)}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (folder / "play.yml").write_text(PLAY)
    (folder / "ansible.cfg").write_text(
        f"[defaults]\ncollections_path = {root / 'collections'}\nforks = 4\nstdout_callback = ansible.builtin.minimal\n"
    )
    done = run_ansible(folder, "ansible-playbook", "-i", "hosts.json", "play.yml", timeout_seconds=300)
    assert done.returncode == 2, done.stdout + done.stderr
    found: dict[str, str] = {}
    for block in done.stdout.split("\ncase"):
        host = "case" + block.removeprefix("case").split(" ", 1)[0]
        if "FAILED" in block[:60]:
            found[host] = block
    return found


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=lambda number: str(REFUSED[number][0])[:60])
def test_it_is_refused_with_a_reason(outputs: dict[str, str], number: int) -> None:
    _values, text = REFUSED[number]
    said = " ".join(outputs[f"case{number}"].replace('\\"', '"').replace(" (set in hosts.json)", "").split())
    assert text in said


def test_the_place_of_a_value_is_told(ansible_playbook: Run, tmp_path: Any) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "all:\n  hosts:\n    one:\n"
        + "".join(f"      {key}: {json.dumps(value)}\n" for key, value in VALID.items())
        + "      app_replicas: 0\n      app_operations_port: 8080\n"
    )
    done = ansible_playbook(PLAY, inventory="hosts.yml")
    assert done.returncode == 2
    assert "app_replicas (set in hosts.yml:10): 0 must be" in done.stdout
    # All mistakes at once.
    assert "app_operations_port (set in hosts.yml:11): 8080 is already app_http_port" in done.stdout


def test_what_is_right_is_accepted() -> None:
    assert app_inputs.problems({key: value for key, value in VALID.items() if key.startswith("app_")}) == []


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        "10.200.0.1:5000/appgate@sha256:" + "0" * 64,
        "registry.example.com/team/appgate:1.2@sha256:" + "0" * 64,
        # Put straight onto the nodes.
        "localhost/appgate:0123456789ab",
    ],
)
def test_images_by_digest(image: str) -> None:
    assert app_inputs.problems({"app_image": image}) == []


def test_removal_asks_for_little() -> None:
    assert (
        app_inputs.removal_problems({"app_namespace": "web", "app_release": "x", "app_image": "", "app_replicas": 0})
        == []
    )
    assert app_inputs.removal_problems({"app_namespace": "We b"})
