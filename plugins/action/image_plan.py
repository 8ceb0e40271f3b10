# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Check the inputs of an image, name it by them, and find out what is there already.

An action, not a module: an unchanged run reads a few files, asks the registry once, and is over without starting a
process. The builder is the control node.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.appgate.platform.plugins.module_utils.image_base import (
    Base,
    check_base_choice,
    haproxy_check_command,
    keyrings,
    trusted,
)
from ansible_collections.appgate.platform.plugins.module_utils.image_build import (
    Plan,
    check_inputs,
    make_plan,
    wheels_directory,
)
from ansible_collections.appgate.platform.plugins.module_utils.image_delivery import Delivery
from ansible_collections.appgate.platform.plugins.module_utils.image_work import (
    ImageError,
    builder_packages,
    missing_packages,
)
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction

PRUNE = Path(__file__).resolve().parents[2] / "roles" / "image" / "files" / "prune.py"
UNKNOWN = "unknown-until-built"


class ActionModule(ControllerAction):
    """See plugins/modules/image_plan.py for what it takes and gives."""

    arguments: ClassVar[dict[str, Any]] = {
        "base_only": {"type": "bool", "default": False},
        "base": {"type": "str", "required": True},
        "base_suite": {"type": "str", "required": True},
        "base_mirrors": {"type": "list", "elements": "str", "required": True},
        "base_packages": {"type": "list", "elements": "str", "required": True},
        "base_refresh": {"type": "bool", "default": False},
        "cache_dir": {"type": "path", "required": True},
        "context": {"type": "path", "required": True},
        "dockerfile": {"type": "path"},
        "name": {"type": "str", "required": True},
        "haproxy_config": {"type": "str", "default": ""},
        "build_args": {"type": "dict", "default": {}},
        "python_version": {"type": "str", "default": "3.13"},
        "delivery": {"type": "dict", "default": {}},
    }
    prefix = "image_"
    refusals: ClassVar[tuple[type[Exception], ...]] = (ImageError,)

    def work(self, arguments: dict[str, Any]) -> dict[str, Any]:
        cache = Path(os.path.abspath(arguments["cache_dir"]))
        check_base_choice(arguments["base"])
        context = Path(os.path.abspath(arguments["context"]))
        dockerfile = Path(os.path.abspath(arguments["dockerfile"] or context / "Dockerfile"))
        check_inputs(arguments["name"], context, dockerfile)
        Delivery.from_dict({**arguments["delivery"], "name": arguments["name"], "tag": UNKNOWN}).check()
        kind = arguments["base"]
        if kind == "auto":
            # Bootstrapping gives the smaller image, and one that can be made again; it needs Debian's tools.
            kind = "bootstrap" if shutil.which("mmdebstrap") or shutil.which("apt-get") else "pull"
        found: dict[str, Any] = {
            "base": kind,
            "base_ready": True,
            "base_refresh": arguments["base_refresh"],
            "base_id": "",
            "haproxy_check_command": [],
            "missing_packages": [],
        }
        if kind == "bootstrap":
            base = Base(
                arguments["base_suite"], tuple(arguments["base_mirrors"]), tuple(arguments["base_packages"]), PRUNE
            )
            record = base.find(cache)
            found["bootstrap"] = {
                "suite": base.suite,
                "mirrors": list(base.mirrors),
                "packages": list(base.packages),
                "prune": str(PRUNE),
            }
            found["base_ready"] = record is not None and not arguments["base_refresh"]
            if record is not None:
                found["base_id"] = record["sha256"]
                found["haproxy_check_command"] = haproxy_check_command(cache / "base" / base.key / "rootfs")
            if not found["base_ready"]:
                keys = [] if trusted() or keyrings() else ["debian-archive-keyring"]
                found["missing_packages"] = [*missing_packages(["mmdebstrap"]), *keys]
        found["cache_dir"] = str(cache)
        if arguments["base_only"]:
            return found
        return {**found, **self._plan_image(arguments, found, context, dockerfile)}

    def _plan_image(
        self, arguments: dict[str, Any], found: dict[str, Any], context: Path, dockerfile: Path
    ) -> dict[str, Any]:
        plan = make_plan(
            context=context,
            dockerfile=dockerfile,
            name=arguments["name"],
            base=found["base"],
            base_id=found["base_id"],
            haproxy_config=arguments["haproxy_config"],
            build_args={name: str(value) for name, value in arguments["build_args"].items()},
            python_version=arguments["python_version"],
            cache_dir=Path(found["cache_dir"]),
            onto_nodes=arguments["delivery"].get("kind") in ("containerd", "kind"),
        )
        tag = plan.tag if found["base_ready"] else UNKNOWN
        delivery = Delivery.from_dict({**arguments["delivery"], "name": plan.name, "tag": tag})
        # Asked even when the tag is not known yet: a registry that can't be reached is said before a build.
        there = delivery.find()
        delivered = found["base_ready"] and there is not None
        built = found["base_ready"] and plan.digest() is not None
        if delivery.kind == "none":
            delivered = built
        missing = set(found["missing_packages"])
        if not delivered:
            missing |= set(missing_packages(["skopeo"] if built else ["buildah", "skopeo"]))
        reference = delivery.reference(there if delivery.kind == "registry" else None)
        return {
            "plan": dataclasses.asdict(plan),
            "tag": tag,
            "artifact": str(plan.artifact) if found["base_ready"] else "",
            "built": built,
            "delivered": delivered,
            # Before the first build there is no digest: a check run shows the tag in its place.
            "reference": reference or f"{delivery.registry_pull}/{plan.name}:{tag}",
            "missing_packages": sorted(missing),
            "stock": stock(plan, found),
        }


def stock(plan: Plan, found: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What of the cache the image is and is made of, and the packages that it takes to deliver and to build it again."""
    cache = Path(plan.cache_dir)
    paths = []
    wheels = wheels_directory(plan)
    if found["base_ready"]:
        paths.append(plan.artifact)
        if "bootstrap" in found:
            home = cache / "base" / Base.from_dict(found["bootstrap"]).key
            paths += [home / "base.tar", home / "base.json"]
    if wheels is not None:
        paths.append(wheels)
    return {
        "paths": {f"image/{path.relative_to(cache).as_posix()}": str(path) for path in paths},
        "packages": builder_packages(),
    }
