# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Action of appgate.platform.refuse_unknown_variables. It runs on the controller and reads two small files.

Ansible's own check of a role's arguments shows the whole specification and no place; playbooks switch it off
(`rolespec_validate: false`) in favour of this one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.appgate.platform.plugins.module_utils import role_types, role_variables
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction, place


class ActionModule(ControllerAction):
    """Fails when a variable has the role's prefix and the role doesn't declare it, or declares another type."""

    arguments: ClassVar[dict[str, Any]] = {
        "role": {"type": "str"},
        "types": {"type": "bool", "default": True},
        "required": {"type": "bool", "default": True},
    }
    refusals: ClassVar[tuple[type[Exception], ...]] = (role_variables.RoleError,)

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        variables = self.variables
        path = self._role_path(given["role"])
        found = role_variables.unknown(path, variables)
        if not found:
            return self._check_types(path, required=given["required"]) if given["types"] else {}
        keys = {key: key for key in variables if key in found}
        return {
            "failed": True,
            "unknown": sorted(found),
            "msg": role_variables.message(path.name, found, lambda name: place(variables[name], keys[name])),
        }

    def _check_types(self, path: Path, *, required: bool) -> dict[str, Any]:
        """Hold the variables against what the entry point declares."""
        specs = role_variables.options(path, self._entry_point(path))
        values: dict[str, Any] = {}
        problems = []
        for name in specs:
            if name not in self.variables:
                continue
            try:
                values[name] = self._templar.template(self.variables[name])
            except Exception as error:  # whatever a person's template raises is theirs to read
                reason = f"cannot be worked out: {str(error).rstrip('.')}"
                remedy = "Correct the template or define what it needs."
                problems.append(role_types.Problem((name,), reason, remedy, show_value=False))
        broken = {problem.path[0] for problem in problems}
        if required:
            whole = {name: spec for name, spec in specs.items() if name not in broken}
            problems += role_types.missing(values, whole)
        problems += role_types.check_types(values, specs)[1]
        if not problems:
            return {}
        lines = []
        for problem in problems:
            name = str(problem.path[0])
            if specs[name].get("no_log"):
                problem = dataclasses.replace(problem, show_value=False)
            lines.append(role_types.sentence(problem, place(self.variables.get(name))))
        return {"failed": True, "msg": "\n".join(lines)}

    def _entry_point(self, path: Path) -> str:
        """What the task stands in, by the name under which the role declares it; another role's is its main one."""
        role = self._task._role
        if role is None or Path(role._role_path) != path:
            return "main"
        return Path((role._from_files or {}).get("tasks") or "main").stem

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
