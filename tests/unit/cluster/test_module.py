# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""When the machine is asked what it offers, and what a refusal says of what was done before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.embedded import preflight
from ansible_collections.appgate.platform.plugins.module_utils.embedded.cluster import (
    RENEWED,
    EmbeddedCluster,
    leave_no_directory,
)
from ansible_collections.appgate.platform.plugins.modules import embedded_cluster

from tests.machine import write_program

MISSING = "The kernel does not offer flux_capacitor"


class Machine:
    """Stands in for the machine: what it is asked, what it lacks, and whether a cluster was begun on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pending: list[str] = []
        self.asked: list[str] = []
        self.lacks: list[str] = []
        self.begun = False

    def ask(self, what: str, found: list[str]) -> list[str]:
        self.asked.append(what)
        return found

    def begin(self) -> None:
        self.begun = True

    def perform(self, state: str, *, check_mode: bool = False) -> dict[str, Any]:
        """What the module answers to the options that the role gives it."""
        options = {name: option.get("default") for name, option in embedded_cluster.ARGUMENTS.items()}
        given = {
            "name": "untouched",
            "state": state,
            "address_block": "10.199.0.0/16",
            "kubernetes_version": "v1.37.2",
            "parts_fingerprint": "1",
            "addons_fingerprint": "1",
            "state_dir": str(self.folder / "clusters"),
            "kubeconfig": str(self.folder / "kubeconfig"),
        }
        return embedded_cluster.perform({**options, **given}, check_mode=check_mode)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(preflight, "require_root", lambda: None)
    monkeypatch.setattr(preflight, "problems", lambda *_args, **_options: made.ask("machine", []))
    monkeypatch.setattr(preflight, "kernel_problems", lambda _directory: made.ask("kernel", made.lacks))
    monkeypatch.setattr(EmbeddedCluster, "pending", lambda _self: made.pending)
    monkeypatch.setattr(EmbeddedCluster, "present", lambda _self: made.begin())
    return made


@pytest.mark.parametrize("pending", ["create cluster x with 1 node(s)", "start node x", "join node x"])
def test_a_missing_kernel_feature_is_told_by_the_plan_already(machine: Machine, pending: str) -> None:
    machine.pending = [pending]
    machine.lacks = [MISSING]
    answer = machine.perform("planned")
    assert answer["failed"]
    assert answer["msg"] == f"Nothing was changed, as this machine can't hold the cluster: {MISSING}"


@pytest.mark.parametrize("state", ["checked", "present"])
def test_a_refusal_after_packages_were_installed_does_not_say_that_nothing_was_changed(
    machine: Machine, state: str
) -> None:
    machine.pending = ["create cluster x with 1 node(s)"]
    machine.lacks = [MISSING]
    answer = machine.perform(state)
    assert answer["failed"]
    assert answer["msg"] == f"The cluster was not touched, as this machine can't hold it: {MISSING}"
    assert not machine.begun


# Nodes that are started again take what they have now.
@pytest.mark.parametrize("pending", [[], ["apply the add-ons"], ["write kubeconfig"], [RENEWED]])
@pytest.mark.parametrize("state", ["planned", "checked", "present"])
def test_a_cluster_whose_nodes_run_asks_the_machine_nothing(machine: Machine, state: str, pending: list[str]) -> None:
    machine.pending = pending
    assert "failed" not in machine.perform(state)
    assert machine.asked == []


@pytest.mark.parametrize(("state", "begins"), [("planned", False), ("checked", False), ("present", True)])
def test_only_the_last_of_the_three_begins(machine: Machine, state: str, begins: bool) -> None:
    machine.pending = ["create cluster x with 1 node(s)"]
    answer = machine.perform(state)
    assert machine.asked == ["machine", "kernel"]
    assert answer["changed"] == begins
    assert machine.begun == begins
    machine.begun = False
    machine.perform(state, check_mode=True)
    assert not machine.begun


@pytest.mark.parametrize("missing", preflight.TRIAL_PROGRAMS)
def test_a_kernel_is_not_judged_without_the_programs_to_try_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for program in preflight.TRIAL_PROGRAMS:
        if program != missing:
            write_program(tmp_path / program, "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert preflight.kernel_problems(tmp_path) == []


def test_the_role_asks_the_machine_between_the_packages_and_the_parts(root: Path) -> None:
    tasks = yaml.safe_load((root / "roles/cluster/tasks/repair.yml").read_text())
    order = [
        task.get("ansible.builtin.import_tasks") or task["appgate.platform.embedded_cluster"]["state"] for task in tasks
    ]
    assert order == ["packages.yml", "checked", "take.yml", "present"]
    packages = yaml.safe_load((root / "roles/cluster/tasks/packages.yml").read_text())
    assert [task["register"] for task in packages if "ansible.builtin.apt" in task] == ["__cluster_packages_taken"]
    # Where nothing was installed, the plan has asked everything just before.
    assert tasks[1]["when"] == "__cluster_packages_taken is not skipped"


def test_the_last_cluster_leaves_no_directory_and_a_persons_own_stays(tmp_path: Path) -> None:
    ours = tmp_path / "lib" / "appgate" / "clusters"
    (ours / "two").mkdir(parents=True)
    leave_no_directory(ours / "one")
    assert (ours / "two").is_dir()
    (ours / "two").rmdir()
    leave_no_directory(ours / "two")
    assert list((tmp_path / "lib").iterdir()) == []
    own = tmp_path / "my" / "state"
    own.mkdir(parents=True)
    leave_no_directory(own / "one")
    assert own.is_dir()


OTHERS = {"contexts": [{"name": "appgate-untouched"}, {"name": "production"}]}
OWN = {"contexts": [{"name": "appgate-untouched"}]}


@pytest.mark.parametrize("text", [yaml.safe_dump(OTHERS), "", "a person's notes: ["])
def test_a_kubeconfig_of_others_is_neither_overwritten_nor_removed(machine: Machine, text: str) -> None:
    kubeconfig = machine.folder / "kubeconfig"
    kubeconfig.write_text(text)
    machine.pending = ["create cluster x with 1 node(s)"]
    for state in ("planned", "present"):
        answer = machine.perform(state)
        assert answer["failed"]
        assert answer["variable"] == "cluster_kubeconfig"
        assert f"{kubeconfig} holds something else than the context appgate-untouched" in answer["msg"]
    assert not machine.begun
    assert not machine.perform("absent")["changed"]
    assert kubeconfig.read_text() == text


def test_the_clusters_own_kubeconfig_goes_with_it(machine: Machine) -> None:
    kubeconfig = machine.folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(OWN))
    assert machine.perform("absent")["changed"]
    assert not kubeconfig.exists()


def test_a_disk_that_fills_up_while_nodes_are_made_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_self: EmbeddedCluster) -> None:
        with open("/dev/full", "w", encoding="utf-8") as full:
            full.write("a node's image")

    monkeypatch.setattr(EmbeddedCluster, "present", write)
    machine.pending = ["create cluster x with 1 node(s)"]
    answer = machine.perform("present")
    assert answer["failed"]
    assert f"The disk that holds {machine.folder}/clusters is full" in answer["msg"]
    assert "cluster_state_dir" in answer["msg"]
