# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A real cluster whose making is interrupted, and what is left when it is removed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAME = "interrupted"
BLOCK = "10.214.0.0/16"
HOST = "10.214.0.1"
STATE = Path("/var/lib/appgate/clusters") / NAME

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="starts and kills a cluster: needs to be root, not merely to have sudo"
)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Where the cluster's is to be: in a directory that isn't there yet."""
    return tmp_path / "kube" / "config"


@pytest.fixture
def arguments(root: Path, tmp_path: Path, kubeconfig: Path) -> Iterator[list[str]]:
    inventory = tmp_path / "inventory"
    inventory.mkdir()
    (inventory / "group_vars").symlink_to(root / "inventory/local/group_vars")
    host = {
        "cluster_address_block": BLOCK,
        "cluster_kubeconfig": str(kubeconfig),
        "appgate_kubeconfig": str(kubeconfig),
    }
    (inventory / "hosts.yml").write_text(json.dumps({"embedded": {"hosts": {NAME: host}}, "existing": {"hosts": {}}}))
    yield ["ansible-playbook", "--inventory", str(inventory)]
    subprocess.run(["ansible-playbook", "--inventory", str(inventory), "playbooks/destroy.yml"], cwd=root, check=False)


def processes_with(variable: str) -> list[Path]:
    """The processes that have an environment variable beginning like this."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"\0{variable}" in f"\0{(entry / 'environ').read_text()}":
                found.append(entry)
        except (OSError, UnicodeDecodeError):
            continue  # it ended while we looked, or it is the kernel's
    return found


def addresses() -> list[dict[str, Any]]:
    """The machine's links, with their addresses."""
    shown = subprocess.run(["ip", "-json", "address"], capture_output=True, text=True, check=True)
    return list(json.loads(shown.stdout))


def bridge_and_ports() -> tuple[str, set[str]]:
    """The cluster's bridge, which has the first address of its block, and the links to its nodes."""
    links = addresses()
    [bridge] = [link["ifname"] for link in links if any(one.get("local") == HOST for one in link["addr_info"])]
    return bridge, {link["ifname"] for link in links if link.get("master") == bridge}


def left_over(own_links: set[str], kubeconfig: Path) -> dict[str, list[str]]:
    """Everything of the cluster that the machine still has. Other clusters come and go meanwhile."""
    # Where kubectl keeps what it has learnt of an API.
    discovered = (Path.home() / ".kube" / "cache" / "discovery").glob("10.214.*")
    routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True).stdout.splitlines()
    namespaces = Path("/run/netns")
    return {
        "processes": [Path(entry, "cmdline").read_text() for entry in processes_with(f"APPGATE_NODE={NAME}-")],
        "links": sorted(own_links & {link["ifname"] for link in addresses()}),
        "routes": [line for line in routes if line.startswith("10.214.")],
        "namespaces": sorted(own_links & {entry.name for entry in namespaces.glob("*")}),
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/appgate/{NAME}")],
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if NAME in line],
        "files": [str(path) for path in (STATE, kubeconfig.parent, *discovered) if path.exists()],
    }


def wait_until(what: str, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def test_an_interrupted_run_and_a_reboot_are_repaired_and_removal_leaves_nothing(
    root: Path, arguments: list[str], kubeconfig: Path, clean_environment: dict[str, str]
) -> None:
    def play(playbook: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*arguments, playbook],
            cwd=root,
            env=clean_environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    # Killed while kubeadm works: certificates are there, the cluster is not.
    run = subprocess.Popen(
        [*arguments, "playbooks/cluster.yml"],
        cwd=root,
        env={**clean_environment, "APPGATE_INTERRUPTED_RUN": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    certificate = STATE / f"nodes/{NAME}-control-plane/etc/kubernetes/pki/ca.crt"
    wait_until("kubeadm to begin", certificate.exists, 1800)
    while left := processes_with("APPGATE_INTERRUPTED_RUN="):
        for entry in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
        run.poll()
    assert not (STATE / "state.json").exists(), "the run was killed too late to prove anything"

    repaired = play("playbooks/cluster.yml")
    assert repaired.returncode == 0, repaired.stdout
    again = play("playbooks/cluster.yml")
    assert "changed=0 " in again.stdout, again.stdout
    kubectl = shutil.which("kubectl", path=str(STATE / "bin"))
    nodes = subprocess.run(
        [str(kubectl), f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent.parent}", "get", "nodes"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert " Ready " in nodes.stdout
    bridge, ports = bridge_and_ports()
    assert len(ports) == 1

    # A reboot ends every process and forgets the network; the files stay.
    processes = processes_with(f"APPGATE_NODE={NAME}-")
    for init in [entry for entry in processes if (entry / "cmdline").read_text().startswith("runsvdir")]:
        os.kill(int(init.name), signal.SIGKILL)
    wait_until("the node to end", lambda: not processes_with(f"APPGATE_NODE={NAME}-"), 30)
    subprocess.run(["ip", "link", "delete", bridge], check=True)
    rebooted = play("playbooks/cluster.yml")
    assert rebooted.returncode == 0, rebooted.stdout
    assert "changed=0 " in play("playbooks/cluster.yml").stdout

    removed = play("playbooks/destroy.yml")
    assert removed.returncode == 0, removed.stdout
    remains = left_over({bridge, *ports}, kubeconfig)
    assert not any(remains.values()), remains
    unchanged = play("playbooks/destroy.yml")
    assert "changed=0 " in unchanged.stdout, unchanged.stdout
