# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What follows from a cluster's few inputs."""

from __future__ import annotations

import ipaddress
import json

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.embedded import config, spec


def cluster(nodes: int = 3, block: str = "10.200.0.0/16") -> spec.Cluster:
    return spec.parse("local", block, nodes, "cluster.local", "v1.37.2")


def test_ranges_lie_in_the_block_and_apart() -> None:
    made = cluster(spec.MAX_NODES)
    ranges = [
        ipaddress.IPv4Network(text)
        for text in (made.node_range, made.load_balancer_range, made.service_range, made.pod_range)
    ]
    assert all(part.subnet_of(made.block) for part in ranges)
    assert not any(one.overlaps(other) for one in ranges for other in ranges if one is not other)
    pods = [ipaddress.IPv4Network(node.pod_range) for node in made.nodes]
    assert len(set(pods)) == spec.MAX_NODES
    assert all(part.subnet_of(ipaddress.IPv4Network(made.pod_range)) for part in pods)
    assert all(ipaddress.IPv4Address(node.address) in ipaddress.IPv4Network(made.node_range) for node in made.nodes)
    assert ipaddress.IPv4Address(made.dns_address) in ipaddress.IPv4Network(made.service_range)


def test_interface_names_fit_the_kernel_and_differ() -> None:
    names = [node.interface for node in cluster(spec.MAX_NODES).nodes] + [cluster().bridge]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 15


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"name": "Upper"}, "cluster_name: 'Upper'"),
        ({"name": "-a"}, "cluster_name: '-a'"),
        ({"name": "a" * 33}, "1 to 32"),
        ({"name": "local\n"}, "cluster_name: 'local\n'"),
        ({"address_block": "10.200.0.0/24"}, "cluster_address_block: '10.200.0.0/24'"),
        ({"address_block": "10.200.1.0/16"}, "has host bits set"),
        ({"address_block": "8.8.0.0/16"}, "private"),
        ({"address_block": "fd00::/16"}, "cluster_address_block: 'fd00::/16'"),
        ({"node_count": 0}, "cluster_node_count: 0"),
        ({"node_count": -1}, "cluster_node_count: -1"),
        ({"node_count": 101}, "from 1 to 100"),
        ({"dns_domain": "Cluster_Local"}, "cluster_dns_domain: 'Cluster_Local'"),
        ({"dns_domain": ""}, "cluster_dns_domain: ''"),
        ({"dns_domain": "cluster.local."}, "cluster_dns_domain: 'cluster.local.'"),
        ({"dns_domain": "-a.local"}, "cluster_dns_domain: '-a.local'"),
        ({"dns_domain": "a..local"}, "cluster_dns_domain: 'a..local'"),
        ({"dns_domain": "cluster.local\n"}, "cluster_dns_domain: 'cluster.local\n'"),
        ({"dns_domain": f"{'a' * 64}.local"}, "1 to 63"),
        ({"dns_domain": ".".join(["a" * 63] * 4)}, "at most 253"),
    ],
)
def test_impossible_input_is_named(variables: dict[str, object], says: str) -> None:
    usual = {"name": "local", "address_block": "10.200.0.0/16", "node_count": 1, "dns_domain": "cluster.local"}
    wanted: dict[str, object] = {**usual, **variables}
    with pytest.raises(spec.SpecError, match=r"cluster_") as caught:
        spec.parse(**wanted, kubernetes_version="v1.37.2")  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "domain", ["cluster.local", "k8s", "1.2", "a-b.example.org", ".".join(["a" * 63] * 3 + ["a" * 61])]
)
def test_a_domain_that_kubernetes_takes_is_taken(domain: str) -> None:
    assert spec.parse("local", "10.200.0.0/16", 1, domain, "v1.37.2").dns_domain == domain


def test_only_the_control_plane_patches_its_pods() -> None:
    control_plane, worker = cluster().nodes[:2]
    assert "etcd+strategic.json" in config.kubeadm_patches(control_plane)
    assert list(config.kubeadm_patches(worker)) == ["kubeletconfiguration+merge.json"]


def test_each_kubelet_has_a_cgroup_of_its_own() -> None:
    roots = {
        json.loads(config.kubeadm_patches(node)["kubeletconfiguration+merge.json"])["cgroupRoot"]
        for node in cluster().nodes
    }
    assert len(roots) == 3
