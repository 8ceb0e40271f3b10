#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: monitoring_images
short_description: Build the embedded monitoring chart's images and push them to a registry, or copy published ones there
description:
  - Each image is one static program on nothing, with certificates, a user without privileges and a place for temporary
    files. An image that was built before is taken from the cache.
  - Credentials never appear on a command line.
version_added: 0.1.0
author: The Appgate platform authors
extends_documentation_fragment:
  - appgate.platform.registry
options:
  images:
    description:
      - Images as M(appgate.platform.monitoring_plan) names them. What is built has name, part, program and tag; what is copied
        has name, tag and source, the published image.
    type: list
    elements: dict
    required: true
  bin_dirs:
    description: For each part the directory with its programs, as the role sources hands it on.
    type: dict
    required: true
  cache_dir:
    description: Directory for built images and the builder's storage.
    type: path
    required: true
  timeout_seconds:
    description: Time for each long step.
    type: int
    default: 600
  min_free_mib:
    description: Free space that the cache's disk must have.
    type: int
    default: 1024
attributes:
  check_mode:
    description: Says that it would build and push.
    support: full
"""

EXAMPLES = r"""
- name: Build and push what the registry lacks
  appgate.platform.monitoring_images:
    images: "{{ __monitoring_plan.images_missing }}"
    bin_dirs: "{{ sources_bin }}"
    cache_dir: ~/.cache/appgate/monitoring
    registry: registry.example.com/platform
"""

RETURN = r"""
references:
  description: What was pushed, by digest.
  returned: success
  type: list
  elements: str
  sample: [registry.example.com/platform/monitoring/prometheus@sha256:...]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.appgate.platform.plugins.module_utils.image_delivery import REGISTRY, Delivery
from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError, missing_packages
from ansible_collections.appgate.platform.plugins.module_utils.monitoring_images import Image, build, named, there


def copy(delivery: Delivery, published: str, timeout_seconds: float) -> str:
    """Copy a published image, whose registry may be out of reach."""
    try:
        return delivery.copy(published, timeout_seconds)
    except ImageError as error:
        raise ImageError(
            f"{error}\nThe nodes can't pull it from there (monitoring_nodes_pull_published is false). See that this machine can, "
            f"give another one (monitoring_grafana_image, monitoring_values.grafana.sidecar.image), or set monitoring_grafana to "
            "disabled."
        ) from None


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(
        argument_spec={
            **REGISTRY,
            "images": {"type": "list", "elements": "dict", "required": True},
            "bin_dirs": {"type": "dict", "required": True},
            "cache_dir": {"type": "path", "required": True},
            "timeout_seconds": {"type": "int", "default": 600},
            "min_free_mib": {"type": "int", "default": 1024},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        cache = Path(given["cache_dir"])
        missing = [item for item in given["images"] if given["registry"] or not there(cache, str(item["tag"]))]
        module.exit_json(changed=bool(missing), references=[])
    lacking = missing_packages(["buildah", "skopeo"] if given["registry"] else ["buildah"])
    if lacking:
        module.fail_json(
            msg=f"This machine lacks {', '.join(lacking)}: install them (apt-get install {' '.join(lacking)}), and run again."
        )
    references = []
    changed = False
    try:
        for item in given["images"]:
            delivery = Delivery(
                kind="registry",
                name=f"monitoring/{item['name']}",
                tag=str(item["tag"]),
                registry=given["registry"],
                registry_pull=given["registry"],
                plain_http=given["plain_http"],
                authfile=given["authfile"],
                username=given["username"],
                password=given["password"],
            )
            if item.get("source"):
                references.append(copy(delivery, str(item["source"]), given["timeout_seconds"]))
                continue
            image = Image(str(item["name"]), str(item["part"]), str(item["program"]))
            changed = changed or not there(Path(given["cache_dir"]), str(item["tag"]))
            artifact = build(
                Path(given["cache_dir"]),
                image,
                Path(str(given["bin_dirs"][image.part])) / image.program,
                str(item["tag"]),
                timeout_seconds=given["timeout_seconds"],
                min_free_mib=given["min_free_mib"],
            )
            if given["registry"]:
                references.append(delivery.deliver(artifact, given["timeout_seconds"]))
    except ImageError as error:
        module.fail_json(msg=str(named(error)))
    module.exit_json(changed=changed or bool(references), references=references)


if __name__ == "__main__":
    main()
