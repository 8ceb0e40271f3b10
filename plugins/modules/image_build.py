#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: image_build
short_description: Build a planned image, or only its base
description:
  - Takes what M(appgate.platform.image_plan) has found out and builds what is missing, in a cache and a container
    storage of its own. What is there already is used as it is.
  - The same inputs give the same digest, on every machine of one architecture.
  - Runs on the control node. A build that was interrupted is repaired by the next run.
version_added: 0.1.0
author: The Appgate platform authors
options:
  plan:
    description: The result of M(appgate.platform.image_plan).
    type: dict
    required: true
  base_only:
    description: Only bootstrap the base.
    type: bool
    default: false
  timeout_seconds:
    description: Time for each long step, and for waiting for another build in the same cache.
    type: int
    default: 900
  min_free_mib:
    description: Free space that the disk of the cache must have before anything is built.
    type: int
    default: 1024
  keep:
    description: How many built images stay in the cache.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: Build what is missing
  appgate.platform.image_build:
    plan: "{{ image__plan }}"
"""

RETURN = r"""
tag:
  description: The image's tag, the hash of its inputs.
  type: str
  returned: always but with O(base_only)
digest:
  description: The digest of the image's manifest.
  type: str
  returned: when built
artifact:
  description: The directory of the image, in skopeo's C(dir:) form.
  type: str
  returned: when built
compressed_bytes:
  description: What a node has to download.
  type: int
  returned: when built
base_id:
  description: Checksum of the bootstrapped base.
  type: str
  returned: when there is one
haproxy_check_command:
  description: HAProxy of the base as a command; C({file}) stands for the file.
  type: list
  elements: str
  returned: when there is a bootstrapped base
seconds:
  description: How long each step took.
  type: dict
  returned: when built
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.appgate.platform.plugins.module_utils.image_base import (
    Base,
    ensure_base,
    haproxy_check_command,
)
from ansible_collections.appgate.platform.plugins.module_utils.image_build import Plan, build, compressed_bytes
from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import explain_full_disk


def work(parameters: dict[str, Any]) -> dict[str, Any]:
    """Everything that is missing, in order."""
    wanted = parameters["plan"]
    cache = Path(wanted["cache_dir"])
    limits = {"timeout_seconds": parameters["timeout_seconds"], "min_free_mib": parameters["min_free_mib"]}
    result: dict[str, Any] = {"changed": False, "seconds": {}}
    archive: Path | None = None
    base_id = ""
    if wanted["base"] == "bootstrap":
        base = Base.from_dict(wanted["bootstrap"])
        began = time.monotonic()
        record, changed = ensure_base(base, cache, refresh=wanted["base_refresh"], **limits)
        if changed:
            result["changed"] = True
            result["seconds"]["base"] = round(time.monotonic() - began, 2)
        directory = cache / "base" / base.key
        archive = directory / "base.tar"
        base_id = record["sha256"]
        result["base_id"] = base_id
        result["haproxy_check_command"] = haproxy_check_command(directory / "rootfs")
    if parameters["base_only"]:
        return result
    plan = dataclasses.replace(Plan.from_dict(wanted["plan"]), base_id=base_id)
    outcome = build(plan, archive, keep=parameters["keep"], **limits)
    result["changed"] = result["changed"] or outcome["changed"]
    result["seconds"].update(outcome.get("seconds", {}))
    return {
        **result,
        "tag": plan.tag,
        "digest": outcome["digest"],
        "artifact": str(plan.artifact),
        "compressed_bytes": compressed_bytes(plan.artifact),
    }


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(
        argument_spec={
            "plan": {"type": "dict", "required": True},
            "base_only": {"type": "bool", "default": False},
            "timeout_seconds": {"type": "int", "default": 900},
            "min_free_mib": {"type": "int", "default": 1024},
            "keep": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    plan = module.params["plan"]
    if module.check_mode:
        there = plan["base_ready"] if module.params["base_only"] else plan["built"]
        module.exit_json(changed=not there, tag=plan.get("tag", ""), artifact=plan.get("artifact", ""))
    try:
        module.exit_json(**work(module.params))
    except ImageError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        full = explain_full_disk(error, plan["cache_dir"], "image_cache_dir")
        if full is None:
            raise
        module.fail_json(msg=full)


if __name__ == "__main__":
    main()
