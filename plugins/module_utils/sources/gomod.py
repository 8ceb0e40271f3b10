# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What go.mod, go.sum and a module's zip say, read without Go."""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile

from .errors import SourceError

_GO_LINE = re.compile(r"^go\s+(\d+(?:\.\d+)*)", re.MULTILINE)


def required_version(go_mod: str, module: str) -> str:
    """Return the version that go.mod pins for a module."""
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", go_mod, flags=re.MULTILINE)
    if found is None:
        raise SourceError(
            f"go.mod does not require the module {module}, so its version is unknown."
            " Add it with 'go get -tool', or correct 'module' in the catalog."
        )
    return found.group(1)


def go_line(go_mod: str) -> tuple[int, ...]:
    """Return the lowest Go version that go.mod accepts."""
    found = _GO_LINE.search(go_mod)
    return version_numbers(found.group(1)) if found else (1, 0)


def version_numbers(text: str) -> tuple[int, ...]:
    """Turn 'go1.26.8' or '1.26' into numbers that compare."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(number) for number in found.group(0).split(".")) if found else ()


def escape_path(module: str) -> str:
    """Write a module path as the module proxy wants it: capitals become '!' and lower case."""
    return re.sub("[A-Z]", lambda capital: "!" + capital.group(0).lower(), module)


def zip_checksum(go_sum: str, module: str, version: str) -> str:
    """Return the h1: checksum of a module's zip from go.sum."""
    for line in go_sum.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[0] == module and fields[1] == version:
            return fields[2]
    raise SourceError(f"go.sum has no checksum for {module} {version}: run 'go mod tidy' beside that go.mod.")


def hash_zip(path: str) -> str:
    """Compute the checksum that go.sum records ('h1:', dirhash.Hash1 of Go)."""
    summary = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in sorted(n for n in archive.namelist() if not n.endswith("/")):
            content = hashlib.sha256()
            with archive.open(name) as member:
                for block in iter(lambda: member.read(1 << 20), b""):
                    content.update(block)
            summary.update(f"{content.hexdigest()}  {name}\n".encode())
    return "h1:" + base64.b64encode(summary.digest()).decode()
