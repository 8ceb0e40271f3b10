# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What of appgate.platform.embedded_cluster is for the controller.

It refuses variables that no cluster can be made of, and compares without the cost of a module where the connection is local.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.appgate.platform.plugins.module_utils.embedded import spec
from ansible_collections.appgate.platform.plugins.modules import embedded_cluster
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import sentence
from ansible_collections.appgate.platform.plugins.plugin_utils.local_module import LocalModule


class ActionModule(LocalModule):
    """See plugins/modules/embedded_cluster.py for what it takes and gives."""

    arguments: ClassVar[dict[str, Any]] = embedded_cluster.ARGUMENTS

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Here, wherever the module runs: only the controller knows where a variable was set.
        _validated, given = self.validate_argument_spec(argument_spec=self.arguments)
        try:
            embedded_cluster.specified(given)
        except spec.SpecError as error:
            raise AnsibleActionFail(sentence(task_vars or {}, error.variable, error.text)) from None
        result: dict[str, Any] = super().run(tmp, task_vars)
        if result.get("failed") and "variable" in result:
            raise AnsibleActionFail(sentence(task_vars or {}, result["variable"], result["text"]))
        return result

    def suits(self, given: dict[str, Any]) -> bool:
        # A node outlives the run that starts it, so it is started by a process of its own.
        return bool(given["state"] in ("planned", "checked"))

    def perform(self, given: dict[str, Any]) -> dict[str, Any]:
        return embedded_cluster.perform(given, check_mode=self._task.check_mode)
