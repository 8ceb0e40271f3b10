# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A deploy as a transaction, against a real API server."""

from __future__ import annotations

import datetime
import time
import types
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import kube_diagnosis, kube_objects
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    AccessError,
    ApiError,
    Cluster,
    Response,
    connect,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import secret_manifest
from ansible_collections.appgate.platform.plugins.module_utils.kube_plan import Outcome, TransactionError
from ansible_collections.appgate.platform.plugins.module_utils.kube_probe import Probe
from ansible_collections.appgate.platform.plugins.module_utils.kube_rollout import Failure
from ansible_collections.appgate.platform.plugins.module_utils.kube_transaction import Transaction

from tests.unit.app_role.conftest import GOOD, Relay
from tests.unit.app_role.fake_node import MERGE, TIME, pod_status
from tests.unit.control_plane import ControlPlane

pytestmark = pytest.mark.usefixtures("node")

Make = Callable[..., Transaction]
Manifests = Callable[..., list[dict[str, Any]]]

DIGEST = "@sha256:" + "b" * 64
BROKEN = f"registry.test/broken{DIGEST}"
MISSING = f"registry.test/missing{DIGEST}"
STUCK = f"registry.test/stuck{DIGEST}"


def actions(outcome: Outcome) -> list[tuple[str, str, str]]:
    return sorted((change.action, change.identity.kind, change.identity.name) for change in outcome.changes)


def path(namespace: str, what: str) -> str:
    plural, name = what.split("/")
    root = "/apis/apps/v1" if plural == "deployments" else "/api/v1"
    return f"{root}/namespaces/{namespace}/{plural}/{name}"


def image_of(cluster: Cluster, namespace: str) -> str:
    live = cluster.get(path(namespace, "deployments/demo"))
    assert live
    return str(live["spec"]["template"]["spec"]["containers"][0]["image"])


def statuses(transaction: Make) -> list[tuple[int, str]]:
    return [(item.number, item.status) for item in transaction()._revisions.read()]


def test_a_first_deploy_makes_everything_and_a_second_changes_nothing(transaction: Make, manifests: Manifests) -> None:
    first = transaction().deploy(manifests())
    assert first.changed
    assert first.revision == 1
    assert {action for action, _kind, _name in actions(first)} == {"create"}
    assert first.services["demo"]["addresses"] == ["127.0.0.1"]
    second = transaction().deploy(manifests())
    assert not second.changed
    assert second.revision == 1
    assert second.diff() == []
    assert statuses(transaction) == [(1, "deployed")]


def test_check_mode_works_before_the_namespace_exists_and_makes_nothing(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    outcome = transaction(check_mode=True).deploy(manifests())
    assert outcome.changed
    assert len(outcome.diff()) == 4
    assert cluster.get(f"/api/v1/namespaces/{namespace}") is None


@pytest.mark.parametrize("deployed_before", [False, True])
def test_all_that_the_server_refuses_is_told_at_once_and_nothing_changes(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, deployed_before: bool
) -> None:
    if deployed_before:
        transaction().deploy(manifests())
    wrong = manifests(text="two", nonsense=True)
    wrong[2]["spec"]["ports"][0]["port"] = 70000
    with pytest.raises(TransactionError, match="refuses 2 of 4 objects; nothing was changed") as caught:
        transaction().deploy(wrong)
    assert "nonsense" in str(caught.value)
    assert "70000" in str(caught.value)
    if deployed_before:
        live = cluster.get(path(namespace, "configmaps/demo"))
        assert live
        assert live["data"] == {"text": "one"}
    else:
        assert cluster.get(f"/api/v1/namespaces/{namespace}") is None


def test_an_edit_by_hand_is_shown_alone_and_put_back(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    edit = {"spec": {"replicas": 3}, "metadata": {"annotations": {"note": "mine"}}}
    where = path(namespace, "deployments/demo")
    cluster.call("PATCH", where, edit, content_type="application/merge-patch+json")
    shown = transaction(check_mode=True).deploy(manifests())
    assert actions(shown) == [("update", "Deployment", "demo")]
    [diff] = shown.diff()
    changed = set(diff["before"].splitlines()) ^ set(diff["after"].splitlines())
    assert changed == {"  replicas: 3", "  replicas: 1"}
    repaired = transaction().deploy(manifests())
    assert repaired.changed
    assert repaired.revision == 1
    live = cluster.get(where)
    assert live
    assert live["spec"]["replicas"] == 1
    # What this release never said anything about stays with whoever set it.
    assert live["metadata"]["annotations"]["note"] == "mine"
    assert not transaction().deploy(manifests()).changed


def test_a_field_that_is_no_longer_wanted_goes(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests(env=[{"name": "A", "value": "1"}]))
    transaction().deploy(manifests())
    live = cluster.get(path(namespace, "deployments/demo"))
    assert live
    assert "env" not in live["spec"]["template"]["spec"]["containers"][0]


def test_an_object_that_is_no_longer_wanted_goes_and_others_stay(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}}
    cluster.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", foreign)
    fewer = [item for item in manifests() if item["kind"] != "ConfigMap"]
    shown = transaction(check_mode=True).deploy(fewer)
    assert actions(shown) == [("delete", "ConfigMap", "demo")]
    transaction().deploy(fewer)
    assert cluster.get(path(namespace, "configmaps/demo")) is None
    assert cluster.get(path(namespace, "configmaps/theirs"))
    assert not transaction().deploy(fewer).changed


def test_an_object_that_was_taken_over_is_not_pruned(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    unlabel = {"metadata": {"labels": {"appgate.platform/release": None}}}
    where = path(namespace, "configmaps/demo")
    cluster.call("PATCH", where, unlabel, content_type="application/merge-patch+json")
    transaction().deploy([item for item in manifests() if item["kind"] != "ConfigMap"])
    assert cluster.get(where)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (
            BROKEN,
            "container main of pod demo-.*: CrashLoopBackOff: ended with exit code 78; 3 restarts so far",
        ),
        (MISSING, "container main of pod demo-.*: ImagePullBackOff: .*manifest unknown"),
        (STUCK, "container main of pod demo-.*: has started but isn't ready"),
    ],
    ids=["crash", "pull", "not ready"],
)
def test_a_revision_that_does_not_come_up_is_explained_and_put_back_with_all_its_objects(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, image: str, reason: str
) -> None:
    good = manifests()
    transaction().deploy(good)
    bad = [*manifests(image, text="two"), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}}]
    with pytest.raises(TransactionError, match=reason) as caught:
        transaction(wait_timeout_seconds=4.0).deploy(bad)
    message = str(caught.value)
    assert "Revision 2 of demo" in message
    assert "Revision 1 has been put back and serves" in message
    assert caught.value.outcome
    assert caught.value.outcome.rolled_back_to == 1
    assert image_of(cluster, namespace).startswith("registry.test/good@")
    live = cluster.get(path(namespace, "configmaps/demo"))
    assert live
    assert live["data"] == {"text": "one"}
    assert cluster.get(path(namespace, "configmaps/new")) is None
    assert statuses(transaction) == [(1, "deployed"), (2, "failed")]
    again = transaction().deploy(good)
    assert not again.changed
    assert again.revision == 1


def test_a_log_that_the_node_can_not_give_is_asked_for_again() -> None:
    """While a busy node restarts a container, it answers with this text, and not with an error."""
    not_yet = b"unable to retrieve container logs for containerd://d7c203aa"
    answers = iter([not_yet, not_yet, b"it says why\n"])
    asked: list[str] = []

    def call(_method: str, where: str, *, query: dict[str, str]) -> Response:
        assert where.endswith("/pods/demo-1/log")
        asked.append(query["previous"])
        return Response(200, next(answers))

    failure = Failure("container main of pod demo-1", "ended", True, "demo-1", "main", True)
    node: Any = types.SimpleNamespace(call=call)
    assert kube_diagnosis.last_log_lines(node, "demo", failure) == ["it says why"]
    assert asked == ["true", "false", "true"]


def test_hopeless_failures_do_not_wait_for_the_timeout(transaction: Make, manifests: Manifests) -> None:
    transaction().deploy(manifests())
    with pytest.raises(TransactionError) as caught:
        transaction(wait_timeout_seconds=600.0).deploy(manifests(MISSING))
    assert "gave up after" not in str(caught.value)


def pod_of(cluster: Cluster, namespace: str) -> dict[str, Any]:
    [pod] = cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods").json()["items"]
    return dict(pod)


def report_status(cluster: Cluster, namespace: str, status: dict[str, Any]) -> None:
    """What the kubelet says of the only pod."""
    where = path(namespace, f"pods/{pod_of(cluster, namespace)['metadata']['name']}") + "/status"
    cluster.call("PATCH", where, {"status": status}, content_type=MERGE)


def report_good(cluster: Cluster, namespace: str) -> None:
    pod = pod_of(cluster, namespace)
    pod["spec"]["containers"][0]["image"] = GOOD
    report_status(cluster, namespace, pod_status(pod))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def until_it_is_of_the_past(cluster: Cluster) -> None:
    """The cluster gives its times in whole seconds."""
    now = cluster.server_time() + datetime.timedelta(seconds=2)
    until(lambda: bool(cluster.version()) and cluster.server_time() > now)


def at_round(number: int, action: Callable[[], None]) -> Callable[[str], None]:
    """For `on_progress`: act in that round of a wait. In the fourth one the pods are looked at for the first time."""
    rounds: list[str] = []

    def count(text: str) -> None:
        rounds.append(text)
        if len(rounds) == number:
            action()

    return count


def test_restarts_from_before_the_run_do_not_end_it(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    """A node that has been restarted a few times leaves such pods, and they come up a little later."""
    transaction().deploy(manifests())
    until_it_is_of_the_past(cluster)
    status = pod_of(cluster, namespace)["status"]
    for condition in status["conditions"]:
        condition["status"] = "True" if condition["type"] == "PodScheduled" else "False"
    last = {"terminated": {"exitCode": 255, "startedAt": TIME, "finishedAt": TIME}}
    status["containerStatuses"][0].update(ready=False, restartCount=4, lastState=last)
    report_status(cluster, namespace, status)
    where = path(namespace, "deployments/demo")
    until(lambda: not (cluster.get(where) or {})["status"].get("availableReplicas"))
    heal = at_round(5, lambda: report_good(cluster, namespace))
    outcome = transaction(on_progress=heal).deploy(manifests())
    assert not outcome.changed
    assert statuses(transaction) == [(1, "deployed")]


@pytest.mark.parametrize(("image", "deadline"), [(MISSING, 60), (STUCK, 1)], ids=["pull", "deadline"])
def test_a_cause_that_was_mended_outside_is_not_held_against_the_next_run(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, image: str, deadline: int
) -> None:
    wanted = manifests(image)
    wanted[3]["spec"]["progressDeadlineSeconds"] = deadline
    with pytest.raises(TransactionError, match=r"manifest unknown|made no progress") as caught:
        transaction().deploy(wanted)
    assert "gave up after" not in str(caught.value)
    until_it_is_of_the_past(cluster)
    heal = at_round(5, lambda: report_good(cluster, namespace))
    assert transaction(on_progress=heal).deploy(wanted).revision == 2
    assert statuses(transaction) == [(1, "failed"), (2, "deployed")]


def test_a_failure_from_before_the_run_counts_once_it_happens_anew(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    wanted = manifests(MISSING)
    with pytest.raises(TransactionError, match="manifest unknown"):
        transaction().deploy(wanted)
    until_it_is_of_the_past(cluster)
    with pytest.raises(TransactionError, match="manifest unknown") as caught:
        transaction(wait_timeout_seconds=4.0).deploy(wanted)
    assert "gave up after" in str(caught.value)

    def pull_again() -> None:
        status = pod_of(cluster, namespace)["status"]
        status["containerStatuses"][0]["state"]["waiting"]["reason"] = "ErrImagePull"
        report_status(cluster, namespace, status)

    with pytest.raises(TransactionError, match=r"ErrImagePull: .*manifest unknown") as caught:
        transaction(wait_timeout_seconds=600.0, on_progress=at_round(5, pull_again)).deploy(wanted)
    assert "gave up after" not in str(caught.value)


@pytest.mark.parametrize("answer", [0, 429, 500, 503])
def test_an_api_server_that_is_busy_for_a_moment_does_not_end_the_wait(
    transaction: Make, manifests: Manifests, cluster: Cluster, relay: Relay, answer: int
) -> None:
    transaction().deploy(manifests())
    answers: list[int] = []
    relay.trouble = lambda method, where: answers.pop() if answers and method == "GET" else None
    busy = at_round(1, lambda: answers.extend([answer] * 3))
    outcome = transaction(client=relay.client, on_progress=busy).deploy(manifests(text="two", env=[{"name": "A"}]))
    assert not answers
    assert outcome.revision == 2
    assert statuses(transaction) == [(1, "superseded"), (2, "deployed")]


@pytest.mark.parametrize(
    ("answer", "told"), [(0, "can't be reached"), (503, "answered 503: the API server is busy")], ids=["gone", "busy"]
)
def test_an_api_server_that_stays_away_is_told_with_what_that_leaves(
    transaction: Make, manifests: Manifests, cluster: Cluster, relay: Relay, answer: int, told: str
) -> None:
    transaction().deploy(manifests())
    away: list[str] = []
    relay.trouble = lambda method, where: answer if away and method == "GET" else None
    leave = at_round(1, lambda: away.append("now"))
    with pytest.raises(TransactionError, match=told) as caught:
        # With pods that would never be ready, so that there is a round.
        transaction(client=relay.client, on_progress=leave, wait_timeout_seconds=2.0).deploy(manifests(STUCK))
    assert "gave up after" in str(caught.value)
    assert "Revision 1 could not be put back" in str(caught.value)
    # What is in doubt stays pending, and the next run goes on from it.
    assert statuses(transaction) == [(1, "deployed"), (2, "pending")]
    assert transaction().deploy(manifests(text="two")).revision == 3


def test_an_api_server_that_is_busy_for_a_moment_does_not_end_a_removal(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, relay: Relay
) -> None:
    transaction().deploy(manifests())
    answers = [503, 429, 0]
    deleted: list[str] = []

    def trouble(method: str, where: str) -> int | None:
        if method == "DELETE":
            deleted.append(where)
        elif method == "GET" and deleted and answers:
            return answers.pop()
        return None

    relay.trouble = trouble
    assert transaction(client=relay.client, wait_timeout_seconds=60.0).remove().changed
    assert not answers
    assert cluster.get(f"/api/v1/namespaces/{namespace}") is None


def test_a_removal_that_can_not_see_its_end_says_why(transaction: Make, manifests: Manifests, relay: Relay) -> None:
    transaction().deploy(manifests())
    deleted: list[str] = []

    def trouble(method: str, where: str) -> int | None:
        if method == "DELETE":
            deleted.append(where)
        return 503 if method == "GET" and deleted else None

    relay.trouble = trouble
    with pytest.raises(TransactionError, match=r"Waited too long for the objects to go: .*answered 503"):
        transaction(client=relay.client, wait_timeout_seconds=1.0).remove()


def test_a_first_deploy_that_fails_stays_for_a_look(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    with pytest.raises(TransactionError, match="There is no earlier revision to put back: its objects stay"):
        transaction().deploy(manifests(BROKEN))
    assert image_of(cluster, namespace) == BROKEN
    outcome = transaction().deploy(manifests())
    assert outcome.revision == 2
    assert statuses(transaction) == [(1, "failed"), (2, "deployed")]


def test_a_pod_that_admission_refuses_is_explained(transaction: Make, manifests: Manifests) -> None:
    wanted = manifests()
    wanted[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    with pytest.raises(TransactionError, match=r"no pod could be made: .*violates PodSecurity"):
        transaction().deploy(wanted)


def test_a_probe_decides(transaction: Make, manifests: Manifests, app_server: dict[str, Any]) -> None:
    port = app_server["port"]
    probes = (Probe(service="demo", port="http", text="Appgate world", timeout_seconds=1.0),)
    outcome = transaction(probes=probes).deploy(manifests(port=port))
    assert outcome.probes == [{"url": f"GET http://127.0.0.1:{port}/", "status": 200}]
    with pytest.raises(TransactionError, match="Revision 1 has been put back"):
        # The second answers wrongly, the first one rightly again.
        _answers_wrongly_once(app_server, transaction(probes=probes), manifests(port=port, text="two"))
    app_server["status"] = 503
    with pytest.raises(TransactionError, match="answered 503 where 200 was expected") as caught:
        transaction(probes=probes).deploy(manifests(port=port))
    assert "does not serve" in str(caught.value)


def _answers_wrongly_once(answer: dict[str, Any], transaction: Transaction, wanted: list[dict[str, Any]]) -> None:
    put_back = transaction._put_back

    def mended(*arguments: Any) -> None:
        answer["body"] = b"Hello, Appgate world"
        put_back(*arguments)

    transaction._put_back = mended  # type: ignore[assignment, method-assign]
    answer["body"] = b"something else"
    transaction.deploy(wanted)


def test_an_interrupted_run_is_continued(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction().deploy(manifests())
    interrupted = transaction()
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "half"}}

    def power_cut(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(interrupted, "_wait", power_cut)
        with pytest.raises(KeyboardInterrupt):
            interrupted.deploy([*manifests(STUCK, text="two"), extra])
    assert statuses(transaction) == [(1, "deployed"), (2, "pending")]
    assert cluster.get(path(namespace, "configmaps/half"))
    outcome = transaction().deploy(manifests(text="three"))
    assert outcome.revision == 3
    assert cluster.get(path(namespace, "configmaps/half")) is None
    assert statuses(transaction) == [(1, "superseded"), (2, "failed"), (3, "deployed")]
    assert not transaction().deploy(manifests(text="three")).changed


def test_going_back_to_a_revision(transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str) -> None:
    for text in ("one", "two", "three"):
        transaction(description=f"text {text}").deploy(manifests(text=text))
    outcome = transaction().roll_back(None)
    assert outcome.revision == 4
    live = cluster.get(path(namespace, "configmaps/demo"))
    assert live
    assert live["data"] == {"text": "two"}
    assert transaction().roll_back(1).revision == 5
    live = cluster.get(path(namespace, "configmaps/demo"))
    assert live
    assert live["data"] == {"text": "one"}
    with pytest.raises(TransactionError, match="There is no revision 9 to go back to") as caught:
        transaction().roll_back(9)
    assert "text two" in str(caught.value)
    assert "rollback to revision 1" in str(caught.value)


def test_nothing_to_go_back_to(transaction: Make, manifests: Manifests) -> None:
    with pytest.raises(TransactionError, match="has no revisions in namespace"):
        transaction().roll_back(None)
    transaction().deploy(manifests())
    with pytest.raises(TransactionError, match="There is no earlier revision"):
        transaction().roll_back(None)


def test_old_revisions_go_beyond_the_limit(transaction: Make, manifests: Manifests) -> None:
    for number in range(4):
        transaction(history_limit=2).deploy(manifests(text=str(number)))
    assert statuses(transaction) == [(3, "superseded"), (4, "deployed")]


def test_failed_revisions_go_before_those_that_served(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    for number in range(3):
        with pytest.raises(TransactionError, match="Revision 1 has been put back"):
            transaction(history_limit=2).deploy(manifests(MISSING, text=str(number)))
    assert statuses(transaction) == [(1, "deployed"), (4, "failed")]
    assert transaction(history_limit=2).deploy(manifests(text="two")).revision == 5
    assert statuses(transaction) == [(1, "superseded"), (5, "deployed")]
    transaction(history_limit=2).roll_back(None)
    live = cluster.get(path(namespace, "configmaps/demo"))
    assert live
    assert live["data"] == {"text": "one"}


def test_a_failed_revision_stays_while_it_alone_knows_of_objects_that_are_there(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left"}}
    for wanted in ([*manifests(MISSING), extra], manifests(MISSING, text="a"), manifests(MISSING, text="b")):
        # New pods each time, so that no run waits for what was before it.
        wanted[3]["spec"]["template"]["metadata"]["annotations"] = {"text": wanted[1]["data"]["text"]}
        with pytest.raises(TransactionError, match="its objects stay"):
            transaction(history_limit=2).deploy(wanted)
    assert statuses(transaction) == [(1, "failed"), (3, "failed")]
    transaction(history_limit=2).deploy(manifests())
    assert cluster.get(path(namespace, "configmaps/left")) is None
    assert statuses(transaction) == [(3, "failed"), (4, "deployed")]


def test_secrets_are_hidden_in_the_diff(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    def wanted(value: str) -> list[dict[str, Any]]:
        return [*manifests(), secret_manifest("keys", namespace, {"token": value, "other": "same"}, {})]

    first = transaction().deploy(wanted("s3cret"))
    second = transaction().deploy(wanted("t0psecret"))
    for outcome, secret in ((first, "s3cret"), (second, "t0psecret")):
        encoded = secret_manifest("x", "x", {"token": secret}, {})["data"]["token"]
        assert secret not in str(outcome.diff())
        assert encoded not in str(outcome.diff())
    assert "token: (hidden, changed)" in str(second.diff())
    live = cluster.get(path(namespace, "secrets/keys"))
    assert live


def test_an_object_with_a_hash_in_its_name_is_one_diff(transaction: Make, manifests: Manifests) -> None:
    def wanted(text: str) -> list[dict[str, Any]]:
        rest = [item for item in manifests() if item["kind"] != "ConfigMap"]
        metadata = {"name": f"demo-{text}", "annotations": {"appgate.platform/base-name": "demo"}}
        return [*rest, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}}]

    transaction().deploy(wanted("one"))
    shown = transaction(check_mode=True).deploy(wanted("two"))
    assert actions(shown) == [("create", "ConfigMap", "demo-two"), ("delete", "ConfigMap", "demo-one")]
    [diff] = shown.diff()
    assert "text: one" in diff["before"]
    assert "text: two" in diff["after"]


def test_an_autoscaler_keeps_its_number_of_pods(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests(replicas=2))
    outcome = transaction().deploy(manifests(replicas=None))
    assert outcome.changed
    where = path(namespace, "deployments/demo")
    cluster.call("PATCH", where, {"spec": {"replicas": 3}}, content_type="application/merge-patch+json")
    again = transaction().deploy(manifests(replicas=None))
    assert actions(again) == []
    live = cluster.get(where)
    assert live
    assert live["spec"]["replicas"] == 3


def test_removal_takes_all_and_the_namespace_that_it_made(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    shown = transaction(check_mode=True).remove()
    assert ("delete", "Namespace", namespace) in actions(shown)
    assert cluster.get(path(namespace, "deployments/demo"))
    outcome = transaction(wait_timeout_seconds=60.0).remove()
    assert outcome.changed
    assert cluster.get(f"/api/v1/namespaces/{namespace}") is None
    assert not transaction().remove().changed


def test_removal_leaves_a_namespace_of_others(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    own = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"theirs": "yes"}}}
    cluster.call("POST", "/api/v1/namespaces", own)
    transaction().deploy(manifests())
    transaction().remove()
    live = cluster.get(f"/api/v1/namespaces/{namespace}")
    assert live
    assert live["metadata"]["labels"]["theirs"] == "yes"
    assert "team" not in live["metadata"]["labels"]
    assert cluster.get(path(namespace, "deployments/demo")) is None
    assert statuses(transaction) == []


def test_removal_keeps_a_namespace_that_others_use_by_now(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "theirs"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    cluster.call("POST", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", volume)
    outcome = transaction().remove()
    assert "PersistentVolumeClaim theirs" in outcome.warnings[0]
    assert cluster.get(f"/api/v1/namespaces/{namespace}")
    assert cluster.get(path(namespace, "persistentvolumeclaims/theirs"))


THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "Secret": ("/api/v1/namespaces/{}/secrets", {"stringData": {"password": "theirs"}}),
    "ConfigMap": ("/api/v1/namespaces/{}/configmaps", {"data": {"text": "theirs"}}),
    "Ingress": (
        "/apis/networking.k8s.io/v1/namespaces/{}/ingresses",
        {"spec": {"defaultBackend": {"service": {"name": "theirs", "port": {"number": 80}}}}},
    ),
}


@pytest.mark.parametrize("kind", THEIRS)
def test_removal_keeps_a_namespace_in_which_others_keep_something(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, kind: str
) -> None:
    transaction().deploy(manifests())
    where, content = THEIRS[kind]
    where = where.format(namespace)
    cluster.call("POST", where, {"metadata": {"name": "theirs"}, **content})
    shown = transaction(check_mode=True).remove()
    assert ("delete", "Namespace", namespace) not in actions(shown)
    outcome = transaction().remove()
    assert outcome.warnings == [f"Namespace {namespace} stays, because it also holds what others made: {kind} theirs."]
    assert cluster.get(f"{where}/theirs")
    assert cluster.get(path(namespace, "deployments/demo")) is None


def test_removal_takes_a_namespace_with_what_kubernetes_itself_puts_into_each(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    for text in ("one", "two"):
        transaction().deploy([*manifests(text=text), secret_manifest("keys", namespace, {"token": text}, {})])
    where = f"/api/v1/namespaces/{namespace}"
    if not cluster.get(f"{where}/configmaps/kube-root-ca.crt"):
        cluster.call("POST", f"{where}/configmaps", {"metadata": {"name": "kube-root-ca.crt"}})
    until(lambda: cluster.get(f"{where}/serviceaccounts/default") is not None)
    metadata = {"name": "token", "annotations": {"kubernetes.io/service-account.name": "default"}}
    cluster.call("POST", f"{where}/secrets", {"metadata": metadata, "type": "kubernetes.io/service-account-token"})
    outcome = transaction(wait_timeout_seconds=60.0).remove()
    assert outcome.warnings == []
    assert cluster.get(where) is None


def test_removal_asks_whether_it_may_see_what_others_keep(
    transaction: Make, manifests: Manifests, control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    rules = [
        {"apiGroups": [""], "resources": ["secrets", "services"], "verbs": ["*"]},
        {"apiGroups": ["apps", "coordination.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "delete"]},
    ]
    role = {"metadata": {"name": f"remover-{namespace}"}, "rules": rules}
    binding = {
        "metadata": {"name": f"remover-{namespace}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"remover-{namespace}"},
        "subjects": [{"kind": "User", "name": "remover", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    cluster.call("POST", f"{rbac}/clusterroles", role)
    cluster.call("POST", f"{rbac}/clusterrolebindings", binding)
    remover = connect(str(control_plane.write_kubeconfig("remover")), control_plane.context)
    with pytest.raises(AccessError, match=r"may not: .*list configmaps.*list ingresses\.networking\.k8s\.io"):
        transaction(client=remover).remove()
    assert cluster.get(path(namespace, "deployments/demo"))
    assert transaction(client=remover).remove(remove_namespace=False).changed


def test_removal_does_not_take_no_answer_for_an_empty_namespace(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str, relay: Relay
) -> None:
    transaction().deploy(manifests())
    relay.trouble = lambda method, where: 503 if where.endswith("/configmaps") else None
    with pytest.raises(ApiError, match="busy"):
        transaction(client=relay.client).remove()
    assert cluster.get(path(namespace, "deployments/demo"))


def test_a_namespace_that_is_being_deleted_is_refused(
    transaction: Make, manifests: Manifests, cluster: Cluster, namespace: str
) -> None:
    transaction().deploy(manifests())
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["test/hold"]}}
    cluster.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", held)
    cluster.call("DELETE", f"/api/v1/namespaces/{namespace}")
    for check_mode in (True, False):
        with pytest.raises(TransactionError, match=f"Namespace {namespace} .* is being deleted"):
            transaction(check_mode=check_mode).deploy(manifests())
    release = {"metadata": {"finalizers": None}}
    where = path(namespace, "configmaps/held")
    cluster.call("PATCH", where, release, content_type="application/merge-patch+json")
    outcome = transaction(namespace_wait_seconds=60.0).deploy(manifests())
    assert outcome.revision == 1


def test_a_kind_that_the_cluster_does_not_know(transaction: Make, manifests: Manifests) -> None:
    monitor = {"apiVersion": "monitoring.example.com/v1", "kind": "Monitor", "metadata": {"name": "demo"}}
    with pytest.raises(TransactionError, match=r"has no kind Monitor in monitoring\.example\.com/v1"):
        transaction().deploy([*manifests(), monitor])


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        ("text", "manifest 1 is str"),
        ({"kind": "ConfigMap", "metadata": {"name": "a"}}, "has no apiVersion"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}, "has no metadata.name"),
        (
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "kube-system"}},
            "is for namespace 'kube-system'",
        ),
    ],
)
def test_what_is_no_manifest_is_refused(transaction: Make, manifest: Any, complaint: str) -> None:
    with pytest.raises(TransactionError, match=complaint):
        transaction().deploy([manifest])


def test_missing_permissions_are_listed_before_anything_happens(
    transaction: Make, manifests: Manifests, control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    someone = connect(str(control_plane.write_kubeconfig("someone")), control_plane.context)
    with pytest.raises(AccessError, match=r"User 'someone' .* may not: .*create/get/patch namespaces") as caught:
        transaction(client=someone).deploy(manifests())
    assert "get/create/patch/delete deployments.apps, list replicasets.apps" in str(caught.value)
    assert f"in namespace {namespace}" in str(caught.value)
    assert cluster.get(f"/api/v1/namespaces/{namespace}") is None


def test_a_user_of_one_namespace_is_enough(
    transaction: Make, manifests: Manifests, control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    binding = {
        "metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "User", "name": "deployer", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    cluster.call("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", binding)
    deployer = connect(str(control_plane.write_kubeconfig("deployer")), control_plane.context)
    objects = [item for item in manifests() if item["kind"] != "Namespace"]
    assert transaction(client=deployer).deploy(objects).revision == 1
    assert not transaction(client=deployer).deploy(objects).changed
    assert transaction(client=deployer).remove().changed


def test_two_runs_at_once_do_not_mix(transaction: Make, manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction().deploy(manifests())
    late = transaction()
    history = late._revisions.read()
    transaction().deploy(manifests(text="two"))
    monkeypatch.setattr(late._revisions, "read", lambda: history)
    with pytest.raises(TransactionError, match="Another run is deploying revision 2"):
        late.deploy(manifests(text="three"))


def test_field_manager_is_stable() -> None:
    # Another name would leave every field of earlier releases with the old one, so that none could be removed.
    assert kube_objects.FIELD_MANAGER == "appgate"
