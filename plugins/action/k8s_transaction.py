# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Runs appgate.platform.k8s_transaction without the cost of a module where the connection is local."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.utils.display import Display
from ansible_collections.appgate.platform.plugins.modules import k8s_transaction
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import located
from ansible_collections.appgate.platform.plugins.plugin_utils.local_module import LocalModule

display = Display()
#: The roles that make their objects by it: what the names of their variables begin with.
ROLES = "(?:app|observability)_"


class ActionModule(LocalModule):
    """See plugins/modules/k8s_transaction.py for what it takes and gives."""

    arguments: ClassVar[dict[str, Any]] = k8s_transaction.ARGUMENTS

    def perform(self, given: dict[str, Any]) -> dict[str, Any]:
        answer = k8s_transaction.perform(
            given,
            check_mode=self._task.check_mode,
            diff=self._task.diff,
            on_lock_wait=display.display,
        )
        if answer.get("failed"):
            # What went wrong is in the first line; below it may stand a container's log.
            first, line_end, rest = answer["msg"].partition("\n")
            answer["msg"] = located(first, self.variables, ROLES) + line_end + rest
        return answer
