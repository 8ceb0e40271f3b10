# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What follows from a cluster's few inputs."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import resource
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.embedded import config, preflight, spec


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
        ({"name": "Upper"}, "cluster_name is 'Upper'"),
        ({"name": "-a"}, "cluster_name is '-a'"),
        ({"name": "a" * 33}, "1 to 32"),
        ({"address_block": "10.200.0.0/24"}, "cluster_address_block is '10.200.0.0/24'"),
        ({"address_block": "10.200.1.0/16"}, "has host bits set"),
        ({"address_block": "8.8.0.0/16"}, "private"),
        ({"address_block": "fd00::/16"}, "cluster_address_block is 'fd00::/16'"),
        ({"node_count": 0}, "cluster_node_count is 0"),
        ({"node_count": -1}, "cluster_node_count is -1"),
        ({"node_count": 101}, "from 1 to 100"),
    ],
)
def test_impossible_input_is_named(variables: dict[str, object], says: str) -> None:
    wanted: dict[str, object] = {"name": "local", "address_block": "10.200.0.0/16", "node_count": 1, **variables}
    with pytest.raises(spec.SpecError, match=r"cluster_") as caught:
        spec.parse(**wanted, dns_domain="cluster.local", kubernetes_version="v1.37.2")  # type: ignore[arg-type]
    assert says in str(caught.value)


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


def test_too_little_memory_is_refused_with_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 2000000 kB\nMemAvailable: 512000 kB\n")
    (tmp_path / "cgroups").write_text(
        "#subsys hierarchy num enabled\ncpu 1 1 1\ncpuset 1 1 1\nmemory 1 1 0\npids 1 1 1\n"
    )
    found = preflight.problems(cluster(), min_free_memory_mib=1500, min_free_disk_mib=1, proc=tmp_path)
    assert any("Only 500 MiB of memory are free; cluster_min_free_memory_mib asks for 1500" in text for text in found)
    assert any("cgroup controllers memory are not enabled" in text for text in found)


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
    assert re.match(rf"Only \d+ more inotify instances can be opened, and the cluster takes up to {few}:", problem)
    assert preflight.inotify_problem(1) is None


@pytest.mark.parametrize(
    ("release", "refused"),
    [
        ('ID=debian\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n', False),
        ("ID=linuxmint\nID_LIKE=ubuntu\n", False),
        ('ID=fedora\nPRETTY_NAME="Fedora Linux 44"\n', True),
        ("", True),
    ],
)
def test_only_debian_and_its_kin_are_served(release: str, refused: bool, tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text(release)
    problem = preflight.operating_system_problem(tmp_path / "os-release")
    assert bool(problem) == refused
    if "Fedora" in release:
        assert problem
        assert "This machine runs Fedora Linux 44" in problem
        assert "Use Debian or Ubuntu" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="trying a kernel feature needs root")
def test_a_missing_kernel_feature_is_named_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(preflight.NETWORK_TRIALS, "flux_capacitor", "ip link add trial3 type flux_capacitor")
    found = [text for text in preflight.kernel_problems(tmp_path) if "kernel does not offer" in text]
    assert len(found) == 1
    assert "flux_capacitor" in found[0]
    assert "modprobe flux_capacitor" in found[0]
