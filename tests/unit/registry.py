# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A real registry on 127.0.0.1: the one that the embedded cluster's nodes pull from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.appgate.platform.plugins.module_utils.bundle import this_machine

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


def publish(reference: str, place: Path) -> None:
    """Push an image of one empty layer."""
    place.mkdir()

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (place / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layer = bytes(1024)
    config = {
        "architecture": this_machine()["architecture"],
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar")],
    }
    (place / "manifest.json").write_text(json.dumps(manifest))
    (place / "version").write_text("Directory Transport Version: 1.1\n")
    command = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", f"dir:{place}"]
    subprocess.run([*command, f"docker://{reference}"], check=True)


def digest(reference: str) -> str:
    command = ["skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{reference}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
