# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""One node: its namespaces, its network, and the daemons that runit keeps alive in it.

A node is a process tree under an init of its own (``runsvdir``, process 1 of a PID namespace), in a
network, mount, UTS and IPC namespace of its own. Ending the init ends everything in the node, and its mounts and
interfaces go with it: nothing has to be found and cleaned one by one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.appgate.platform.plugins.module_utils.embedded.spec import Cluster, Node
from ansible_collections.appgate.platform.plugins.module_utils.embedded.system import (
    PATH,
    ClusterError,
    delete_link,
    find_process,
    run,
    wait_for,
)

CGROUP_ROOT = Path("/sys/fs/cgroup")
# Bound over the machine's own directories, inside the node only.
BOUND_DIRECTORIES = {"var-lib": "/var/lib", "var-log": "/var/log", "opt": "/opt"}

INIT_SCRIPT = """\
#!/bin/sh
# Makes the node's view of the machine, then becomes its init. Runs in fresh namespaces.
set -eu
node={directory}
hostname {name}
ip link set lo up
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/node /run/binaries /run/lock
mount --bind "$node" /run/node
mount --bind {bin_dir} /run/binaries
mount -t overlay -o "lowerdir=/etc,upperdir=$node/etc,workdir=$node/etc.work" overlay /etc
{binds}
mkdir -p /opt/appgate/bin
mount --bind /run/binaries /opt/appgate/bin
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount --make-rshared /
sysctl -q -w net.ipv4.ip_forward=1
cd /
exec env -i PATH={path} HOME=/root LANG=C.UTF-8 {marker} runsvdir -P /run/node/service
"""

# Files of at most 5 MB, three of them, for each daemon.
LOG_LIMITS = "s5000000\nn3\n"


def marker(node: Node) -> str:
    """The environment variable by which a node's processes are known."""
    return f"APPGATE_NODE={node.name}"


class RunningNode:
    """Acts on one node. Every method may be called again at any time."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self.cluster = cluster
        self.node = node

    @property
    def directory(self) -> Path:
        return self.node.directory

    def pid(self) -> int | None:
        """The init's process id, None when the node is not running."""
        return find_process(marker(self.node))

    # -- files -----------------------------------------------------------------------------------

    def etc(self, path: str) -> Path:
        """Where a file of the node's /etc is, seen from outside the node.

        In a running node that is below the init's root: the node's /etc is an overlay, and what is written
        beneath an overlay stays unseen in it.
        """
        pid = self.pid()
        return (self.directory if pid is None else Path(f"/proc/{pid}/root")) / "etc" / path

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """Write a file of the node's /etc in one step."""
        target = self.etc(path)
        try:
            unchanged = target.read_text() == text
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            write_file(target, text, mode)

    def prepare(self, services: dict[str, str]) -> None:
        """Make the node's directories and its daemons' service directories.

        :param services: daemon name -> shell script that becomes the daemon by ``exec``
        """
        for name in ("etc", "etc.work", "service", "log", *BOUND_DIRECTORIES):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        for name in ("cni/net.d", "containerd", "kubernetes/patches", "kubernetes/manifests"):
            (self.directory / "etc" / name).mkdir(parents=True, exist_ok=True)
        binds = "\n".join(f"mount --bind /run/node/{name} {target}" for name, target in BOUND_DIRECTORIES.items())
        write_file(
            self.directory / "init.sh",
            INIT_SCRIPT.format(
                directory=self.directory,
                name=self.node.name,
                binds=binds,
                bin_dir=self.cluster.bin_dir,
                path=PATH,
                marker=marker(self.node),
            ),
            0o700,
        )
        for name, script in services.items():
            service = self.directory / "service" / name
            log = self.directory / "log" / name
            (service / "log").mkdir(parents=True, exist_ok=True)
            log.mkdir(parents=True, exist_ok=True)
            write_file(log / "config", LOG_LIMITS, 0o600)
            write_file(service / "run", f"#!/bin/sh\nexec 2>&1\n{script}", 0o700)
            write_file(service / "log" / "run", f"#!/bin/sh\nexec svlogd -tt /run/node/log/{name}\n", 0o700)
        for stale in (self.directory / "service").iterdir():
            if stale.name not in services:
                shutil.rmtree(stale)

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Start the node when it is not running; return whether it had to be started."""
        if self.pid() is not None:
            return False
        self.remove_remains()
        self._make_cgroup()
        namespace = self.node.interface
        run(["ip", "netns", "add", namespace])
        self._connect(namespace)
        log = (self.directory / "init.log").open("ab")
        with log:
            # A new session, so that an interrupt of the play does not reach the cluster.
            launched = subprocess.Popen(
                [
                    "nsenter",
                    f"--net=/run/netns/{namespace}",
                    "unshare",
                    *("--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc"),
                    *("--propagation", "private"),
                    str(self.directory / "init.sh"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                close_fds=True,
            )
        wait_for(
            f"the init of node {self.node.name} to start",
            lambda: self.pid() is not None or launched.poll() is not None,
            60,
            interval_seconds=0.02,
            explain=lambda: f"Its log {self.directory / 'init.log'} ends: {last_lines(self.directory / 'init.log')}",
        )
        if launched.poll() is not None:
            raise ClusterError(f"Node {self.node.name} did not start: {last_lines(self.directory / 'init.log')}")
        # The name is no longer needed: from here on the namespace lives exactly as long as the node.
        run(["ip", "netns", "delete", namespace])
        return True

    def stop(self) -> bool:
        """End the node and clear what it leaves; return whether there was anything."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_for(f"node {self.node.name} to end", lambda: self.pid() is None, 120, interval_seconds=0.02)
        return self.remove_remains() or pid is not None

    def remove_remains(self) -> bool:
        """Clear what a node that is not running may have left in the kernel."""
        found = False
        if Path("/run/netns", self.node.interface).exists():
            run(["ip", "netns", "delete", self.node.interface])
            found = True
        found |= delete_link(self.node.interface)
        for directory in self.cgroup_directories():
            if directory.is_dir():
                remove_cgroup(directory)
                found = True
        return found

    def enter(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout_seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the node."""
        pid = self.pid()
        if pid is None:
            raise ClusterError(f"Node {self.node.name} is not running; its log is {self.directory / 'init.log'}.")
        return run(
            ["nsenter", "--target", str(pid), "--mount", "--net", "--pid", "--uts", "--ipc", "--", *argv],
            stdin=stdin,
            check=check,
            timeout_seconds=timeout_seconds,
            env={"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"},
        )

    def daemon_log(self, name: str) -> str:
        """The end of a daemon's log, for an error message."""
        return last_lines(self.directory / "log" / name / "current")

    # -- kernel ----------------------------------------------------------------------------------

    def _connect(self, namespace: str) -> None:
        inside = ["ip", "-n", namespace]
        host_end = self.node.interface
        run(["ip", "link", "add", host_end, "type", "veth", "peer", "name", "eth0", "netns", namespace])
        run(["ip", "link", "set", host_end, "master", self.cluster.bridge, "up"])
        run([*inside, "address", "add", f"{self.node.address}/24", "dev", "eth0"])
        run([*inside, "link", "set", "eth0", "up"])
        run([*inside, "route", "add", "default", "via", self.cluster.host_address])
        for other in self.cluster.nodes:
            if other != self.node:
                run([*inside, "route", "replace", other.pod_range, "via", other.address])

    def cgroup_directories(self) -> list[Path]:
        """The node's cgroup in every hierarchy; one only where the machine has cgroup v2."""
        if is_cgroup_v1():
            return [entry / self.node.cgroup.lstrip("/") for entry in sorted(CGROUP_ROOT.iterdir()) if entry.is_dir()]
        return [CGROUP_ROOT / self.node.cgroup.lstrip("/")]

    def _make_cgroup(self) -> None:
        for directory in self.cgroup_directories():
            directory.mkdir(parents=True, exist_ok=True)
            root = CGROUP_ROOT if not is_cgroup_v1() else directory.parents[2]
            for level in (directory.parents[1], directory.parent, directory):
                if not is_cgroup_v1():
                    controllers = (root / "cgroup.controllers").read_text().split()
                    (level.parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
                elif root.name == "cpuset":
                    # A new cpuset is empty, and a process cannot join an empty one.
                    for name in ("cpuset.cpus", "cpuset.mems"):
                        (level / name).write_text((level.parent / name).read_text())


def is_cgroup_v1(root: Path = CGROUP_ROOT) -> bool:
    """Whether the machine's controllers are in the old hierarchies (hybrid counts as old)."""
    return not (root / "cgroup.controllers").exists()


def remove_cgroup(directory: Path) -> None:
    """Remove a cgroup and those below it, deepest first; all processes in it have ended or are about to."""
    for path, _names, _files in os.walk(directory, topdown=False):

        def removed(path: str = path) -> bool:
            try:
                os.rmdir(path)
            except FileNotFoundError:
                return True
            except OSError:
                return False  # a process is still ending
            return True

        wait_for(f"the processes of cgroup {path} to end", removed, 120, interval_seconds=0.02)


def write_file(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    new.chmod(mode)
    new.replace(path)


def last_lines(path: Path, lines: int = 8) -> str:
    """The end of a log file, or a note that it is not there."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log yet)"
