# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a node and a load balancer would write into the API, for a control plane that has neither.

The image of a pod says how it fares: `.../broken@...` crashes, `.../missing@...` can't be pulled, `.../stuck@...` never
gets ready; every other one runs. Services of type LoadBalancer get 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.kube_access import AccessError, ApiError, Cluster

MERGE = "application/merge-patch+json"
TIME = "2026-01-01T00:00:00Z"


def container_status(name: str, image: str, restarts: int) -> dict[str, Any]:
    """How a container of that image fares."""
    base = {"name": name, "image": image, "imageID": "", "ready": False, "restartCount": 0, "started": False}
    if "/missing@" in image:
        message = f'Back-off pulling image "{image}": manifest unknown: not found'
        return {**base, "state": {"waiting": {"reason": "ImagePullBackOff", "message": message}}}
    if "/broken@" in image:
        return {
            **base,
            "restartCount": restarts,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
            "lastState": {"terminated": {"exitCode": 78, "reason": "Error", "startedAt": TIME, "finishedAt": TIME}},
        }
    running = {"running": {"startedAt": TIME}}
    if "/stuck@" in image:
        return {**base, "state": running, "started": True}
    return {**base, "state": running, "started": True, "ready": True}


def pod_status(pod: dict[str, Any], restarts: int = 3) -> dict[str, Any]:
    """The status that a kubelet would report."""
    spec = pod["spec"]
    containers = [container_status(item["name"], item["image"], restarts) for item in spec["containers"]]
    sidecars = [container_status(item["name"], item["image"], restarts) for item in spec.get("initContainers") or []]
    ready = all(item["ready"] for item in [*containers, *sidecars])
    return {
        "phase": "Running" if ready else "Pending",
        "conditions": [
            {"type": kind, "status": "True" if state else "False", "lastTransitionTime": TIME}
            for kind, state in (("PodScheduled", True), ("ContainersReady", ready), ("Ready", ready))
        ],
        "containerStatuses": containers,
        "initContainerStatuses": sidecars,
    }


class FakeNode:
    """Reports on pods and gives addresses, twenty times a second, until it is left."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> FakeNode:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._end.wait(0.05):
            with contextlib.suppress(ApiError, AccessError):
                self._report()

    def _report(self) -> None:
        for pod in self.cluster.call("GET", "/api/v1/pods").json()["items"]:
            metadata = pod["metadata"]
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            if metadata.get("deletionTimestamp"):
                query = {"gracePeriodSeconds": "0"}
                self.cluster.call("DELETE", path, {"gracePeriodSeconds": 0}, query=query)
            elif not (pod.get("status") or {}).get("containerStatuses"):
                self.cluster.call("PATCH", f"{path}/status", {"status": pod_status(pod)}, content_type=MERGE)
        for service in self.cluster.call("GET", "/api/v1/services").json()["items"]:
            metadata = service["metadata"]
            if service["spec"].get("type") == "LoadBalancer" and not service["status"].get("loadBalancer"):
                path = f"/api/v1/namespaces/{metadata['namespace']}/services/{metadata['name']}/status"
                status = {"status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}}
                self.cluster.call("PATCH", path, status, content_type=MERGE)
