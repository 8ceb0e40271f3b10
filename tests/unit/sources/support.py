# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A publisher on this machine, made-up parts, and options that point to both."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.sources.catalog import Binary, Part, Upstream
from ansible_collections.appgate.platform.plugins.module_utils.sources.core import Options, Taker
from ansible_collections.appgate.platform.plugins.module_utils.sources.progress import Progress

from tests import parts


@pytest.fixture(scope="session")
def go() -> str:
    """A real Go."""
    return parts.go()


@pytest.fixture(scope="session")
def go_caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Go's caches. What this machine has compiled of the standard library before is not compiled again."""
    folder = tmp_path_factory.mktemp("go")
    known = subprocess.run([parts.go(), "env", "GOCACHE"], capture_output=True, text=True, check=False).stdout.strip()
    if Path(known).is_dir() and os.access(known, os.W_OK):
        (folder / "build").symlink_to(known)
    return folder


@pytest.fixture
def go_on_path(go: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the role sources find it as the machine's own."""
    monkeypatch.setenv("PATH", f"{Path(go).parent}{os.pathsep}{os.environ['PATH']}")


@dataclasses.dataclass
class Answer:
    """What the publisher does for one path."""

    body: bytes
    status: int = 200
    cut_at: int = -1  # the connection ends after so many bytes, once
    ranges: bool = True
    gate: threading.Event | None = None  # the answer waits for it
    challenge: str = ""  # without the token 'sesame' there is only this


class Publisher:
    """An HTTP server with ranges, failures and a memory."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, str, str]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                """Keep the test's output clean."""

            def do_HEAD(self) -> None:
                owner.serve(self)

            def do_GET(self) -> None:
                owner.serve(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range", "")
        self.seen.append((request.command, request.path, wanted))
        answer = self.answers.get(request.path.partition("?")[0])
        if answer is None:
            request.send_error(404)
            return
        if answer.gate:
            answer.gate.wait(20)
        if answer.challenge and request.headers.get("Authorization") != "Bearer sesame":
            request.send_response(401)
            request.send_header("WWW-Authenticate", answer.challenge)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body, status = answer.body, answer.status
        if wanted and answer.ranges and status == 200:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                request.send_error(416)
                return
            body, status = body[start:], 206
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            cut, answer.cut_at = answer.cut_at, -1
            request.wfile.write(body if cut < 0 else body[:cut])
        request.close_connection = True

    def publish(self, path: str, body: bytes, **how: Any) -> Answer:
        self.answers[path] = Answer(body, **how)
        return self.answers[path]

    def gets(self, path: str) -> list[str]:
        """The ranges with which a path was asked for."""
        return [wanted for method, seen, wanted in self.seen if method == "GET" and seen == path]


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    made.publish("/probe", b"here")
    yield made
    made.server.shutdown()
    made.server.server_close()


def archive(**members: bytes) -> bytes:
    """A .tar.gz with these files; '__' in a name stands for '/'."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


GO_MOD = "module parts/tool\n\ngo 1.20\n\ntool example.test/tool\n\nrequire example.test/tool v1.2.3 // indirect\n"
TOOL = b"#!/bin/sh\necho tool\n"
ARCHIVE = "/tool/v1.2.3/tool-amd64.tar.gz"


def make_part(**changes: Any) -> Part:
    """A part with one program in one archive."""
    values: dict[str, Any] = {
        "name": "tool",
        "module": "example.test/tool",
        "version": "v1.2.3",
        "release": "v1.2.3",
        "binaries": (Binary("tool", "tool", "bin/tool"),),
        "files": (),
        "ldflags": "-s -w",
        "upstream": Upstream("https://releases.test/tool/{release}/tool-{arch}.tar.gz", "{url}.sha256", {}),
        "build_mib": 1,
        "upstream_mib": 1,
        "go_mod": GO_MOD,
        "go_sum": "",
    }
    return Part(**{**values, **changes})


def publish_tool(publisher: Publisher, content: bytes = TOOL, **how: Any) -> bytes:
    """Put the part's release with its checksum at the publisher."""
    body = archive(bin__tool=content)
    publisher.publish(ARCHIVE, body, **how)
    publisher.publish(ARCHIVE + ".sha256", f"{sha256(body)}  tool-amd64.tar.gz\n".encode())
    return body


TakerMaker = Callable[..., Taker]


@pytest.fixture
def taker(tmp_path: Path, publisher: Publisher) -> TakerMaker:
    """Make a taker whose publishers are all the one on this machine."""

    def make(progress: Progress | None = None, **changes: Any) -> Taker:
        values: dict[str, Any] = {
            "cache_dir": str(tmp_path / "cache"),
            "mode": "upstream",
            "probe_url": "https://releases.test/probe",
            "mirror": publisher.url,
            "probe_timeout_seconds": 2.0,
            "download_timeout_seconds": 5.0,
            "disk_reserve_mib": 0,
            "arch": "amd64",
            "run": "this run",
        }
        return Taker(Options(**{**values, **changes}), progress)

    return make
