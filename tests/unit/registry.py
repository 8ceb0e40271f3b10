# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A real registry on 127.0.0.1: the one that the embedded cluster's nodes pull from."""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.machine import free_port
from tests.parts import program

CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {directory}/data}}}}
http: {{addr: "{address}", secret: none}}
log: {{level: error, accesslog: {{disabled: true}}}}
"""
START_SECONDS = 30


@contextlib.contextmanager
def serve(place: Path, htpasswd: str = "") -> Iterator[str]:
    """The address of an empty registry, which lets in everybody, or those of an htpasswd file (with bcrypt)."""
    place.mkdir(exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    config = CONFIG.format(directory=place, address=address)
    if htpasswd:
        (place / "htpasswd").write_text(htpasswd)
        config += f"auth: {{htpasswd: {{realm: registry, path: {place}/htpasswd}}}}\n"
    (place / "config.yml").write_text(config)
    process = subprocess.Popen([program("registry", "registry"), "serve", str(place / "config.yml")])
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(address):
            assert process.poll() is None, "the registry has ended"
            assert time.monotonic() < end, "the registry does not answer"
            time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
