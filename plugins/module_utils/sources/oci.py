# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Programs out of a published image, for publishers that offer nothing else.

Only the parts of the registry protocol that reading needs. Every blob is named by its own SHA-256,
so that all that is taken hangs on one digest: that of the tag.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from .catalog import Binary, Remote
from .errors import SourceError, Unreachable
from .fetch import AGENT, FAILURES, Publisher, check_sha256, download, not_there, partial_name, reason

SCHEME = "docker://"
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


@dataclasses.dataclass
class Image:
    """One image in a registry that may want an anonymous token."""

    publisher: Publisher
    host: str
    name: str
    tag: str
    token: str = ""

    @classmethod
    def parse(cls, publisher: Publisher, url: str) -> Image:
        host, _slash, rest = url.removeprefix(SCHEME).partition("/")
        name, _colon, tag = rest.rpartition(":")
        # Docker Hub's registry has another name than its images.
        return cls(publisher, "registry-1.docker.io" if host == "docker.io" else host, name, tag)

    def url(self, kind: str, reference: str) -> str:
        return f"https://{self.host}/v2/{self.name}/{kind}/{reference}"

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def manifest(self, reference: str) -> tuple[dict[str, Any], str]:
        """Return a manifest and its SHA-256."""
        address = self.publisher.address(self.url("manifests", reference))
        for may_ask in (True, False):
            request = urllib.request.Request(address, headers={**AGENT, **self.headers(), "Accept": ACCEPT})
            try:
                with urllib.request.urlopen(request, timeout=self.publisher.download_timeout_seconds) as response:
                    body: bytes = response.read(1 << 22)
                return json.loads(body), hashlib.sha256(body).hexdigest()
            except urllib.error.HTTPError as error:
                challenge = error.headers.get("WWW-Authenticate", "")
                if error.code != 401 or not may_ask or not challenge.startswith("Bearer "):
                    raise not_there(address, error) from error
                self.token = self._ask_for_token(challenge)
            except FAILURES as error:
                raise Unreachable(f"{address} cannot be read: {reason(error)}.") from error
        raise AssertionError("the second attempt returns or raises")

    def _ask_for_token(self, challenge: str) -> str:
        """Get the token that a registry hands to everybody."""
        said = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        query = urllib.parse.urlencode({key: said[key] for key in ("service", "scope") if key in said})
        address = f"{said.get('realm', '')}?{query}"
        if not address.startswith(("https://", "http://127.0.0.1:")):
            raise Unreachable(f"{self.host} asks for a token from '{address}', which is no https address.")
        request = urllib.request.Request(address, headers=AGENT)
        try:
            with urllib.request.urlopen(request, timeout=self.publisher.download_timeout_seconds) as response:
                answer = json.load(response)
        except FAILURES as error:
            raise Unreachable(f"{address} gives no token: {reason(error)}.") from error
        return str(answer.get("token") or answer.get("access_token") or "")


def manifest_for(image: Image, arch: str) -> tuple[dict[str, Any], str]:
    """Return the manifest for an architecture, and the SHA-256 of what the tag names."""
    manifest, tagged = image.manifest(image.tag)
    if "manifests" not in manifest:
        return manifest, tagged
    for entry in manifest["manifests"]:
        platform = entry.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == ("linux", arch):
            wanted = str(entry["digest"])
            chosen, got = image.manifest(wanted)
            if wanted != f"sha256:{got}":
                raise SourceError(
                    f"Checksum mismatch: {image.url('manifests', wanted)} has SHA-256 {got}. Do not use this"
                    " registry or mirror before you know why."
                )
            return chosen, tagged
    raise Unreachable(f"{image.host}/{image.name}:{image.tag} has no image for linux/{arch}.")


def unpack_image(
    image: Image,
    manifest: dict[str, Any],
    remote: Remote,
    downloads: str,
    out: str,
    note: Callable[[int, int | None], None],
) -> None:
    """Put the programs of an image into 'out'; the last layers come first, since there they are."""
    missing = {binary.member.lstrip("/"): binary for binary in remote.binaries}
    for layer in reversed(manifest.get("layers", [])):
        url = image.url("blobs", str(layer["digest"]))
        path = os.path.join(downloads, partial_name(url))
        if not os.path.exists(path):
            download(image.publisher, url, path, note, image.headers())
        check_sha256(path, str(layer["digest"]).removeprefix("sha256:"), "its manifest", image.publisher.address(url))
        _from_layer(path, missing, out, url)
        os.remove(path)
        if not missing:
            return
    raise Unreachable(
        f"{remote.url} holds no file '{next(iter(missing))}': correct 'member' in the catalog,"
        " or set sources_mode to build."
    )


def _from_layer(path: str, missing: dict[str, Binary], out: str, url: str) -> None:
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = member.name.removeprefix("./").lstrip("/")
                source = archive.extractfile(member) if name in missing and member.isreg() else None
                if source is not None:
                    target = os.path.join(out, missing.pop(name).name)
                    with source, open(target, "wb") as handle:
                        shutil.copyfileobj(source, handle, 1 << 20)
                    os.chmod(target, 0o755)
    except (tarfile.TarError, EOFError) as error:
        raise Unreachable(f"{url} is a layer that this Python cannot read ({error}).") from error
