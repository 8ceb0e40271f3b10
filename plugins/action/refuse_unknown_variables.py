# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Action of appgate.platform.refuse_unknown_variables. It runs on the controller and reads two small files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.appgate.platform.plugins.module_utils import role_variables
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction, place


class ActionModule(ControllerAction):
    """Fails when a variable has the role's prefix and the role doesn't declare it."""

    arguments: ClassVar[dict[str, Any]] = {"role": {"type": "str"}}
    refusals: ClassVar[tuple[type[Exception], ...]] = (role_variables.RoleError,)

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        variables = self.variables
        path = self._role_path(given["role"])
        found = role_variables.unknown(path, variables)
        if not found:
            return {}
        keys = {key: key for key in variables if key in found}
        return {
            "failed": True,
            "unknown": sorted(found),
            "msg": role_variables.message(path.name, found, lambda name: place(variables[name], keys[name])),
        }

    def _role_path(self, name: str | None) -> Path:
        """The role that the task stands in, or the named one beside it or in this collection."""
        current = self._task._role
        places = []
        if current is not None:
            here = Path(current._role_path)
            if name is None or here.name == name:
                return here
            places.append(here.parent / name)
        if name is None:
            raise AnsibleActionFail("role is required outside of a role.")
        places.append(Path(__file__).parents[2] / "roles" / name)
        for candidate in places:
            if candidate.is_dir():
                return candidate
        raise AnsibleActionFail(f"role {name!r} was not found in {' or '.join(str(path.parent) for path in places)}.")
