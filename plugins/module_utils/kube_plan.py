# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a deploy would do to each object: asked of the API server by dry runs, before anything is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils import kube_objects as objects
from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import ApiError, Cluster, in_parallel
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import FIELD_MANAGER, Manifest, ObjectId
from ansible_collections.appgate.platform.plugins.module_utils.kube_revisions import Revision

APPLY = "application/apply-patch+yaml"
#: Never removed because a later version no longer lists them: too much would go with them.
NEVER_PRUNED = ("Namespace", "CustomResourceDefinition", "PersistentVolumeClaim")


class TransactionError(Exception):
    """The deploy did not happen, or was put back; the text explains it to a person."""

    def __init__(self, message: str, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass(frozen=True)
class Change:
    """What happens to one object."""

    identity: ObjectId
    action: str
    before: Manifest
    after: Manifest
    base_name: str

    def summary(self) -> dict[str, str]:
        """For a result."""
        return {
            "action": self.action,
            "kind": self.identity.kind,
            "namespace": self.identity.namespace,
            "name": self.identity.name,
        }


@dataclass
class Outcome:
    """What came of a run."""

    changed: bool = False
    changes: list[Change] = field(default_factory=list)
    revision: int = 0
    previous_revision: int = 0
    rolled_back_to: int = 0
    server_version: str = ""
    network_policy_engine: str | None = None
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    probes: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    revisions: list[dict[str, Any]] = field(default_factory=list)

    def diff(self) -> list[dict[str, str]]:
        """For `--diff`: an object of which only the hash in the name differs is one object."""
        removed = {
            (change.identity.kind, change.base_name): change for change in self.changes if change.action == "delete"
        }
        created = {(change.identity.kind, change.base_name) for change in self.changes if change.action == "create"}
        diffs = []
        for change in self.changes:
            key = (change.identity.kind, change.base_name)
            before, header = change.before, str(change.identity)
            if change.action == "create" and key in removed:
                before, header = removed[key].before, str(removed[key].identity)
            elif change.action == "delete" and key in created:
                continue
            hidden_before, hidden_after = objects.hide_secrets(before, change.after)
            diffs.append(
                {
                    "before_header": header,
                    "after_header": str(change.identity),
                    "before": objects.as_yaml(hidden_before),
                    "after": objects.as_yaml(hidden_after),
                }
            )
        return diffs


@dataclass
class Planned:
    """One wanted object next to the live one."""

    identity: ObjectId
    path: str
    effective: Manifest
    live: Manifest | None
    change: Change | None
    refusal: str = ""
    warnings: tuple[str, ...] = ()


@dataclass
class Plan:
    """What a deploy does: to each wanted object, and to those that are no longer wanted."""

    planned: list[Planned]
    pruned: list[tuple[ObjectId, str, Manifest]]
    #: Whether the current revision already says what is wanted.
    settled: bool = False

    def changes(self) -> list[Change]:
        found = [item.change for item in self.planned if item.change]
        for identity, _path, live in self.pruned:
            found.append(Change(identity, "delete", objects.essence(live), {}, objects.base_name(live)))
        return found

    def live(self) -> dict[ObjectId, Manifest]:
        return {item.identity: item.live for item in self.planned if item.live is not None}


class Planner:
    """Compares the objects of one release in one namespace with what the cluster has."""

    def __init__(self, cluster: Cluster, release: str, namespace: str) -> None:
        self.cluster = cluster
        self.release = release
        self.namespace = namespace
        #: API groups of the cluster, once they are known.
        self.groups: set[str] = set()
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def own(self, manifests: Sequence[Any]) -> list[Manifest]:
        """Check manifests, and give them the release's namespace and label. Raises TransactionError."""
        try:
            checked = objects.check_manifests(manifests, self.namespace)
        except objects.ManifestError as error:
            raise TransactionError(f"Refused before anything was changed: {error}.") from None
        own = []
        for manifest in checked:
            _plural, namespaced = self.resource(manifest)
            if namespaced:
                manifest["metadata"].setdefault("namespace", self.namespace)
            own.append(objects.with_release(manifest, self.release))
        return own

    def resource(self, manifest: Mapping[str, Any]) -> tuple[str, bool]:
        """The plural of a kind, from the table or from the cluster."""
        api_version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
        group = api_version.rpartition("/")[0]
        known = objects.KINDS.get((group, kind)) or self._resources.get((api_version, kind))
        if known:
            return known
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        for resource in (self.cluster.get(root) or {}).get("resources") or []:
            if "/" not in resource["name"]:
                self._resources[api_version, resource["kind"]] = (resource["name"], bool(resource["namespaced"]))
        if (api_version, kind) not in self._resources:
            raise TransactionError(
                f"The cluster of context {self.cluster.entry.context!r} has no kind {kind} in {api_version} "
                f"(wanted by {kind} {manifest['metadata']['name']}). Install what defines it first; nothing was changed."
            )
        return self._resources[api_version, kind]

    def path(self, identity: ObjectId) -> str:
        """Where the API server has an object."""
        manifest = {"apiVersion": identity.api_version, "kind": identity.kind, "metadata": {"name": identity.name}}
        plural, _namespaced = self.resource(manifest)
        return objects.resource_path(identity.api_version, plural, identity.namespace, identity.name)

    def is_unknown(self, manifest: Mapping[str, Any]) -> bool:
        """Whether the cluster lacks the API group of an object."""
        group = str(manifest["apiVersion"]).rpartition("/")[0]
        # The groups of Kubernetes itself are always there, and apps and batch have no dot.
        return "." in group and not group.endswith(".k8s.io") and group not in self.groups

    def compare(self, wanted: list[Manifest], candidates: set[ObjectId], namespace_exists: bool) -> Plan:
        """Say what applying these would change, and which of the candidates are no longer wanted."""
        identities = {objects.object_id(manifest) for manifest in wanted}
        leftovers = sorted(item for item in candidates - identities if item.kind not in NEVER_PRUNED)

        def look(item: Manifest | ObjectId) -> Planned | tuple[ObjectId, str, Manifest] | None:
            if isinstance(item, ObjectId):
                return self._owned_object(item) if namespace_exists else None
            return self._dry_run(item, namespace_exists)

        planned: list[Planned] = []
        pruned: list[tuple[ObjectId, str, Manifest]] = []
        for found in in_parallel(look, [*wanted, *leftovers]):
            if isinstance(found, Planned):
                planned.append(found)
            elif found:
                pruned.append(found)
        return Plan(planned, pruned)

    def _dry_run(self, manifest: Manifest, namespace_exists: bool) -> Planned:
        identity = objects.object_id(manifest)
        path = self.path(identity)
        if self.is_unknown(manifest):  # in check mode only: a deploy refuses it before
            change = Change(identity, "create", {}, objects.essence(manifest), objects.base_name(manifest))
            warning = f"{identity.kind} could not be validated: the cluster does not know {identity.api_version} yet"
            return Planned(identity, path, manifest, None, change, warnings=(warning,))
        if identity.namespace and not namespace_exists:
            return self._dry_run_without_namespace(manifest, identity, path)
        live = self.cluster.get(path)
        effective = _adopt(manifest, live, self.release)
        planned = Planned(identity, path, effective, live, None)
        try:
            answer = self.patch(path, effective, dry_run=True)
        except ApiError as error:
            missing = error.status == 404 and not error.details
            planned.refusal = (
                f"the cluster does not know this kind of {identity.api_version}" if missing else error.message
            )
            return planned
        planned.warnings = answer.warnings
        before, after = objects.essence(live), objects.essence(answer.json())
        if before != after:
            action = "update" if live else "create"
            planned.change = Change(identity, action, before, after, objects.base_name(after))
        return planned

    def _dry_run_without_namespace(self, manifest: Manifest, identity: ObjectId, path: str) -> Planned:
        """Where the namespace is still to be made, the server validates against the one that always exists."""
        planned = Planned(
            identity,
            path,
            manifest,
            None,
            Change(identity, "create", {}, objects.essence(manifest), objects.base_name(manifest)),
        )
        elsewhere = {**manifest, "metadata": {**manifest["metadata"], "namespace": "default"}}
        plural, _namespaced = self.resource(manifest)
        try:
            answer = self.cluster.call(
                "POST",
                objects.resource_path(identity.api_version, plural, "default"),
                elsewhere,
                query={"dryRun": "All", "fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"},
            )
            planned.warnings = answer.warnings
        except ApiError as error:
            if error.status in (400, 422):
                planned.refusal = error.message
            elif error.status != 409:  # an object of that name is there already: its manifest was fine
                planned.warnings = (f"{identity} could not be validated before its namespace exists: {error.message}",)
        return planned

    def refuse(self, plan: Plan, made: Sequence[Change] = ()) -> None:
        """Raise TransactionError if the API server would refuse any of it."""
        refused = [item for item in plan.planned if item.refusal]
        if not refused:
            return
        context = self.cluster.entry.context
        done = f"nothing but {made[0].identity} was made" if made else "nothing was changed"
        raise TransactionError(
            rollout.report(
                f"The API server of context {context!r} refuses {len(refused)} of {len(plan.planned)} objects; {done}.",
                [(f"{item.identity}:", [item.refusal]) for item in refused],
            )
        )

    def _owned_object(self, identity: ObjectId) -> tuple[ObjectId, str, Manifest] | None:
        """The live object, if it is one of this release and not already going."""
        try:
            path = self.path(identity)
            live = self.cluster.get(path)
        except TransactionError:  # its kind is gone from the cluster, and the object with it
            return None
        if live is None or (live["metadata"].get("labels") or {}).get(objects.RELEASE_LABEL) != self.release:
            return None
        return identity, path, live

    def owned(self, history: Sequence[Revision]) -> list[tuple[ObjectId, str, Manifest]]:
        """Every live object of the release: found by its label, and by the revisions' lists."""
        namespace = self.namespace
        selector = {"labelSelector": f"{objects.RELEASE_LABEL}={self.release}"}
        recorded = {
            objects.object_id(manifest)
            for revision in history
            for manifest in revision.manifests()
            if manifest["kind"] not in ("Namespace", "CustomResourceDefinition")
        }
        versions = {(identity.group, identity.kind): identity.api_version for identity in recorded}

        def search(item: tuple[tuple[str, str], tuple[str, bool]]) -> list[tuple[ObjectId, str, Manifest]]:
            (group, kind), (plural, _namespaced) = item
            api_version = versions.get((group, kind)) or (
                "v1" if not group else f"{group}/{'v2' if group == 'autoscaling' else 'v1'}"
            )
            try:
                listed = self.cluster.get(objects.resource_path(api_version, plural, namespace), selector) or {}
            except ApiError as error:
                if error.status == 403:
                    return []
                raise
            found = []
            for live in listed.get("items", []):
                name = live["metadata"]["name"]
                live = {"apiVersion": api_version, "kind": kind, **live}
                identity = ObjectId(api_version, kind, namespace, name)
                found.append((identity, objects.resource_path(api_version, plural, namespace, name), live))
            return found

        listed = [item for item in objects.KINDS.items() if item[1][1]]
        found = {entry[0]: entry for entries in in_parallel(search, listed) for entry in entries}
        others = sorted(recorded - set(found))
        for entry in in_parallel(self._owned_object, others):
            if entry:
                found[entry[0]] = entry
        return [found[identity] for identity in sorted(found)]

    def patch(self, path: str, manifest: Manifest, *, dry_run: bool = False) -> Any:
        """Apply an object server-side."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self.cluster.call("PATCH", path, manifest, query=query, content_type=APPLY)


def _adopt(manifest: Manifest, live: Manifest | None, release: str) -> Manifest:
    """What must be taken over from the live object so that applying doesn't undo what others decide."""
    if manifest["kind"] == "Namespace" and (live is None or annotation(live, objects.CREATED_BY_ANNOTATION) == release):
        adopted: Manifest = json.loads(json.dumps(manifest))
        adopted["metadata"].setdefault("annotations", {})[objects.CREATED_BY_ANNOTATION] = release
        return adopted
    spec = manifest.get("spec")
    if manifest["kind"] in ("Deployment", "StatefulSet") and live and isinstance(spec, dict) and "replicas" not in spec:
        # Somebody else scales it (an autoscaler): leaving the field out would set it back to 1.
        return {**manifest, "spec": {**spec, "replicas": (live.get("spec") or {}).get("replicas", 1)}}
    return manifest


def annotation(live: Mapping[str, Any], key: str) -> str:
    """An annotation's value, empty without it."""
    return str(((live.get("metadata") or {}).get("annotations") or {}).get(key, ""))
