# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Runs for appgate.platform.observability_plan on the controller, where the catalogs are."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.appgate.platform.plugins.module_utils.observability import plan
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import CatalogError


class ActionModule(ActionBase):
    """Catalogs and dashboards in, checked manifests out."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, given = self.validate_argument_spec(argument_spec=plan.ARGUMENTS)
        try:
            made = plan.make(given, check_mode=bool(self._task.check_mode))
        except CatalogError as error:
            raise AnsibleActionFail("Refused before anything was changed:\n" + "\n".join(error.problems)) from None
        result.update(
            changed=False,
            manifests=made.manifests,
            alerts=made.alerts,
            dashboards=made.dashboards,
            summary=made.summary,
        )
        if made.warnings:
            result["warnings"] = made.warnings
        return result
