# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A cluster from nothing to Ready, and back to nothing."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.appgate.platform.plugins.module_utils.embedded import config, services
from ansible_collections.appgate.platform.plugins.module_utils.embedded.node import (
    RunningNode,
    is_cgroup_v1,
    write_file,
)
from ansible_collections.appgate.platform.plugins.module_utils.embedded.spec import (
    API_PORT,
    NODE_IMAGE,
    Cluster,
    SpecError,
    fingerprint,
)
from ansible_collections.appgate.platform.plugins.module_utils.embedded.system import (
    ClusterError,
    delete_link,
    run,
    wait_for,
)

RENEWED = "start the nodes again with other binaries or another image"
# What it learns of the API it would leave in the home of whoever runs this.
KUBECTL = [f"{config.BIN_DIR}/kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--cache-dir=/run/kubectl"]
CTR = [f"{config.BIN_DIR}/ctr", "--address", config.CONTAINERD_SOCKET, "--namespace", "k8s.io"]


@dataclass
class Outcome:
    """What a run did: the steps, in order, and the time each took in seconds."""

    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.steps)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.steps.append({"step": name, "seconds": round(time.monotonic() - started, 2)})


class EmbeddedCluster:
    """Brings one cluster to the wanted state.

    :param parts_fingerprint: a text that changes with any of the binaries and with the node image
    :param addons_fingerprint: a text that changes with what is in ``addons`` besides the parts' manifests
    :param binaries: every binary that goes into the nodes, by name
    :param node_image: an image archive that holds the node image; another one has another file name
    :param addons: the objects to apply, a YAML stream
    :param kubeconfig: where a person's kubeconfig goes
    :param owner: user and group id that the kubeconfig is given to
    :param drain_timeout_seconds: how long the pods of a node that is taken away may need to leave it
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        parts_fingerprint: str,
        addons_fingerprint: str,
        binaries: dict[str, Path],
        node_image: Path,
        addons: str,
        kubeconfig: Path,
        owner: tuple[int, int],
        drain_timeout_seconds: int,
    ) -> None:
        self.cluster = cluster
        self.parts_fingerprint = parts_fingerprint
        self.addons_fingerprint = fingerprint([addons_fingerprint, parts_fingerprint])
        self.binaries = binaries
        self.node_image = node_image
        self.addons = addons
        self.kubeconfig = kubeconfig
        self.owner = owner
        self.drain_timeout_seconds = drain_timeout_seconds
        self.nodes = [RunningNode(cluster, node) for node in cluster.nodes]
        self.control_plane = self.nodes[0]
        self.outcome = Outcome()

    # -- state -----------------------------------------------------------------------------------

    @property
    def _state_file(self) -> Path:
        return self.cluster.state_dir / "state.json"

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return state

    def _remember(self, **values: object) -> None:
        write_file(self._state_file, json.dumps({**self._state(), **values}, indent=1) + "\n", 0o600)

    def _identity(self) -> str:
        """What can't be changed in a running cluster."""
        return fingerprint([str(self.cluster.block), self.cluster.dns_domain, self.cluster.kubernetes_version])

    def pending(self) -> list[str]:
        """What :meth:`present` would do, as a list of sentences; empty when there is nothing."""
        state = self._state()
        if not state.get("initialised"):
            return [f"create cluster {self.cluster.name} with {len(self.nodes)} node(s)"]
        todo = []
        if state["identity"] != self._identity():
            raise ClusterError(
                f"Cluster {self.cluster.name} was made as {state['summary']}; cluster_address_block, "
                "cluster_dns_domain and the Kubernetes version of a living cluster can't be changed. "
                "Remove it first with cluster_state: absent."
            )
        if state.get("parts") != self.parts_fingerprint:
            todo.append(RENEWED)
        for node in self.nodes:
            if node.pid() is None:
                todo.append(f"start node {node.node.name}")
            elif node.node.name not in state["joined"]:
                todo.append(f"join node {node.node.name}")
        todo += [f"remove node {name}" for name in self._surplus(state)]
        if not self._routes_present():
            todo.append("restore the routes to the cluster")
        if not todo and not self._api_ready():
            todo.append("wait for the API server")
        if state.get("addons") != self.addons_fingerprint:
            todo.append("apply the add-ons")
        if self._kubeconfig_text() != read_text(self.kubeconfig):
            todo.append(f"write {self.kubeconfig}")
        return todo

    def refuse_foreign_kubeconfig(self) -> None:
        """Raise :class:`SpecError` where the kubeconfig is somebody else's: writing it would lose what is in it."""
        if self.kubeconfig.exists() and not self._owns_kubeconfig():
            raise SpecError(
                "cluster_kubeconfig",
                f"{self.kubeconfig} holds something else than the context {self.cluster.context} of this cluster and would be "
                "overwritten; name a file of its own, or move that one away",
            )

    def _surplus(self, state: dict[str, Any]) -> list[str]:
        """The nodes that are not wanted: those that have joined, and those that an interrupted run began with."""
        wanted = {node.node.name for node in self.nodes}
        directory = self.cluster.state_dir / "nodes"
        begun = [path.name for path in directory.iterdir()] if directory.is_dir() else []
        return sorted({*state.get("joined", []), *begun} - wanted)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One run at a time works on a cluster; a second one waits."""
        self.cluster.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.cluster.state_dir / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def facts(self) -> dict[str, Any]:
        """What a play may want to know of the cluster."""
        return {
            "name": self.cluster.name,
            "context": self.cluster.context,
            "kubeconfig": str(self.kubeconfig),
            "registry": self.cluster.registry,
            "nodes": [{"name": node.node.name, "address": node.node.address, "pid": node.pid()} for node in self.nodes],
            "load_balancer_range": self.cluster.load_balancer_range,
            "service_range": self.cluster.service_range,
        }

    # -- present ---------------------------------------------------------------------------------

    def present(self) -> None:
        with self._lock():
            todo = self.pending()
            if not todo:
                return
            state = self._state()
            if not state.get("initialised") and self._has_remains():
                with self.outcome.step("clear what an interrupted run left"):
                    self._clear()
            if state.get("initialised") and state.get("parts") != self.parts_fingerprint:
                with self.outcome.step("stop the nodes that run other binaries or another image"):
                    for node in self.nodes:
                        node.stop()
            with self.outcome.step("link the binaries"):
                self._link_binaries()
            with self.outcome.step("start the nodes"):
                self._connect_host()
                for node in self.nodes:
                    self._prepare(node)
                    node.start()
                self._route_pods()
            with self.outcome.step("import the node image"):
                outdated = [node for node in self.nodes if self._import_image(node)]
            if outdated:
                with self.outcome.step("start the nodes again with the new image"):
                    for node in outdated:
                        node.stop()
                        node.start()
                    self._route_pods()
            if not self._state().get("initialised"):
                with self.outcome.step("initialise the control plane"):
                    self._init()
            self._remember(parts=self.parts_fingerprint)
            self._wait_for_api()
            with self.outcome.step("join the workers"):
                for node in self.nodes[1:]:
                    if node.node.name not in self._state()["joined"]:
                        self._join(node)
                for name in self._surplus(self._state()):
                    self._remove_node(name)
            if self._state().get("addons") != self.addons_fingerprint:
                with self.outcome.step("apply the add-ons"):
                    self._apply_addons()
            with self.outcome.step("wait for nodes and DNS"):
                self._wait_ready()
            self._write_kubeconfig()

    def _link_binaries(self) -> None:
        """Give the nodes their own links to the binaries: the cache may go, the cluster stays."""
        directory = self.cluster.bin_dir
        directory.mkdir(parents=True, exist_ok=True)
        for name, source in self.binaries.items():
            target = directory / name
            if (
                target.exists()
                and target.stat().st_size == source.stat().st_size
                and (target.stat().st_ino == source.stat().st_ino or target.stat().st_mtime >= source.stat().st_mtime)
            ):
                continue
            new = directory / f".{name}.new"
            new.unlink(missing_ok=True)
            try:
                os.link(source, new)
            except OSError:  # another file system
                shutil.copy2(source, new)
            new.replace(target)

    def _connect_host(self) -> None:
        bridge = self.cluster.bridge
        if not Path("/sys/class/net", bridge).exists():
            run(["ip", "link", "add", bridge, "type", "bridge"])
        run(["ip", "address", "replace", f"{self.cluster.host_address}/24", "dev", bridge])
        run(["ip", "link", "set", bridge, "up"])
        gateway = self.cluster.control_plane.address
        for network in (self.cluster.service_range, self.cluster.load_balancer_range):
            run(["ip", "route", "replace", network, "via", gateway, "dev", bridge])

    def _route_pods(self) -> None:
        for node in self.cluster.nodes:
            run(["ip", "route", "replace", node.pod_range, "via", node.address, "dev", self.cluster.bridge])
        for running in self.nodes:
            for other in self.cluster.nodes:
                if other != running.node:
                    running.enter(["ip", "route", "replace", other.pod_range, "via", other.address])

    def _routes_present(self) -> bool:
        """Whether the host still has its end of the cluster's network."""
        lines = read_text(Path("/proc/net/route")) or ""
        wanted = {self.cluster.service_range, self.cluster.load_balancer_range}
        wanted |= {node.pod_range for node in self.cluster.nodes}
        found = set()
        for line in lines.splitlines()[1:]:
            fields = line.split()
            if fields[0] == self.cluster.bridge:
                address = socket.inet_ntoa(struct.pack("<L", int(fields[1], 16)))
                found.add(f"{address}/{bin(int(fields[7], 16)).count('1')}")
        return wanted <= found

    def _prepare(self, node: RunningNode) -> None:
        node.prepare(services.services(self.cluster, node.node))
        node.write("containerd/config.toml", config.containerd())
        node.write(f"containerd/certs.d/{self.cluster.registry}/hosts.toml", config.registry_hosts(self.cluster))
        node.write("cni/net.d/10-pods.conflist", json.dumps(config.cni(node.node, self.cluster)))
        node.write("kubernetes/kube-proxy.json", json.dumps(config.kube_proxy(self.cluster, node.node)))
        node.write("kubernetes/resolv.conf", self._resolv_conf(), 0o644)
        for name, text in config.kubeadm_patches(node.node).items():
            node.write(f"kubernetes/patches/{name}", text)
        if node.node.is_control_plane:
            node.write("kubernetes/registry.json", json.dumps(config.registry(self.cluster)))
            node.write("kubernetes/storage.json", json.dumps(services.storage_config()))
            node.write("kubernetes/storage-helper.json", json.dumps(services.storage_helper()))

    def _resolv_conf(self) -> str:
        """The machine's name servers, without those that only the machine itself can ask."""
        kept = []
        for line in (read_text(Path("/etc/resolv.conf")) or "").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver" and not words[1].startswith("127.") and words[1] != "::1":
                kept.append(f"nameserver {words[1]}")
        # CoreDNS does not start without one; nobody answers there, and names outside are not found.
        return "\n".join(kept or [f"nameserver {self.cluster.host_address}"]) + "\n"

    def _wait_for_containerd(self, node: RunningNode) -> None:
        wait_for(
            f"containerd of node {node.node.name}",
            lambda: node.enter([*CTR, "version"], check=False).returncode == 0,
            60,
            explain=lambda: f"Its log ends:\n{node.daemon_log('containerd')}",
        )

    def _import_image(self, node: RunningNode) -> bool:
        """Have the node hold the wanted image; return whether it held another one, of which it may have started pods."""
        self._wait_for_containerd(node)
        # The image's name is in what kubeadm wrote and stays; which one it is, is in the archive's name.
        note = node.directory / "node-image"
        held = NODE_IMAGE in node.enter([*CTR, "images", "list", "--quiet"]).stdout.split()
        if held and read_text(note) == self.node_image.name:
            return False
        archive = node.directory / "opt" / "node-image.tar"
        shutil.copyfile(self.node_image, archive)
        node.enter([*CTR, "images", "import", "/opt/node-image.tar"])
        archive.unlink()
        write_file(note, self.node_image.name, 0o600)
        return held

    def _init(self) -> None:
        token = f"{secrets.token_hex(3)}.{secrets.token_hex(8)}"
        node = self.control_plane
        text = config.kubeadm_init(self.cluster, node.node, token=token, cgroup_v1=is_cgroup_v1())
        node.write("kubernetes/kubeadm.yaml", text)
        self._kubeadm(node, "init")
        self._give_kube_proxy_its_kubeconfig(node)
        self._remember(
            initialised=True,
            identity=self._identity(),
            summary=f"{self.cluster.kubernetes_version} in {self.cluster.block}",
            block=str(self.cluster.block),
            parts=self.parts_fingerprint,
            token=token,
            joined=[node.node.name],
        )

    def _kubeadm(self, node: RunningNode, command: str) -> None:
        """Run kubeadm; when it fails, say what the daemons said."""
        try:
            node.enter(
                [f"{config.BIN_DIR}/kubeadm", command, "--config", "/etc/kubernetes/kubeadm.yaml"],
                timeout_seconds=300,
            )
        except ClusterError as error:
            raise ClusterError(
                f"{error}\nThe kubelet's log ({node.directory}/log/kubelet/current) ends:\n{node.daemon_log('kubelet')}"
            ) from None

    def _join(self, node: RunningNode) -> None:
        # What an interrupted join left would make kubeadm refuse the second one: files, and a node that has got in by itself.
        leftovers = [f"kubernetes/{name}" for name in ("kubelet.conf", "bootstrap-kubelet.conf", "pki/ca.crt")]
        if any(node.etc(name).exists() for name in leftovers):
            node.stop()
            for name in leftovers:
                node.etc(name).unlink(missing_ok=True)
            self.control_plane.enter([*KUBECTL, "delete", "node", node.node.name, "--ignore-not-found"])
            node.start()
            self._route_pods()
            self._wait_for_containerd(node)
        certificate = self.control_plane.etc("kubernetes/pki/ca.crt")
        text = config.kubeadm_join(
            self.cluster, node.node, token=self._state()["token"], ca_hash=public_key_hash(certificate)
        )
        node.write("kubernetes/kubeadm.yaml", text)
        self._kubeadm(node, "join")
        self._give_kube_proxy_its_kubeconfig(node)
        self._remember(joined=[*self._state()["joined"], node.node.name])

    def _give_kube_proxy_its_kubeconfig(self, node: RunningNode) -> None:
        made = self.control_plane.enter(
            [
                f"{config.BIN_DIR}/kubeadm",
                *("kubeconfig", "user", "--client-name", "system:kube-proxy"),
                *("--config", "/etc/kubernetes/kubeadm.yaml", "--validity-period", "87600h"),
            ]
        )
        node.write("kubernetes/kube-proxy.conf", made.stdout)

    def _remove_node(self, name: str) -> None:
        index = int(name.rsplit("-", 1)[1])
        running = RunningNode(self.cluster, self.cluster.node(index))
        # The pods of one that is not ready are lost already: nobody would confirm that they have left.
        if name in self._ready_nodes():
            self._drain(name)
        self.control_plane.enter([*KUBECTL, "delete", "node", name, "--ignore-not-found"])
        running.stop()
        shutil.rmtree(running.directory, ignore_errors=True)
        run(["ip", "route", "delete", running.node.pod_range], check=False)
        self._remember(joined=[other for other in self._state()["joined"] if other != name])

    def _drain(self, name: str) -> None:
        """Have the pods end in their time and start elsewhere, as far as disruption budgets let them."""
        drain = [*KUBECTL, "drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--force"]
        try:
            self.control_plane.enter(
                [*drain, f"--timeout={self.drain_timeout_seconds}s"], timeout_seconds=self.drain_timeout_seconds + 30
            )
        except BaseException as error:
            # Also when a person stops the run, who may want to keep the node after all.
            self.control_plane.enter([*KUBECTL, "uncordon", name])
            if not isinstance(error, ClusterError):
                raise
            raise ClusterError(
                f"Node {name} is not taken away, because pods have not left it within cluster_drain_timeout_seconds "
                f"({self.drain_timeout_seconds}): {error}\nGive them another place (a PodDisruptionBudget may ask for more "
                "pods than can run without the node) or more time, and run again."
            ) from None

    def _apply_addons(self) -> None:
        """Apply the add-ons; the definitions first, as the rest may need them."""
        documents = [document for document in yaml.safe_load_all(self.addons) if document]
        first = [document for document in documents if document["kind"] in ("CustomResourceDefinition", "Namespace")]
        rest = [document for document in documents if document not in first]
        apply = [*KUBECTL, "apply", "--server-side", "--force-conflicts", "--field-manager=appgate", "-f", "-"]
        self.control_plane.enter(apply, stdin=config.to_stream(first))
        if any(document["kind"] == "CustomResourceDefinition" for document in first):
            names = [
                f"crd/{document['metadata']['name']}"
                for document in first
                if document["kind"] == "CustomResourceDefinition"
            ]
            self.control_plane.enter([*KUBECTL, "wait", "--for=condition=Established", "--timeout=60s", *names])
        self.control_plane.enter(apply, stdin=config.to_stream(rest))
        self._remember(addons=self.addons_fingerprint)

    # -- conditions ------------------------------------------------------------------------------

    def _api_ready(self) -> bool:
        """Whether the API server says that it is ready, asked as any client would, by TLS."""
        certificate = self.control_plane.etc("kubernetes/pki/ca.crt")
        address = self.cluster.control_plane.address
        try:
            context = ssl.create_default_context(cafile=str(certificate))
            with socket.create_connection((address, API_PORT), timeout=2) as plain:
                plain.settimeout(5)
                with context.wrap_socket(plain, server_hostname=address) as connection:
                    connection.sendall(f"GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
                    return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def _wait_for_api(self) -> None:
        if not self._api_ready():
            with self.outcome.step("wait for the API server"):
                wait_for(
                    f"the API server https://{self.cluster.control_plane.address}:{API_PORT} to be ready",
                    self._api_ready,
                    180,
                    explain=lambda: f"The kubelet's log ends:\n{self.control_plane.daemon_log('kubelet')}",
                )

    def _ready_nodes(self) -> set[str]:
        listed = self.control_plane.enter([*KUBECTL, "get", "nodes", "--output=json"])
        return {
            item["metadata"]["name"]
            for item in json.loads(listed.stdout)["items"]
            for condition in item["status"].get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        }

    def _nodes_not_ready(self) -> list[str]:
        try:
            ready = self._ready_nodes()
        except ClusterError as error:
            return [str(error)]
        return [node.node.name for node in self.nodes if node.node.name not in ready]

    def _wait_ready(self) -> None:
        wait_for(
            f"the nodes of cluster {self.cluster.name} to be Ready",
            lambda: not self._nodes_not_ready(),
            180,
            interval_seconds=0.3,
            explain=lambda: f"Not ready: {', '.join(self._nodes_not_ready())}.",
        )
        wait_for(
            f"the DNS of cluster {self.cluster.name} to answer",
            lambda: dns_answers(self.cluster.dns_address, f"kubernetes.default.svc.{self.cluster.dns_domain}"),
            120,
            explain=lambda: (
                self.control_plane.enter(
                    [*KUBECTL, "--namespace=kube-system", "get", "pods", "--output=wide"], check=False
                ).stdout
            ),
        )

    # -- kubeconfig ------------------------------------------------------------------------------

    def _kubeconfig_text(self) -> str | None:
        text = read_text(self.control_plane.etc("kubernetes/admin.conf"))
        if text is None:
            return None
        admin = yaml.safe_load(text)
        name = self.cluster.context
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": name, "cluster": admin["clusters"][0]["cluster"]}],
                "users": [{"name": name, "user": admin["users"][0]["user"]}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
                "current-context": name,
            },
            sort_keys=False,
        )

    def _owns_kubeconfig(self) -> bool:
        """Whether the file holds this cluster's context and no other."""
        try:
            found = yaml.safe_load(read_text(self.kubeconfig) or "")
            return [item["name"] for item in found["contexts"]] == [self.cluster.context]
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
            return False

    def _write_kubeconfig(self) -> None:
        text = self._kubeconfig_text()
        if text is None or text == read_text(self.kubeconfig):
            return
        with self.outcome.step(f"write {self.kubeconfig}"):
            made = not self.kubeconfig.parent.exists()
            write_file(self.kubeconfig, text, 0o600)
            os.chown(self.kubeconfig, *self.owner)
            if made:
                os.chown(self.kubeconfig.parent, *self.owner)
                self._remember(made_directory=str(self.kubeconfig.parent))

    # -- absent ----------------------------------------------------------------------------------

    def _all_nodes(self) -> list[RunningNode]:
        """The wanted nodes, and those that an earlier run made."""
        nodes = {node.node.name: node for node in self.nodes}
        known = self.cluster.state_dir / "nodes"
        count = len(list(known.iterdir())) if known.is_dir() else 0
        for index in range(count):
            node = self.cluster.node(index)
            nodes.setdefault(node.name, RunningNode(self.cluster, node))
        return list(nodes.values())

    def _has_remains(self) -> bool:
        return (
            self.cluster.state_dir.joinpath("nodes").exists()
            or Path("/sys/class/net", self.cluster.bridge).exists()
            or any(node.pid() is not None for node in self._all_nodes())
            or any(path.exists() for node in self._all_nodes() for path in node.cgroup_directories())
        )

    def remains(self) -> bool:
        """Whether :meth:`absent` has anything to do."""
        return self._has_remains() or self._state_file.exists() or self._owns_kubeconfig()

    def _clear(self) -> None:
        for node in self._all_nodes():
            node.stop()
        for directory in {path.parent for node in self.nodes for path in node.cgroup_directories()}:
            for level in (directory, directory.parent):
                if level.is_dir() and not any(entry.is_dir() for entry in level.iterdir()):
                    level.rmdir()
        delete_link(self.cluster.bridge)
        for name in ("nodes", "bin"):
            directory = self.cluster.state_dir / name
            if directory.exists():
                shutil.rmtree(directory)

    def absent(self) -> None:
        if not self.remains():
            return
        with self._lock(), self.outcome.step(f"remove cluster {self.cluster.name}"):
            made_directory = self._state().get("made_directory")
            self._state_file.unlink(missing_ok=True)
            self._clear()
            if self._owns_kubeconfig():
                self.kubeconfig.unlink()
            if made_directory:
                with contextlib.suppress(OSError):  # a person has put something there since, or removed it
                    Path(made_directory).rmdir()
            shutil.rmtree(self.cluster.state_dir)
        leave_no_directory(self.cluster.state_dir)


def leave_no_directory(state_dir: Path) -> None:
    """Remove the empty directories that the role has made above a cluster's; a person's own directory stays."""
    for directory, name in zip(state_dir.parents, ("clusters", "appgate"), strict=False):
        if directory.name == name:
            with contextlib.suppress(OSError):  # it holds other clusters
                directory.rmdir()


def read_text(path: Path) -> str | None:
    """A file's text, None when there is no such file."""
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


def public_key_hash(certificate: Path) -> str:
    """The hash by which a joining node recognises the cluster's authority (kubeadm's format)."""
    public_key = run(["openssl", "x509", "-in", str(certificate), "-noout", "-pubkey"]).stdout
    binary = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "der"],
        input=public_key.encode(),
        capture_output=True,
        check=True,
    ).stdout
    return "sha256:" + hashlib.sha256(binary).hexdigest()


def dns_answers(server: str, name: str, timeout_seconds: float = 1) -> bool:
    """Whether a DNS server gives an address for ``name``."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    query = struct.pack(">HHHHHH", 0x4147, 0x0100, 1, 0, 0, 0) + question + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_seconds)
        try:
            client.sendto(query, (server, 53))
            reply = client.recv(512)
        except OSError:
            return False
    code = reply[3] & 0x0F
    answers = int(struct.unpack(">H", reply[6:8])[0])
    return code == 0 and answers > 0
