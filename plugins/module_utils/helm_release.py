# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What Helm has recorded about a release, read from the API in one request, without starting helm.

Helm keeps each revision in a Secret: base64 of gzip of JSON, with status, chart, values and manifest. The highest
revision counts: older ones keep whatever status they had when somebody was killed.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import gzip
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import Cluster
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import resource_path

PENDING = ("pending-install", "pending-upgrade", "pending-rollback")
#: On a revision's Secret, when all of its workloads have been seen ready: its own number. Helm hands labels on to the next
#: revision, so one that carries another's number has not been seen ready itself.
READY_LABEL = "appgate.platform/ready"
#: Kinds whose readiness is waited for. Helm's own --wait knows neither the operator's kinds nor a one-node DaemonSet.
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Prometheus", "Alertmanager")


class ReleaseError(Exception):
    """A record that can't be read; the text is for a person."""


@dataclass(frozen=True)
class Workload:
    """Something in a release that must become ready."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Release:
    """One revision of a release."""

    name: str
    namespace: str
    revision: int
    status: str
    updated: datetime.datetime | None
    chart: Mapping[str, Any] = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    manifest: str = field(repr=False)
    ready: bool = False

    @property
    def chart_name(self) -> str:
        """Name of the chart."""
        return str((self.chart.get("metadata") or {}).get("name", ""))

    @property
    def chart_version(self) -> str:
        """Version of the chart."""
        return str((self.chart.get("metadata") or {}).get("version", ""))

    def age_seconds(self, now: datetime.datetime) -> float:
        """How long ago helm has last written about it."""
        return (now - self.updated).total_seconds() if self.updated else float("inf")

    def workloads(self) -> list[Workload]:
        """What of the manifest must become ready."""
        found = []
        for text in re.split(r"(?m)^---\s*$", self.manifest):
            kind = re.search(r"(?m)^kind: (\w+)\s*$", text)
            if not kind or kind.group(1) not in WORKLOADS:
                continue
            parsed = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe)
            metadata = parsed.get("metadata") or {}
            found.append(
                Workload(kind.group(1), str(metadata.get("namespace") or self.namespace), str(metadata["name"]))
            )
        return found


def decode(secret: Mapping[str, Any]) -> Release:
    """The revision in one of Helm's Secrets."""
    metadata = secret.get("metadata") or {}
    try:
        packed = base64.b64decode(base64.b64decode(str((secret.get("data") or {})["release"])))
        record = json.loads(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)
    except (KeyError, ValueError, OSError, EOFError, binascii.Error, zlib.error):
        raise ReleaseError(
            f"Secret {metadata.get('namespace')}/{metadata.get('name')} has the labels of a Helm release but isn't one. "
            "Remove it if it's a leftover."
        ) from None
    info = record.get("info") or {}
    return Release(
        name=str(record.get("name")),
        namespace=str(record.get("namespace")),
        revision=int(record.get("version") or 0),
        status=str(info.get("status", "unknown")),
        updated=_time(info.get("last_deployed")),
        chart=record.get("chart") or {},
        values=record.get("config") or {},
        manifest=str(record.get("manifest") or ""),
        ready=seen_ready(secret),
    )


def _time(text: object) -> datetime.datetime | None:
    """Go's RFC 3339 with nanoseconds."""
    try:
        return datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", str(text)).replace("Z", "+00:00"))
    except ValueError:
        return None


def revision_of(secret: Mapping[str, Any]) -> int:
    """The number in a Secret's labels."""
    text = str(((secret.get("metadata") or {}).get("labels") or {}).get("version", "0"))
    return int(text) if text.isdigit() else 0


def status_of(secret: Mapping[str, Any]) -> str:
    """The status in a Secret's labels."""
    return str(((secret.get("metadata") or {}).get("labels") or {}).get("status", ""))


def seen_ready(secret: Mapping[str, Any]) -> bool:
    """Whether this role has seen all of a revision ready."""
    labels = (secret.get("metadata") or {}).get("labels") or {}
    return READY_LABEL in labels and labels[READY_LABEL] == labels.get("version")


@dataclass(frozen=True)
class Past:
    """An earlier revision: what its Secret's labels say, and the rest only when it is asked for."""

    revision: int
    status: str
    ready: bool
    secret: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def good(self) -> bool:
        """Helm itself calls a revision deployed, and later superseded, without having waited for anything."""
        return self.status in ("deployed", "superseded")

    def describe(self) -> str:
        """For a list of revisions."""
        return f"{self.status}{'' if self.ready or not self.good else ', never seen ready'}"

    def release(self) -> Release:
        """All of it."""
        return decode(self.secret)


@dataclass(frozen=True)
class History:
    """All revisions of a release that Helm still keeps, the newest in full."""

    newest: Release | None
    earlier: tuple[Past, ...] = ()

    def _candidates(self) -> list[Past]:
        """What one can go back to, oldest first: those seen ready, or without any such all that Helm calls good."""
        good = [item for item in self.earlier if item.good]
        return [item for item in good if item.ready] or good

    def last_good(self) -> int:
        """The revision to go back to, 0 where there is none."""
        return max((item.revision for item in self._candidates()), default=0)

    def undo(self, *, changing: bool) -> int:
        """Where to go when what is wanted doesn't become ready. 0 takes a first install away again, -1 leaves all as it is."""
        newest = self.newest
        if newest is None or newest.status != "deployed":
            return self.recovery()[1]
        if newest.ready:
            # Something else is wrong than the release, if nothing is changed in it.
            return newest.revision if changing else -1
        # It may have been left by a run that was killed while it waited.
        seen = max((item.revision for item in self.earlier if item.good and item.ready), default=0)
        return seen or (newest.revision if changing else -1)

    def previous(self) -> Release | None:
        """The revision before this one: the newest earlier one with another content."""
        for item in reversed(self._candidates()):
            release = item.release()
            if self.newest is None or self.newest.status != "deployed" or not same_content(release, self.newest):
                return release
        return None

    def recovery(self) -> tuple[str, int]:
        """What has to be done before helm can go on: nothing, `uninstall`, or `rollback` to a revision."""
        if self.newest is None or self.newest.status == "deployed":
            return "", 0
        if self.newest.status in (*PENDING, "failed", "unknown"):
            good = self.last_good()
            return ("rollback", good) if good else ("uninstall", 0)
        # 'uninstalling' was interrupted; 'uninstalled' and 'superseded' leave nothing that runs.
        return ("uninstall", 0) if self.newest.status == "uninstalling" else ("", 0)


def read_history(cluster: Cluster, namespace: str, release: str) -> History:
    """Ask the API server for a release."""
    answer = cluster.call(
        "GET",
        resource_path("v1", "secrets", namespace),
        query={"labelSelector": f"owner=helm,name={release}"},
    ).json()
    secrets = sorted(answer.get("items") or [], key=revision_of)
    if not secrets:
        return History(None)
    earlier = (Past(revision_of(item), status_of(item), seen_ready(item), item) for item in secrets[:-1])
    return History(decode(secrets[-1]), tuple(earlier))


def secret_name(release: Release) -> str:
    """The Secret in which Helm keeps a revision."""
    return f"sh.helm.release.v1.{release.name}.v{release.revision}"


def same_content(left: Release, right: Release) -> bool:
    """Whether two revisions install the same objects from the same values."""
    return left.manifest == right.manifest and same_values(left.values, right.values)


def same_values(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, true and 1 are not."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same_values(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(same_values(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge of values as Helm does it: mappings are joined, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(before, value) if both else value  # type: ignore[arg-type]
    return merged
