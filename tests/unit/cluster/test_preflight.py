# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What is asked of a machine before a cluster is put on it, and when."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import resource
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.embedded import preflight, spec

from tests.machine import write_program

# As a kernel shows them that has every controller in the old hierarchies.
V1_CONTROLLERS = ("cpuset", "cpu", "cpuacct", "blkio", "memory", "pids")
# What a kernel without CONFIG_MEMCG_V1 and CONFIG_CPUSETS_V1, both off since 6.11 unless asked for, lists there.
REMAINING_V1_CONTROLLERS = ("cpu", "cpuacct", "blkio", "pids")


def cluster() -> spec.Cluster:
    return spec.parse("local", "10.200.0.0/16", 3, "cluster.local", "v1.37.2")


def proc_with(folder: Path, *controllers: str) -> Path:
    """A /proc with enough memory and a list of controllers."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal: 2000000 kB\nMemAvailable: 512000 kB\n")
    listed = "".join(f"{name}\t0\t1\t1\n" for name in controllers)
    (proc / "cgroups").write_text(f"#subsys_name\thierarchy\tnum_cgroups\tenabled\n{listed}")
    return proc


def cgroup_tree(folder: Path, *controllers: str, unified: bool) -> Path:
    """A /sys/fs/cgroup: the unified hierarchy itself, or one that is hybrid and has it in a corner, without controllers."""
    root = folder / "cgroup"
    (root if unified else root / "unified").mkdir(parents=True)
    text = " ".join(controllers) + "\n"
    ((root if unified else root / "unified") / "cgroup.controllers").write_text(text)
    return root


def test_too_little_memory_is_refused_with_its_numbers(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, *V1_CONTROLLERS)
    found = preflight.problems(cluster(), new_nodes=1, min_free_memory_mib=1500, min_free_disk_mib=1, proc=proc)
    assert any("Only 500 MiB of memory are free; cluster_min_free_memory_mib asks for 1500" in text for text in found)


def test_too_few_inotify_instances_are_refused_with_their_number() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # This process alone may open no more than ten; using up what the user has would disturb others.
    few = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 10
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        problem = preflight.inotify_problem(few)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert problem
    assert re.match(
        rf"Only \d+ more inotify instances can be opened, and the nodes to start take up to {few}:", problem
    )
    assert preflight.inotify_problem(1) is None


def test_a_cluster_that_grows_needs_inotify_instances_for_its_new_nodes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(preflight, "inotify_problem", asked.append)
    preflight.problems(cluster(), new_nodes=2, min_free_memory_mib=1, min_free_disk_mib=1)
    assert asked == [2 * preflight.INOTIFY_INSTANCES_OF_A_NODE]


@pytest.mark.parametrize(
    ("listed", "unified", "available", "missing"),
    [
        pytest.param(REMAINING_V1_CONTROLLERS, True, ("cpuset", "cpu", "io", "memory", "pids"), "", id="v2"),
        pytest.param(V1_CONTROLLERS, True, ("cpuset", "cpu", "io", "pids"), "memory", id="v2 without memory"),
        pytest.param(V1_CONTROLLERS, False, (), "", id="hybrid"),
        pytest.param(REMAINING_V1_CONTROLLERS, False, (), "cpuset, memory", id="hybrid without some"),
    ],
)
def test_controllers_are_looked_for_where_the_machine_has_them(
    listed: tuple[str, ...], unified: bool, available: tuple[str, ...], missing: str, tmp_path: Path
) -> None:
    proc = proc_with(tmp_path, *listed)
    root = cgroup_tree(tmp_path, *available, unified=unified)
    found = preflight.problems(
        cluster(), new_nodes=1, min_free_memory_mib=1, min_free_disk_mib=1, proc=proc, cgroup_root=root
    )
    texts = [text for text in found if "cgroup controllers" in text]
    assert len(texts) == bool(missing)
    if missing:
        assert f"cgroup controllers {missing} are not enabled" in texts[0]
        assert f"cgroup_enable={missing.replace(' ', '')}" in texts[0]


def test_a_controller_that_is_listed_but_off_is_missing(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, *V1_CONTROLLERS)
    listed = (proc / "cgroups").read_text()
    (proc / "cgroups").write_text(listed.replace("memory\t0\t1\t1", "memory\t0\t1\t0"))
    problem = preflight.controllers_problem(proc / "cgroups", cgroup_tree(tmp_path, unified=False))
    assert problem
    assert "cgroup controllers memory are not enabled" in problem


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        ('ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n', ""),
        ('ID=debian\nVERSION_ID="12"\n', ""),
        ('ID=debian\nPRETTY_NAME="Debian GNU/Linux forky/sid"\n', ""),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID='24.04'\n", ""),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="26.04"\n', ""),
        ("ID=linuxmint\nID_LIKE=ubuntu\n", ""),
        # A derivative counts its versions in its own way.
        ('ID=devuan\nID_LIKE=debian\nVERSION_ID="5"\n', ""),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\n', ""),
        ('ID=debian\nVERSION_ID="rolling"\n', ""),
        (
            'ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\n',
            "Debian GNU/Linux 11 (bullseye)",
        ),
        ('ID=debian\nVERSION_ID="9"\nPRETTY_NAME="Debian GNU/Linux 9 (stretch)"\n', "Debian GNU/Linux 9 (stretch)"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n', "Ubuntu 22.04.5 LTS"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="23.10"\nPRETTY_NAME="Ubuntu 23.10"\n', "Ubuntu 23.10"),
        ('ID=fedora\nVERSION_ID=44\nPRETTY_NAME="Fedora Linux 44"\n', "Fedora Linux 44"),
        ("", "an unknown system"),
    ],
)
def test_only_debian_and_its_kin_are_served_and_only_new_enough(release: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text(release)
    problem = preflight.operating_system_problem(tmp_path / "os-release")
    if not reason:
        assert problem is None
        return
    assert problem
    assert f"This machine runs {reason}" in problem
    assert "Use Debian 12 or newer, Ubuntu 24.04 or newer, or an inventory that names a cluster of your own" in problem


@pytest.mark.parametrize(
    ("machine", "refused"), [("x86_64", False), ("aarch64", False), ("armv7l", True), ("riscv64", True), ("i686", True)]
)
def test_only_architectures_that_the_parts_are_made_for_are_served(machine: str, refused: bool) -> None:
    problem = preflight.architecture_problem(machine)
    assert bool(problem) == refused
    if refused:
        assert problem
        assert machine in problem
        assert "Use a machine with amd64 or arm64" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="trying a kernel feature needs root")
def test_a_missing_kernel_feature_is_named_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(preflight.NETWORK_TRIALS, "flux_capacitor", "ip link add trial3 type flux_capacitor")
    found = [text for text in preflight.kernel_problems(tmp_path) if "kernel does not offer" in text]
    assert len(found) == 1
    assert "flux_capacitor" in found[0]
    assert "modprobe flux_capacitor" in found[0]


def test_a_place_that_nothing_can_be_written_to_is_named() -> None:
    found = preflight.kernel_problems(Path("/proc/clusters"))
    assert any(text.startswith("Nothing can be written under /proc (") for text in found)


@pytest.mark.parametrize(
    ("routed", "refused"),
    [
        (["0.0.0.0/1", "128.0.0.0/1"], False),  # a VPN that takes all traffic
        (["10.200.4.0/24"], True),
        (["10.0.0.0/8"], True),
        (["10.128.0.0/9", "192.168.0.0/24"], True),
        (["172.17.0.0/16"], False),
    ],
)
def test_addresses_that_this_machine_routes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, routed: list[str], refused: bool
) -> None:
    routes = json.dumps([{"dst": route, "dev": "tun0"} for route in ["default", *routed]])
    write_program(tmp_path / "ip", f"echo '{routes}'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = preflight._addresses(cluster())
    assert (found is not None) == refused, found
    if found:
        block = ipaddress.IPv4Network(found.rpartition("such as ")[2].removesuffix("."))
        assert not any(ipaddress.IPv4Network(route).overlaps(block) for route in routed)


DOCKER = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-A FORWARD -j DOCKER-USER\n"


@pytest.mark.parametrize(
    ("nodes", "bridged", "rules", "refused"),
    [
        (2, "1", DOCKER, True),
        (1, "1", DOCKER, False),
        (2, "0", DOCKER, False),
        (2, "", DOCKER, False),
        (2, "1", DOCKER.replace("DROP", "ACCEPT"), False),
        (2, "1", DOCKER + "-A FORWARD -i {bridge} -o {bridge} -j ACCEPT\n", False),
    ],
)
def test_a_firewall_between_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: int, bridged: str, rules: str, refused: bool
) -> None:
    wanted = spec.parse("local", "10.200.0.0/16", nodes, "cluster.local", "v1.37.2")
    if bridged:
        (tmp_path / "setting").write_text(f"{bridged}\n")
    (tmp_path / "rules").write_text(rules.format(bridge=wanted.bridge))
    write_program(tmp_path / "iptables", f"cat {tmp_path}/rules")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = preflight._forwarding(wanted, tmp_path / "setting")
    assert (found is not None) == refused, found
    if found:
        # What the message says mends it.
        rule = found.partition("iptables -I ")[2].partition(")")[0]
        with (tmp_path / "rules").open("a") as stream:
            stream.write(f"-A {rule}\n")
        assert preflight._forwarding(wanted, tmp_path / "setting") is None


@pytest.mark.parametrize("profile", ["unshare (enforce)\n", "unprivileged_userns (enforce)\n"])
def test_apparmor_is_named_where_it_may_be_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    for program in preflight.TRIAL_PROGRAMS:
        write_program(tmp_path / program, "echo Operation not permitted >&2; exit 1")
    (tmp_path / "profiles").write_text(f"/usr/sbin/ntpd (enforce)\n{profile}")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = preflight.kernel_problems(tmp_path, tmp_path / "profiles")
    assert any("AppArmor" in text for text in found) == profile.startswith("unshare ")
