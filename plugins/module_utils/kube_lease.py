# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""One run at a time: a Lease of Kubernetes that a run renews while it works, and that is free again when the run is dead.

All times are those of the API server, so that machines whose clocks differ agree on what has expired.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.kube_access import AccessError, ApiError, Cluster
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import RELEASE_LABEL, resource_path

API_VERSION = "coordination.k8s.io/v1"
#: A run that has not renewed for so long is dead. Long enough for an API server that is busy or restarts.
LEASE_SECONDS = 30
RENEW_SECONDS = 5.0
REQUEST_SECONDS = 10.0
#: How long a run tries to have an expired lease again, which is still its own if nobody took it, before it gives up.
REGAIN_SECONDS = 60.0
POLL_SECONDS = 1.0
FIRST_POLL_SECONDS = 0.25
_QUERY = {"fieldManager": "appgate"}
#: Goes on while the machine is asleep, where the system has such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class HeldError(Exception):
    """Another run holds the lease; the text says which, and since when."""


class LostError(Exception):
    """The lease was held and is not any more; the text explains it to a person."""


class NamespaceGoneError(Exception):
    """The namespace of the lease is gone, or going."""


class Lease:
    """The right to change one release."""

    def __init__(self, cluster: Cluster, namespace: str, release: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.release_name = release
        self.name = f"{release}-deploy"
        self.path = resource_path(API_VERSION, "leases", namespace, self.name)
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        self.identity = f"{socket.gethostname()}/{os.getpid()}/{started.removesuffix('+00:00')}Z"
        #: Whose lease was taken over because it had expired.
        self.took_over = ""
        #: Who was waited for, and how long.
        self.waited_for = ""
        self.waited_seconds = 0.0
        self._live: dict[str, Any] = {}
        self._renewed_at = 0.0
        self._lost = ""
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def acquire(self, wait_seconds: float, on_wait: Callable[[str], None] = lambda text: None) -> None:
        """Take it, also from a dead run; wait for a run that lives, and refuse when that takes too long.

        `on_wait` is told each holder that is waited for, once.
        """
        started = time.monotonic()
        pause = FIRST_POLL_SECONDS
        while True:
            if self._try("POST", {}):
                break
            found = self.cluster.get(self.path)
            if found is None:
                continue  # it was released just now
            if self._has_expired(found):
                if self._try("PUT", found):
                    self.took_over = describe(found)
                    break
                continue  # somebody was faster
            holder = describe(found)
            if time.monotonic() - started >= wait_seconds:
                raise HeldError(holder)
            if holder != self.waited_for:
                self.waited_for = holder
                on_wait(holder)
            time.sleep(pause)
            pause = min(POLL_SECONDS, pause * 2)
        self.waited_seconds = time.monotonic() - started
        self._thread.start()

    def check(self) -> None:
        """Stop where somebody else may have it by now."""
        end = time.monotonic() + REGAIN_SECONDS
        while not self._lost and self._age() > LEASE_SECONDS:
            if time.monotonic() > end:
                self._lost = f"it could not be renewed for {self._age():.0f} s"
            else:
                self._renew()
                time.sleep(FIRST_POLL_SECONDS)
        if self._lost:
            raise LostError(
                f"This run does not hold the lease {self.name} in namespace {self.namespace} of context "
                f"{self.cluster.entry.context!r} any more: {self._lost}. It stopped where it was, and put nothing back, so "
                f"that it does not mix with another run. Run again when no other run is at work on {self.release_name}."
            )

    def release(self) -> None:
        """Let the next one have it. What can't be released now expires."""
        self._end.set()
        self._thread.join()
        for _attempt in range(2):
            if self._lost:
                return
            metadata = self._live["metadata"]
            same = {key: metadata[key] for key in ("uid", "resourceVersion")}
            try:
                self.cluster.call("DELETE", self.path, {"preconditions": same})
                return
            except ApiError as error:
                if error.status != 409:
                    return
                self._look()  # a renewal whose answer was lost has given it another version
            except AccessError:
                return

    # -- renewal, in a thread of its own -------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._lost and not self._end.wait(RENEW_SECONDS):
            self._renew()

    def _renew(self) -> None:
        with self._lock:
            try:
                self._send("PUT", self._live)
            except ApiError as error:
                if error.status in (404, 409):
                    self._look()
            except AccessError:
                pass  # no answer, as with a busy server: the next round may get one

    def _look(self) -> None:
        """Why a write was refused: was it lost, or did an answer get lost?"""
        with contextlib.suppress(ApiError, AccessError):
            found = self.cluster.get(self.path)
            if found is None:
                self._lost = "somebody removed it"
            elif _spec(found).get("holderIdentity") != self.identity:
                self._lost = f"it had expired, and {describe(found)} has taken it over"
            else:
                self._live = found

    def _try(self, method: str, before: Mapping[str, Any]) -> bool:
        """Whether it is ours now; not where somebody else was faster."""
        try:
            self._send(method, before)
        except ApiError as error:
            causes = error.details.get("causes") or []
            going = any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
            if method == "POST" and (error.status == 404 or going):
                raise NamespaceGoneError from None
            if error.status not in (404, 409):
                raise
            return False
        return True

    def _send(self, method: str, before: Mapping[str, Any]) -> None:
        """Make it, take it over or renew it. The version in it keeps two runs from doing so at once."""
        sent_at = time.clock_gettime(_CLOCK)
        now = self.cluster.server_time().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = _spec(before)
        if spec.get("holderIdentity") != self.identity:
            transitions = int(spec.get("leaseTransitions") or 0) + 1 if before else 0
            spec = {"holderIdentity": self.identity, "acquireTime": now, "leaseTransitions": transitions}
        body = {
            "apiVersion": API_VERSION,
            "kind": "Lease",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": {RELEASE_LABEL: self.release_name},
                **{key: before["metadata"][key] for key in ("uid", "resourceVersion") if before},
            },
            "spec": {**spec, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
        }
        path = self.path if method == "PUT" else self.path.rpartition("/")[0]
        answer = self.cluster.call(method, path, body, query=_QUERY, timeout_seconds=REQUEST_SECONDS)
        self._live, self._renewed_at = answer.json(), sent_at

    def _has_expired(self, found: Mapping[str, Any]) -> bool:
        spec = _spec(found)
        try:
            renewed = datetime.datetime.fromisoformat(str(spec["renewTime"]))
            duration = datetime.timedelta(seconds=int(spec["leaseDurationSeconds"]))
        except (KeyError, ValueError):
            return True  # nobody has it
        return not spec.get("holderIdentity") or renewed + duration < self.cluster.server_time()

    def _age(self) -> float:
        return time.clock_gettime(_CLOCK) - self._renewed_at


def describe(lease: Mapping[str, Any]) -> str:
    """Who has it, and since when."""
    spec = _spec(lease)
    since = str(spec.get("acquireTime") or "").partition(".")[0]
    identity = str(spec.get("holderIdentity") or "nobody")
    host, _slash, rest = identity.partition("/")
    pid = rest.partition("/")[0]
    who = f"process {pid} on host {host}" if pid else identity
    return f"{who} (since {since}Z)" if since else who


def _spec(lease: Mapping[str, Any]) -> dict[str, Any]:
    return dict(lease.get("spec") or {})
