# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Take parts: from the cache, else from their publishers, else by building them."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from . import build, catalog, fetch, gomod, oci, pages, toolchain, unpack
from .cache import Cache, Entry, build_key, upstream_key
from .catalog import Part
from .errors import SourceError, Unreachable, explain_os_error
from .progress import Progress

_ARCHES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def machine_arch(machine: str = "") -> str:
    """Return Go's name of this machine's architecture."""
    name = machine or platform.machine()
    if name not in _ARCHES:
        raise SourceError(f"The architecture {name} is not served: use a machine with amd64 or arm64.")
    return _ARCHES[name]


@dataclasses.dataclass(frozen=True)
class Options:
    """What a person chose."""

    cache_dir: str
    mode: str = "auto"
    mode_by_part: dict[str, str] = dataclasses.field(default_factory=dict)
    probe_url: str = "https://dl.k8s.io/release/stable.txt"
    mirror: str = ""
    probe_timeout_seconds: float = 3.0
    download_timeout_seconds: float = 60.0
    disk_reserve_mib: int = 1024
    verify: bool = False
    prune: bool = False
    keep_build_cache: bool = True
    run: str = ""
    owner: str = "another run"
    pip_python: str = ""
    arch: str = ""


@dataclasses.dataclass
class Result:
    """What was taken, and what happened on the way."""

    bin: dict[str, str] = dataclasses.field(default_factory=dict)
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    taken: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    would: list[str] = dataclasses.field(default_factory=list)
    pruned: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    changed: bool = False

    def add(self, part: Part, entry: Entry, source: str) -> None:
        self.bin[part.name] = entry.bin
        self.files[part.name] = entry.files
        self.taken[part.name] = {
            "version": part.version,
            "release": part.release,
            "source": source,
            "origin": entry.source,
            "sha256s": entry.checksums(),
        }

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Taker:
    """Takes parts one after the other."""

    def __init__(self, options: Options, progress: Progress | None = None) -> None:
        self.options = options
        self.progress = progress or Progress()
        self.cache = Cache(options.cache_dir)
        self.arch = options.arch or machine_arch()
        self.publisher = fetch.Publisher(
            mirror=options.mirror,
            probe_url=options.probe_url,
            probe_timeout_seconds=options.probe_timeout_seconds,
            download_timeout_seconds=options.download_timeout_seconds,
        )
        self._why_not: str | None = None

    # What is in the cache -------------------------------------------------------------------

    def mode_of(self, part: Part) -> str:
        """Return the mode of a part; one without a published binary can only be built."""
        mode = self.options.mode_by_part.get(part.name, "")
        if part.upstream is None:
            if mode == "upstream":
                raise SourceError(
                    f"sources_mode_by_part: '{part.name}' is 'upstream', but its publisher offers"
                    " no binary to download. Set it to build, or leave it out."
                )
            return "build"
        return mode or self.options.mode

    def go_for(self, part: Part) -> toolchain.Go:
        return toolchain.find(self.cache, gomod.go_line(part.go_mod))

    def entries(self, part: Part) -> list[Entry]:
        """List the entries that would do for a part, the preferred one first."""
        mode = self.mode_of(part)
        found = []
        if mode in ("auto", "upstream"):
            found.append(self.cache.entry(part, "upstream", upstream_key(part, self.arch)))
        if mode in ("auto", "build"):
            key = build_key(part, self.arch, self.go_for(part).version)
            found.append(self.cache.entry(part, "build", key))
        return found

    def cached(self, part: Part, *, thorough: bool = False) -> Entry | None:
        """Return a complete entry of a part, if there is one."""
        for entry in self._candidates(part):
            if entry.is_complete() if thorough else entry.looks_complete():
                return entry
        return None

    def _candidates(self, part: Part) -> Iterator[Entry]:
        yield from self.entries(part)
        if self.mode_of(part) != "upstream":
            yield from self.cache.bundled(part, self.arch)

    def from_cache(self, parts: list[Part]) -> Result | None:
        """Answer from the cache alone, or return None when there is work to do."""
        if self.options.verify or not (self.options.keep_build_cache or not self.cache.has_build_cache()):
            return None
        result = Result()
        for part in parts:
            entry = self.cached(part)
            if entry is None or (self.options.prune and self.cache.outdated(part, entry)):
                return None
            result.add(part, entry, "cache")
        return result

    # What is not ----------------------------------------------------------------------------

    def plan(self, parts: list[Part]) -> Result:
        """Say what would be done, and do nothing (check mode)."""
        result = Result()
        for part in parts:
            entry = self.cached(part, thorough=True)
            if entry is None:
                source = self._source(part, record=False)
                entry = next(e for e in self.entries(part) if e.source == source)
                verb = "download" if source == "upstream" else "build"
                result.would.append(f"{verb} {part.name} {part.version}")
                result.changed = True
                result.add(part, entry, source)
            else:
                result.add(part, entry, "cache")
            if self.options.prune:
                for path in self.cache.outdated(part, entry):
                    result.would.append(f"remove {path}")
                    result.changed = True
        if not self.options.keep_build_cache and self.cache.has_build_cache():
            result.would.append(f"remove Go's caches in {self.cache.go}")
            result.changed = True
        return result

    def take(self, parts: list[Part]) -> Result:
        """Take every part; stop at the first that cannot be had."""
        result = Result()
        try:
            self._preflight(parts)
            for number, part in enumerate(parts, 1):
                self.progress.start(number, len(parts), part.name, part.version)
                self._take(part, result)
            if not self.options.keep_build_cache and self.cache.drop_build_cache():
                result.pruned.append(self.cache.go)
                result.changed = True
        except OSError as error:
            raise explain_os_error(error, self.cache.root) from error
        return result

    def _source(self, part: Part, *, record: bool = True) -> str:
        """Choose between the publisher and the compiler; probe at most once."""
        mode = self.mode_of(part)
        if mode != "auto":
            return mode
        if self._why_not is None:
            if record:
                path = os.path.join(self.cache.make_directory(self.cache.root), "probe.json")
                with self.cache.lock("probe", self.options.owner, lambda who: None):
                    self._why_not = fetch.probe_once(self.publisher, path, self.options.run)
            else:
                self._why_not = self.publisher.probe()
        return "build" if self._why_not else "upstream"

    def _preflight(self, parts: list[Part]) -> None:
        """Refuse before the first byte when the disk cannot hold what is missing."""
        need = 0
        for part in parts:
            if self.cached(part) is None:
                source = self._source(part)
                need += part.build_mib if source == "build" else part.upstream_mib
        if need:
            purpose = "taking what is missing"
            self.cache.require_free(need + self.options.disk_reserve_mib, purpose)

    def _take(self, part: Part, result: Result) -> None:
        entry = self.cached(part, thorough=self.options.verify)
        if entry is None:
            wait = f"waiting for {{}}, which holds the part {part.name}"
            with self.cache.lock(part.name, self.options.owner, lambda who: self.progress.say(wait.format(who))):
                # Another host or checkout may have taken it in the meantime; or it was copied.
                entry = self.cached(part, thorough=True)
                if entry is None:
                    entry = self._make(part, result)
                    result.changed = True
                    result.add(part, entry, entry.source)
                else:
                    self.progress.end("from the cache")
        if part.name not in result.taken:
            result.add(part, entry, "cache")
        if self.options.prune:
            for path in self.cache.outdated(part, entry):
                shutil.rmtree(path, ignore_errors=True)
                result.pruned.append(path)
                result.changed = True

    def _make(self, part: Part, result: Result) -> Entry:
        source = self._source(part)
        entries = {entry.source: entry for entry in self.entries(part)}
        try:
            if source == "upstream":
                try:
                    self._download(part, entries["upstream"])
                except Unreachable as error:
                    if self.mode_of(part) != "auto":
                        raise
                    result.warnings.append(f"sources: building {part.name} instead: {error}")
                    source = "build"
            if source == "build":
                self._build(part, entries["build"])
        except SourceError:
            self.progress.end("failed")
            raise
        self.progress.end("built" if source == "build" else "downloaded")
        return entries[source]

    def _build(self, part: Part, entry: Entry) -> None:
        self.progress.say("building")
        go = self.go_for(part)
        if not go.installed:
            self.progress.say(f"installing Go {go.version}")
            with self.cache.lock("go-sdk", self.options.owner, lambda who: None):
                if not self.go_for(part).installed:
                    needed = gomod.go_line(part.go_mod)
                    toolchain.install(self.cache, go, needed, self.options.pip_python)
            self.progress.say("building")
        with self.cache.staging(part) as staged:
            with self.cache.go_cache_in_use():
                if part.pages is not None:
                    # One directory holds Node and what it has downloaded, for all parts and runs.
                    with self.cache.lock("node", self.options.owner, lambda who: None):
                        python = self.options.pip_python
                        pages.make(self.cache, part, part.pages, self.publisher, staged, self.progress, python)
                    self.progress.say("building")
                build.build(self.cache, part, go, self.arch, staged, self.progress)
                unpack.take_module_files(self.cache, part, self.publisher, staged, self.progress)
            shutil.rmtree(os.path.join(staged, "src"))
            self.cache.commit(staged, entry, self._facts(part, entry, {"go": go.version}))

    def _download(self, part: Part, entry: Entry) -> None:
        self.progress.say("downloading")
        sums: dict[str, str] = {}
        with self.cache.staging(part) as staged:
            out = self.cache.make_directory(os.path.join(staged, "bin"))
            for remote in catalog.remote_files(part, self.arch):
                if remote.is_image:
                    sums[remote.url] = self._from_image(remote, out)
                    continue
                path = os.path.join(self.cache.make_directory(self.cache.downloads), fetch.partial_name(remote.url))
                sums[remote.url] = self._fetch(remote, path)
                unpack.unpack(path, remote, out)
                if os.path.exists(path):
                    os.remove(path)
            unpack.take_module_files(self.cache, part, self.publisher, staged, self.progress)
            self.cache.commit(staged, entry, self._facts(part, entry, {"downloads": sums}))

    def _fetch(self, remote: catalog.Remote, path: str) -> str:
        """Download one file and check it by the catalog, else by the lock file and publisher."""
        expected, where = remote.sha256, "the catalog"
        if expected is None:
            text = fetch.text_of(self.publisher, remote.checksum_url)
            expected = fetch.published_checksum(text, remote.file_name)
            where = remote.checksum_url
            if expected is None:
                raise SourceError(
                    f"{remote.checksum_url} names no SHA-256 for {remote.file_name}. Pin it in the"
                    " catalog, or set sources_mode to build."
                )
            self._check_lock(remote, expected, where)
        if not os.path.exists(path):
            fetch.download(self.publisher, remote.url, path, self._noting(remote))
        fetch.check_sha256(path, expected, where, self.publisher.address(remote.url))
        self._record(remote, expected)
        return expected

    def _from_image(self, remote: catalog.Remote, out: str) -> str:
        """Take programs out of an image; the digest of its tag is checked as a checksum is."""
        image = oci.Image.parse(self.publisher, remote.url)
        manifest, digest = oci.manifest_for(image, self.arch)
        if remote.sha256 is None:
            self._check_lock(remote, digest, image.host)
        elif remote.sha256 != digest:
            raise SourceError(
                f"Checksum mismatch: {remote.url} has the digest {digest}, but the catalog says"
                f" {remote.sha256}. Do not use it before you know why."
            )
        downloads = self.cache.make_directory(self.cache.downloads)
        oci.unpack_image(image, manifest, remote, downloads, out, self._noting(remote))
        self._record(remote, digest)
        return digest

    def _noting(self, remote: catalog.Remote) -> Callable[[int, int | None], None]:
        def note(done: int, total: int | None) -> None:
            of = f" of {total >> 20}" if total else ""
            self.progress.note(f"{remote.file_name}: {done >> 20}{of} MiB")

        return note

    def _check_lock(self, remote: catalog.Remote, found: str, where: str) -> None:
        """Refuse a release that is not the one of the first download."""
        locked = fetch.Lockfile(self.cache.lock_file).get(remote.url)
        if locked is not None and locked != found:
            raise SourceError(
                f"Checksum mismatch: {where} now says {found} for {remote.url}, but"
                f" {self.cache.lock_file} recorded {locked} at the first download. A release"
                " must not change: find out why, then remove that line from the lock file."
            )

    def _record(self, remote: catalog.Remote, sha256: str) -> None:
        if remote.sha256 is None:
            with self.cache.lock("lockfile", self.options.owner, lambda who: None):
                fetch.Lockfile(self.cache.lock_file).put(remote.url, sha256)

    def _facts(self, part: Part, entry: Entry, more: dict[str, Any]) -> dict[str, Any]:
        return {
            "part": part.name,
            "version": part.version,
            "release": part.release,
            "source": entry.source,
            "arch": self.arch,
            **more,
        }
