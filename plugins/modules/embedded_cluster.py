#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: embedded_cluster
short_description: Runs an upstream Kubernetes cluster inside this machine
version_added: "0.1.0"
description:
  - Brings a cluster of one or more nodes to Ready by kubeadm, each node in namespaces of its own, or removes it without a trace.
  - Several clusters run side by side, told apart by O(name), each with an O(address_block) of its own.
  - An interrupted run is repaired by running again. A node that was killed is started again with what it held.
author:
  - The Appgate platform authors
options:
  name:
    description: The cluster's name.
    type: str
    required: true
  state:
    description:
      - V(planned) changes nothing, checks the machine when it is to run one more node, and returns what V(present) would do.
        Features of the kernel are tried where the programs for it are installed.
      - V(checked) does the same once more, after packages were installed, and says so when it refuses the machine.
      - V(present) makes the cluster, or repairs it.
      - V(absent) removes it.
    type: str
    choices: [planned, checked, present, absent]
    default: present
  address_block:
    description: The private /16 block that the cluster's nodes, pods, services and load balancers share.
    type: str
    required: true
  node_count:
    description: How many nodes, the control plane included.
    type: int
    default: 1
  dns_domain:
    description: The cluster's DNS domain.
    type: str
    default: cluster.local
  kubernetes_version:
    description: The version of the Kubernetes binaries, such as V(v1.37.2).
    type: str
    required: true
  parts_fingerprint:
    description: A text that changes when any binary or the image changes; the nodes are then started again with the new ones.
    type: str
    required: true
  addons_fingerprint:
    description:
      - A text that changes when O(addons) would. They are then applied again, and when O(parts_fingerprint) changes.
    type: str
    required: true
  binary_dirs:
    description: The directories with the binaries that the nodes run.
    type: list
    elements: path
    default: []
  node_image:
    description: An OCI archive with the image of the system pods. Another image has another file name.
    type: path
  addons:
    description: The objects to apply in the new cluster, as a YAML stream.
    type: str
    default: ""
  state_dir:
    description: The directory that holds the clusters.
    type: path
    default: /var/lib/appgate/clusters
  kubeconfig:
    description: Where to write the kubeconfig. It goes to the user who called sudo, if any.
    type: path
    required: true
  min_free_memory_mib:
    description: How much memory must be free before a node is made, in MiB.
    type: int
    default: 1500
  min_free_disk_mib:
    description: How much disk must be free under O(state_dir) before a node is made, in MiB.
    type: int
    default: 3000
  drain_timeout_seconds:
    description: How long the pods of a node that is taken away may need to leave it. The node stays when they have not.
    type: int
    default: 90
attributes:
  check_mode:
    support: full
    description: Says what would be done.
"""

EXAMPLES = r"""
- name: See what is to be done
  appgate.platform.embedded_cluster:
    name: local
    state: planned
    address_block: 10.200.0.0/16
    kubernetes_version: v1.37.2
    parts_fingerprint: "1"
    kubeconfig: ~/.kube/appgate-local.yaml
"""

RETURN = r"""
pending:
  description: What was to be done, a sentence each.
  type: list
  elements: str
  returned: always
steps:
  description: What was done, with the seconds that it took.
  type: list
  elements: dict
  returned: always
cluster:
  description:
    - The cluster's name, context, kubeconfig, registry, address ranges and nodes.
    - A node's C(pid) is its init; C(nsenter -a -t PID) opens a shell in the node. It is null while the node is not running.
  type: dict
  returned: always
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.appgate.platform.plugins.module_utils.embedded import preflight, spec
from ansible_collections.appgate.platform.plugins.module_utils.embedded.cluster import EmbeddedCluster
from ansible_collections.appgate.platform.plugins.module_utils.embedded.system import ClusterError
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import explain_full_disk

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["planned", "checked", "present", "absent"], "default": "present"},
    "address_block": {"type": "str", "required": True},
    "node_count": {"type": "int", "default": 1},
    "dns_domain": {"type": "str", "default": "cluster.local"},
    "kubernetes_version": {"type": "str", "required": True},
    "parts_fingerprint": {"type": "str", "required": True},
    "addons_fingerprint": {"type": "str", "required": True},
    "binary_dirs": {"type": "list", "elements": "path", "default": []},
    "node_image": {"type": "path"},
    "addons": {"type": "str", "default": ""},
    "state_dir": {"type": "path", "default": "/var/lib/appgate/clusters"},
    "kubeconfig": {"type": "path", "required": True},
    "min_free_memory_mib": {"type": "int", "default": 1500},
    "min_free_disk_mib": {"type": "int", "default": 3000},
    "drain_timeout_seconds": {"type": "int", "default": 90},
}


def caller() -> tuple[int, int]:
    """The user and group that asked: those behind sudo, where it was used."""
    return (
        int(os.environ.get("SUDO_UID", os.getuid())),
        int(os.environ.get("SUDO_GID", os.getgid())),
    )


def specified(params: dict[str, Any]) -> spec.Cluster:
    """The cluster that the parameters describe.

    :raises SpecError: when there can't be such a one
    """
    if params["drain_timeout_seconds"] < 1:
        raise spec.SpecError(
            "cluster_drain_timeout_seconds", f"{params['drain_timeout_seconds']} must be 1 second or more"
        )
    return spec.parse(
        params["name"],
        params["address_block"],
        params["node_count"],
        params["dns_domain"],
        params["kubernetes_version"],
        Path(params["state_dir"]),
    )


def act(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Do what the parameters say; return the module's result."""
    wanted = specified(params)
    cluster = EmbeddedCluster(
        wanted,
        parts_fingerprint=params["parts_fingerprint"],
        addons_fingerprint=params["addons_fingerprint"],
        binaries={path.name: path for directory in params["binary_dirs"] for path in Path(directory).iterdir()},
        node_image=Path(params["node_image"] or "/nonexistent"),
        addons=params["addons"],
        kubeconfig=Path(params["kubeconfig"]),
        owner=caller(),
        drain_timeout_seconds=params["drain_timeout_seconds"],
    )
    preflight.require_root()
    result: dict[str, Any] = {}
    if params["state"] == "absent":
        result["changed"] = cluster.remains()
        result["pending"] = [f"remove cluster {wanted.name}"] if result["changed"] else []
        if not check_mode:
            cluster.absent()
    else:
        cluster.refuse_foreign_kubeconfig()
        result["pending"] = cluster.pending()
        if any(sentence.startswith(("create", "start node", "join")) for sentence in result["pending"]):
            found = preflight.problems(
                wanted,
                new_nodes=sum(node.pid() is None for node in cluster.nodes),
                min_free_memory_mib=params["min_free_memory_mib"],
                min_free_disk_mib=params["min_free_disk_mib"],
            )
            found += preflight.kernel_problems(wanted.state_dir)
            # Only the plan comes before packages and parts, which are not of this module's doing.
            preflight.refuse(found, nothing_changed=params["state"] == "planned")
        result["changed"] = bool(result["pending"]) and params["state"] == "present"
        if result["changed"] and not check_mode:
            cluster.present()
    result["steps"] = cluster.outcome.steps
    result["cluster"] = cluster.facts()
    return result


def perform(given: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Do what the options say; the module's result, a failure with `failed` and `msg`, and with `variable` and `text` if one is wrong."""
    try:
        return act(given, check_mode=check_mode)
    except spec.SpecError as error:
        return {"failed": True, "msg": str(error), "variable": error.variable, "text": error.text}
    except ClusterError as error:
        return {"failed": True, "msg": str(error)}
    except OSError as error:
        full = explain_full_disk(error, given["state_dir"], "cluster_state_dir")
        if full is None:
            raise
        return {"failed": True, "msg": full}


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    answer = perform(module.params, check_mode=module.check_mode)
    if answer.pop("failed", False):
        module.fail_json(**answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
