# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Compares for appgate.platform.embedded_cluster without the cost of a module where the connection is local."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.appgate.platform.plugins.modules import embedded_cluster
from ansible_collections.appgate.platform.plugins.plugin_utils.local_module import LocalModule


class ActionModule(LocalModule):
    """See plugins/modules/embedded_cluster.py for what it takes and gives."""

    arguments: ClassVar[dict[str, Any]] = embedded_cluster.ARGUMENTS

    def suits(self, given: dict[str, Any]) -> bool:
        # A node outlives the run that starts it, so it is started by a process of its own.
        return bool(given["state"] == "planned")

    def perform(self, given: dict[str, Any]) -> dict[str, Any]:
        return embedded_cluster.perform(given, check_mode=self._task.check_mode)
