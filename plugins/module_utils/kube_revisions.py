# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a release was, deploy by deploy: each is a Secret that holds what was applied, and how that ended."""

from __future__ import annotations

import base64
import contextlib
import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ansible_collections.appgate.platform.plugins.module_utils import kube_objects as objects
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import ApiError, Cluster, in_parallel
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import FIELD_MANAGER, Manifest, ObjectId

REVISION_LABEL = "appgate.platform/revision"
STATUS_LABEL = "appgate.platform/status"
CHECKSUM_ANNOTATION = "appgate.platform/checksum"
TIME_ANNOTATION = "appgate.platform/applied-at"
DESCRIPTION_ANNOTATION = "appgate.platform/description"
REVISION_TYPE = "appgate.platform/revision.v1"
PENDING, DEPLOYED, SUPERSEDED, FAILED = "pending", "deployed", "superseded", "failed"


class TakenError(Exception):
    """Another run has written a revision of that number; the text says so to a person."""


@dataclass(frozen=True)
class Revision:
    """A deploy of the past."""

    number: int
    status: str
    checksum: str
    applied_at: str
    description: str
    name: str
    packed: str = field(repr=False)

    def manifests(self) -> list[Manifest]:
        """What it applied."""
        return objects.unpack(self.packed)

    def identities(self) -> set[ObjectId]:
        """Which objects it applied."""
        return {objects.object_id(manifest) for manifest in self.manifests()}

    def line(self) -> str:
        """For a list that a person reads."""
        return f"{self.number}  {self.status:<10}  {self.applied_at}  {self.description}".rstrip()


class Revisions:
    """The records of one release."""

    def __init__(self, cluster: Cluster, namespace: str, release: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.release = release

    def read(self) -> list[Revision]:
        """All revisions, oldest first."""
        path = objects.resource_path("v1", "secrets", self.namespace)
        selector = f"{objects.RELEASE_LABEL}={self.release},{REVISION_LABEL}"
        try:
            found = self.cluster.get(path, {"labelSelector": selector}) or {}
        except ApiError as error:
            if error.status == 403:  # `require` says this better
                return []
            raise
        revisions = []
        for secret in found.get("items", []):
            metadata = secret["metadata"]
            labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
            if secret.get("type") != REVISION_TYPE:
                continue
            revisions.append(
                Revision(
                    number=int(labels[REVISION_LABEL]),
                    status=str(labels.get(STATUS_LABEL, PENDING)),
                    checksum=str(annotations.get(CHECKSUM_ANNOTATION, "")),
                    applied_at=str(annotations.get(TIME_ANNOTATION, "")),
                    description=str(annotations.get(DESCRIPTION_ANNOTATION, "")),
                    name=str(metadata["name"]),
                    packed=_text((secret.get("data") or {}).get("manifests", "")),
                )
            )
        return sorted(revisions, key=lambda revision: revision.number)

    def write(self, number: int, manifests: list[Manifest], description: str) -> Revision:
        digest = objects.checksum(manifests)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = f"{self.release}-revision-{number}"
        packed = objects.pack(manifests)
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": REVISION_TYPE,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {
                    objects.RELEASE_LABEL: self.release,
                    REVISION_LABEL: str(number),
                    STATUS_LABEL: PENDING,
                },
                "annotations": {
                    CHECKSUM_ANNOTATION: digest,
                    TIME_ANNOTATION: now,
                    DESCRIPTION_ANNOTATION: description,
                },
            },
            "stringData": {"manifests": packed},
        }
        path = objects.resource_path("v1", "secrets", self.namespace)
        try:
            self.cluster.call("POST", path, secret, query={"fieldManager": FIELD_MANAGER})
        except ApiError as error:
            if error.status == 409:
                raise TakenError(
                    f"Another run is deploying revision {number} of {self.release} to namespace "
                    f"{self.namespace} right now. Run again when it has ended."
                ) from None
            raise
        return Revision(number, PENDING, digest, now, description, name, packed)

    def mark(self, name: str, status: str) -> None:
        path = objects.resource_path("v1", "secrets", self.namespace, name)
        with contextlib.suppress(ApiError):  # a record is no reason to hide the error that is being told
            self.cluster.call(
                "PATCH",
                path,
                {"metadata": {"labels": {STATUS_LABEL: status}}},
                content_type="application/merge-patch+json",
            )

    def retire(self, revisions: Iterable[Revision]) -> list[Revision]:
        """What served before serves no more; what was interrupted has come to nothing. Returns them as they are then."""
        ends = {DEPLOYED: SUPERSEDED, PENDING: FAILED}
        items = list(revisions)
        in_parallel(
            lambda item: self.mark(item.name, ends[item.status]), [item for item in items if item.status in ends]
        )
        return [replace(item, status=ends.get(item.status, item.status)) for item in items]

    def path(self, revision: Revision) -> str:
        """Where the record of a revision is."""
        return objects.resource_path("v1", "secrets", self.namespace, revision.name)


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
