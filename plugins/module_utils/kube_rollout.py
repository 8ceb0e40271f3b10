# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Is it rolled out, can it still come, and if not: which container of which pod failed, and why."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Manifest = Mapping[str, Any]

#: Waiting does not mend these: somebody has to change an input.
HOPELESS_REASONS = frozenset(
    {"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "ImageInspectError", "RunContainerError"}
)
#: These may mend (a registry that restarts, a first crash on a cold start), so they get a few chances.
CRASHES_ALLOWED = 2
#: sysexits.h, EX_CONFIG: the program itself says that its configuration is wrong, so another start is no use.
EXIT_CONFIG = 78
PULL_REASONS = frozenset({"ImagePullBackOff", "ErrImagePull"})
_NOT_THERE = re.compile(r"not found|manifest unknown|unauthorized|denied|forbidden|no such host", re.IGNORECASE)
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Progress:
    """How far a workload is."""

    done: bool
    text: str
    failed: bool = False


@dataclass(frozen=True)
class Failure:
    """One container (or pod, or workload) that does not run, in words."""

    subject: str
    reason: str
    hopeless: bool
    pod: str = ""
    container: str = ""
    previous_logs: bool = False
    #: The pod or the controller, and since when it is there or fails (RFC 3339).
    uid: str = ""
    since: str = ""
    #: Of a container that ended: how often it was started again, and how often it may be. None: not a matter of count.
    restarts: int = 0
    restarts_allowed: int | None = None

    def sentence(self) -> str:
        """For a message."""
        return f"{self.subject}: {self.reason}"


def since_first_look(failures: Iterable[Failure], before: dict[tuple[str, str], int]) -> list[Failure]:
    """Failures with the restarts judged from the first look on: those of last night say nothing about this run.

    `before` is what earlier looks saw, by pod and container: empty for the first, and kept by the caller.
    """
    found = []
    for failure in failures:
        hopeless = failure.hopeless
        if failure.restarts_allowed is not None:
            first = before.setdefault((failure.uid, failure.container), failure.restarts)
            hopeless = failure.restarts - first > failure.restarts_allowed
        found.append(replace(failure, hopeless=hopeless))
    return found


class Past:
    """What was so before a run began. It says nothing about the run, so it is no reason to give up.

    What is there only since then has no past. Of what is older, the first look counts as past: restarts count from there
    on, and any other reason once it is given anew.
    """

    def __init__(self, began: datetime.datetime) -> None:
        """`began` is by the cluster's clock."""
        # The cluster gives its times in whole seconds.
        self._began = began.replace(microsecond=0)
        self._restarts: dict[tuple[str, str], int] = {}
        #: The reason that was there before, by pod and container; empty once another one was seen.
        self._reasons: dict[tuple[str, str], str] = {}

    def holds(self, since: str) -> bool:
        """Whether that time (RFC 3339, empty where unknown) is from before the run."""
        return bool(since) and datetime.datetime.fromisoformat(since) < self._began

    def sift(self, failures: Iterable[Failure]) -> list[Failure]:
        """The failures of one look, hopeless only where the run itself has seen why."""
        found = []
        for failure in failures:
            if not self.holds(failure.since):
                found.append(failure)
            elif failure.restarts_allowed is not None:
                found += since_first_look([failure], self._restarts)
            else:
                found.append(replace(failure, hopeless=self._is_new(failure) and failure.hopeless))
        return found

    def _is_new(self, failure: Failure) -> bool:
        key = failure.uid, failure.container
        known = self._reasons.setdefault(key, failure.reason)
        # A pull that failed is followed by a pause: that is the same failure still.
        words = (known.partition(":")[0], failure.reason.partition(":")[0])
        is_known = failure.reason == known or words == ("ErrImagePull", "ImagePullBackOff")
        self._reasons[key] = failure.reason if is_known else ""
        return not is_known


def progress(workload: Manifest, past: Past | None = None) -> Progress:
    """The rollout of a Deployment, StatefulSet or DaemonSet; other kinds have none."""
    kind = workload.get("kind")
    status = workload.get("status") or {}
    spec = workload.get("spec") or {}
    name = f"{kind} {(workload.get('metadata') or {}).get('name')}"
    generation = int((workload.get("metadata") or {}).get("generation") or 0)
    if kind not in ("Deployment", "StatefulSet", "DaemonSet"):
        return Progress(True, f"{name} has no rollout")
    if int(status.get("observedGeneration") or 0) < generation:
        return Progress(False, f"{name} has not been seen by its controller")
    if kind == "DaemonSet":
        wanted = int(status.get("desiredNumberScheduled") or 0)
        updated, available = (
            int(status.get("updatedNumberScheduled") or 0),
            int(status.get("numberAvailable") or 0),
        )
        total = wanted
    else:
        wanted = int(spec.get("replicas", 1))
        updated = int(status.get("updatedReplicas") or 0)
        available = int(status.get("availableReplicas") or 0)
        total = int(status.get("replicas") or 0)
    if kind == "Deployment":
        for condition in status.get("conditions") or []:
            exceeded = condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
            if exceeded and not (past and past.holds(_since(condition))):
                return Progress(False, f"{name} made no progress: {condition.get('message')}", failed=True)
    if updated < wanted:
        return Progress(False, f"{name}: {updated} of {wanted} pods are of the new revision")
    if total > updated:
        return Progress(False, f"{name}: {total - updated} pods of the earlier revision still run")
    if available < wanted:
        return Progress(False, f"{name}: {available} of {wanted} pods are available")
    return Progress(True, f"{name}: {wanted} of {wanted} pods are available")


def newest_replica_set(replica_sets: Iterable[Manifest], deployment: Manifest) -> Manifest | None:
    """The ReplicaSet of a Deployment's latest revision."""
    uid = (deployment.get("metadata") or {}).get("uid")

    def revision(item: Manifest) -> int:
        annotations = (item.get("metadata") or {}).get("annotations") or {}
        return int(annotations.get("deployment.kubernetes.io/revision") or 0)

    owned = [
        item
        for item in replica_sets
        if any(owner.get("uid") == uid for owner in (item.get("metadata") or {}).get("ownerReferences") or [])
    ]
    return max(owned, key=revision, default=None)


def controller_failure(controller: Manifest) -> Failure | None:
    """A controller that can't make pods: quota, admission, a missing service account."""
    metadata = controller.get("metadata") or {}
    subject = f"{controller.get('kind', 'ReplicaSet')} {metadata.get('name')}"
    for condition in (controller.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            reason = f"no pod could be made: {condition.get('message')}"
            return Failure(subject, reason, hopeless=True, uid=str(metadata.get("uid")), since=_since(condition))
    return None


def _since(condition: Manifest) -> str:
    """When a condition came about, empty where it doesn't say."""
    return str(condition.get("lastUpdateTime") or condition.get("lastTransitionTime") or "")


def pod_failures(pod: Manifest) -> list[Failure]:
    """Why a pod isn't ready: scheduling first, then each container."""
    metadata = pod.get("metadata") or {}
    uid, since = str(metadata.get("uid")), str(metadata.get("creationTimestamp") or "")
    return [replace(failure, uid=uid, since=since) for failure in _pod_failures(str(metadata.get("name")), pod)]


def _pod_failures(name: str, pod: Manifest) -> list[Failure]:
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return [
                Failure(
                    f"pod {name}", f"can't be scheduled: {condition.get('message') or 'no reason given'}", False, name
                )
            ]
    if status.get("phase") == "Failed" and status.get("reason"):
        return [Failure(f"pod {name}", f"{status['reason']}: {status.get('message', '')}".rstrip(": "), False, name)]
    failures = []
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    for container in containers:
        found = _container_failure(name, container)
        if found:
            failures.append(found)
    if not failures and not containers:
        failures.append(Failure(f"pod {name}", "no container has been started yet", False, name))
    return failures


def _container_failure(pod: str, status: Manifest) -> Failure | None:
    name = str(status.get("name"))
    subject = f"container {name} of pod {pod}"
    state = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated") or {}
    restarts = int(status.get("restartCount") or 0)
    allowed = 0 if last.get("exitCode") == EXIT_CONFIG else CRASHES_ALLOWED

    def ended(reason: str, *, previous_logs: bool) -> Failure:
        return Failure(
            subject, reason, restarts > allowed, pod, name, previous_logs, restarts=restarts, restarts_allowed=allowed
        )

    waiting, terminated = state.get("waiting"), state.get("terminated")
    if waiting:
        reason = str(waiting.get("reason") or "waiting")
        if reason in ("PodInitializing", "ContainerCreating"):
            return None
        message = str(waiting.get("message") or "")
        if reason == "CrashLoopBackOff":
            return ended(f"{reason}: {_exit(last)}; {restarts} restarts so far", previous_logs=True)
        hopeless = reason in HOPELESS_REASONS or (reason in PULL_REASONS and bool(_NOT_THERE.search(message)))
        return Failure(subject, f"{reason}: {message}" if message else reason, hopeless, pod, name)
    if terminated and int(terminated.get("exitCode") or 0) != 0:
        return ended(_exit(terminated), previous_logs=False)
    if "running" in state and last and restarts:
        return ended(f"runs again after {restarts} restarts; before that it {_exit(last)}", previous_logs=True)
    if "running" in state and not status.get("ready"):
        what = "has started but isn't ready" if status.get("started") else "runs, but its startup probe has not passed"
        return Failure(subject, what, False, pod, name)
    return None


def _exit(terminated: Manifest) -> str:
    if not terminated:
        return "ended"
    reason = terminated.get("reason")
    code = terminated.get("exitCode")
    signal = terminated.get("signal")
    text = f"ended with exit code {code}"
    if reason == "OOMKilled":
        text = "was killed because it used more memory than its limit (OOMKilled)"
    elif signal:
        text += f" (signal {signal})"
    elif reason and reason not in ("Error", "Completed"):
        text += f" ({reason})"
    message = str(terminated.get("message") or "").strip()
    return f"{text}: {message}" if message else text


def describe_events(events: Iterable[Manifest], limit: int = 4) -> list[str]:
    """The latest warnings, each once."""

    def when(event: Manifest) -> str:
        return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")

    lines: list[str] = []
    for event in sorted(events, key=when, reverse=True):
        if event.get("type") != "Warning":
            continue
        line = f"{event.get('reason')}: {clean_line(str(event.get('message') or ''))}"
        if line not in lines:
            lines.append(line)
        if len(lines) == limit:
            break
    return lines


def clean_line(line: str) -> str:
    """Without colours, tabs and trailing blanks, so that YAML shows the text as a block."""
    return _CONTROL.sub("", line.expandtabs(4).replace("\n", " ")).rstrip()


def report(title: str, sections: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A message of several lines: a title, then headings with their lines indented."""
    lines = [title]
    for heading, items in sections:
        cleaned = [clean_line(item) for item in items if item.strip()]
        if cleaned:
            lines.append(heading)
            lines.extend(f"  {item}" for item in cleaned)
    return "\n".join(lines)
