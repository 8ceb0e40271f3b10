# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""When waiting for monitoring is no use any more."""

from __future__ import annotations

from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout


def pod(restarts: int) -> dict[str, Any]:
    last = {"terminated": {"exitCode": 2}}
    status = {"name": "main", "restartCount": restarts, "state": {"running": {}}, "lastState": last, "ready": False}
    return {"metadata": {"name": "a", "uid": "u"}, "status": {"phase": "Running", "containerStatuses": [status]}}


def test_restarts_from_before_the_run_are_no_reason_to_give_up() -> None:
    before: dict[tuple[str, str], int] = {}

    def hopeless(restarts: int) -> bool:
        return any(item.hopeless for item in rollout.since_first_look(rollout.pod_failures(pod(restarts)), before))

    assert any(item.hopeless for item in rollout.pod_failures(pod(4)))
    assert not hopeless(4)
    assert not hopeless(6)
    assert hopeless(7)


def test_other_reasons_count_at_once() -> None:
    """Helm has returned by the first look: what can't start by then is what this run has made."""
    found = pod(0)
    waiting = {"reason": "InvalidImageName", "message": "couldn't parse"}
    found["status"]["containerStatuses"][0]["state"] = {"waiting": waiting}
    [failure] = rollout.since_first_look(rollout.pod_failures(found), {})
    assert failure.hopeless
