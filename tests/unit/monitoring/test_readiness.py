# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""When waiting for monitoring is no use any more."""

from __future__ import annotations

from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_cluster as live


def pod(restarts: int) -> dict[str, Any]:
    last = {"terminated": {"exitCode": 2}}
    status = {"name": "main", "restartCount": restarts, "state": {"running": {}}, "lastState": last, "ready": False}
    return {"metadata": {"name": "a", "uid": "u"}, "status": {"phase": "Running", "containerStatuses": [status]}}


def test_restarts_from_before_the_run_are_no_reason_to_give_up() -> None:
    before: dict[tuple[str, str], int] = {}

    def hopeless(restarts: int) -> bool:
        return any(item.hopeless for item in rollout.pod_failures(live._since(pod(restarts), before)))

    assert any(item.hopeless for item in rollout.pod_failures(pod(4)))
    assert not hopeless(4)
    assert not hopeless(6)
    assert hopeless(7)
