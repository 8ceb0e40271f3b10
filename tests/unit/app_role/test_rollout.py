# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Statuses, as clusters report them, in words."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout


def deployment(**status: Any) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "web", "generation": 2, "uid": "u"},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, **status},
    }


@pytest.mark.parametrize(
    ("workload", "done", "text"),
    [
        ({**deployment(), "status": {"observedGeneration": 1}}, False, "has not been seen"),
        (deployment(replicas=2, updatedReplicas=1), False, "1 of 2 pods are of the new revision"),
        (deployment(replicas=3, updatedReplicas=2, availableReplicas=2), False, "1 pods of the earlier revision"),
        (deployment(replicas=2, updatedReplicas=2, availableReplicas=1), False, "1 of 2 pods are available"),
        (deployment(replicas=2, updatedReplicas=2, availableReplicas=2), True, "2 of 2 pods"),
        (
            {
                "kind": "DaemonSet",
                "metadata": {"name": "agent"},
                "status": {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2},
            },
            False,
            "2 of 3 pods are available",
        ),
        ({"kind": "Job", "metadata": {"name": "once"}}, True, "has no rollout"),
    ],
)
def test_progress(workload: dict[str, Any], done: bool, text: str) -> None:
    progress = rollout.progress(workload)
    assert progress.done is done
    assert text in progress.text


def test_a_deployment_that_gave_up() -> None:
    condition = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "has timed out"}
    progress = rollout.progress(deployment(conditions=[condition]))
    assert progress.failed
    assert "has timed out" in progress.text


BEGAN = datetime.datetime(2026, 1, 1, 12, 0, 0, 700000, tzinfo=datetime.UTC)
BEFORE, SINCE = "2026-01-01T11:59:59Z", "2026-01-01T12:00:00Z"


@pytest.mark.parametrize(("at", "failed"), [(BEFORE, False), (SINCE, True), (None, True)])
def test_a_deadline_that_passed_before_the_run_is_no_failure_of_it(at: str | None, failed: bool) -> None:
    condition = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "m", "lastUpdateTime": at}
    status = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1, "conditions": [condition]}
    progress = rollout.progress(deployment(**status), rollout.Past(BEGAN))
    assert progress.failed is failed
    assert not progress.done
    assert failed or "1 of 2 pods are available" in progress.text


def pod(*containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web-1"}, "status": {"containerStatuses": list(containers), **status}}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"name": "main", "state": {"waiting": {"reason": reason, "message": message}}, **more}


@pytest.mark.parametrize(
    ("container", "hopeless", "text"),
    [
        (waiting("CreateContainerConfigError", 'secret "x" not found'), True, 'secret "x" not found'),
        (waiting("InvalidImageName", "couldn't parse"), True, "InvalidImageName: couldn't parse"),
        (waiting("ErrImagePull", "manifest unknown"), True, "manifest unknown"),
        (waiting("ImagePullBackOff", "i/o timeout"), False, "i/o timeout"),
        (
            waiting("CrashLoopBackOff", restartCount=1, lastState={"terminated": {"exitCode": 1, "reason": "Error"}}),
            False,
            "ended with exit code 1; 1 restarts so far",
        ),
        (
            waiting(
                "CrashLoopBackOff", restartCount=3, lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}}
            ),
            True,
            "used more memory than its limit (OOMKilled)",
        ),
        (
            {"name": "main", "state": {"terminated": {"exitCode": 139, "signal": 11, "message": "boom"}}},
            False,
            "ended with exit code 139 (signal 11): boom",
        ),
        (
            waiting("CrashLoopBackOff", restartCount=1, lastState={"terminated": {"exitCode": 78}}),
            True,
            "ended with exit code 78; 1 restarts so far",
        ),
        ({"name": "main", "state": {"running": {}}, "started": False}, False, "its startup probe has not passed"),
        ({"name": "main", "state": {"running": {}}, "started": True}, False, "has started but isn't ready"),
    ],
)
def test_containers(container: dict[str, Any], hopeless: bool, text: str) -> None:
    [failure] = rollout.pod_failures(pod(container))
    assert failure.hopeless is hopeless
    assert text in failure.sentence()
    assert failure.sentence().startswith("container main of pod web-1: ")


def judged(past: rollout.Past, made: str, container: dict[str, Any]) -> bool:
    """Whether that is hopeless."""
    found = {**pod(container), "metadata": {"name": "web-1", "uid": "u", "creationTimestamp": made}}
    [failure] = past.sift(rollout.pod_failures(found))
    return failure.hopeless


def crashed(restarts: int, code: int = 1) -> dict[str, Any]:
    return waiting("CrashLoopBackOff", restartCount=restarts, lastState={"terminated": {"exitCode": code}})


@pytest.mark.parametrize("code", [1, rollout.EXIT_CONFIG])
def test_restarts_count_from_the_first_look_at_a_pod_from_before_the_run(code: int) -> None:
    chances = 1 if code == rollout.EXIT_CONFIG else rollout.CRASHES_ALLOWED + 1
    past = rollout.Past(BEGAN)
    assert [judged(past, BEFORE, crashed(count, code)) for count in (7, 7 + chances - 1, 7 + chances)] == [
        False,
        False,
        True,
    ]
    assert judged(rollout.Past(BEGAN), SINCE, crashed(chances, code))


@pytest.mark.parametrize(
    ("reasons", "hopeless"),
    [
        (["CreateContainerConfigError", "CreateContainerConfigError"], [False, False]),
        (["ErrImagePull", "ImagePullBackOff", "ImagePullBackOff"], [False, False, False]),
        (["ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"], [False, False, True, True]),
        (["ImagePullBackOff", "ErrImagePull"], [False, True]),
        (["ImagePullBackOff", "InvalidImageName"], [False, True]),
    ],
)
def test_a_reason_from_before_the_run_counts_once_it_is_given_anew(reasons: list[str], hopeless: list[bool]) -> None:
    past = rollout.Past(BEGAN)
    assert [judged(past, BEFORE, waiting(reason, "not found")) for reason in reasons] == hopeless
    assert judged(rollout.Past(BEGAN), SINCE, waiting(reasons[0], "not found"))


@pytest.mark.parametrize(("at", "hopeless"), [(BEFORE, False), (SINCE, True)])
def test_pods_that_could_not_be_made_before_the_run(at: str, hopeless: bool) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "quota", "lastTransitionTime": at}
    failure = rollout.controller_failure(deployment(conditions=[condition]))
    assert failure
    [found] = rollout.Past(BEGAN).sift([failure])
    assert found.hopeless is hopeless


def test_a_sidecar_is_looked_at_before_the_container_that_waits_for_it() -> None:
    broken = {"initContainerStatuses": [{"name": "gunicorn", "state": {"terminated": {"exitCode": 78}}}]}
    failures = rollout.pod_failures(pod(waiting("PodInitializing"), **broken))
    assert [failure.container for failure in failures] == ["gunicorn"]


def test_a_pod_that_no_node_takes() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}
    [failure] = rollout.pod_failures(pod(conditions=[condition]))
    assert not failure.hopeless
    assert "can't be scheduled: 0/1 nodes are available: 1 Insufficient cpu." in failure.sentence()


def test_a_pod_that_was_evicted() -> None:
    [failure] = rollout.pod_failures(pod(phase="Failed", reason="Evicted", message="The node was low on memory."))
    assert "Evicted: The node was low on memory." in failure.sentence()


def test_a_good_pod() -> None:
    assert rollout.pod_failures(pod({"name": "main", "ready": True, "state": {"running": {}}, "started": True})) == []


def test_the_newest_replica_set() -> None:
    def replica_set(name: str, revision: str, owner: str) -> dict[str, Any]:
        annotations = {"deployment.kubernetes.io/revision": revision}
        return {"metadata": {"name": name, "annotations": annotations, "ownerReferences": [{"uid": owner}]}}

    sets = [replica_set("a", "9", "u"), replica_set("b", "10", "u"), replica_set("c", "11", "other")]
    newest = rollout.newest_replica_set(sets, deployment())
    assert newest
    assert newest["metadata"]["name"] == "b"


def test_events_once_each_and_the_latest_first() -> None:
    def event(reason: str, time: str, kind: str = "Warning") -> dict[str, Any]:
        return {"type": kind, "reason": reason, "message": "m", "lastTimestamp": time}

    events = [event("Old", "1"), event("New", "3"), event("New", "2"), event("Pulled", "4", "Normal")]
    assert rollout.describe_events(events) == ["New: m", "Old: m"]


def test_a_report_is_plain_text() -> None:
    text = rollout.report("Title.", [("Log:", ["\x1b[31mred\x1b[0m\x07 text  ", ""]), ("Empty:", [])])
    assert text == "Title.\nLog:\n  red text"
