# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Inventories that name no cluster, one cluster twice, or one that can't be reached."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def run(root: Path, tmp_path: Path, run_ansible: Any) -> Any:
    """Run a playbook of the checkout with an inventory that is given as data."""

    def play(playbook: str, inventory: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
        if not (tmp_path / "group_vars").exists():
            (tmp_path / "group_vars").symlink_to(root / "inventory/local/group_vars")
        hosts = str(tmp_path / "hosts.yml")
        done: subprocess.CompletedProcess[str] = run_ansible(
            root, "ansible-playbook", "--inventory", hosts, playbook, *arguments
        )
        return done

    return play


def words(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


ENTRIES = ["site.yml", *(f"playbooks/{name}.yml" for name in ("rollback", "monitoring_rollback", "report", "destroy"))]


@pytest.mark.parametrize("playbook", ENTRIES)
def test_an_inventory_without_hosts_is_refused(playbook: str, run: Any) -> None:
    done = run(playbook, {"embedded": {"hosts": {}}, "existing": {"hosts": {}}})
    assert done.returncode != 0
    assert "has no hosts" in words(done)


def test_two_hosts_with_one_cluster_name_are_refused(run: Any) -> None:
    hosts = {
        "one": {"cluster_name": "twin", "cluster_address_block": "10.217.0.0/16"},
        "two": {"cluster_name": "twin", "cluster_address_block": "10.218.0.0/16"},
    }
    done = run("playbooks/cluster.yml", {"embedded": {"hosts": hosts}, "existing": {"hosts": {}}})
    assert done.returncode != 0
    assert "the same name or block is that of host two" in words(done)
    assert not Path("/var/lib/appgate/clusters/twin").exists()


def test_two_hosts_with_one_place_in_one_cluster_are_refused(run: Any, tmp_path: Path) -> None:
    there = {"appgate_kubeconfig": str(tmp_path / "kubeconfig"), "appgate_context": "there"}
    hosts = {"one": there, "two": there, "three": {**there, "app_namespace": "elsewhere"}}
    connection = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    done = run("site.yml", {"existing": {"hosts": hosts, "vars": connection}, "embedded": {"hosts": {}}})
    said = words(done)
    assert done.returncode != 0
    for host, other in {"one": "two", "two": "one"}.items():
        assert (
            f"Host {host} has appgate_kubeconfig '{tmp_path}/kubeconfig' and appgate_context 'there'; host {other} has the same"
            in said
        )
    # It is stopped by its kubeconfig, which is not there, and not by the others.
    assert "Host three" not in said


@pytest.mark.parametrize("inventory", ["local", "kind", "staging", "production"])
def test_each_inventory_names_its_clusters_and_their_contexts(inventory: str, root: Path, run_ansible: Any) -> None:
    listed = run_ansible(root, "ansible-inventory", "--inventory", f"inventory/{inventory}", "--list", "--yaml")
    assert listed.returncode == 0, listed.stderr
    groups = yaml.safe_load(listed.stdout)["all"]["children"]
    hosts = {
        name: values
        for group in ("embedded", "existing")
        for name, values in (groups.get(group, {}).get("hosts") or {}).items()
    }
    assert hosts
    for values in hosts.values():
        assert values["appgate_kubeconfig"]
        assert values["appgate_context"]


def test_an_unreachable_cluster_stops_alone_and_says_why(run: Any, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"token": "secret-token-of-a-test"}}],
                "contexts": [{"name": "there", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "there",
            }
        )
    )
    connection = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    hosts = {
        "refuses": {"appgate_kubeconfig": str(kubeconfig), "appgate_context": "there"},
        "unknown": {"appgate_kubeconfig": str(kubeconfig), "appgate_context": "elsewhere"},
        "unnamed": {"appgate_kubeconfig": str(kubeconfig), "appgate_context": ""},
        "missing": {"appgate_kubeconfig": str(tmp_path / "no-such-file"), "appgate_context": "there"},
    }
    done = run("site.yml", {"existing": {"hosts": hosts, "vars": connection}, "embedded": {"hosts": {}}})
    said = words(done)
    assert done.returncode != 0
    assert "127.0.0.1:1" in said
    assert "elsewhere" in said
    assert "there" in said
    assert "appgate_context" in said
    assert "Name the image" not in said, "an image was planned for a cluster that can't be reached"
    assert "no-such-file" in said
    assert "secret-token-of-a-test" not in said
    for host in hosts:
        assert f"{host} failed at" in said, said
