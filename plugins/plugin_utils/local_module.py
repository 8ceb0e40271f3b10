# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Run a module's core in Ansible's own process where that is the same thing, and as a module everywhere else.

A module costs 0.3 to 0.5 s before its first line: it is packed, written, and its Python starts and compiles everything
anew. On a local connection the same code is at hand already.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase


class LocalModule(ActionBase):
    """An action for a module of the same name; a subclass names its options and its core."""

    _supports_check_mode = True
    _supports_diff = True
    TRANSFERS_FILES = False

    #: The module's argument_spec.
    arguments: ClassVar[dict[str, Any]]
    #: The task's variables, not templated.
    variables: dict[str, Any]

    def perform(self, given: dict[str, Any]) -> dict[str, Any]:
        """Do what the validated options say; the module's result, with `failed` and `msg` where it went wrong."""
        raise NotImplementedError

    def suits(self, given: dict[str, Any]) -> bool:
        """Whether this call may run here: long-lived children, for one, are a module's business."""
        return True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        validated, given = self.validate_argument_spec(argument_spec=self.arguments)
        if self._is_here() and self.suits(given):
            # What a module would have got, which is JSON, and what it would have given back, which has no secret in it.
            answer = self.perform(json.loads(json.dumps(given, default=_as_text)))
            result.update(remove_values(answer, validated._no_log_values))
        else:
            result.update(self._execute_module(task_vars=task_vars))
        return result

    def _is_here(self) -> bool:
        """Whether the module would run on this machine, as this user, in this environment, and be waited for."""
        return (
            self._connection.transport == "local"
            and self._connection.become is None
            and not self._task.async_val
            and not any(self._task.environment or [])
        )


def _as_text(value: Any) -> str:
    """What JSON has no type for; dates, mostly."""
    return str(value.isoformat() if hasattr(value, "isoformat") else value)
