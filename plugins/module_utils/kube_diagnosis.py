# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Why a workload does not come up: its controllers, pods, events and last log lines, as far as this user may see them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils import kube_objects as objects
from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import AccessError, ApiError, Cluster
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import Manifest

LOG_LINES = 12
LOG_WAIT_SECONDS = 10.0
LOG_POLL_SECONDS = 0.25


class Diagnosis:
    """Looks at the workloads of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def failures(self, workloads: Iterable[Manifest]) -> list[rollout.Failure]:
        """What keeps these workloads from being ready."""
        failures: list[rollout.Failure] = []
        for workload in workloads:
            for controller in (workload, *self._controllers(workload)):
                failure = rollout.controller_failure(controller)
                if failure:
                    failures.append(failure)
                    break
            for pod in self._pods(workload):
                failures.extend(rollout.pod_failures(pod))
        return failures

    def sections(
        self, waiting: Sequence[str], failures: Sequence[rollout.Failure], workloads: Iterable[Manifest]
    ) -> list[tuple[str, Sequence[str]]]:
        """What a person needs to see: why, the last log lines, the events."""
        sections: list[tuple[str, Sequence[str]]] = [
            ("Why:", [*waiting, *dict.fromkeys(failure.sentence() for failure in failures)])
        ]
        shown: set[str] = set()
        for failure in failures:
            # Replicas fail alike: one pod's log of each container is enough.
            if failure.container and failure.container not in shown:
                shown.add(failure.container)
                sections.append(
                    (
                        f"Last log lines of container {failure.container} of pod {failure.pod}:",
                        last_log_lines(self.cluster, self.namespace, failure),
                    )
                )
        names = {failure.pod for failure in failures if failure.pod}
        names |= {str(item["metadata"]["name"]) for workload in workloads for item in self._controllers(workload)}
        events = [
            event
            for event in self.list("v1", "events", fieldSelector="type=Warning")
            if (event.get("involvedObject") or {}).get("name") in names
        ]
        sections.append(("Events:", rollout.describe_events(events)))
        return sections

    def ready_endpoints(self, service: str) -> int | None:
        """How many pods a Service sends requests to; None without a Service."""
        if not service:
            return None
        slices = self.list(
            "discovery.k8s.io/v1", "endpointslices", labelSelector=f"kubernetes.io/service-name={service}"
        )
        return sum(
            1
            for item in slices
            for endpoint in item.get("endpoints") or []
            if (endpoint.get("conditions") or {}).get("ready")
        )

    def list(self, api_version: str, plural: str, **query: str) -> Sequence[Manifest]:
        """What a diagnosis may look at; where it may not, it says less."""
        path = objects.resource_path(api_version, plural, self.namespace)
        try:
            found = self.cluster.get(path, query) or {}
        except ApiError:
            return []
        return [*found.get("items", [])]

    def _controllers(self, workload: Manifest) -> Sequence[Manifest]:
        if workload["kind"] != "Deployment":
            return []
        newest = rollout.newest_replica_set(
            self.list("apps/v1", "replicasets", labelSelector=_selector(workload)), workload
        )
        return [{**newest, "kind": "ReplicaSet"}] if newest else []

    def _pods(self, workload: Manifest) -> Sequence[Manifest]:
        """The pods of the latest revision that aren't ready."""
        pods = self.list("v1", "pods", labelSelector=_selector(workload))
        labels: dict[str, str] = {}
        if workload["kind"] == "Deployment":
            for controller in self._controllers(workload):
                key = "pod-template-hash"
                labels = {key: (controller["metadata"].get("labels") or {}).get(key, "")}
        elif (workload.get("status") or {}).get("updateRevision"):
            labels = {"controller-revision-hash": workload["status"]["updateRevision"]}
        return [
            pod
            for pod in pods
            if labels.items() <= (pod["metadata"].get("labels") or {}).items()
            and not pod["metadata"].get("deletionTimestamp")
            and not _is_ready(pod)
        ]


def last_log_lines(cluster: Cluster, namespace: str, failure: rollout.Failure) -> list[str]:
    """The end of what the failed container wrote; of the one before, where that is what failed."""
    path = objects.resource_path("v1", "pods", namespace, failure.pod) + "/log"
    end = time.monotonic() + LOG_WAIT_SECONDS
    while True:
        withheld = False
        for previous in ("true", "false") if failure.previous_logs else ("false",):
            query = {"container": failure.container, "tailLines": str(LOG_LINES), "previous": previous}
            try:
                text = cluster.call("GET", path, query=query).body.decode("utf-8", "replace")
            except (ApiError, AccessError):
                continue
            # Between two starts of a container, a busy node has neither log at hand.
            if text.startswith("unable to retrieve container logs"):
                withheld = True
            elif text.strip():
                return text.splitlines()
        if not withheld or time.monotonic() > end:
            return []
        time.sleep(LOG_POLL_SECONDS)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def _selector(workload: Mapping[str, Any]) -> str:
    labels = (((workload.get("spec") or {}).get("selector") or {}).get("matchLabels")) or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
