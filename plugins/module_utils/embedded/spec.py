# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What an embedded cluster is: names, addresses and paths, all derived from a few inputs.

One /16 block holds everything that a cluster addresses:

=====================  ==================  ===========================================
range                  of 10.200.0.0/16    who uses it
=====================  ==================  ===========================================
nodes (/24)            10.200.0.0/24       .1 the host's bridge, .2 on the nodes
load balancers (/24)   10.200.1.0/24       Services of type LoadBalancer
services (/20)         10.200.16.0/20      ClusterIPs; .10 is the cluster's DNS
pods (/17)             10.200.128.0/17     a /24 for each node
=====================  ==================  ===========================================
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path

STATE_DIR = Path("/var/lib/appgate/clusters")
# Why: the name is part of cgroup, host and interface names; kubeadm makes host names of it.
NAME_PATTERN = re.compile(r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$")
# Why: kubeadm refuses any other only after nodes are started.
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DNS_DOMAIN_PATTERN = re.compile(rf"{_DNS_LABEL}([.]{_DNS_LABEL})*")
MAX_DNS_DOMAIN_CHARACTERS = 253
MAX_NODES = 100
API_PORT = 6443
REGISTRY_PORT = 5000
METRICS_SERVER_PORT = 4443
#: The one image that system pods run: a shell, an init, and the binaries mounted from the node.
NODE_IMAGE = "appgate.internal/node:1"


class SpecError(ValueError):
    """An input that no cluster can be made of.

    :param variable: the role's variable that gave it
    :param text: its value and the remedy, to stand after the variable and the place where it was set
    """

    def __init__(self, variable: str, text: str) -> None:
        super().__init__(f"{variable}: {text}.")
        self.variable = variable
        self.text = text


@dataclass(frozen=True)
class Node:
    """A node: ``index`` 0 is the control plane, the rest are workers."""

    cluster: str
    index: int
    block: ipaddress.IPv4Network
    state_dir: Path

    @property
    def name(self) -> str:
        return f"{self.cluster}-control-plane" if self.index == 0 else f"{self.cluster}-worker-{self.index}"

    @property
    def is_control_plane(self) -> bool:
        return self.index == 0

    @property
    def address(self) -> str:
        return str(self.block.network_address + 2 + self.index)

    @property
    def pod_range(self) -> str:
        """The node's share of the pods' range."""
        base = self.block.network_address + (128 + self.index) * 256
        return f"{base}/24"

    @property
    def directory(self) -> Path:
        return self.state_dir / "nodes" / self.name

    @property
    def interface(self) -> str:
        """The host's end of the veth pair: at most 15 bytes, so a hash of the name."""
        return "agv" + hashlib.sha256(self.name.encode()).hexdigest()[:10]

    @property
    def cgroup(self) -> str:
        return f"/appgate/{self.cluster}/{self.name}"


@dataclass(frozen=True)
class Cluster:
    """A cluster, whole: what the module was asked for."""

    name: str
    block: ipaddress.IPv4Network
    node_count: int
    dns_domain: str
    kubernetes_version: str
    state_dir: Path

    @property
    def bridge(self) -> str:
        return "agb" + hashlib.sha256(self.name.encode()).hexdigest()[:10]

    @property
    def host_address(self) -> str:
        return str(self.block.network_address + 1)

    @property
    def node_range(self) -> str:
        return f"{self.block.network_address}/24"

    @property
    def load_balancer_range(self) -> str:
        return f"{self.block.network_address + 256}/24"

    @property
    def service_range(self) -> str:
        return f"{self.block.network_address + 16 * 256}/20"

    @property
    def dns_address(self) -> str:
        return str(self.block.network_address + 16 * 256 + 10)

    @property
    def pod_range(self) -> str:
        return f"{self.block.network_address + 128 * 256}/17"

    def node(self, index: int) -> Node:
        """A node by its number, whether it is wanted or not."""
        return Node(self.name, index, self.block, self.state_dir)

    @property
    def nodes(self) -> list[Node]:
        return [self.node(index) for index in range(self.node_count)]

    @property
    def control_plane(self) -> Node:
        return self.nodes[0]

    @property
    def context(self) -> str:
        return f"appgate-{self.name}"

    @property
    def registry(self) -> str:
        return f"{self.control_plane.address}:{REGISTRY_PORT}"

    @property
    def bin_dir(self) -> Path:
        return self.state_dir / "bin"


def parse(
    name: str,
    address_block: str,
    node_count: int,
    dns_domain: str,
    kubernetes_version: str,
    state_dir: Path = STATE_DIR,
) -> Cluster:
    """Build a :class:`Cluster` from the role's variables.

    :raises SpecError: when a value is no name, no private /16 block, no possible count, or no DNS domain.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise SpecError(
            "cluster_name",
            f"'{name}' must be 1 to 32 lower-case letters, digits and hyphens, with a letter or digit at both ends",
        )
    try:
        block = ipaddress.IPv4Network(address_block)
    except ValueError as error:
        raise SpecError(
            "cluster_address_block",
            f"'{address_block}' is no block of addresses ({error}). Give a private /16, such as 10.200.0.0/16",
        ) from None
    if block.prefixlen != 16 or not block.is_private:
        raise SpecError(
            "cluster_address_block",
            f"'{address_block}' must be a private block of size /16, such as 10.200.0.0/16",
        )
    if not 1 <= node_count <= MAX_NODES:
        raise SpecError("cluster_node_count", f"{node_count} must be a number from 1 to {MAX_NODES}")
    if len(dns_domain) > MAX_DNS_DOMAIN_CHARACTERS or not DNS_DOMAIN_PATTERN.fullmatch(dns_domain):
        raise SpecError(
            "cluster_dns_domain",
            f"'{dns_domain}' must be at most {MAX_DNS_DOMAIN_CHARACTERS} characters: labels with dots in between, each of 1 "
            "to 63 lower-case letters, digits and hyphens with a letter or digit at both ends, such as cluster.local",
        )
    return Cluster(name, block, node_count, dns_domain, kubernetes_version, state_dir / name)


def fingerprint(document: object) -> str:
    """A short, stable hash of plain data, to tell whether what was applied is what is wanted."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
