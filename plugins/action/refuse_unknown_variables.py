# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Action of appgate.platform.refuse_unknown_variables. It runs on the controller and reads two small files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.appgate.platform.plugins.module_utils import role_variables

try:
    # Where a value was written, for messages only. Not a public interface: without it, the place is left out.
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None


def place(*values: Any) -> str:
    """File and line of the first of the values that knows them, the file relative to where the person stands."""
    if Origin is None:
        return ""
    for value in values:
        origin = Origin.get_tag(value)
        if origin is None:
            continue
        path = getattr(origin, "path", None)
        if not path:
            return str(origin.description)
        relative = os.path.relpath(path)
        line = f":{origin.line_num}" if origin.line_num else ""
        return f"{path if relative.startswith('..') else relative}{line}"
    return ""


class ActionModule(ActionBase):
    """Fails when a variable has the role's prefix and the role doesn't declare it."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(argument_spec={"role": {"type": "str"}})
        variables = task_vars or {}
        path = self._role_path(arguments["role"])
        try:
            found = role_variables.unknown(path, variables)
        except role_variables.RoleError as error:
            raise AnsibleActionFail(str(error)) from error
        result["changed"] = False
        if found:
            keys = {key: key for key in variables if key in found}
            result["failed"] = True
            result["unknown"] = sorted(found)
            result["msg"] = role_variables.message(path.name, found, lambda name: place(variables[name], keys[name]))
        return result

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
