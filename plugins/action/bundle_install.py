# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Check a bundle, and put what this machine lacks of it where every role looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.appgate.platform.plugins.action.bundle_make import directory, placed
from ansible_collections.appgate.platform.plugins.module_utils import bundle
from ansible_collections.appgate.platform.plugins.module_utils import bundle_sources as sources
from ansible_collections.appgate.platform.plugins.module_utils.bundle import BundleError
from ansible_collections.appgate.platform.plugins.module_utils.image_build import ImageError

ROOT = Path(__file__).resolve().parents[2]
display = Display()


class ActionModule(ActionBase):
    """See plugins/modules/bundle_install.py for what it takes and gives."""

    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "cache_dir": {"type": "path", "required": True},
                "timeout_seconds": {"type": "int", "default": 900},
            },
        )
        try:
            cache = Path(os.path.abspath(given["cache_dir"]))
            result.update(self._install(directory(given["path"]), cache, given["timeout_seconds"]))
        except ImageError as error:
            raise AnsibleActionFail(str(error)) from None
        except BundleError as error:
            raise AnsibleActionFail(placed(str(error), task_vars or {})) from None
        return result

    def _install(self, path: Path, cache: Path, timeout_seconds: int) -> dict[str, Any]:
        def say(text: str) -> None:
            display.display(f"bundle: {text}")

        manifest = bundle.read(path)
        bundle.check_fit(path, manifest, ROOT)
        missing = bundle.missing_units(manifest, cache)
        packages = bundle.lacking(manifest["packages"])
        if missing or packages:
            bundle.verify(path, manifest, say)
            bundle.require_space(path, manifest, missing, cache)
        if packages and os.geteuid() != 0:
            raise BundleError(
                f"bundle_path={str(path)!r}: this machine lacks the packages {', '.join(packages)}, and only root can install them "
                "from the bundle. Run this playbook as root, or with sudo, once."
            )
        if not self._task.check_mode:
            if packages:
                say(f"installing {', '.join(packages)}")
                sources.install_packages(path, packages, timeout_seconds)
            for number, unit in enumerate(missing, 1):
                say(f"putting {unit.path} into {cache} ({number} of {len(missing)})")
                bundle.put(path, manifest, unit, cache)
        word = "would be put" if self._task.check_mode else "put"
        row = f"{path}: {len(missing)} of {len(manifest['units'])} things {word} into {cache}"
        if packages:
            row += f"; packages {'to be installed' if self._task.check_mode else 'installed'}: {', '.join(packages)}"
        return {
            "changed": bool(missing or packages),
            "installed": [unit.path for unit in missing],
            "packages": packages,
            "ansible_stats": {"data": {"closing_rows": {"30 Bundle": row}}, "per_host": True, "aggregate": True},
        }
