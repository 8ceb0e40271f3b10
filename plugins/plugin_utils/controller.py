# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What actions have in common that work on the controller alone, where variables still know where they were written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

try:
    # Where a value was written, for messages only. Not a public interface: without it, the place is left out.
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None


#: Where a role's own values are written.
DEFAULTS = "/defaults/main.yml"


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


def located(text: str, variables: Mapping[str, Any], prefix: str) -> str:
    """A message, and where a person has set the variables of a role that it names."""
    places = []
    for name in dict.fromkeys(re.findall(rf"\b{prefix}\w+", text)):
        where = place(variables.get(name))
        if where and DEFAULTS not in where:
            places.append(f"{name} is set in {where}")
    return f"{text} ({'; '.join(places)})" if places else text


def sentence(variables: Mapping[str, Any], variable: str, text: str) -> str:
    """What is wrong with a variable, and where it was set."""
    where = place(variables.get(variable))
    return f"{variable}{f' (set in {where})' if where else ''}: {text}."


class ControllerAction(ActionBase):
    """A subclass names its options and what it refuses in words for a person, and does its work."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False
    TRANSFERS_FILES = False

    #: The options of the task, as a module's argument_spec.
    arguments: ClassVar[dict[str, Any]] = {}
    #: Which of them need others, as AnsibleModule takes it.
    required_if: ClassVar[list[tuple[str, str, list[str]]]] = []
    #: What the names of the role's variables begin with, where messages are to say in which file they were set.
    prefix: ClassVar[str] = ""
    #: Errors whose text is the message; any other one is a mistake of the program.
    refusals: ClassVar[tuple[type[Exception], ...]] = ()
    #: The task's variables, not templated.
    variables: dict[str, Any]

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        """Do what the validated options say. The answer is the task's result, unchanged if it doesn't say."""
        raise NotImplementedError

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, given = self.validate_argument_spec(argument_spec=self.arguments, required_if=self.required_if)
        self.variables = task_vars or {}
        try:
            answer = self.work(given)
        except self.refusals as error:
            text = str(error)
            raise AnsibleActionFail(located(text, self.variables, self.prefix) if self.prefix else text) from None
        result.update({"changed": False, **answer})
        return result

    def inputs(self, prefix: str) -> dict[str, Any]:
        """The variables of a role, templated."""
        names = [name for name in self.variables if isinstance(name, str) and name.startswith(prefix)]
        return {str(name): self._templar.template(self.variables[name]) for name in names}

    def switch(self, variable: str, default: bool) -> bool:
        """A switch of another role. On the command line, it is a text."""
        return bool(boolean(self._templar.template(self.variables.get(variable, default)), strict=False))

    def sentence(self, variable: str, text: str) -> str:
        """What is wrong with a variable, and where it was set."""
        return sentence(self.variables, variable, text)
