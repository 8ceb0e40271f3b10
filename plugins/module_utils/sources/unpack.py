# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Files that come with a part (CRDs, manifests), out of its Go module's zip."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import posixpath
import shutil
import tarfile
import zipfile

from . import gomod
from .cache import Cache
from .catalog import Part, Remote
from .errors import SourceError, Unreachable
from .fetch import Publisher, download, partial_name
from .progress import Progress

PROXY = "https://proxy.golang.org"


def module_zip(cache: Cache, part: Part, publisher: Publisher, progress: Progress) -> str:
    """Return the path of the module's zip, out of Go's cache or from the module proxy.

    It is checked against go.sum, so what is in it is pinned whichever way it comes.
    """
    expected = gomod.zip_checksum(part.go_sum, part.module, part.version)
    escaped = gomod.escape_path(part.module)
    path = os.path.join(cache.go, "mod", "cache", "download", escaped, "@v", f"{part.version}.zip")
    url = f"{_proxy()}/{escaped}/@v/{part.version}.zip"
    if not os.path.exists(path):
        path = os.path.join(cache.make_directory(cache.downloads), partial_name(url))
        if not os.path.exists(path):
            progress.say("fetching its source")
            # A mirror of releases is no module proxy: that one is set by GOPROXY, as for Go itself.
            direct = dataclasses.replace(publisher, mirror="")
            download(direct, url, path, lambda done, total: None)
    try:
        got = gomod.hash_zip(path)
    except zipfile.BadZipFile:
        got = "not a zip file"
    if got != expected:
        os.remove(path)
        raise SourceError(
            f"Checksum mismatch: {url} has {got}, but go.sum says {expected}. The download is"
            " removed. Run again; if it stays, do not use that module proxy before you know why."
        )
    return path


def take_module_files(cache: Cache, part: Part, publisher: Publisher, staged: str, progress: Progress) -> None:
    """Put the wanted files of the module into the staging directory's 'files'."""
    target = cache.make_directory(os.path.join(staged, "files"))
    if not part.files:
        return
    path = module_zip(cache, part, publisher, progress)
    prefix = f"{part.module}@{part.version}/"
    found: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            inner = name[len(prefix) :]
            for pattern in part.files:
                if fnmatch.fnmatchcase(inner, pattern):
                    found.add(pattern)
                    with open(os.path.join(target, posixpath.basename(inner)), "wb") as handle:
                        handle.write(archive.read(name))
    missing = [pattern for pattern in part.files if pattern not in found]
    if missing:
        raise SourceError(f"{part.name} {part.version} has no file {missing[0]}: correct 'files' in the catalog.")


def unpack_module(path: str, part: Part, target: str) -> None:
    """Unpack a module's zip, which has been checked, so that the target is the module's directory."""
    unpacked = target + ".zip"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)  # noqa: S202 - go.sum has its checksum, and zipfile leaves no target
    os.rename(os.path.join(unpacked, f"{part.module}@{part.version}"), target)


def _proxy() -> str:
    """Return the module proxy that Go itself would ask first."""
    first = os.environ.get("GOPROXY", PROXY).replace("|", ",").split(",")[0].strip()
    return first.rstrip("/") if first.startswith(("http://", "https://")) else PROXY


def unpack(path: str, remote: Remote, out: str) -> None:
    """Put the binaries of a publisher's archive, or the file itself, into 'out'."""
    if not remote.is_archive:
        _write(path, os.path.join(out, remote.binaries[0].name))
        return
    try:
        with tarfile.open(path, "r:gz") as archive:
            for binary in remote.binaries:
                try:
                    member = archive.extractfile(binary.member)
                except KeyError:
                    member = None
                if member is None:
                    raise Unreachable(
                        f"{remote.url} holds no file '{binary.member}': correct 'member' of"
                        f" '{binary.name}' in the catalog."
                    )
                target = os.path.join(out, binary.name)
                with member, open(target, "wb") as handle:
                    shutil.copyfileobj(member, handle, 1 << 20)
                os.chmod(target, 0o755)
    except (tarfile.TarError, EOFError) as error:
        os.remove(path)
        raise SourceError(
            f"{remote.url} is not a readable archive ({error}). The download is removed: run again."
        ) from error


def _write(source: str, target: str) -> None:
    os.replace(source, target)
    os.chmod(target, 0o755)
