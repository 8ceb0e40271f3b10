# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Where an image goes, and whether it is there; against a registry that this test plays itself."""

from __future__ import annotations

import base64
import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.image_delivery import Delivery
from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError

DIGEST = "sha256:" + "d" * 64
SECRET = base64.b64encode(b"user:pass-word").decode()
# As a registry it is asked for a path, as a proxy for an address.
THERE = (
    "/v2/team/appgate/manifests/here",
    "http://registry-1.docker.io/v2/team/appgate/manifests/here",
    "http://registry-1.docker.io/v2/library/appgate/manifests/here",
)


class Registry(BaseHTTPRequestHandler):
    """Has one image; asks for what the test wants."""

    mode = "open"
    asked: list[str]

    def do_HEAD(self) -> None:
        authorization = self.headers.get("Authorization", "")
        wanted = {"basic": f"Basic {SECRET}", "bearer": "Bearer the-token"}.get(self.mode, authorization)
        if self.mode == "broken":
            self.send_response(503)
        elif authorization != wanted:
            self.send_response(401)
            host = self.headers["Host"]
            challenge = f'Bearer realm="http://{host}/token",service="s",scope="repository:x:pull"'
            self.send_header("WWW-Authenticate", challenge if self.mode == "bearer" else 'Basic realm="r"')
        elif self.path in THERE:
            self.send_response(200)
            self.send_header("Docker-Content-Digest", DIGEST)
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        good = self.path.startswith("/token?service=s") and self.headers.get("Authorization") == f"Basic {SECRET}"
        self.send_response(200 if good else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"token": "the-token"} if good else {}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Registry.mode = "open"
    yield f"127.0.0.1:{server.server_port}/team"
    server.shutdown()


def to(registry: str, **changes: Any) -> Delivery:
    values = {"kind": "registry", "name": "appgate", "tag": "here", "registry": registry, "registry_pull": registry}
    return Delivery.from_dict({**values, "plain_http": True, **changes})


def test_there_and_not_there(registry: str) -> None:
    assert to(registry).find() == DIGEST
    assert to(registry, tag="other").find() is None
    assert to(registry, registry_pull="10.200.0.1:5000/x").reference(DIGEST) == f"10.200.0.1:5000/x/appgate@{DIGEST}"


@pytest.mark.parametrize("mode", ["basic", "bearer"])
def test_with_a_user(registry: str, mode: str, tmp_path: Path) -> None:
    Registry.mode = mode
    assert to(registry, username="user", password="pass-word").find() == DIGEST
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {registry.partition("/")[0]: {"auth": SECRET}}}))
    assert to(registry, authfile=str(authfile)).find() == DIGEST


@pytest.mark.parametrize("mode", ["basic", "bearer"])
def test_a_wrong_password_is_said_and_not_shown(registry: str, mode: str) -> None:
    Registry.mode = mode
    with pytest.raises(ImageError, match="refuses access") as caught:
        to(registry, username="user", password="hunter2-secret").find()
    assert "hunter2" not in str(caught.value)
    assert "image_registry_password" in str(caught.value)


def test_a_registry_with_trouble(registry: str) -> None:
    Registry.mode = "broken"
    with pytest.raises(ImageError, match="answers 503"):
        to(registry).find()


@pytest.fixture
def docker_hub(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the proxy on the way to Docker Hub, and answer in its place."""
    monkeypatch.setenv("http_proxy", f"http://{registry.partition('/')[0]}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # urllib keeps the proxies of its first request.
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.mark.usefixtures("docker_hub")
@pytest.mark.parametrize("name", ["docker.io/team", "index.docker.io/team", "registry-1.docker.io/team", "docker.io"])
def test_docker_hub_is_asked_where_its_registry_is(name: str) -> None:
    assert to(name).find() == DIGEST
    assert to(name, tag="other").find() is None


@pytest.mark.usefixtures("docker_hub")
@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "docker.io/team"])
def test_docker_hub_with_what_a_login_wrote(tmp_path: Path, key: str) -> None:
    Registry.mode = "basic"
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {key: {"auth": SECRET}}}))
    assert to("docker.io/team", authfile=str(authfile)).find() == DIGEST


def test_the_login_of_docker_hub_goes_to_no_other_registry(registry: str, tmp_path: Path) -> None:
    Registry.mode = "basic"
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": SECRET}}}))
    with pytest.raises(ImageError, match="refuses access"):
        to(registry, authfile=str(authfile)).find()


def test_nobody_there() -> None:
    with pytest.raises(ImageError, match=r"image_registry='127\.0\.0\.1:1' cannot be reached"):
        to("127.0.0.1:1").find()


def test_plain_http_taken_for_tls(registry: str) -> None:
    with pytest.raises(ImageError, match="image_registry_plain_http=true"):
        to(registry, plain_http=False).find()


@pytest.mark.parametrize(
    "name", ["", "appgate", "http://registry.example.com", "registry.example.com/", "a b.c", "x/y"]
)
def test_a_registry_that_is_none(name: str) -> None:
    with pytest.raises(ImageError, match="names no registry"):
        to(name).check()


@pytest.mark.parametrize(
    "name", ["registry.example.com", "localhost/x", "10.0.0.1:5000/a/b", "[::1]:5000", "host:5000"]
)
def test_a_registry_that_is_one(name: str) -> None:
    to(name).check()


def test_half_a_login_is_refused() -> None:
    with pytest.raises(ImageError, match="Only one of"):
        to("r.example.com", username="user").check()
    with pytest.raises(ImageError, match="image_registry_authfile='/nowhere'"):
        to("r.example.com", authfile="/nowhere").check()


def test_credentials_are_in_a_private_file_and_never_an_argument() -> None:
    with to("r.example.com/x", username="user", password="pass-word")._login() as options:
        path = Path(options[0].removeprefix("--dest-authfile="))
        assert path.stat().st_mode & 0o077 == 0
        assert json.loads(path.read_text())["auths"] == {"r.example.com": {"auth": SECRET}}
        assert "pass-word" not in " ".join(options)
    assert not path.exists()


def fake_ctr(directory: Path) -> str:
    """Remembers what was imported, in a file."""
    program = directory / "ctr"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >> {directory}/calls\n'
        'case "$*" in\n'
        f"*' images list '*) cat {directory}/images 2>/dev/null ;;\n"
        "esac\nexit 0\n"
    )
    program.chmod(0o755)
    return str(program)


def test_containerd(tmp_path: Path) -> None:
    changes = {"kind": "containerd", "containerd_command": [fake_ctr(tmp_path)], "containerd_address": "/x.sock"}
    delivery = to("", **changes)
    delivery.check()
    assert delivery.find() is None
    (tmp_path / "images").write_text("localhost/appgate:here\n")
    assert delivery.find() == "localhost/appgate:here"
    assert delivery.reference(None) == "localhost/appgate:here"
    first = (tmp_path / "calls").read_text().splitlines()[0]
    assert first == "--address=/x.sock --namespace=k8s.io images list --quiet name==localhost/appgate:here"


def test_kind_without_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="image_delivery=kind needs the programs"):
        to("", kind="kind").find()


def test_kind_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (
        ("kind", "echo dev-control-plane; echo dev-worker"),
        ("docker", 'echo "$*" >> calls; echo localhost/appgate:here'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert to("", kind="kind", kind_cluster="dev").find() == "localhost/appgate:here"
    assert [line.split()[1] for line in (tmp_path / "calls").read_text().splitlines()] == [
        "dev-control-plane",
        "dev-worker",
    ]
    with pytest.raises(ImageError, match="image_kind_cluster='other' has no nodes"):
        to("", kind="kind", kind_cluster="other").find()
