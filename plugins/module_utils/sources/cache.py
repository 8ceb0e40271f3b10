# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The cache of parts: entries that are complete or absent, locks, and what disk they need."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from .catalog import Part
from .errors import SourceError, explain_os_error

#: What is only there to build faster the next time, below the cache's `go`.
BUILD_CACHES = ("build", "mod", "pnpm")
MANIFEST = "manifest.json"
LOCK_POLL_SECONDS = 0.2


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file."""
    summary = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            summary.update(block)
    return summary.hexdigest()


def write_json(path: str, data: Any) -> None:
    """Replace a JSON file in one step."""
    with open(path + ".new", "w", encoding="utf-8") as handle:
        json.dump(data, handle, indent=2, sort_keys=True)
        handle.write("\n")
    os.replace(path + ".new", path)


def read_json(path: str) -> Any:
    """Read a JSON file; None when it is absent or damaged."""
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return None


def build_key(part: Part, arch: str, go_version: str) -> str:
    """Name a build by everything that goes into it."""
    inputs = [part.go_mod, part.go_sum, part.ldflags, arch, go_version, repr(part.files)]
    inputs.append(repr([(binary.name, binary.built) for binary in part.binaries]))
    if part.pages is not None:
        inputs.append(repr(part.pages))
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:12]


def upstream_key(part: Part, arch: str) -> str:
    """Name a download by what the catalog says about it."""
    inputs = [repr(part.upstream), repr(part.binaries), repr(part.files), part.release, arch]
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One directory of the cache: one part in one version from one source."""

    path: str
    source: str  # 'build' or 'upstream'

    @property
    def bin(self) -> str:
        return os.path.join(self.path, "bin")

    @property
    def files(self) -> str:
        return os.path.join(self.path, "files")

    def manifest(self) -> dict[str, Any] | None:
        data = read_json(os.path.join(self.path, MANIFEST))
        return data if isinstance(data, dict) and "content" in data else None

    def looks_complete(self) -> bool:
        """Check by size and time only: fit for every run."""
        manifest = self.manifest()
        return manifest is not None and all(
            _matches(os.path.join(self.path, name), known) for name, known in manifest["content"].items()
        )

    def is_complete(self) -> bool:
        """Check every checksum; a copied cache with new times is accepted and noted."""
        manifest = self.manifest()
        if manifest is None:
            return False
        for name, known in manifest["content"].items():
            path = os.path.join(self.path, name)
            try:
                if sha256_of(path) != known["sha256"]:
                    return False
                known["mtime_ns"] = os.stat(path).st_mtime_ns
            except OSError:
                return False
        if not self.looks_complete():
            write_json(os.path.join(self.path, MANIFEST), manifest)
        return True

    def checksums(self) -> dict[str, str]:
        manifest = self.manifest() or {"content": {}}
        return {
            os.path.basename(name): str(known["sha256"])
            for name, known in manifest["content"].items()
            if name.startswith("bin/")
        }


def _matches(path: str, known: dict[str, Any]) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return bool(found.st_size == known["size"] and found.st_mtime_ns == known["mtime_ns"])


class Cache:
    """The directory that all checkouts and hosts of this machine share."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))
        self.parts = os.path.join(self.root, "parts")
        self.downloads = os.path.join(self.root, "downloads")
        self.logs = os.path.join(self.root, "logs")
        self.go = os.path.join(self.root, "go")
        self.lock_file = os.path.join(self.root, "sources.lock")

    def entry(self, part: Part, source: str, key: str) -> Entry:
        return Entry(os.path.join(self.parts, part.name, f"{part.version}-{key}"), source)

    def bundled(self, part: Part, arch: str) -> list[Entry]:
        """List what a bundle brought for a part. Another Go than this machine's may have built it, from the same inputs."""
        found = []
        for path in sorted(glob.glob(os.path.join(glob.escape(self.parts), part.name, f"{part.version}-*"))):
            entry = Entry(path, "build")
            manifest = entry.manifest()
            if manifest is not None and manifest.get("bundled") and manifest.get("source") == "build":
                key = build_key(part, arch, str(manifest.get("go")))
                if os.path.basename(path) == f"{part.version}-{key}":
                    found.append(entry)
        return found

    def make_directory(self, path: str) -> str:
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.root) from error
        return path

    def free_mib(self) -> int:
        path = self.root
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        return shutil.disk_usage(path).free // (1 << 20)

    def require_free(self, need_mib: int, purpose: str) -> None:
        """Refuse work that would fill the disk."""
        free = self.free_mib()
        if free < need_mib:
            raise SourceError(
                f"{self.root} has {free} MiB free, but {purpose} needs {need_mib} MiB. Free some"
                " space there, set sources_cache_dir to a directory on a larger disk, or lower"
                " sources_disk_reserve_mib."
            )

    @contextlib.contextmanager
    def staging(self, part: Part) -> Iterator[str]:
        """Give a temporary directory beside the entries; it never outlives the lock."""
        home = self.make_directory(os.path.join(self.parts, part.name))
        for name in os.listdir(home):
            # The caller holds the part's lock: whatever is left comes from a run that was killed.
            if name.startswith(".tmp-"):
                shutil.rmtree(os.path.join(home, name), ignore_errors=True)
        path = tempfile.mkdtemp(prefix=".tmp-", dir=home)
        os.chmod(path, 0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def commit(self, staged: str, entry: Entry, facts: dict[str, Any]) -> None:
        """Make a finished directory the entry, in one step."""
        content: dict[str, Any] = {}
        for folder in ("bin", "files"):
            for directory, _folders, names in os.walk(os.path.join(staged, folder)):
                for name in names:
                    path = os.path.join(directory, name)
                    found = os.stat(path)
                    content[os.path.relpath(path, staged)] = {
                        "sha256": sha256_of(path),
                        "size": found.st_size,
                        "mtime_ns": found.st_mtime_ns,
                    }
        write_json(os.path.join(staged, MANIFEST), {**facts, "content": content})
        if os.path.isdir(entry.path):
            # A damaged entry steps aside first, so that the good one arrives in one step.
            os.rename(entry.path, os.path.join(os.path.dirname(staged), ".tmp-damaged"))
        os.rename(staged, entry.path)
        shutil.rmtree(os.path.join(os.path.dirname(entry.path), ".tmp-damaged"), ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, name: str, owner: str, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold a lock of this name; say for whom it waits."""
        path = os.path.join(self.make_directory(os.path.join(self.root, "locks")), name)
        try:
            handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - closed below
        except OSError as error:
            raise explain_os_error(error, self.root) from error
        with handle:
            told = False
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        handle.seek(0)
                        waiting(handle.read().strip() or "another run")
                        told = True
                    time.sleep(LOCK_POLL_SECONDS)
            handle.seek(0)
            handle.truncate()
            handle.write(f"{owner} (process {os.getpid()})")
            handle.flush()
            try:
                yield
            finally:
                handle.truncate(0)

    @contextlib.contextmanager
    def go_cache_in_use(self) -> Iterator[None]:
        """Keep others from dropping Go's caches while a build runs."""
        with self._go_lock() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield

    def _go_lock(self) -> Any:
        self.make_directory(os.path.join(self.root, "locks"))
        return open(os.path.join(self.root, "locks", "go-cache"), "a", encoding="utf-8")

    def has_build_cache(self) -> bool:
        return any(os.path.isdir(os.path.join(self.go, name)) for name in BUILD_CACHES)

    def drop_build_cache(self) -> bool:
        """Remove what builds keep, unless another build needs them now."""
        if not self.has_build_cache():
            return False
        with self._go_lock() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            for name in BUILD_CACHES:
                remove_tree(os.path.join(self.go, name))
        return True

    def outdated(self, part: Part, keep: Entry) -> list[str]:
        """List a part's other entries that no running process uses."""
        home = os.path.join(self.parts, part.name)
        try:
            names = os.listdir(home)
        except OSError:
            return []
        others = [os.path.join(home, n) for n in names if not n.startswith(".tmp-")]
        others = [path for path in others if path != keep.path]
        return [path for path in others if not in_use(path)] if others else []


def remove_tree(path: str) -> None:
    """Remove a directory, Go's read-only module cache included."""
    for directory, _folders, _names in os.walk(path):
        os.chmod(directory, 0o755)
    shutil.rmtree(path, ignore_errors=True)


def in_use(path: str) -> bool:
    """Tell whether a process runs a program from below this directory."""
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/exe").startswith(path + os.sep):
                    return True
    return False
