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


def history(newest: str, *earlier: str) -> helm.History:
    number = len(earlier) + 1
    before = tuple((at, status) for at, status in enumerate(earlier, start=1))
    return helm.History(helm.decode(secret(newest, number)), before)


def test_a_record_is_read() -> None:
    release = helm.decode(secret("deployed", 4))
    assert (release.name, release.revision, release.status) == ("prometheus", 4, "deployed")
    assert (release.chart_name, release.chart_version) == ("monitoring", "0.1.0")
    now = datetime.datetime(2026, 11, 23, 5, 0, 10, tzinfo=datetime.UTC)
    assert 9 < release.age_seconds(now) < 10
    assert not release.verified
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


def test_values_are_compared_as_json() -> None:
    assert helm.same_values({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]})
    assert not helm.same_values({"a": True}, {"a": 1})
    assert not helm.same_values({"a": "1"}, {"a": 1})
    assert not helm.same_values({"a": 1}, {"a": 1, "b": None})


def test_merge_is_deep_and_changes_nothing_given() -> None:
    base = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert helm.merge(base, {"a": {"c": [2]}, "e": 2}) == {"a": {"b": 1, "c": [2]}, "d": 1, "e": 2}
    assert base == {"a": {"b": 1, "c": [1]}, "d": 1}
