"""A chart that can't be had is told in one sentence with its variable; one that can is checked and kept."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.helm_chart import (
    Chart,
    ChartError,
    Source,
    crds,
    fetch,
    local,
    read_metadata,
    stage,
)


def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in {
            "shop/Chart.yaml": "name: shop\nversion: 1.2.3\n",
            "shop/charts/crds/crds/one.yaml": "kind: CustomResourceDefinition\n",
            "shop/templates/a.yaml": "a: 1\n",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


CHART = packed()
BASIC = f"Basic {base64.b64encode(b'me:right').decode()}"


class Repository(http.server.BaseHTTPRequestHandler):
    """A chart repository, half of it behind a password."""

    def do_GET(self) -> None:
        path = self.path
        if path.startswith("/private/"):
            if self.headers.get("Authorization") != BASIC:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.end_headers()
                return
            path = path.removeprefix("/private")
        body = self._body(path)
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(body)

    def _body(self, path: str) -> bytes:
        digest = hashlib.sha256(CHART).hexdigest()
        entries = f"- {{version: 1.2.3, digest: {digest}, urls: [shop-1.2.3.tgz]}}"
        wrong = f"- {{version: 1.2.4, digest: {'f' * 64}, urls: [shop-1.2.3.tgz]}}"
        index = f"entries:\n  shop:\n  {wrong}\n  {entries}\n"
        return {"/index.yaml": index.encode(), "/shop-1.2.3.tgz": CHART}.get(path, b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Repository)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def source(ref: str, cache: Path, version: str = "1.2.3", **more: str) -> Source:
    return Source(ref=ref, version=version, cache=cache, **more)  # type: ignore[arg-type]


def test_a_chart_is_fetched_once_and_kept(address: str, tmp_path: Path) -> None:
    wanted = source(f"{address}/shop", tmp_path)
    assert Chart.of(wanted).path is None
    found = Chart.of(wanted).fetched()
    assert found.path is not None
    assert read_metadata(found.path)["version"] == "1.2.3"
    assert crds(found.path) == ["kind: CustomResourceDefinition\n"]
    assert Chart.of(wanted).path == found.path


@pytest.mark.parametrize(
    ("path", "version", "user", "says"),
    [
        ("/shop", "9.9.9", "", "monitoring_chart_version: .* no version 9.9.9 .*1.2.3"),
        ("/shop", "1.2.4", "", "checksum"),
        ("/stop", "1.2.3", "", "has no chart 'stop'"),
        ("/nowhere/shop", "1.2.3", "", "404"),
        ("/private/shop", "1.2.3", "", "wants credentials: set monitoring_chart_username"),
        ("/private/shop", "1.2.3", "wrong", "does not accept monitoring_chart_username"),
    ],
)
def test_what_is_wrong_is_said(address: str, tmp_path: Path, path: str, version: str, user: str, says: str) -> None:
    more = {"username": "me", "password": user} if user else {}
    with pytest.raises(ChartError, match=says) as caught:
        fetch(source(f"{address}{path}", tmp_path, version, **more))
    assert "wrong" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_right_credentials_are_used(address: str, tmp_path: Path) -> None:
    assert fetch(source(f"{address}/private/shop", tmp_path, username="me", password="right")).is_file()


def test_an_address_that_does_not_answer(tmp_path: Path) -> None:
    for ref in ("oci://127.0.0.1:1/charts/shop", "https://127.0.0.1:1/shop"):
        with pytest.raises(
            ChartError, match=r"monitoring_chart_ref: .*doesn't answer.*monitoring_chart_source=embedded"
        ):
            fetch(source(ref, tmp_path))
        assert not source(ref, tmp_path).answers()


def test_a_file_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "shop-1.2.3.tgz"
    path.write_bytes(CHART)
    found = Chart.of(source(str(path), tmp_path, "88.5.3"))
    assert (found.name, found.version, found.path) == ("shop", "1.2.3", path)
    with pytest.raises(ChartError, match="is no file"):
        Chart.of(source(str(tmp_path / "no.tgz"), tmp_path)).fetched()
    (tmp_path / "no.tgz").write_bytes(b"text")
    with pytest.raises(ChartError, match="isn't a chart"):
        read_metadata(tmp_path / "no.tgz")


def test_a_changed_chart_is_another_version(tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("name: shop\nversion: 0.1.0\n")
    (chart / "values.yaml").write_text("a: 1\n")
    (chart / "templates" / "a.yaml").write_text("x")
    first = local(chart, tmp_path / "cache")
    assert first.version.startswith("0.1.0+")
    assert local(chart, tmp_path / "cache") == first
    (chart / "README.md").write_text("no part of what is installed")
    assert local(chart, tmp_path / "cache") == first
    stage(chart, first)
    stage(chart, first)
    assert first.path is not None
    assert read_metadata(first.path)["version"] == first.version
    assert sorted(path.name for path in first.path.rglob("*")) == ["Chart.yaml", "a.yaml", "templates", "values.yaml"]
    (chart / "templates" / "a.yaml").write_text("y")
    assert local(chart, tmp_path / "cache").version != first.version
