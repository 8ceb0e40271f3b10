# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Check a bundle, and put what this machine lacks of it where every role looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from ansible.utils.display import Display
from ansible_collections.appgate.platform.plugins.action.bundle_make import BundleAction, directory
from ansible_collections.appgate.platform.plugins.module_utils import bundle
from ansible_collections.appgate.platform.plugins.module_utils import bundle_sources as sources
from ansible_collections.appgate.platform.plugins.module_utils.bundle import BundleError, Unit
from ansible_collections.appgate.platform.plugins.module_utils.image_delivery import Delivery
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import in_parallel

ROOT = Path(__file__).resolve().parents[2]
display = Display()


class ActionModule(BundleAction):
    """See plugins/modules/bundle_install.py for what it takes and gives."""

    arguments: ClassVar[dict[str, Any]] = {
        "path": {"type": "path", "required": True},
        "cache_dir": {"type": "path", "required": True},
        "registry": {"type": "str", "default": ""},
        "registry_plain_http": {"type": "bool", "default": False},
        "registry_authfile": {"type": "path", "default": ""},
        "timeout_seconds": {"type": "int", "default": 900},
    }

    def bundle(self, given: dict[str, Any]) -> dict[str, Any]:
        return self._install(directory(given["path"]), Path(os.path.abspath(given["cache_dir"])), given)

    def _install(self, path: Path, cache: Path, given: dict[str, Any]) -> dict[str, Any]:
        def say(text: str) -> None:
            display.display(f"bundle: {text}")

        manifest = bundle.read(path)
        bundle.check_fit(path, manifest, ROOT)
        missing = bundle.missing_units(manifest, cache)
        packages = bundle.lacking(manifest["packages"])
        unpushed = wanted_images(manifest, given)
        if missing or packages or unpushed:
            bundle.verify(path, manifest, say)
            bundle.require_space(path, manifest, missing, cache)
        if packages and not any(name.startswith("debs/") for name in manifest["files"]):
            raise BundleError(
                f"bundle_path={str(path)!r}: this machine lacks the packages {', '.join(packages)}, and the bundle holds none. Install "
                "them some other way and run again, or make the bundle with bundle_debian_packages=true."
            )
        if packages and os.geteuid() != 0:
            raise BundleError(
                f"bundle_path={str(path)!r}: this machine lacks the packages {', '.join(packages)}, and only root can install them "
                "from the bundle. Run this playbook as root, or with sudo, once."
            )
        if not self._task.check_mode:
            if packages:
                say(f"installing {', '.join(packages)}")
                sources.install_packages(path, packages, given["timeout_seconds"])
            for number, unit in enumerate(missing, 1):
                say(f"putting {unit.path} into {cache} ({number} of {len(missing)})")
                bundle.put(path, manifest, unit, cache)
            for name, delivery in unpushed.items():
                say(f"pushing {delivery.push_name}")
                delivery.deliver(path / manifest["images"][name], given["timeout_seconds"])
        return {
            "changed": bool(missing or packages or unpushed),
            "installed": [unit.path for unit in missing],
            "packages": packages,
            "images": [delivery.push_name for delivery in unpushed.values()],
            "ansible_stats": {
                "data": {"closing_rows": self._rows(path, cache, manifest, given, (missing, packages, unpushed))},
                "per_host": True,
                "aggregate": True,
            },
        }

    def _rows(
        self,
        path: Path,
        cache: Path,
        manifest: dict[str, Any],
        given: dict[str, Any],
        done: tuple[list[Unit], list[str], dict[str, Delivery]],
    ) -> dict[str, str]:
        """Rows of the closing table."""
        missing, packages, unpushed = done
        would = "would be " if self._task.check_mode else ""
        row = f"{path}: {len(missing)} of {len(manifest['units'])} things {would}put into {cache}"
        if packages:
            row += f"; packages {would}installed: {', '.join(packages)}"
        if unpushed:
            row += f"; images {would}pushed: {', '.join(delivery.push_name for delivery in unpushed.values())}"
        rows = {"30 Bundle": row}
        if manifest["images"] and not given["registry"]:
            rows["90 Images of the bundle: not pushed"] = (
                f"{', '.join(manifest['images'])}: say with bundle_registry=registry.example.com/mirror where they belong"
            )
        return rows


def wanted_images(manifest: dict[str, Any], given: dict[str, Any]) -> dict[str, Delivery]:
    """Where the published images of the bundle belong and are not yet."""
    if not given["registry"]:
        return {}
    wanted = {}
    for name in manifest["images"]:
        _, repository, tag = sources.split(name)
        wanted[name] = Delivery(
            kind="registry",
            name=repository,
            tag=tag,
            registry=given["registry"],
            registry_pull=given["registry"],
            plain_http=given["registry_plain_http"],
            authfile=given["registry_authfile"],
        )
    for delivery in wanted.values():
        delivery.check()
    found = in_parallel(Delivery.find, list(wanted.values()))
    return {name: delivery for (name, delivery), digest in zip(wanted.items(), found, strict=True) if digest is None}
