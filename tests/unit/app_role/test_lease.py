# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Two runs at the same release: one waits, and a dead one is nobody's obstacle. Against a real API server."""

from __future__ import annotations

import datetime
import itertools
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import kube_lease
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    AccessError,
    ApiError,
    Cluster,
    connect,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_plan import Outcome, TransactionError
from ansible_collections.appgate.platform.plugins.module_utils.kube_transaction import Transaction

from tests.unit.control_plane import ControlPlane

pytestmark = pytest.mark.usefixtures("node")

Make = Callable[..., Transaction]
Manifests = Callable[..., list[dict[str, Any]]]

MERGE = "application/merge-patch+json"
STUCK = "registry.test/stuck@sha256:" + "b" * 64
PATIENCE_SECONDS = 60.0


def leases(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def lease(namespace: str) -> str:
    return f"{leases(namespace)}/demo-deploy"


def statuses(transaction: Make) -> list[tuple[int, str]]:
    return [(item.number, item.status) for item in transaction()._revisions.read()]


def text_of(cluster: Cluster, namespace: str) -> str:
    live = cluster.get(f"/api/v1/namespaces/{namespace}/configmaps/demo")
    assert live
    return str(live["data"]["text"])


def put_lease(cluster: Cluster, namespace: str, *, age_seconds: float, holder: str = "ci-7/4711/then") -> None:
    """What a run on another machine has left, or renewed just now."""
    at = (cluster.server_time() - datetime.timedelta(seconds=age_seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 30, "acquireTime": at, "renewTime": at}
    labels = {"appgate.platform/release": "demo"}
    body = {"metadata": {"name": "demo-deploy", "labels": labels}, "spec": spec}
    cluster.call("POST", leases(namespace), body)


class Held:
    """A deploy that stands still once its objects are applied, until it is let go."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.inside = threading.Event()
        self.go = threading.Event()
        self._wait = transaction._wait
        transaction._wait = self._stand_still  # type: ignore[assignment, method-assign]

    def _stand_still(self, *arguments: Any) -> Any:
        self.inside.set()
        assert self.go.wait(PATIENCE_SECONDS)
        return self._wait(*arguments)


def in_turn(first: Held, first_work: Callable[[], Outcome], second: Callable[..., Outcome]) -> tuple[Outcome, Outcome]:
    """Start the second while the first is in the middle, and let the first go on once the second waits or is done."""
    waits = threading.Event()
    with ThreadPoolExecutor(max_workers=2) as pool:
        one = pool.submit(first_work)
        assert first.inside.wait(PATIENCE_SECONDS), one.exception(timeout=0) if one.done() else "still on its way"
        two = pool.submit(second, lambda text: waits.set())
        two.add_done_callback(lambda done: waits.set())
        assert waits.wait(PATIENCE_SECONDS)
        first.go.set()
        return one.result(PATIENCE_SECONDS), two.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("deployed_before", [False, True])
def test_of_two_deploys_at_once_one_waits_and_one_revision_is_deployed_at_the_end(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, deployed_before: bool
) -> None:
    if deployed_before:
        transaction().deploy(manifests())
    held = Held(transaction())
    one, two = in_turn(
        held,
        lambda: held.transaction.deploy(manifests(text="first")),
        lambda on_wait: transaction(on_lock_wait=on_wait).deploy(manifests(text="second")),
    )
    before = [(1, "superseded")] if deployed_before else []
    assert statuses(transaction) == [*before, (one.revision, "superseded"), (two.revision, "deployed")]
    assert text_of(cluster, namespace) == "second"
    assert two.previous_revision == one.revision
    [note] = two.warnings
    assert f"was being changed by process {os.getpid()} on host {socket.gethostname()} (since 20" in note
    assert cluster.get(lease(namespace)) is None
    assert not transaction().deploy(manifests(text="second")).changed


def test_the_same_deploy_twice_at_once_is_one_revision(transaction: Make, manifests: Manifests) -> None:
    held = Held(transaction())
    one, two = in_turn(
        held,
        lambda: held.transaction.deploy(manifests()),
        lambda on_wait: transaction(on_lock_wait=on_wait).deploy(manifests()),
    )
    assert one.changed
    assert not two.changed
    assert statuses(transaction) == [(1, "deployed")]


def test_what_a_run_learned_before_it_waited_is_not_believed(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    """The second run's plan was made while the first one's ConfigMap was not there yet: it has to remove it."""
    transaction().deploy(manifests())
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}}
    held = Held(transaction())
    in_turn(
        held,
        lambda: held.transaction.deploy([*manifests(text="first"), extra]),
        lambda on_wait: transaction(on_lock_wait=on_wait).deploy(manifests(text="second")),
    )
    assert cluster.get(f"/api/v1/namespaces/{namespace}/configmaps/extra") is None


def test_a_lease_that_is_held_is_refused_with_its_holder(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    put_lease(cluster, namespace, age_seconds=0)
    with pytest.raises(TransactionError) as caught:
        transaction(lock_wait_seconds=0.0).deploy(manifests(text="two"))
    said = str(caught.value)
    assert f"demo in namespace {namespace} of context 'testing' is being changed by process 4711 on host ci-7" in said
    assert "nothing was changed here. Run again when that run has ended" in said
    assert "lock_wait_seconds" in said
    with pytest.raises(TransactionError, match="and still was after 1 s; nothing was changed here"):
        transaction(lock_wait_seconds=1.0).deploy(manifests(text="two"))
    with pytest.raises(TransactionError, match="is being changed by process 4711"):
        transaction(lock_wait_seconds=0.0).remove()
    assert text_of(cluster, namespace) == "one"
    assert statuses(transaction) == [(1, "deployed")]


@pytest.mark.parametrize("age_seconds", [31, 29])
def test_a_dead_runs_lease_is_taken_over_once_it_has_expired(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, age_seconds: int
) -> None:
    transaction().deploy(manifests())
    put_lease(cluster, namespace, age_seconds=age_seconds)
    outcome = transaction().deploy(manifests(text="two"))
    assert "process 4711 on host ci-7" in outcome.warnings[0]
    assert "which is dead: went on from there" in outcome.warnings[0]
    assert cluster.get(lease(namespace)) is None


def test_a_lease_without_a_holder_is_free(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    cluster.call("POST", leases(namespace), {"metadata": {"name": "demo-deploy"}, "spec": {}})
    assert transaction(lock_wait_seconds=0.0).deploy(manifests(text="two")).revision == 2


def test_runs_that_change_nothing_take_no_lease(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    put_lease(cluster, namespace, age_seconds=0)
    assert not transaction(lock_wait_seconds=0.0).deploy(manifests()).changed
    assert transaction(lock_wait_seconds=0.0, check_mode=True).deploy(manifests(text="two")).changed
    assert transaction(lock_wait_seconds=0.0, check_mode=True).remove().changed
    found = cluster.get(lease(namespace))
    assert found
    assert found["spec"]["holderIdentity"].startswith("ci-7/4711/")


def test_removal_takes_a_dead_runs_lease_with_it(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    put_lease(cluster, namespace, age_seconds=60)
    assert [str(item.identity.kind) for item in transaction(check_mode=True).remove().changes] == ["Lease"]
    outcome = transaction().remove()
    assert outcome.changed
    assert [str(item.identity.kind) for item in outcome.changes] == ["Lease"]
    assert cluster.get(lease(namespace)) is None
    assert not transaction().remove().changed


def test_a_removal_waits_for_a_deploy_and_then_removes_what_that_made(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    own = [item for item in manifests() if item["kind"] != "Namespace"]
    held = Held(transaction())
    in_turn(
        held,
        lambda: held.transaction.deploy(own),
        lambda on_wait: transaction(on_lock_wait=on_wait).remove(),
    )
    assert statuses(transaction) == []
    assert cluster.get(f"/api/v1/namespaces/{namespace}/configmaps/demo") is None
    assert cluster.get(lease(namespace)) is None


def test_a_deploy_that_waits_for_the_namespaces_removal_says_so(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    put_lease(cluster, namespace, age_seconds=0)

    def removed(_text: str) -> None:
        cluster.call("DELETE", f"/api/v1/namespaces/{namespace}")
        transaction()._await_gone([f"/api/v1/namespaces/{namespace}"], "the namespace", PATIENCE_SECONDS)

    with pytest.raises(TransactionError, match="was removed while this run was about to change demo in it"):
        transaction(on_lock_wait=removed).deploy(manifests(text="two"))


def test_the_revision_before_is_not_guessed_when_another_run_was_faster(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    for text in ("one", "two"):
        transaction().deploy(manifests(text=text))
    held = Held(transaction())
    with pytest.raises(TransactionError, match=r"another one left demo at revision 3, .* name the revision to go to"):
        in_turn(
            held,
            lambda: held.transaction.deploy(manifests(text="three")),
            lambda on_wait: transaction(on_lock_wait=on_wait).roll_back(None),
        )
    assert text_of(cluster, namespace) == "three"
    assert transaction().roll_back(1).revision == 4


def test_a_run_that_lost_its_lease_stops_and_puts_nothing_back(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_lease, "RENEW_SECONDS", 0.2)
    transaction().deploy(manifests())

    def taken_over(_text: str) -> None:
        stolen = {"spec": {"holderIdentity": "ci-7/4711/then"}}
        cluster.call("PATCH", lease(namespace), stolen, content_type=MERGE)

    with pytest.raises(
        TransactionError, match=r"had expired, and process 4711 on host ci-7 .* has taken it over"
    ) as caught:
        transaction(on_progress=taken_over).deploy(manifests(STUCK, text="two"))
    assert caught.value.outcome
    assert caught.value.outcome.changed
    assert not caught.value.outcome.rolled_back_to
    assert text_of(cluster, namespace) == "two"
    assert statuses(transaction) == [(1, "deployed"), (2, "pending")]
    found = cluster.get(lease(namespace))
    assert found, "the other's lease is not this run's to remove"


def test_a_lease_is_renewed_while_its_run_works(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_lease, "RENEW_SECONDS", 0.2)
    held = Held(transaction())
    with ThreadPoolExecutor(max_workers=1) as pool:
        done = pool.submit(held.transaction.deploy, manifests())
        assert held.inside.wait(PATIENCE_SECONDS)
        versions: set[str] = set()
        while len(versions) < 3:
            found = cluster.get(lease(namespace))
            assert found
            versions.add(found["spec"]["renewTime"])
            assert found["spec"]["holderIdentity"].startswith(f"{socket.gethostname()}/{os.getpid()}/")
        held.go.set()
        assert done.result(PATIENCE_SECONDS).revision == 1


def test_an_answer_that_was_lost_loses_no_lease(transaction: Make, cluster: Cluster, namespace: str) -> None:
    """A renewal that the server took, but whose answer never came, leaves a version that the run doesn't know."""
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    mine = kube_lease.Lease(cluster, namespace, "demo")
    mine.acquire(0.0)
    cluster.call("PATCH", lease(namespace), {"metadata": {"annotations": {"a": "b"}}}, content_type=MERGE)
    mine._renew()
    mine.check()
    cluster.call("PATCH", lease(namespace), {"metadata": {"annotations": {"a": "c"}}}, content_type=MERGE)
    mine.release()
    assert cluster.get(lease(namespace)) is None


def test_a_lease_that_expired_and_that_nobody_took_is_still_the_runs_own(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a sleep of the machine, or of the API server."""
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    mine = kube_lease.Lease(cluster, namespace, "demo")
    mine.acquire(0.0)
    answers = iter([AccessError("no answer"), ApiError(503, "", "busy")])
    send = mine._send

    def busy(method: str, before: Mapping[str, Any]) -> None:
        error = next(answers, None)
        if error:
            raise error
        send(method, before)

    with monkeypatch.context() as patch:
        patch.setattr(mine, "_send", busy)
        mine._renewed_at -= 100
        mine.check()
        assert mine._age() < kube_lease.LEASE_SECONDS
        # An API server that never answers again.
        patch.setattr(kube_lease, "REGAIN_SECONDS", 0.5)
        answers = itertools.repeat(AccessError("no answer"))
        mine._renewed_at -= 100
        with pytest.raises(kube_lease.LostError, match=r"it could not be renewed for 10\d s"):
            mine.check()
    mine.release()


def test_two_deployed_revisions_of_earlier_versions_are_repaired(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    """Nobody can tell which of the two serves, so all of it is applied, waited for and recorded anew."""
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}}
    transaction().deploy([*manifests(), extra])
    transaction().deploy(manifests(text="two"))
    cluster.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", {
        "metadata": {"name": "extra", "labels": {"appgate.platform/release": "demo"}}
    })  # fmt: skip
    first = f"/api/v1/namespaces/{namespace}/secrets/demo-revision-1"
    label = {"metadata": {"labels": {"appgate.platform/status": "deployed"}}}
    cluster.call("PATCH", first, label, content_type=MERGE)
    assert statuses(transaction) == [(1, "deployed"), (2, "deployed")]
    shown = transaction(check_mode=True).deploy(manifests(text="two"))
    assert shown.changed
    assert [(item.action, item.identity.name) for item in shown.changes] == [("delete", "extra")]
    outcome = transaction().deploy(manifests(text="two"))
    assert outcome.revision == 3
    assert statuses(transaction) == [(1, "superseded"), (2, "superseded"), (3, "deployed")]
    assert cluster.get(f"/api/v1/namespaces/{namespace}/configmaps/extra") is None
    assert not transaction().deploy(manifests(text="two")).changed


def test_two_deployed_revisions_are_repaired_by_putting_back_too(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    for text in ("one", "two"):
        transaction().deploy(manifests(text=text))
    first = f"/api/v1/namespaces/{namespace}/secrets/demo-revision-1"
    label = {"metadata": {"labels": {"appgate.platform/status": "deployed"}}}
    cluster.call("PATCH", first, label, content_type=MERGE)
    with pytest.raises(TransactionError, match="Revision 2 has been put back"):
        transaction(wait_timeout_seconds=4.0).deploy(manifests(STUCK, text="three"))
    assert statuses(transaction) == [(1, "superseded"), (2, "deployed"), (3, "failed")]
    assert not transaction().deploy(manifests(text="two")).changed


def test_the_lease_is_among_the_permissions(
    transaction: Make, manifests: Manifests, control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    role = {
        "metadata": {"name": "all-but-leases"},
        "rules": [{"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["*"]}],
    }
    binding = {
        "metadata": {"name": "leaseless"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "all-but-leases"},
        "subjects": [{"kind": "User", "name": "leaseless", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    cluster.call("POST", f"{rbac}/roles", role)
    cluster.call("POST", f"{rbac}/rolebindings", binding)
    someone = connect(str(control_plane.write_kubeconfig("leaseless")), control_plane.context)
    own = [item for item in manifests() if item["kind"] != "Namespace"]
    told = r"'leaseless' .* may not: get/create/update/delete leases\.coordination\.k8s\.io in namespace"
    with pytest.raises(AccessError, match=told):
        transaction(client=someone).deploy(own)


def test_times_are_the_api_servers(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is an hour late must not find every lease dead, nor leave one that looks so."""
    cluster.version()
    now = datetime.datetime.now(datetime.UTC)

    class Late(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return now - datetime.timedelta(hours=1)

    monkeypatch.setattr(datetime, "datetime", Late)
    assert abs((cluster.server_time() - now).total_seconds()) < 600
