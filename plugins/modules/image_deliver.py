#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: image_deliver
short_description: Bring a built image to where a cluster takes it from
description:
  - Pushes to a registry, loads into containerd, or loads into a kind cluster. Does nothing when the image is there.
  - Credentials never appear on a command line.
version_added: 0.1.0
author: The Appgate platform authors
extends_documentation_fragment:
  - appgate.platform.registry
options:
  name:
    description: Name of the image, without registry and tag.
    type: str
    required: true
  tag:
    description: Tag of the image.
    type: str
    required: true
  artifact:
    description: The directory that M(appgate.platform.image_build) returned.
    type: path
    required: true
  kind:
    description: Where to.
    type: str
    choices: [registry, containerd, kind, none]
    required: true
  registry_pull:
    description: The same as the cluster's nodes name it.
    type: str
    default: ""
  containerd_command:
    description: The program C(ctr) and what comes before it, for example C(nsenter) with its options.
    type: list
    elements: str
    default: [ctr]
  containerd_address:
    description: containerd's socket.
    type: path
    default: /run/containerd/containerd.sock
  containerd_namespace:
    description: containerd's namespace; Kubernetes uses C(k8s.io).
    type: str
    default: k8s.io
  kind_cluster:
    description: Name of the kind cluster.
    type: str
    default: kind
  timeout_seconds:
    description: Time for the delivery.
    type: int
    default: 900
"""

EXAMPLES = r"""
- name: Push the image
  appgate.platform.image_deliver:
    name: appgate
    tag: "{{ build.tag }}"
    artifact: "{{ build.artifact }}"
    kind: registry
    registry: registry.example.com/team
    registry_pull: registry.example.com/team
"""

RETURN = r"""
reference:
  description: What a pod's image field says; by digest when it comes from a registry.
  type: str
  returned: always
  sample: registry.example.com/team/appgate@sha256:...
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.appgate.platform.plugins.module_utils.image_delivery import REGISTRY, Delivery
from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(
        argument_spec={
            **REGISTRY,
            "name": {"type": "str", "required": True},
            "tag": {"type": "str", "required": True},
            "artifact": {"type": "path", "required": True},
            "kind": {"type": "str", "choices": ["registry", "containerd", "kind", "none"], "required": True},
            "registry_pull": {"type": "str", "default": ""},
            "containerd_command": {"type": "list", "elements": "str", "default": ["ctr"]},
            "containerd_address": {"type": "path", "default": "/run/containerd/containerd.sock"},
            "containerd_namespace": {"type": "str", "default": "k8s.io"},
            "kind_cluster": {"type": "str", "default": "kind"},
            "timeout_seconds": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    delivery = Delivery.from_dict(module.params)
    try:
        delivery.check()
        there = delivery.find()
        if there is not None:
            digest = there if delivery.kind == "registry" else None
            module.exit_json(changed=False, reference=delivery.reference(digest))
        if module.check_mode:
            module.exit_json(changed=True, reference=delivery.push_name)
        reference = delivery.deliver(Path(module.params["artifact"]), module.params["timeout_seconds"])
        module.exit_json(changed=True, reference=reference)
    except ImageError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
