# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The way to a cluster: every reason why there is none is one sentence that names what to change."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    AccessError,
    ApiError,
    Names,
    Permission,
    connect,
    describe_permissions,
    policy_engine,
    preflight,
    read_kubeconfig,
)

from tests.machine import free_port
from tests.unit.control_plane import Authority, ControlPlane

NAMES = Names("app_kubeconfig", "app_context")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A kubeconfig with one context `one`; cluster and user as keywords."""

    def make(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **top: Any) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "one",
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1", **(cluster or {})}}],
            "users": [{"name": "u", "user": user or {}}],
            "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
            **top,
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    return make


@pytest.fixture
def echo() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that answers everything with a version and keeps the headers that it got."""
    seen: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            body = json.dumps({"gitVersion": "v9"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


def refusal(path: object, context: str = "one", **options: Any) -> str:
    with pytest.raises(AccessError) as caught:
        connect(str(path), context, NAMES, **options).version()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none")
    assert message.startswith(f"app_kubeconfig: {tmp_path}/none does not exist.")


def test_no_path() -> None:
    assert "app_kubeconfig is empty" in refusal("")


def test_a_folder(tmp_path: Path) -> None:
    assert "can't be read (Is a directory)" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1\nb: 2", "isn't YAML (line 2, column 2)"),
        ("just text", "isn't a kubeconfig"),
        ("kind: Pod", "isn't a kubeconfig"),
        ("", "isn't a kubeconfig"),
    ],
)
def test_what_is_no_kubeconfig(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    assert complaint in refusal(path)


def test_an_unknown_context_and_those_that_there_are(write: Write) -> None:
    message = refusal(write(), "two")
    assert message.startswith("app_context: 'two' isn't a context of ")
    assert "(known: one)" in message


def test_no_context_is_refused_although_there_is_a_current_one(write: Write) -> None:
    message = refusal(write(), "")
    assert "app_context is empty" in message
    assert "The current context is never used" in message


@pytest.mark.parametrize(("section", "kind"), [("clusters", "cluster"), ("users", "user")])
def test_a_context_that_names_what_is_not_there(write: Write, section: str, kind: str) -> None:
    assert f"names the {kind} " in refusal(write(**{section: []}))


@pytest.mark.parametrize(
    ("cluster", "user", "complaint"),
    [
        ({"server": "10.0.0.1:6443"}, {}, "it must be a URL such as"),
        ({"server": "https://x", "certificate-authority": "no/such.crt"}, {}, "no/such.crt can't be read"),
        ({"server": "https://x", "certificate-authority-data": "***"}, {}, "isn't base64"),
        ({"server": "https://x", "certificate-authority-data": "eA=="}, {}, "isn't a PEM certificate"),
        (
            {"server": "https://x"},
            {"client-certificate-data": "eA==", "client-key-data": "eA=="},
            "aren't a PEM pair",
        ),
        ({}, {"tokenFile": "no/such"}, "no/such can't be read"),
        ({}, {"exec": {"command": "no-such-plugin"}}, "credential plugin 'no-such-plugin' of user 'u' can't be run"),
        ({}, {"exec": {"command": "false"}}, "failed with exit code 1"),
        ({}, {"exec": {"command": "echo", "args": ["hello"]}}, "did not print an ExecCredential"),
    ],
)
def test_what_a_kubeconfig_may_have_wrong(
    write: Write, cluster: dict[str, Any], user: dict[str, Any], complaint: str
) -> None:
    message = refusal(write(cluster, user))
    assert message.startswith("app_kubeconfig: ")
    assert complaint in message


def test_nobody_listens(write: Write) -> None:
    message = refusal(write({"server": f"http://127.0.0.1:{free_port()}"}))
    assert "can't be reached: connection refused. Is the cluster up?" in message


def test_a_name_that_does_not_resolve(write: Write) -> None:
    assert "'cluster.invalid' does not resolve" in refusal(write({"server": "http://cluster.invalid:6443"}))


def test_somebody_who_never_answers(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        # Fill the queue, so that the next connection is never accepted.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        message = refusal(write({"server": f"http://127.0.0.1:{silent.getsockname()[1]}"}), timeout_seconds=0.3)
        for filler in fillers:
            filler.close()
    assert "did not answer within 0.3 s" in message


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"token": "abc"}, "Bearer abc"),
        ({"username": "me", "password": "pw"}, "Basic " + base64.b64encode(b"me:pw").decode()),
        (
            {
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "command": "sh",
                    "args": ["-c", 'echo "{\\"status\\": {\\"token\\": \\"$WHO\\"}}"'],
                    "env": [{"name": "WHO", "value": "plugin"}],
                }
            },
            "Bearer plugin",
        ),
    ],
)
def test_ways_to_log_in(
    write: Write, echo: tuple[str, list[dict[str, str]]], user: dict[str, Any], header: str
) -> None:
    server, seen = echo
    assert connect(str(write({"server": server}, user)), "one").version() == "v9"
    assert seen[-1]["Authorization"] == header


def test_a_token_in_a_file_beside_the_kubeconfig(
    write: Write, echo: tuple[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("from-file\n")
    server, seen = echo
    connect(str(write({"server": server}, {"tokenFile": "token"})), "one").version()
    assert seen[-1]["Authorization"] == "Bearer from-file"


def test_nothing_is_left_of_a_key(control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    connect(str(control_plane.kubeconfig), control_plane.context).version()
    assert not list(tmp_path.iterdir())


def test_a_real_server(control_plane: ControlPlane) -> None:
    access = preflight(connect(str(control_plane.kubeconfig), control_plane.context), [Permission("get", "", "pods")])
    assert access.version.startswith("v1.")
    assert access.network_policy_engine is None


def test_an_expired_certificate(control_plane: ControlPlane) -> None:
    path = control_plane.write_kubeconfig("yesterday", groups=("system:masters",), days=-1)
    message = refusal(path, control_plane.context)
    assert "the client certificate of user 'yesterday'" in message
    assert "expired on 20" in message


def test_credentials_that_the_server_does_not_take(control_plane: ControlPlane, write: Write) -> None:
    cluster = {"server": control_plane.server, "certificate-authority": str(control_plane.authority.path)}
    assert "does not accept the credentials of user 'u'" in refusal(write(cluster, {"token": "wrong"}))


def test_a_server_of_another_cluster(control_plane: ControlPlane, write: Write, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    cluster = {"server": control_plane.server, "certificate-authority": str(Authority(other).path)}
    message = refusal(write(cluster))
    assert "shows a certificate that" in message
    assert "app_kubeconfig may belong to another or an older cluster" in message


def test_a_user_without_rights(control_plane: ControlPlane) -> None:
    nobody = connect(str(control_plane.write_kubeconfig("nobody")), control_plane.context, NAMES)
    wanted = [
        Permission("create", "apps", "deployments", "web"),
        Permission("patch", "apps", "deployments", "web"),
        Permission("get", "", "pods", "web", subresource="log"),
        Permission("create", "", "namespaces"),
    ]
    with pytest.raises(AccessError) as caught:
        nobody.require(wanted)
    assert "create/patch deployments.apps, get pods/log in namespace web; create namespaces in the cluster" in str(
        caught.value
    )


def test_an_answer_of_the_server_that_says_no(control_plane: ControlPlane) -> None:
    nobody = connect(str(control_plane.write_kubeconfig("nobody")), control_plane.context)
    with pytest.raises(ApiError) as caught:
        nobody.get("/api/v1/pods")
    assert caught.value.status == 403
    assert caught.value.reason == "Forbidden"


def test_permissions_in_words() -> None:
    assert describe_permissions([Permission("*", "*", "*")]) == "* * in the cluster"


def test_policy_engines() -> None:
    assert policy_engine(["apps", "cilium.io"]) == "Cilium"
    assert policy_engine(["apps"]) is None


def test_a_path_with_a_tilde(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    monkeypatch.setenv("HOME", str(path.parent))
    assert read_kubeconfig("~/kubeconfig", "one").path == str(path)
