# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What tests take from the machine that they run on: a port, a module in a process of its own, a folder by HTTP, a program."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_module(module: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a module answers that is started as Ansible starts it."""
    done = subprocess.run(
        [sys.executable, module],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": dict(arguments)}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextlib.contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """The address of a web server with the folder's files."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_program(path: Path, script: str) -> None:
    """A program for sh, to stand in for one of the machine's."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
