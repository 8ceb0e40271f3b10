"""What a person has changed by hand is found, and what the server has added is not taken for it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import helm_release as helm
from ansible_collections.appgate.platform.plugins.module_utils.helm_drift import MISSING, Drift, differences, repair


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        ({"a": 1}, {"a": 1, "status": {"b": 2}}),
        ({"limits": {"cpu": "0.5", "memory": "1024Mi"}}, {"limits": {"cpu": "500m", "memory": "1Gi"}}),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}),
        ({"selector": {}, "list": [], "text": "", "flag": False}, {}),
        ({"labels": {"a": "1"}}, {"labels": {"a": "1", "b": "2"}}),
        # A template with nothing to say under a key, as the published chart has some; Helm's own marks are there.
        ({"annotations": None}, {"annotations": {"meta.helm.sh/release-name": "prometheus"}}),
    ],
)
def test_what_the_server_adds_is_no_drift(wanted: Any, live: Any) -> None:
    assert differences(wanted, live) == []


@pytest.mark.parametrize(
    ("wanted", "live", "found"),
    [
        ({"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}, [("spec.replicas", 2, 1)]),
        ({"args": ["a"]}, {"args": ["a", "b"]}, [("args", ["a", "b"], ["a"])]),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 81}]}, [("ports[0].port", 81, 80)]),
        ({"labels": {"a": "1"}}, {}, [("labels.a", MISSING, "1")]),
        ({"flag": True}, {"flag": "true"}, [("flag", "true", True)]),
        ({"flag": False}, {"flag": True}, [("flag", True, False)]),
        ({"image": "a@sha256:1"}, {"image": "a@sha256:2"}, [("image", "a@sha256:2", "a@sha256:1")]),
    ],
)
def test_what_a_person_changes_is(wanted: Any, live: Any, found: Any) -> None:
    assert differences(wanted, live) == found


def test_a_diff_never_shows_a_secret() -> None:
    value = base64.b64encode(b"hunter2").decode()
    wanted = {"kind": "Secret", "metadata": {"name": "a"}, "data": {"b": value}}
    drift = Drift("Secret a", "/x", "/x/a", wanted, False, (("data.b", "b2xk", value),))
    text = str(drift.diff()) + drift.sentence()
    assert value not in text
    assert "b2xk" not in text
    assert "data.b" in text


def test_what_is_put_back_removes_nothing_of_which_nothing_is_said() -> None:
    class Recorder:
        sent: Any = None

        def call(self, method: str, path: str, body: Any = None, **_: Any) -> None:
            Recorder.sent = (method, path, body)

    wanted = {"kind": "Service", "metadata": {"name": "a", "annotations": None}, "spec": {"ports": [{"port": 80}]}}
    release = helm.Release("r", "n", 1, "deployed", None, {}, {}, "")
    repair(Recorder(), release, [Drift("Service a", "/x", "/x/a", wanted, False, (("spec.ports[0].port", 81, 80),))])  # type: ignore[arg-type]
    assert Recorder.sent == (
        "PATCH",
        "/x/a",
        {"kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}},
    )
