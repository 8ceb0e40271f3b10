"""Charts from a real registry with a password, pushed by a real helm, and from a repository that helm has indexed."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.helm_chart import (
    Chart,
    ChartError,
    Source,
    fetch,
    read_metadata,
)

from tests.parts import program
from tests.unit.registry import serve

PASSWORD = "right"
#: htpasswd with bcrypt, the only kind that the registry takes.
HTPASSWD = "me:$2b$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC\n"


def helm(home: Path, *words: str, given: str = "") -> str:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [program("helm", "helm"), *words],
        input=given, capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart as `helm package` makes it."""
    place = tmp_path_factory.mktemp("packed")
    (place / "shop" / "templates").mkdir(parents=True)
    (place / "shop" / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.2.3+more\n")
    (place / "shop" / "templates" / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    helm(place, "package", str(place / "shop"), "--destination", str(place))
    return place / "shop-1.2.3+more.tgz"


@pytest.fixture(scope="module")
def registry(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry with a password, which holds the chart."""
    place = tmp_path_factory.mktemp("registry")
    with serve(place, HTPASSWD) as address:
        helm(place, "registry", "login", address, "--plain-http", "--username=me", "--password-stdin", given=PASSWORD)
        helm(place, "push", str(packed), f"oci://{address}/charts", "--plain-http")
        yield address


class Private(http.server.SimpleHTTPRequestHandler):
    """Files behind a password."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Basic {base64.b64encode(f'me:{PASSWORD}'.encode()).decode()}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def repository(packed: Path) -> Iterator[str]:
    """The address of a chart repository with a password, which holds the chart."""
    helm(packed.parent, "repo", "index", str(packed.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Private, directory=str(packed.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


Maker = Callable[..., Source]


@pytest.fixture(params=["registry", "repository"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    """Makes a source; each test is run against both."""
    address = request.getfixturevalue(request.param)
    start = "oci://{}/charts" if request.param == "registry" else "http://{}"

    def made(
        chart: str = "shop", version: str = "1.2.3+more", password: str = PASSWORD, where: str = address
    ) -> Source:
        user = "me" if password else ""
        ref = f"{start.format(where)}/{chart}"
        return Source(
            ref=ref, version=version, cache=tmp_path, username=user, password=password, plain_http=True, probe_seconds=2
        )

    return made


def test_the_chart_that_was_pushed_is_the_one_that_comes(make: Maker, packed: Path) -> None:
    source = make()
    found = Chart.of(source).fetched()
    assert found.path is not None
    assert found.path.read_bytes() == packed.read_bytes()
    assert read_metadata(found.path)["version"] == "1.2.3+more"
    assert source.answers()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password": "wrong"}, "does not accept monitoring_chart_username and monitoring_chart_password"),
        ({"password": ""}, "wants credentials: set monitoring_chart_username and monitoring_chart_password"),
        ({"version": "9.9.9"}, "^monitoring_chart_version: .*9.9.9"),
        ({"chart": "stop"}, "^monitoring_chart_(ref|version): .*stop"),
        ({"where": "127.0.0.1:1"}, "^monitoring_chart_ref: .*127.0.0.1:1.* doesn't answer"),
    ],
)
def test_each_mistake_names_its_variable_and_leaves_nothing(
    make: Maker, tmp_path: Path, change: dict[str, str], says: str
) -> None:
    with pytest.raises(ChartError, match=says) as caught:
        fetch(make(**change))
    assert "wrong" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_registry_without_tls_is_told_from_a_dead_one(registry: str, tmp_path: Path) -> None:
    source = Source(f"oci://{registry}/charts/shop", "1.2.3+more", tmp_path, "me", PASSWORD)
    with pytest.raises(ChartError, match="speaks HTTP without TLS: set monitoring_chart_plain_http"):
        fetch(source)


def test_an_address_that_is_no_repository(repository: str, tmp_path: Path) -> None:
    source = Source(f"http://{repository}/nowhere/shop", "1.2.3+more", tmp_path, "me", PASSWORD)
    with pytest.raises(ChartError, match=r"^monitoring_chart_ref: .*/nowhere is no chart repository"):
        fetch(source)


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A registry that wants a token and keeps its blobs in another place, as the big ones do."""

    chart = b""
    store = ""
    seen: list[str | None]

    def do_GET(self) -> None:
        me = f"http://127.0.0.1:{self.connection.getsockname()[1]}"
        path, token = self.path, self.headers.get("Authorization")
        if path.startswith("/token"):
            good = token == f"Basic {base64.b64encode(f'me:{PASSWORD}'.encode()).decode()}"
            self._answer(200 if good else 401, json.dumps({"token": "once"}).encode())
        elif path == "/store":
            self.seen.append(token)
            self._answer(200, self.chart)
        elif token != "Bearer once":
            self._answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{me}/token",service="me",scope="pull"'})
        elif "/manifests/" in path:
            layer = {
                "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                "digest": f"sha256:{hashlib.sha256(self.chart).hexdigest()}",
            }
            self._answer(200, json.dumps({"layers": [layer]}).encode())
        else:
            self._answer(307, b"", {"Location": f"{self.store}/store"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_token_is_asked_for_and_stays_with_its_registry(packed: Path, tmp_path: Path) -> None:
    handler = type("Handler", (Elsewhere,), {"chart": packed.read_bytes(), "seen": []})
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    front, back = (f"127.0.0.1:{server.server_address[1]}" for server in servers)
    handler.store = f"http://{back}"  # type: ignore[attr-defined]
    try:
        for password in (PASSWORD, "wrong"):
            source = Source(f"oci://{front}/charts/shop", "1.2.3", tmp_path, "me", password, plain_http=True)
            if password == "wrong":
                with pytest.raises(ChartError, match="does not accept monitoring_chart_username"):
                    fetch(source)
            else:
                assert fetch(source).read_bytes() == packed.read_bytes()
        assert handler.seen == [None]  # type: ignore[attr-defined]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
