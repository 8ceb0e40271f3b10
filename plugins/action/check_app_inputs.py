# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Action of appgate.platform.check_app_inputs: it runs on the controller, where variables still know their place."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.appgate.platform.plugins.action.refuse_unknown_variables import place
from ansible_collections.appgate.platform.plugins.module_utils import app_inputs


class ActionModule(ActionBase):
    """Fails with all mistakes in the variables of the role `app` at once."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        variables = task_vars or {}
        names = [name for name in variables if isinstance(name, str) and name.startswith("app_")]
        values = {str(name): self._templar.template(variables[name]) for name in names}
        removing = values.get("app_state") == "absent"
        found = app_inputs.removal_problems(values) if removing else app_inputs.problems(values)
        result["changed"] = False
        if found:
            lines = []
            for problem in found:
                where = place(variables.get(problem.variable))
                lines.append(f"{problem.variable}{f' (set in {where})' if where else ''}: {problem.text}.")
            result["failed"] = True
            result["msg"] = "\n".join(lines)
        return result
