# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Runs for appgate.platform.observability_plan on the controller, where the catalogs are."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible_collections.appgate.platform.plugins.module_utils.observability import plan
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import CatalogError
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction


class ActionModule(ControllerAction):
    """Catalogs and dashboards in, checked manifests out."""

    arguments: ClassVar[dict[str, Any]] = plan.ARGUMENTS

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        try:
            made = plan.make(given, check_mode=bool(self._task.check_mode))
        except CatalogError as error:
            raise AnsibleActionFail("Refused before anything was changed:\n" + "\n".join(error.problems)) from None
        answer: dict[str, Any] = {
            "manifests": made.manifests,
            "alerts": made.alerts,
            "dashboards": made.dashboards,
            "summary": made.summary,
        }
        return {**answer, "warnings": made.warnings} if made.warnings else answer
