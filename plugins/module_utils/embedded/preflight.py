# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a machine must offer before a cluster is put on it; asked before anything is changed."""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ansible_collections.appgate.platform.plugins.module_utils.embedded.node import CGROUP_ROOT, is_cgroup_v1
from ansible_collections.appgate.platform.plugins.module_utils.embedded.spec import Cluster
from ansible_collections.appgate.platform.plugins.module_utils.embedded.system import ClusterError, run

# How many inotify instances the daemons of a node have open; counted on a control plane: 26.
INOTIFY_INSTANCES_OF_A_NODE = 32
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
# The oldest release of each system that has the packages; a derivative counts in its own way and is believed.
OLDEST_RELEASES = {"debian": (12,), "ubuntu": (24, 4)}
ARCHITECTURES = ("x86_64", "aarch64")
# A route to more addresses than those of 10.0.0.0/8 is no network, but the way to all others.
SHORTEST_USED_PREFIX = 8
# What the trials below are made with.
TRIAL_PROGRAMS = ("unshare", "ip", "nft")
# Kernel features are tried, in a network namespace that goes when the command ends: a module that is
# merely not loaded yet counts as there.
NETWORK_TRIALS = {
    "bridge": "ip link add trial0 type bridge",
    "veth": "ip link add trial1 type veth peer name trial2",
    "nf_tables": "nft add table ip trial",
    "nft_nat": (
        "nft add table ip trial; nft 'add chain ip trial c { type nat hook postrouting priority 100; }'; "
        "nft add rule ip trial c masquerade"
    ),
    "nft_fib": (
        "nft add table ip trial; nft 'add chain ip trial c { type filter hook prerouting priority 0; }'; "
        "nft add rule ip trial c fib daddr type local accept"
    ),
}


def problems(
    cluster: Cluster,
    *,
    new_nodes: int,
    min_free_memory_mib: int,
    min_free_disk_mib: int,
    proc: Path = Path("/proc"),
    cgroup_root: Path = CGROUP_ROOT,
) -> list[str]:
    """Every reason why this machine can't hold so many nodes of the cluster more, each with its remedy; empty when it can."""
    found: list[str] = []
    checks: list[Callable[[], str | None]] = [
        lambda: operating_system_problem(Path("/etc/os-release")),
        lambda: architecture_problem(platform.machine()),
        lambda: _memory(proc / "meminfo", min_free_memory_mib),
        lambda: _disk(cluster.state_dir, min_free_disk_mib),
        lambda: controllers_problem(proc / "cgroups", cgroup_root),
        lambda: inotify_problem(INOTIFY_INSTANCES_OF_A_NODE * new_nodes),
        lambda: _addresses(cluster),
        lambda: _forwarding(cluster, proc / "sys/net/bridge/bridge-nf-call-iptables"),
    ]
    for check in checks:
        problem = check()
        if problem:
            found.append(problem)
    return found


def kernel_problems(state_dir: Path, profiles: Path = Path("/sys/kernel/security/apparmor/profiles")) -> list[str]:
    """Kernel features that are missing; needs root.

    Where the programs that try them are missing, nothing is known: their packages are about to be installed, and then it is
    asked again.
    """
    if any(shutil.which(program) is None for program in TRIAL_PROGRAMS):
        return []
    found = []
    for feature, trial in NETWORK_TRIALS.items():
        done = run(["unshare", "--net", "sh", "-e", "-c", trial], check=False)
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            found.append(
                f"The kernel does not offer {feature} ({reason[-1]}). "
                f"Load it (modprobe {feature}) or use a kernel that has it.{_confined(profiles)}"
            )
    overlay = _overlay(state_dir)
    if overlay:
        found.append(overlay)
    return found


def _confined(profiles: Path) -> str:
    """What AppArmor may have to do with a failed trial; empty where it leaves `unshare` alone."""
    if not profiles.exists() or not re.search(r"^\S*unshare\S* \(enforce\)", profiles.read_text(), re.MULTILINE):
        return ""
    return (
        " Or AppArmor is the reason, which confines the program unshare here "
        "(aa-disable /etc/apparmor.d/unshare-userns-restrict)."
    )


def require_root() -> None:
    """Refuse a caller who may not make namespaces.

    :raises ClusterError: when the process is not root's
    """
    if os.geteuid() != 0:
        raise ClusterError(
            "The embedded cluster needs root for namespaces, cgroups and routes. "
            "Run as root, or set ansible_become: true for this host."
        )


def operating_system_problem(release: Path) -> str | None:
    """Why the system that an os-release file describes can't be served, None when it can."""
    values = {}
    if release.exists():
        for line in release.read_text().splitlines():
            key, _equals, value = line.partition("=")
            values[key] = value.strip("\"'")
    system = values.get("ID", "")
    kin = {system, *values.get("ID_LIKE", "").split()}
    # Debian's testing and unstable have no number: they are newer than each that has one.
    version = tuple(map(int, re.findall(r"\d+", values.get("VERSION_ID", ""))))
    oldest = OLDEST_RELEASES.get(system, ())
    if kin & OLDEST_RELEASES.keys() and (not version or version >= oldest):
        return None
    reason = (
        "is too old for the embedded cluster"
        if kin & OLDEST_RELEASES.keys()
        else "does not have Debian's packages, of which the embedded cluster is made"
    )
    return (
        f"This machine runs {values.get('PRETTY_NAME', 'an unknown system')}, which {reason}. "
        "Use Debian 12 or newer, Ubuntu 24.04 or newer, or an inventory that names a cluster of your own."
    )


def architecture_problem(machine: str) -> str | None:
    """Why a machine of this kind, named as the kernel does, can't be served, None when it can."""
    if machine in ARCHITECTURES:
        return None
    return (
        f"This machine's architecture is {machine}; the embedded cluster's parts are there for amd64 and arm64 only. "
        "Use a machine with amd64 or arm64, or an inventory that names a cluster of your own."
    )


def _memory(meminfo: Path, wanted_mib: int) -> str | None:
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free_mib = int(line.split()[1]) // 1024
            if free_mib < wanted_mib:
                return (
                    f"Only {free_mib} MiB of memory are free; cluster_min_free_memory_mib asks for {wanted_mib}. "
                    "End other programs, take a larger machine, or lower the variable."
                )
    return None


def _disk(state_dir: Path, wanted_mib: int) -> str | None:
    directory = existing_parent(state_dir)
    free_mib = shutil.disk_usage(directory).free // 1024**2
    if free_mib >= wanted_mib:
        return None
    return (
        f"Only {free_mib} MiB are free under {directory}; cluster_min_free_disk_mib asks for {wanted_mib}. "
        "Free some space, or lower the variable."
    )


def controllers_problem(proc_cgroups: Path, root: Path) -> str | None:
    """Why the nodes' pods could not be limited, None when they can.

    ``/proc/cgroups`` tells about the old hierarchies only: a kernel may have a controller in the unified one and not list it.
    """
    if is_cgroup_v1(root):
        lines = [line.split() for line in proc_cgroups.read_text().splitlines()]
        enabled = {fields[0] for fields in lines if fields[3] == "1"}
    else:
        enabled = set((root / "cgroup.controllers").read_text().split())
    missing = [name for name in CONTROLLERS if name not in enabled]
    if not missing:
        return None
    return (
        f"The kernel's cgroup controllers {', '.join(missing)} are not enabled. "
        f"Boot with cgroup_enable={','.join(missing)}."
    )


def inotify_problem(wanted: int) -> str | None:
    """Why the nodes' daemons could not watch files: a user may do so a few times only, and clusters share that number.

    Tried, because the kernel tells the limit, but not how much of it is used.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    opened: list[int] = []
    try:
        while len(opened) < wanted:
            descriptor = libc.inotify_init1(os.O_CLOEXEC)
            if descriptor < 0:
                break
            opened.append(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    if len(opened) == wanted:
        return None
    return (
        f"Only {len(opened)} more inotify instances can be opened, and the nodes to start take up to {wanted}: kube-proxy would "
        "end with 'too many open files'. Allow more (sysctl -w fs.inotify.max_user_instances=1024), or remove another cluster."
    )


def _addresses(cluster: Cluster) -> str | None:
    """Whether anything else on this machine uses addresses of the cluster's block."""
    if shutil.which("ip") is None:
        return None  # the package is about to be installed; without it no cluster of ours runs here
    for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]"):
        destination = str(route.get("dst", "default"))
        if destination == "default" or route.get("dev") == cluster.bridge or route.get("type") == "broadcast":
            continue
        if _occupies(ipaddress.IPv4Network(destination), cluster.block):
            return (
                f"cluster_address_block is {cluster.block}, but this machine already routes {destination} to "
                f"{route.get('dev', 'another device')}. Choose a free /16, such as {_free_block(cluster)}."
            )
    for other in sorted(cluster.state_dir.parent.glob("*/state.json")):
        if other.parent == cluster.state_dir:
            continue
        block = json.loads(other.read_text()).get("block")
        if block and ipaddress.IPv4Network(block).overlaps(cluster.block):
            return (
                f"cluster_address_block is {cluster.block}, which belongs to cluster {other.parent.name}. "
                f"Choose a free /16, such as {_free_block(cluster)}."
            )
    return None


def _forwarding(cluster: Cluster, setting: Path) -> str | None:
    """Whether a firewall drops what one node sends to another. Docker sets it up so where it has loaded br_netfilter."""
    if cluster.node_count == 1 or not setting.exists() or setting.read_text().strip() != "1":
        return None
    if shutil.which("iptables") is None:
        return None
    rules = run(["iptables", "--list-rules"], check=False).stdout
    wanted = f"-i {cluster.bridge} -o {cluster.bridge} -j ACCEPT"
    if "-P FORWARD DROP" not in rules or wanted in rules:
        return None
    return (
        "The nodes could not reach each other: frames between them pass this machine's FORWARD chain "
        "(net.bridge.bridge-nf-call-iptables is 1), whose policy is DROP, as Docker leaves it. Let them pass "
        f"(iptables -I FORWARD {wanted}), or set cluster_node_count to 1."
    )


def _occupies(route: ipaddress.IPv4Network, block: ipaddress.IPv4Network) -> bool:
    """Whether a route says that a block's addresses are in use. A VPN that takes all traffic says it in halves or quarters."""
    return route.prefixlen >= SHORTEST_USED_PREFIX and route.overlaps(block)


def _free_block(cluster: Cluster) -> str:
    taken = []
    for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]"):
        destination = str(route.get("dst", "default"))
        if destination != "default":
            taken.append(ipaddress.IPv4Network(destination))
    candidates = [f"10.{second}" for second in range(200, 255)] + [f"172.{second}" for second in range(20, 32)]
    for candidate in candidates:
        block = ipaddress.IPv4Network(f"{candidate}.0.0/16")
        if block != cluster.block and not any(_occupies(other, block) for other in taken):
            return str(block)
    return "one that `ip route` does not show"


def _overlay(state_dir: Path) -> str | None:
    parent = existing_parent(state_dir)
    try:
        with tempfile.TemporaryDirectory(dir=parent) as trial:
            for name in ("lower", "upper", "work", "merged"):
                Path(trial, name).mkdir()
            options = f"lowerdir={trial}/lower,upperdir={trial}/upper,workdir={trial}/work"
            done = run(
                [
                    *("unshare", "--mount", "--propagation", "private"),
                    *("mount", "-t", "overlay", "-o", options, "overlay", f"{trial}/merged"),
                ],
                check=False,
            )
    except OSError as error:
        return (
            f"Nothing can be written under {parent} ({error.strerror}). Make that possible, or set cluster_state_dir."
        )
    if done.returncode == 0:
        return None
    return (
        f"An overlay file system can't be mounted under {parent} ({done.stderr.strip()}). "
        "Load the kernel module overlay, or put cluster_state_dir on ext4 or xfs."
    )


def existing_parent(path: Path) -> Path:
    """The path itself, or its nearest parent that exists."""
    while not path.exists():
        path = path.parent
    return path


def refuse(found: list[str], *, nothing_changed: bool) -> None:
    """Raise what was found as one error.

    :param nothing_changed: whether the run did nothing yet, and not only to the cluster
    :raises ClusterError: when there is at least one problem
    """
    if found:
        words = (
            "Nothing was changed, as this machine can't hold the cluster: "
            if nothing_changed
            else "The cluster was not touched, as this machine can't hold it: "
        )
        # The first line is what the closing table repeats, so it names the first reason.
        raise ClusterError(words + "\nAlso: ".join(found))
