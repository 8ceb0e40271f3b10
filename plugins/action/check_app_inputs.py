# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Action of appgate.platform.check_app_inputs: it runs on the controller, where variables still know their place."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.appgate.platform.plugins.module_utils import app_inputs
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction


class ActionModule(ControllerAction):
    """Fails with all mistakes in the variables of the role `app` at once."""

    arguments: ClassVar[dict[str, Any]] = {"deferred": {"type": "list", "elements": "str", "default": []}}

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        values = self.inputs("app_")
        removing = values.get("app_state") == "absent"
        every = app_inputs.removal_problems(values) if removing else app_inputs.problems(values)
        found = [item for item in every if item.variable not in given["deferred"]]
        if not found:
            return {}
        return {"failed": True, "msg": "\n".join(self.sentence(item.variable, item.text) for item in found)}
