# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a bundle holds that no role keeps in the cache: wheels for .venv, Debian packages, and the project itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.appgate.platform.plugins.module_utils.bundle import BundleError, write_index
from ansible_collections.appgate.platform.plugins.module_utils.image_delivery import names_registry
from ansible_collections.appgate.platform.plugins.module_utils.image_work import (
    ImageError,
    forget_old,
    fresh_directory,
    locked,
    machine,
    run,
    sha256_file,
    short_hash,
)

LOCK_SECONDS = 900.0
#: Wheels and packages of as many checkouts stay in the cache.
KEPT = 3
#: What a machine needs before the first playbook runs there.
FIRST = {"git": ["git"], "make": ["make"], "python3": ["python3"], "python3-venv": []}


@dataclass(frozen=True)
class Fetching:
    """How what is missing is fetched."""

    timeout_seconds: float
    refresh: bool = False  # what carries no version of its own may be another one by now
    plain_http: bool = False
    authfile: str = ""


def wheels(lock: Path, cache: Path, timeout_seconds: float) -> Path:
    """The wheels of a lock file for this Python and this machine, each checked by its hash."""
    python = ".".join(map(str, sys.version_info[:2]))
    target = cache / "bundle" / "wheels" / short_hash([sha256_file(lock), python, machine()])
    with locked(cache / "bundle", LOCK_SECONDS):
        if target.is_dir():
            return target
        with fresh_directory(target) as staged:
            command = [
                *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
                *("--require-hashes", "--no-deps", "--only-binary=:all:"),
                f"--dest={staged}",
                f"--requirement={lock}",
            ]
            try:
                run(command, timeout_seconds=timeout_seconds, what="Fetching the wheels of .venv", disk=staged)
            except ImageError as error:
                raise BundleError(
                    f"{error}\nThe packages of {lock} come from PyPI or the index that pip is told (PIP_INDEX_URL): see that this "
                    "machine reaches it, and run again."
                ) from None
        forget_old(target.parent, target, KEPT)
    return target


def split(reference: str) -> tuple[str, str, str]:
    """Registry, path and tag of an image's name."""
    name, _, tag = reference.rpartition(":")
    host, _, path = name.partition("/")
    if "@" in reference or not path or "/" in tag or not tag or not names_registry(host):
        raise BundleError(
            f"bundle_images: {reference!r} is no whole name of an image. Write registry/path:tag, for example "
            "docker.io/grafana/grafana:13.2.0."
        )
    return host, path, tag


def image(reference: str, cache: Path, options: Fetching) -> Path:
    """A published image for this machine's architecture, as skopeo's `dir:` form has it."""
    split(reference)
    target = cache / "bundle" / "images" / short_hash([reference, machine()])
    with locked(cache / "bundle", LOCK_SECONDS):
        if (target / "manifest.json").is_file() and not options.refresh:
            return target
        with fresh_directory(target) as staged:
            command = [
                *("skopeo", "copy", "--quiet", "--preserve-digests"),
                f"--src-tls-verify={'false' if options.plain_http else 'true'}",
                *([f"--authfile={options.authfile}"] if options.authfile else []),
                f"docker://{reference}",
                f"dir:{staged}",
            ]
            try:
                run(command, timeout_seconds=options.timeout_seconds, what=f"Fetching {reference}", disk=staged)
            except ImageError as error:
                raise BundleError(
                    f"bundle_images: {error}\nSee that its registry is in reach, that the name and the tag are right, and that "
                    "bundle_registry_authfile may pull it."
                ) from None
    return target


def packages(wanted: Mapping[str, list[str]], release: str, cache: Path, options: Fetching) -> Path:
    """Debian packages with all that they depend on, as if nothing were installed; a repository for apt."""
    names = sorted({*wanted, *FIRST})
    target = cache / "bundle" / "debs" / short_hash([names, release, machine()])
    with locked(cache / "bundle", LOCK_SECONDS):
        if (target / "Packages").is_file() and not options.refresh:
            return target
        with fresh_directory(target) as staged:
            try:
                _download(names, staged, options.timeout_seconds)
            except ImageError as first:
                # A machine whose lists are old asks for packages that are gone.
                if os.geteuid() != 0:
                    raise _unavailable(first) from None
                try:
                    run(
                        ["apt-get", "update", "--quiet=2"],
                        timeout_seconds=options.timeout_seconds,
                        what="Asking for packages",
                    )
                    _download(names, staged, options.timeout_seconds)
                except ImageError as second:
                    raise _unavailable(second) from None
            write_index(staged, _fields)
        forget_old(target.parent, target, KEPT)
    return target


def _unavailable(error: ImageError) -> BundleError:
    return BundleError(
        f"{error}\nRun `apt-get update` as root, see that this machine reaches Debian's packages, and run again; or leave the "
        "packages out with bundle_debian_packages=false."
    )


def _download(names: list[str], directory: Path, timeout_seconds: float) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        # An empty list of what is installed makes apt fetch every dependency.
        status = Path(scratch, "status")
        status.touch()
        Path(scratch, "archives", "partial").mkdir(parents=True)
        command = [
            *("apt-get", "--yes", "--quiet=2", "--no-install-recommends", "--download-only"),
            *("-o", f"Dir::State::status={status}"),
            *("-o", f"Dir::Cache::archives={scratch}/archives"),
            *("-o", f"Dir::Cache::pkgcache={scratch}/pkgcache.bin"),
            *("-o", f"Dir::Cache::srcpkgcache={scratch}/srcpkgcache.bin"),
            *("-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root"),
            "install",
            *names,
        ]
        run(command, timeout_seconds=timeout_seconds, what="Fetching Debian packages", disk=directory)
        for package in sorted(Path(scratch, "archives").glob("*.deb")):
            # apt writes an epoch's colon as %3a, which not every file system and not every tool takes as it is.
            shutil.move(package, directory / package.name.replace("%3a", "."))


def _fields(package: Path) -> str:
    return run(["dpkg-deb", "--field", str(package)], timeout_seconds=60, what=f"Reading {package.name}")


def install_packages(bundle: Path, names: list[str], timeout_seconds: float) -> None:
    """Install packages from the bundle alone; the machine's own sources are not asked."""
    with tempfile.TemporaryDirectory() as scratch:
        sources = Path(scratch, "sources.list")
        # Its files have been checked by the manifest's checksums.
        sources.write_text(f"deb [trusted=yes] file:{str(bundle / 'debs').replace(' ', '%20')} ./\n", encoding="utf-8")
        for name in ("lists/partial", "archives/partial"):
            Path(scratch, name).mkdir(parents=True)
        apt = [
            *("apt-get", "--yes", "--quiet=2", "--no-install-recommends", "--no-remove"),
            *("-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=/dev/null"),
            *("-o", f"Dir::State::Lists={scratch}/lists"),
            *("-o", f"Dir::Cache::archives={scratch}/archives"),
            *("-o", f"Dir::Cache::pkgcache={scratch}/pkgcache.bin"),
            *("-o", f"Dir::Cache::srcpkgcache={scratch}/srcpkgcache.bin"),
            *("-o", "APT::Sandbox::User=root"),
        ]
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        for what in (["update"], ["install", *names]):
            run([*apt, *what], timeout_seconds=timeout_seconds, what="Installing the bundle's packages", environ=quiet)


def checkout(root: Path, cache: Path) -> tuple[Path | None, str, bool]:
    """The last commit as a file that git clones, its name, and whether the tree has changes that are not in it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=300, check=True)
        return done.stdout.strip()

    try:
        revision = git("rev-parse", "HEAD")
        if git("rev-parse", "--is-shallow-repository") == "true":
            return None, revision, False  # nobody could clone a copy of it
        changed = bool(git("status", "--porcelain"))
        target = cache / "bundle" / "source" / f"appgate-{revision[:12]}.gitbundle"
        with locked(cache / "bundle", LOCK_SECONDS):
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f".new-{target.name}")
                # With its branch, if it has one, or a clone would stand on no branch.
                branch = git("branch", "--show-current")
                git("bundle", "create", "--quiet", str(temporary), "HEAD", *([branch] if branch else []))
                temporary.replace(target)
                for old in target.parent.glob("appgate-*.gitbundle"):
                    if old != target:
                        old.unlink()
    except (OSError, subprocess.SubprocessError):
        # An installed collection, or no git: a checkout comes some other way then.
        return None, "unknown", False
    return target, revision, changed
