# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A deploy as a transaction: validate all, apply all, wait once, probe from outside; on failure explain and put back.

Every deploy that changes something leaves a revision: a Secret that holds what was applied. It is written before the
first object is touched, so that an interrupted run is known to the next one, which then goes on from there.

Whoever changes something holds the release's Lease meanwhile. What was planned before it was taken is planned again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from ansible_collections.appgate.platform.plugins.module_utils import kube_objects as objects
from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    AccessError,
    ApiError,
    Cluster,
    Permission,
    in_parallel,
    policy_engine,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_diagnosis import Diagnosis
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import FIELD_MANAGER, Manifest, ObjectId
from ansible_collections.appgate.platform.plugins.module_utils.kube_plan import (
    Change,
    Outcome,
    Plan,
    Planner,
    TransactionError,
    annotation,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_probe import Outside, Probe, lacks_address
from ansible_collections.appgate.platform.plugins.module_utils.kube_revisions import (
    DEPLOYED,
    FAILED,
    PENDING,
    SUPERSEDED,
    Revision,
    Revisions,
    TakenError,
)

if TYPE_CHECKING:
    from ansible_collections.appgate.platform.plugins.module_utils.kube_lease import Lease

#: Whose presence, made by somebody else, keeps a namespace from being removed.
FOREIGN_KINDS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("networking.k8s.io/v1", "Ingress"),
)
#: Kubernetes, OpenShift and Istio put one of these into every namespace.
_IN_EVERY_NAMESPACE = ("kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert")
_POD_OWNERS = ("deployments", "statefulsets", "daemonsets", "jobs")
POLL_SECONDS = 1.0
FIRST_POLL_SECONDS = 0.25


class _NamespaceGoneError(TransactionError):
    """Somebody removed the namespace while this run waited."""


class _NotUpError(Exception):
    """What was applied does not serve."""

    def __init__(self, sections: Sequence[tuple[str, Sequence[str]]]) -> None:
        super().__init__("not up")
        self.sections = list(sections)


@dataclass(frozen=True)
class Settings:
    """What a run is about."""

    release: str
    namespace: str
    wait_timeout_seconds: float = 180.0
    namespace_wait_seconds: float = 0.0
    lock_wait_seconds: float = 300.0
    history_limit: int = 10
    probes: tuple[Probe, ...] = ()
    description: str = ""
    check_mode: bool = False
    roll_back: bool = True
    #: Called before each pause of a wait, with how far it is.
    on_progress: Callable[[str], None] = lambda text: None
    #: Called when another run has to end first, with that sentence.
    on_lock_wait: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class _Ground:
    """What a release stands on: the namespace, and what earlier runs left."""

    namespace: Manifest | None
    history: list[Revision]

    @property
    def current(self) -> Revision | None:
        """The revision that serves."""
        return next((revision for revision in reversed(self.history) if revision.status == DEPLOYED), None)

    @property
    def before(self) -> Revision | None:
        """The revision that a rollback goes to."""
        current = self.current
        for revision in reversed(self.history):
            if revision.status == SUPERSEDED and (current is None or revision.checksum != current.checksum):
                return revision
        return None

    def in_doubt(self) -> bool:
        """Whether objects may be there that the current revision doesn't tell of.

        A failed revision has been put back, so it doesn't count; an interrupted one may have left anything behind. Two
        deployed ones come from runs that knew no lease, or from one that was killed at its very end.
        """
        deployed = [revision for revision in self.history if revision.status == DEPLOYED]
        return len(deployed) != 1 or any(
            revision.status == PENDING and revision.number > deployed[0].number for revision in self.history
        )

    def made(self) -> set[ObjectId]:
        """What earlier runs made: the objects of the first deployed revision, and those of every run after it."""
        first = next((revision.number for revision in self.history if revision.status == DEPLOYED), 0)
        return {found for revision in self.history if revision.number >= first for found in revision.identities()}


@dataclass(frozen=True)
class _Removal:
    """What is to be removed: paths, and what becomes of the namespace."""

    objects: list[str]
    records: list[str]
    namespace_goes: bool
    release_namespace: bool


class Transaction:
    """One release in one namespace of one cluster."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.cluster = cluster
        self.settings = settings
        self._planner = Planner(cluster, settings.release, settings.namespace)
        self._lease: Lease | None = None
        self._notes: list[str] = []
        self._revisions = Revisions(cluster, settings.namespace, settings.release)
        self._diagnosis = Diagnosis(cluster, settings.namespace)
        self._outside = Outside(cluster, settings.namespace)

    # -- entry points --------------------------------------------------------------------------------------------

    def deploy(self, manifests: Sequence[Any]) -> Outcome:
        """Bring the cluster to these manifests, or leave it as it was."""
        outcome = Outcome(server_version=self.cluster.version())
        wanted = self._planner.own(manifests)
        ground = self._look(self._permissions(wanted), outcome)
        return self._run(wanted, ground, outcome, self.settings.description)

    def roll_back(self, number: int | None) -> Outcome:
        """Go to an earlier revision: the one of that number, or the one before the current one."""
        outcome = Outcome(server_version=self.cluster.version())
        ground = self._look([], outcome)
        target = self._choose(ground, number)
        wanted = target.manifests()
        self.cluster.require(self._permissions(wanted))
        back = f"rollback to revision {target.number}"
        return self._run(wanted, ground, outcome, back, relative=number is None)

    def remove(self, *, remove_namespace: bool = True) -> Outcome:
        """Remove every object of the release, and the namespace if this release made it."""
        outcome = Outcome(server_version=self.cluster.version())
        settings = self.settings
        namespace = self._namespace()
        if namespace is None:
            return outcome
        if _is_terminating(namespace):
            self._await_gone([resource_of_namespace(settings.namespace)], "the namespace")
            outcome.changed = True
            return outcome
        self.cluster.require(self._removal_permissions(remove_namespace and self._has_made(namespace)))
        self._plan_removal(namespace, outcome, remove_namespace=remove_namespace)
        if settings.check_mode or not outcome.changed:
            return outcome
        with contextlib.suppress(_NamespaceGoneError), self._alone(outcome):
            namespace = self._namespace()
            if namespace is not None and not _is_terminating(namespace):
                # What was found before may be stale by now.
                self._carry_out_removal(self._plan_removal(namespace, outcome, remove_namespace=remove_namespace))
                return outcome
        self._await_gone([resource_of_namespace(settings.namespace)], "the namespace")
        return outcome

    def _plan_removal(self, namespace: Manifest, outcome: Outcome, *, remove_namespace: bool) -> _Removal:
        settings = self.settings
        history = self._revisions.read()
        targets = self._planner.owned(history)
        outcome.changes = [
            Change(identity, "delete", objects.essence(live), {}, objects.base_name(live))
            for identity, _path, live in targets
            # The lease of this run goes with its end. One that a dead run left is an object like any other.
            if not self._lease or identity.kind != "Lease" or self._lease.took_over
        ]
        made_it = self._has_made(namespace)
        owns_fields = _is_managed(namespace)
        outcome.warnings = [*self._notes]
        if remove_namespace and made_it:
            foreign = self._foreign({identity for identity, _path, _live in targets})
            if foreign:
                made_it = False
                outcome.warnings.append(
                    f"Namespace {settings.namespace} stays, because it also holds what others made: {', '.join(foreign)}."
                )
        namespace_goes = remove_namespace and made_it
        identity = ObjectId("v1", "Namespace", "", settings.namespace)
        if namespace_goes:
            outcome.changes.append(Change(identity, "delete", objects.essence(namespace), {}, settings.namespace))
        elif owns_fields:
            outcome.changes.append(
                Change(
                    identity, "update", objects.essence(namespace), self._release_namespace(True), settings.namespace
                )
            )
        outcome.changed = bool(outcome.changes)
        records = {revision.name for revision in history}
        paths: tuple[list[str], list[str]] = ([], [])
        for found, path, _live in targets:
            if not self._lease or path != self._lease.path:
                paths[found.name in records].append(path)
        return _Removal(*paths, namespace_goes, owns_fields and not namespace_goes)

    def _carry_out_removal(self, removal: _Removal) -> None:
        # Records go last: an interrupted removal must still know what there was to remove.
        for paths in (removal.objects, removal.records):
            self._stay_alone()
            in_parallel(self._delete, paths)
            self._await_gone(paths, "the objects")
        if removal.namespace_goes:
            path = resource_of_namespace(self.settings.namespace)
            self._stay_alone()
            self._delete(path)
            self._await_gone([path], "the namespace")
        elif removal.release_namespace:
            self._release_namespace(False)

    # -- the transaction itself ----------------------------------------------------------------------------------

    def _run(
        self, wanted: list[Manifest], ground: _Ground, outcome: Outcome, description: str, *, relative: bool = False
    ) -> Outcome:
        self._require_ground(wanted, ground.namespace)
        plan = self._study(wanted, ground, outcome)
        if self.settings.check_mode:
            outcome.services = self._outside.services(wanted, plan.live())
            return outcome
        if not outcome.changed:
            return self._carry_out(wanted, ground, plan, outcome, description)
        made: list[Change] = []
        if ground.namespace is None:  # the lease has to live somewhere
            made = [change for change in outcome.changes if change.identity.kind == "Namespace"]
            self._apply_namespace(plan)
        with self._alone(outcome):
            again = self._read_ground()
            if relative and again.current != ground.current:
                raise TransactionError(
                    f"While this run waited, another one left {self.settings.release} at "
                    f"{f'revision {again.current.number}' if again.current else 'no revision'}, so the one before is "
                    "another one now; nothing was changed. Run again, or name the revision to go to."
                )
            plan = self._study(wanted, again, outcome, made)
            return self._carry_out(wanted, again, plan, outcome, description)

    def _study(self, wanted: list[Manifest], ground: _Ground, outcome: Outcome, made: Sequence[Change] = ()) -> Plan:
        """Compare what is wanted with what there is, and say what is to be done."""
        current = ground.current
        plan = self._planner.compare(wanted, ground.made(), ground.namespace is not None)
        self._planner.refuse(plan, made)
        plan.settled = current is not None and current.checksum == objects.checksum(wanted) and not ground.in_doubt()
        outcome.changes = [*made, *plan.changes()]
        outcome.warnings = [*self._notes, *sorted({text for item in plan.planned for text in item.warnings})]
        outcome.changed = bool(outcome.changes) or not plan.settled
        outcome.previous_revision = current.number if current else 0
        next_number = ground.history[-1].number + 1 if ground.history else 1
        outcome.revision = current.number if current and plan.settled else next_number
        return plan

    def _carry_out(
        self, wanted: list[Manifest], ground: _Ground, plan: Plan, outcome: Outcome, description: str
    ) -> Outcome:
        record: Revision | None = None
        past = rollout.Past(self.cluster.server_time())
        try:
            self._apply_namespace(plan)
            if not plan.settled:
                self._stay_alone()
                record = self._revisions.write(outcome.revision, wanted, description)
            self._apply(plan)
            live = self._wait(wanted, None if outcome.changes else plan.live(), past)
            outcome.services = self._outside.services(wanted, live)
            outcome.probes = self._probe(wanted, live)
        except TakenError as error:
            raise TransactionError(str(error)) from None
        except (_NotUpError, ApiError) as error:
            raise self._recover(error, outcome, plan, ground, record) from None
        self._stay_alone()
        self._prune(plan)
        if record:
            self._close(record, ground.history)
        return outcome

    @contextlib.contextmanager
    def _alone(self, outcome: Outcome) -> Iterator[None]:
        """Hold the release's lease, so that no other run changes the release meanwhile."""
        # Only a run that changes something pays for the import.
        from ansible_collections.appgate.platform.plugins.module_utils import kube_lease

        settings, context = self.settings, self.cluster.entry.context
        release = f"{settings.release} in namespace {settings.namespace} of context {context!r}"
        lease = kube_lease.Lease(self.cluster, settings.namespace, settings.release)
        try:
            lease.acquire(
                settings.lock_wait_seconds,
                lambda holder: settings.on_lock_wait(
                    f"{release} is being changed by {holder}: waiting for up to {settings.lock_wait_seconds:g} s."
                ),
            )
        except kube_lease.HeldError as error:
            waited = f", and still was after {settings.lock_wait_seconds:g} s" if settings.lock_wait_seconds > 0 else ""
            raise TransactionError(
                f"{release} is being changed by {error}{waited}; nothing was changed here. Run again when that run has "
                f"ended, or have this one wait for it longer: {self.cluster.names.lock_wait_seconds}."
            ) from None
        except kube_lease.NamespaceGoneError:
            raise _NamespaceGoneError(
                f"Namespace {settings.namespace} of context {context!r} was removed while this run was about to change "
                f"{settings.release} in it; nothing was changed. Run again."
            ) from None
        if lease.took_over:
            self._notes.append(f"{release} was being changed by {lease.took_over}, which is dead: went on from there.")
        elif lease.waited_for:
            self._notes.append(
                f"{release} was being changed by {lease.waited_for}: waited {lease.waited_seconds:.0f} s."
            )
        self._lease = lease
        try:
            yield
        except kube_lease.LostError as error:
            raise TransactionError(str(error), outcome) from None
        finally:
            self._lease = None
            lease.release()

    def _stay_alone(self) -> None:
        """Asked before each step that writes: stop where another run may be at it by now."""
        if self._lease:
            self._lease.check()

    def _read_ground(self) -> _Ground:
        """The same questions as at the beginning of a run, for which there may be other answers by now."""
        namespace, history = in_parallel(lambda ask: ask(), [self._namespace, self._revisions.read])
        if namespace is not None and _is_terminating(namespace):
            self._refuse_terminating(namespace)
        return _Ground(namespace, history)

    def _look(self, permissions: Iterable[Permission], outcome: Outcome) -> _Ground:
        """Ask side by side for what every run needs to know; a missing permission is the first to be told."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            groups: Future[set[str]] = pool.submit(self.cluster.groups)
            namespace: Future[Manifest | None] = pool.submit(self._namespace)
            history: Future[list[Revision]] = pool.submit(self._revisions.read)
            self.cluster.require([*permissions, *self._record_permissions()])
            self._planner.groups = groups.result()
            outcome.network_policy_engine = policy_engine(self._planner.groups)
            found = namespace.result()
            if found is not None and _is_terminating(found):
                self._sit_out(found)
                return _Ground(None, [])
            return _Ground(found, history.result())

    def _sit_out(self, namespace: Manifest) -> None:
        """A namespace that is being deleted takes no new objects: wait as long as allowed, then refuse."""
        settings = self.settings
        path = resource_of_namespace(settings.namespace)
        if settings.namespace_wait_seconds > 0 and not settings.check_mode:
            with contextlib.suppress(TransactionError):
                self._await_gone([path], "the namespace", settings.namespace_wait_seconds)
                return
        self._refuse_terminating(namespace)

    def _refuse_terminating(self, namespace: Manifest) -> NoReturn:
        settings, names = self.settings, self.cluster.names
        since = (namespace.get("metadata") or {}).get("deletionTimestamp")
        conditions = (namespace.get("status") or {}).get("conditions") or []
        remaining = [str(item.get("message")) for item in conditions if item.get("status") == "True"]
        why = f" It still holds: {' '.join(remaining)}" if remaining else ""
        raise TransactionError(
            f"Namespace {settings.namespace} of context {self.cluster.entry.context!r} is being deleted "
            f"(since {since}), so nothing can be made in it. Run again when it is gone, have a run wait for that "
            f"({names.namespace_wait_seconds}), or use another one ({names.namespace}).{why}"
        )

    def _require_ground(self, wanted: Sequence[Manifest], namespace: Manifest | None) -> None:
        """Stop where the objects have nothing to stand on. Check mode goes on: an earlier play may be going to make it."""
        settings, context = self.settings, self.cluster.entry.context
        if settings.check_mode:
            return
        lacking: dict[str, set[str]] = {}
        for manifest in wanted:
            if self._planner.is_unknown(manifest):
                lacking.setdefault(str(manifest["apiVersion"]), set()).add(str(manifest["kind"]))
        if lacking:
            kinds = "; ".join(f"{', '.join(sorted(found))} of {version}" for version, found in sorted(lacking.items()))
            raise TransactionError(
                f"The cluster of context {context!r} does not know {kinds}: its CustomResourceDefinitions are not "
                f"installed. Install what brings them first; nothing was changed."
            )
        if namespace is None and not any(manifest["kind"] == "Namespace" for manifest in wanted):
            raise TransactionError(
                f"Namespace {settings.namespace} does not exist in context {context!r}, and {settings.release} is not "
                "to make it. Make it first, or name another one; nothing was changed."
            )

    # -- apply ---------------------------------------------------------------------------------------------------

    def _apply_namespace(self, plan: Plan) -> None:
        for item in plan.planned:
            if item.identity.kind == "Namespace" and item.change:
                self._planner.patch(item.path, item.effective)
                item.live = None
                item.change = None

    def _apply(self, plan: Plan) -> None:
        todo = {item.identity: item for item in plan.planned if item.change}
        batches = objects.in_batches(item.effective for item in todo.values())
        for batch in batches:
            self._stay_alone()
            in_parallel(lambda manifest: self._planner.patch(todo[objects.object_id(manifest)].path, manifest), batch)

    def _prune(self, plan: Plan) -> None:
        in_parallel(self._delete, [path for _identity, path, _live in plan.pruned])

    def _delete(self, path: str) -> None:
        # What owns pods goes after them, so that gone means gone; the rest goes at once.
        policy = "Foreground" if path.split("/")[-2] in _POD_OWNERS else "Background"
        try:
            self.cluster.call("DELETE", path, {"propagationPolicy": policy})
        except ApiError as error:
            if error.status not in (404, 409):  # 409: a namespace that is already being deleted
                raise

    def _await_gone(self, paths: Sequence[str], what: str, timeout_seconds: float | None = None) -> None:
        end = time.monotonic() + (self.settings.wait_timeout_seconds if timeout_seconds is None else timeout_seconds)
        pause = FIRST_POLL_SECONDS
        left = list(paths)
        while left:
            found: list[Manifest | None] = []
            trouble = ""
            try:
                found = in_parallel(self.cluster.get, left)
                left = [path for path, live in zip(left, found, strict=True) if live is not None]
                if not left:
                    return
            except (ApiError, AccessError) as error:
                trouble = f" {_passing_trouble(error)}"
            if time.monotonic() >= end:
                holders = sorted({text for live in found if live for text in live["metadata"].get("finalizers") or []})
                held = f" Finalizers that hold them: {', '.join(holders)}." if holders else ""
                raise TransactionError(f"Waited too long for {what} to go: {', '.join(left)}.{held}{trouble}")
            time.sleep(pause)
            pause = min(POLL_SECONDS, pause * 2)

    # -- wait, probe, explain ------------------------------------------------------------------------------------

    def _wait(
        self, wanted: list[Manifest], live: dict[ObjectId, Manifest] | None, past: rollout.Past
    ) -> dict[ObjectId, Manifest]:
        """Until all workloads are rolled out and all probed load balancers have an address."""
        identities = [
            objects.object_id(manifest)
            for manifest in wanted
            if manifest["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Service")
        ]
        started = time.monotonic()
        pause = FIRST_POLL_SECONDS
        while True:
            waiting: list[str] = []
            stuck: list[Manifest] = []
            failures: list[rollout.Failure] = []
            gave_up = False
            elapsed = time.monotonic() - started
            try:
                if live is None:
                    live = self._look_at(identities)
                waiting, stuck, gave_up = self._unfinished(identities, live, past)
                if not waiting:
                    return live
                if elapsed > POLL_SECONDS:
                    failures = past.sift(self._diagnosis.failures(stuck))
            except (ApiError, AccessError) as error:
                waiting.append(_passing_trouble(error))
            self.settings.on_progress("; ".join(waiting))
            late = elapsed >= self.settings.wait_timeout_seconds
            if late or gave_up or any(failure.hopeless for failure in failures):
                if late:
                    waiting.insert(0, f"gave up after {elapsed:.0f} s")
                raise _NotUpError(self._explain(waiting, failures, stuck))
            time.sleep(pause)
            pause = min(POLL_SECONDS, pause * 2)
            live = None
            self._stay_alone()

    def _look_at(self, identities: Sequence[ObjectId]) -> dict[ObjectId, Manifest]:
        found = in_parallel(self.cluster.get, [self._planner.path(identity) for identity in identities])
        return {identity: item for identity, item in zip(identities, found, strict=True) if item is not None}

    def _unfinished(
        self, identities: Sequence[ObjectId], live: Mapping[ObjectId, Manifest], past: rollout.Past
    ) -> tuple[list[str], list[Manifest], bool]:
        """What is still to come, in words; the workloads of it; and whether Kubernetes itself gave one up."""
        probed = {probe.service for probe in self.settings.probes}
        waiting: list[str] = []
        stuck: list[Manifest] = []
        gave_up = False
        for identity in identities:
            item = live.get(identity)
            if item is None:
                raise _NotUpError([("Why:", [f"{identity} was removed while this run waited for it"])])
            if identity.kind == "Service":
                if identity.name in probed and lacks_address(item):
                    waiting.append(f"{identity} has no load-balancer address yet")
                continue
            state = rollout.progress(item, past)
            if not state.done:
                waiting.append(state.text)
                stuck.append(item)
                gave_up = gave_up or state.failed
        return waiting, stuck, gave_up

    def _explain(
        self, waiting: Sequence[str], failures: Sequence[rollout.Failure], workloads: Sequence[Manifest]
    ) -> list[tuple[str, Sequence[str]]]:
        """All that can be said; without the API server, what is known already."""
        try:
            return self._diagnosis.sections(waiting, failures, workloads)
        except AccessError as error:
            known = [*waiting, *(failure.sentence() for failure in failures), str(error)]
            return [("Why:", list(dict.fromkeys(known)))]

    def _probe(self, wanted: Iterable[Manifest], live: Mapping[ObjectId, Manifest]) -> list[dict[str, Any]]:
        results = []
        for probe in self.settings.probes:
            end = time.monotonic() + probe.timeout_seconds
            pause = FIRST_POLL_SECONDS
            while True:
                where, problem = self._outside.ask(probe, live)
                if not problem:
                    results.append({"url": where, "status": probe.status})
                    break
                if time.monotonic() >= end:
                    workloads = [live[key] for key in live if key.kind != "Service"]
                    failures = self._diagnosis.failures(workloads)
                    why = f"{where} was asked from outside for {probe.timeout_seconds:g} s and {problem}"
                    ready = self._diagnosis.ready_endpoints(probe.service)
                    waiting = [why] if ready != 0 else [why, f"Service {probe.service} has no ready endpoint"]
                    raise _NotUpError(self._diagnosis.sections(waiting, failures, workloads))
                time.sleep(pause)
                pause = min(POLL_SECONDS, pause * 2)
        return results

    # -- put back ------------------------------------------------------------------------------------------------

    def _recover(
        self,
        error: _NotUpError | ApiError,
        outcome: Outcome,
        plan: Plan,
        ground: _Ground,
        record: Revision | None,
    ) -> TransactionError:
        """Explain, put the last good revision back if there is one, and hand over the error to raise."""
        self._stay_alone()
        current = ground.current
        settings, release = self.settings, self.settings.release
        sections = error.sections if isinstance(error, _NotUpError) else [("Why:", [error.message])]
        place = f"in namespace {settings.namespace} of context {self.cluster.entry.context!r}"
        look = (
            f"kubectl --kubeconfig {self.cluster.entry.path} --context {self.cluster.entry.context} "
            f"-n {settings.namespace} get pods,events"
        )
        if record is None:
            what = "does not serve" if isinstance(error, _NotUpError) else "could not be applied"
            title = f"{release} {place} {what}. It is at revision {outcome.revision}, and there is none to put back."
            return TransactionError(rollout.report(title, [*sections, ("Look further:", [look])]), outcome)
        title = f"Revision {record.number} of {release} {place} did not come up."
        if current is None or not settings.roll_back:
            why = "There is no earlier revision to put back" if current is None else "Putting back is switched off"
            self._fail(record, ground.history, objects_stay=True)
            title = f"{title} {why}: its objects stay for a look. Correct the cause and run again."
            return TransactionError(rollout.report(title, [*sections, ("Look further:", [look])]), outcome)
        try:
            self._put_back(current, plan)
        except (_NotUpError, ApiError, AccessError, TransactionError) as second:
            reasons = second.sections if isinstance(second, _NotUpError) else [("Why:", [str(second)])]
            came = "was put back, but does not come up either"
            if not isinstance(second, _NotUpError):
                came = "could not be put back"
            title = f"{title} Revision {current.number} {came}."
            again = [(f"Revision {current.number}: {heading}", lines) for heading, lines in reasons]
            return TransactionError(rollout.report(title, [*sections, *again, ("Look further:", [look])]), outcome)
        self._fail(record, ground.history)
        outcome.rolled_back_to = current.number
        title = f"{title} Revision {current.number} has been put back and serves. Correct the cause and run again."
        return TransactionError(rollout.report(title, sections), outcome)

    def _put_back(self, revision: Revision, failed: Plan) -> None:
        wanted = revision.manifests()
        candidates = {item.identity for item in failed.planned} | {identity for identity, _path, _live in failed.pruned}
        plan = self._planner.compare(wanted, candidates, True)
        self._planner.refuse(plan)
        past = rollout.Past(self.cluster.server_time())
        self._apply_namespace(plan)
        self._apply(plan)
        live = self._wait(wanted, None, past)
        self._probe(wanted, live)
        self._stay_alone()
        self._prune(plan)

    # -- history -------------------------------------------------------------------------------------------------

    def _choose(self, ground: _Ground, number: int | None) -> Revision:
        settings, history = self.settings, ground.history
        known = [(f"Revisions of {settings.release} in namespace {settings.namespace}:", [r.line() for r in history])]
        if not history:
            raise TransactionError(
                f"{settings.release} has no revisions in namespace {settings.namespace} of context "
                f"{self.cluster.entry.context!r}: there is nothing to go back to."
            )
        if number is not None:
            for revision in history:
                if revision.number == number:
                    return revision
            remedy = f"Set {self.cluster.names.revision} to one of these, or leave it out for the one before."
            raise TransactionError(rollout.report(f"There is no revision {number} to go back to. {remedy}", known))
        if ground.before is None:
            raise TransactionError(rollout.report("There is no earlier revision to go back to.", known))
        return ground.before

    def _close(self, record: Revision, history: Sequence[Revision]) -> None:
        """The new one counts from now on; those beyond the limit go."""
        self._revisions.mark(record.name, DEPLOYED)
        self._trim([*self._revisions.retire(history), replace(record, status=DEPLOYED)])

    def _fail(self, record: Revision, history: Sequence[Revision], *, objects_stay: bool = False) -> None:
        """The new one has come to nothing; those beyond the limit go."""
        with contextlib.suppress(ApiError, AccessError):  # records are no reason to hide the error that is being told
            self._revisions.mark(record.name, FAILED)
            current = _Ground(None, list(history)).current
            if not objects_stay:
                others = self._revisions.retire(item for item in history if item is not current)
                history = sorted([*others, *([current] if current else [])], key=lambda item: item.number)
            self._trim([*history, replace(record, status=FAILED)], objects_stay=objects_stay)

    def _trim(self, history: list[Revision], *, objects_stay: bool = False) -> None:
        """Of those beyond the limit, the failed ones go first, then those that served, each the oldest first.

        What serves stays, and what a rollback would go to; so does the latest, from whose number the next one counts on.
        """
        surplus = len(history) - self.settings.history_limit
        if surplus <= 0:
            return
        *earlier, latest = history
        before = _Ground(None, history).before
        failed = [item for item in earlier if item.status == FAILED]
        served = [item for item in earlier if item.status == SUPERSEDED and item is not before]
        if objects_stay:
            # Only by its record does a later run know what there is to remove.
            known = latest.identities()
            failed, served = [item for item in failed if item.identities() <= known], []
        doomed = [*failed, *served][:surplus]
        in_parallel(lambda item: self._delete(self._revisions.path(item)), doomed)

    # -- small questions -----------------------------------------------------------------------------------------

    def _namespace(self) -> Manifest | None:
        try:
            return self.cluster.get(resource_of_namespace(self.settings.namespace))
        except ApiError as error:
            if error.status == 403:  # `require` says this better
                return None
            raise

    def _permissions(self, wanted: Iterable[Manifest]) -> list[Permission]:
        """What a deploy of these does: read, apply, and remove what is no longer wanted."""
        namespace = self.settings.namespace
        found: list[Permission] = []
        for manifest in wanted:
            identity = objects.object_id(manifest)
            plural, namespaced = self._planner.resource(manifest)
            if identity.kind == "Namespace":
                found.append(Permission("create", "", plural))
                found += [Permission(verb, "", plural, name=identity.name) for verb in ("get", "patch")]
                continue
            where = namespace if namespaced else ""
            found += [Permission(verb, identity.group, plural, where) for verb in ("get", "create", "patch", "delete")]
        return [
            *found,
            Permission("list", "apps", "replicasets", namespace),
            Permission("list", "", "pods", namespace),
            Permission("list", "", "events", namespace),
            Permission("get", "", "pods", namespace, subresource="log"),
        ]

    def _record_permissions(self) -> list[Permission]:
        namespace = self.settings.namespace
        return [
            *(Permission(verb, "", "secrets", namespace) for verb in ("list", "create", "patch", "delete")),
            *self._lease_permissions(),
        ]

    def _lease_permissions(self) -> list[Permission]:
        namespace, group = self.settings.namespace, "coordination.k8s.io"
        return [Permission(verb, group, "leases", namespace) for verb in ("get", "create", "update", "delete")]

    def _removal_permissions(self, namespace_goes: bool) -> list[Permission]:
        namespace = self.settings.namespace
        # What others keep there would go with the namespace, so it has to be seen.
        foreign = [(version.rpartition("/")[0], kind) for version, kind in FOREIGN_KINDS if namespace_goes]
        return [
            *(
                Permission(verb, group, resource, namespace)
                for group, resource in (("", "secrets"), ("apps", "deployments"), ("", "services"))
                for verb in ("list", "delete")
            ),
            *self._lease_permissions(),
            Permission("list", "coordination.k8s.io", "leases", namespace),
            *(Permission("list", group, objects.KINDS[group, kind][0], namespace) for group, kind in foreign),
        ]

    def _foreign(self, own: set[ObjectId]) -> list[str]:
        """What else runs or is stored in the namespace. Raises ApiError where that can't be seen."""
        names = {(identity.kind, identity.name) for identity in own}
        foreign = []
        for api_version, kind in FOREIGN_KINDS:
            plural = objects.KINDS[api_version.rpartition("/")[0], kind][0]
            listed = self.cluster.get(objects.resource_path(api_version, plural, self.settings.namespace)) or {}
            for item in listed.get("items") or []:
                metadata = item["metadata"]
                known = (kind, metadata["name"]) in names or metadata.get("ownerReferences")
                if not known and not _is_everywhere(kind, item):
                    foreign.append(f"{kind} {metadata['name']}")
        return foreign

    def _has_made(self, namespace: Manifest) -> bool:
        return annotation(namespace, objects.CREATED_BY_ANNOTATION) == self.settings.release

    def _release_namespace(self, dry_run: bool) -> Manifest:
        """Give up the labels that were put on a namespace that stays."""
        bare = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.settings.namespace}}
        answer = self._planner.patch(resource_of_namespace(self.settings.namespace), bare, dry_run=dry_run)
        return objects.essence(answer.json())


def resource_of_namespace(name: str) -> str:
    """The path of a namespace."""
    return objects.resource_path("v1", "namespaces", "", name)


def _is_managed(live: Mapping[str, Any]) -> bool:
    fields = (live.get("metadata") or {}).get("managedFields") or []
    return any(item.get("manager") == FIELD_MANAGER and item.get("operation") == "Apply" for item in fields)


def _is_everywhere(kind: str, item: Mapping[str, Any]) -> bool:
    """Whether the cluster itself makes such objects in its namespaces."""
    if kind == "Secret":
        return item.get("type") == "kubernetes.io/service-account-token"
    return kind == "ConfigMap" and item["metadata"]["name"] in _IN_EVERY_NAMESPACE


def _passing_trouble(error: ApiError | AccessError) -> str:
    """Why a poll got no answer, in words, where the next one may get it. Raises the error where asking again is no use."""
    if isinstance(error, AccessError):
        return str(error)
    if error.status != 429 and error.status < 500:
        raise error
    return f"The API server answered {error.status}: {error.message}"


def _is_terminating(namespace: Mapping[str, Any]) -> bool:
    return bool((namespace.get("metadata") or {}).get("deletionTimestamp"))
