"""What Helm's own record says about a release, and what follows from it."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import helm_release as helm

MANIFEST = """---
# Source: a.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: one
  namespace: prometheus
---
apiVersion: v1
kind: Service
metadata:
  name: two
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata:
  name: three
"""


def secret(status: str = "deployed", revision: int = 1, **more: Any) -> dict[str, Any]:
    record = {
        "name": "prometheus",
        "namespace": "prometheus",
        "version": revision,
        "info": {"status": status, "last_deployed": "2026-11-23T05:00:00.123456789Z", "description": "Upgrade"},
        "chart": {"metadata": {"name": "monitoring", "version": "0.1.0"}},
        "config": {"a": {"b": 1}},
        "manifest": MANIFEST,
        **more,
    }
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(record).encode()))).decode()
    labels = {"owner": "helm", "version": str(revision), "status": status}
    name = f"sh.helm.release.v1.prometheus.v{revision}"
    return {"metadata": {"name": name, "namespace": "prometheus", "labels": labels}, "data": {"release": packed}}


def marked(item: dict[str, Any], ready: int) -> dict[str, Any]:
    """The Secret with the mark of a revision that was seen ready: its own, or one that Helm has handed on."""
    item["metadata"]["labels"][helm.READY_LABEL] = str(ready)
    return item


def past(revision: int, status: str, ready: int = 0, **more: Any) -> helm.Past:
    item = secret(status, revision, **more)
    item = marked(item, ready) if ready else item
    return helm.Past(revision, status, helm.seen_ready(item), item)


def history(newest: str, *earlier: str) -> helm.History:
    number = len(earlier) + 1
    before = tuple(past(at, status) for at, status in enumerate(earlier, start=1))
    return helm.History(helm.decode(secret(newest, number)), before)


def test_a_record_is_read() -> None:
    release = helm.decode(secret("deployed", 4))
    assert (release.name, release.revision, release.status) == ("prometheus", 4, "deployed")
    assert (release.chart_name, release.chart_version) == ("monitoring", "0.1.0")
    now = datetime.datetime(2026, 11, 23, 5, 0, 10, tzinfo=datetime.UTC)
    assert 9 < release.age_seconds(now) < 10
    assert not release.ready
    assert helm.decode(marked(secret("deployed", 4), 4)).ready
    assert not helm.decode(marked(secret("deployed", 4), 3)).ready
    assert helm.secret_name(release) == "sh.helm.release.v1.prometheus.v4"


def test_workloads_are_those_that_must_become_ready() -> None:
    assert helm.decode(secret()).workloads() == [
        helm.Workload("Deployment", "prometheus", "one"),
        helm.Workload("Prometheus", "prometheus", "three"),
    ]


def test_a_record_that_is_none_is_named() -> None:
    broken = secret()
    broken["data"]["release"] = "bm9uc2Vuc2U="
    with pytest.raises(helm.ReleaseError, match=r"prometheus/sh\.helm\.release"):
        helm.decode(broken)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (helm.History(None), ("", 0)),
        (history("deployed"), ("", 0)),
        (history("uninstalled"), ("", 0)),
        (history("pending-install"), ("uninstall", 0)),
        (history("failed"), ("uninstall", 0)),
        (history("pending-upgrade", "deployed"), ("rollback", 1)),
        (history("failed", "superseded", "deployed"), ("rollback", 2)),
        (history("failed", "superseded", "failed"), ("rollback", 1)),
        # Only the highest revision counts: an older record keeps what it was when somebody was killed.
        (history("deployed", "pending-upgrade"), ("", 0)),
        (history("pending-rollback", "deployed", "pending-upgrade"), ("rollback", 1)),
        (history("uninstalling", "superseded"), ("uninstall", 0)),
    ],
)
def test_recovery(found: helm.History, wanted: tuple[str, int]) -> None:
    assert found.recovery() == wanted


def test_a_revision_that_was_never_ready_is_no_place_to_go_back_to() -> None:
    # 2 was installed by a helm that waited for nothing, and was put back by 3; 4 is being written.
    found = helm.History(
        helm.decode(secret("pending-upgrade", 4)),
        (past(1, "superseded", 1), past(2, "superseded", 1), past(3, "failed", 1)),
    )
    assert found.last_good() == 1
    assert found.recovery() == ("rollback", 1)


@pytest.mark.parametrize(
    ("newest", "earlier", "changing", "wanted"),
    [
        (None, [], True, 0),
        (secret("uninstalled", 2), [past(1, "superseded", 1)], True, 0),
        (secret("failed", 1), [], True, 0),
        (marked(secret("deployed", 2), 2), [past(1, "superseded", 1)], True, 2),
        # A node is down: the release is not to blame.
        (marked(secret("deployed", 2), 2), [past(1, "superseded", 1)], False, -1),
        # A run was killed while it waited for 2, which never became ready.
        (marked(secret("deployed", 2), 1), [past(1, "superseded", 1)], True, 1),
        (marked(secret("deployed", 2), 1), [past(1, "superseded", 1)], False, 1),
        # Made by plain helm: nothing is known, so what is there counts.
        (secret("deployed", 2), [past(1, "superseded")], True, 2),
        (secret("deployed", 1), [], False, -1),
    ],
)
def test_where_a_failure_leads(newest: Any, earlier: list[helm.Past], changing: bool, wanted: int) -> None:
    found = helm.History(helm.decode(newest) if newest else None, tuple(earlier))
    assert found.undo(changing=changing) == wanted


def test_the_revision_before_is_another_one_that_was_ready() -> None:
    other, bad = {"config": {"a": 2}}, {"config": {"a": 3}}
    newest = helm.decode(marked(secret("deployed", 5), 5))
    earlier = [past(1, "superseded", 1, **other), past(2, "superseded", 2), past(3, "superseded", 2, **bad)]
    found = helm.History(newest, (*earlier, past(4, "superseded", 4)))
    before = found.previous()
    assert before is not None
    assert before.revision == 1
    assert helm.History(newest, (past(4, "superseded", 4),)).previous() is None
    assert helm.History(None).previous() is None
    broken = helm.History(helm.decode(secret("failed", 5)), (past(4, "deployed", 4),)).previous()
    assert broken is not None
    assert broken.revision == 4


def test_values_are_compared_as_json() -> None:
    assert helm.same_values({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]})
    assert not helm.same_values({"a": True}, {"a": 1})
    assert not helm.same_values({"a": "1"}, {"a": 1})
    assert not helm.same_values({"a": 1}, {"a": 1, "b": None})


def test_merge_is_deep_and_changes_nothing_given() -> None:
    base = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert helm.merge(base, {"a": {"c": [2]}, "e": 2}) == {"a": {"b": 1, "c": [2]}, "d": 1, "e": 2}
    assert base == {"a": {"b": 1, "c": [1]}, "d": 1}
