# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Inventories that name no cluster, one cluster twice, or one that can't be reached."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml


def words(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


#: All that a person starts. The one for a bundle asks no inventory; the others of this folder are parts of these.
ENTRIES = [
    "site.yml",
    *(
        f"playbooks/{path.name}"
        for path in sorted((Path(__file__).parents[1] / "playbooks").glob("*.yml"))
        if path.stem not in ("bundle_install", "hosts", "values")
    ),
]


@pytest.mark.parametrize("playbook", ENTRIES)
def test_an_inventory_without_hosts_is_refused(playbook: str, run_inventory: Any) -> None:
    done = run_inventory(playbook, {"embedded": {"hosts": {}}, "existing": {"hosts": {}}})
    assert done.returncode != 0
    assert "has no hosts" in words(done)


def test_two_hosts_with_one_cluster_name_are_refused(run_inventory: Any) -> None:
    hosts = {
        "one": {"cluster_name": "twin", "cluster_address_block": "10.217.0.0/16"},
        "two": {"cluster_name": "twin", "cluster_address_block": "10.218.0.0/16"},
    }
    done = run_inventory("playbooks/cluster.yml", {"embedded": {"hosts": hosts}, "existing": {"hosts": {}}})
    assert done.returncode != 0
    assert "the same name or block is that of host two" in words(done)
    assert not Path("/var/lib/appgate/clusters/twin").exists()


LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        pytest.param({}, {}, id="no-block"),
        pytest.param({}, {"cluster_address_block": "10.200.0.0/16"}, id="the-default-block"),
        pytest.param(
            {"cluster_address_block": "10.217.0.0/16"},
            {"cluster_address_block": "10.218.0.0/16", "cluster_name": "one"},
            id="the-name-of-a-host",
        ),
    ],
)
def test_hosts_that_are_the_same_by_the_defaults_of_the_role_are_refused(
    one: dict[str, str], two: dict[str, str], ansible_playbook: Any, tmp_path: Path
) -> None:
    inventory = {"all": {"hosts": {"one": one, "two": two}, "vars": LOCAL}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    refuse = {"name": "appgate.platform.cluster", "tasks_from": "assert_unique"}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": refuse}]}
    done = ansible_playbook(yaml.safe_dump([play]), inventory="hosts.yml")
    said = words(done)
    assert done.returncode != 0
    for host, other in {"one": "two", "two": "one"}.items():
        assert f"Host {host} has cluster_name" in said, said
        assert f"the same name or block is that of host {other}." in said, said


def test_hosts_with_names_and_blocks_of_their_own_are_no_twins(ansible_playbook: Any, tmp_path: Path) -> None:
    hosts = {
        "one": {},
        "two": {"cluster_address_block": "10.217.0.0/16"},
        "three": {"cluster_address_block": "10.218.0.0/16", "cluster_name": "another"},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": LOCAL}}))
    refuse = {"name": "appgate.platform.cluster", "tasks_from": "assert_unique"}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": refuse}]}
    done = ansible_playbook(yaml.safe_dump([play]), inventory="hosts.yml")
    assert done.returncode == 0, words(done)


#: What a host shares with another of the same cluster, and what it is told.
APP = "has app_namespace '{}' as well: give each host its own."
MONITORING = "has monitoring_namespace '{}' as well: set appgate_monitoring_enabled to false for all but one."
UNMONITORED = {"appgate_monitoring_enabled": False}


@pytest.mark.parametrize(
    ("one", "two", "says"),
    [
        pytest.param({}, {}, [APP.format("appgate"), MONITORING.format("prometheus")], id="all-by-default"),
        pytest.param({}, {"app_namespace": "appgate", **UNMONITORED}, [APP.format("appgate")], id="the-default-app"),
        pytest.param({}, {"app_namespace": "elsewhere"}, [MONITORING.format("prometheus")], id="default-monitoring"),
        pytest.param(
            {"app_namespace": "here", "monitoring_namespace": "watch"},
            {"app_namespace": "there", "monitoring_namespace": "watch", "appgate_monitoring_enabled": "yes"},
            [MONITORING.format("watch")],
            id="named-monitoring",
        ),
        pytest.param({}, {"monitoring_namespace": "elsewhere"}, [APP.format("appgate")], id="app-alone"),
        pytest.param({}, {"app_namespace": "elsewhere", "appgate_monitoring_enabled": "false"}, [], id="unmonitored"),
        pytest.param({}, {"appgate_context": "elsewhere"}, [], id="another-context"),
    ],
)
def test_two_hosts_with_one_place_in_one_cluster_are_refused(
    one: dict[str, Any], two: dict[str, Any], says: list[str], run_inventory: Any, tmp_path: Path
) -> None:
    there = {"appgate_kubeconfig": str(tmp_path / "kubeconfig"), "appgate_context": "there"}
    hosts = {"one": {**there, **one}, "two": {**there, **two}}
    done = run_inventory(
        "playbooks/inventory.yml", {"existing": {"hosts": hosts, "vars": LOCAL}, "embedded": {"hosts": {}}}
    )
    said = words(done)
    assert done.returncode != 0
    place = f"in one cluster (appgate_kubeconfig '{tmp_path}/kubeconfig', appgate_context 'there')"
    for host, other in {"one": "two", "two": "one"}.items():
        assert (f"Host {host} is not alone {place}" in said) == bool(says), said
        assert all(f"Host {other} {text}" in said for text in says), said
        # Without a twin, it is stopped by its kubeconfig, which is not there.
        assert f"{host} failed at" in said, said
    for text in (APP, MONITORING):
        beginning = text.split("'")[0]
        assert (beginning in said) == any(beginning in part for part in says), said


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


@pytest.mark.parametrize("inventory", ["local", "kind", "staging", "production"])
def test_a_vault_beside_the_values_of_a_group_leaves_them_in_force(
    inventory: str, root: Path, tmp_path: Path, run_ansible: Any
) -> None:
    copy, password = tmp_path / inventory, tmp_path / "password"
    shutil.copytree(root / "inventory" / inventory, copy)
    password.write_text("of a test")
    unlocked = ("--vault-password-file", str(password))

    def listed() -> dict[str, Any]:
        done = run_ansible(root, "ansible-inventory", "--inventory", str(copy), "--list", *unlocked)
        assert done.returncode == 0, done.stderr
        hosts: dict[str, Any] = yaml.safe_load(done.stdout)["_meta"]["hostvars"]
        return hosts

    before = listed()
    groups = sorted(path.stem for path in (copy / "group_vars").iterdir())
    vaults = [copy / "group_vars" / group / "vault.yml" for group in groups]
    for group, vault in zip(groups, vaults, strict=True):
        vault.parent.mkdir(exist_ok=True)
        vault.write_text(yaml.safe_dump({f"password_of_{group}": "secret"}))
    locked = run_ansible(root, "ansible-vault", "encrypt", *unlocked, *map(str, vaults))
    assert locked.returncode == 0, locked.stderr
    secrets = {f"password_of_{group}": "secret" for group in groups}
    assert listed() == {host: {**values, **secrets} for host, values in before.items()}
    assert all(values["appgate_context"] for values in before.values())


def test_an_unreachable_cluster_stops_alone_and_says_why(run_inventory: Any, tmp_path: Path) -> None:
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
    hosts = {
        "refuses": {"appgate_kubeconfig": str(kubeconfig), "appgate_context": "there"},
        "unknown": {"appgate_kubeconfig": str(kubeconfig), "appgate_context": "elsewhere"},
        "unnamed": {"appgate_kubeconfig": str(kubeconfig), "appgate_context": ""},
        "unset": {},
        "missing": {"appgate_kubeconfig": str(tmp_path / "no-such-file"), "appgate_context": "there"},
    }
    done = run_inventory("site.yml", {"existing": {"hosts": hosts, "vars": LOCAL}, "embedded": {"hosts": {}}})
    said = words(done)
    assert done.returncode != 0
    assert "127.0.0.1:1" in said
    assert "elsewhere" in said
    assert "there" in said
    assert "appgate_context" in said
    assert "appgate_kubeconfig is empty" in said
    assert "Name the image" not in said, "an image was planned for a cluster that can't be reached"
    assert "no-such-file" in said
    assert "secret-token-of-a-test" not in said
    for host in hosts:
        assert f"{host} failed at" in said, said
