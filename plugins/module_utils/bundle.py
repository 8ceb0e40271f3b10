# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A bundle: everything that a run takes from outside, in one directory, for a machine without a network.

It needs nothing but Python's own library, because a machine that has no .venv yet checks its bundle too.

Layout::

    manifest.json        what it is for, what is in it, and the SHA-256 of every file; written last
    cache/...            what goes into ~/.cache/appgate, under the same names
    images/<key>/        published images that were asked for
    wheels/*.whl         the Python packages of requirements/runtime.txt
    debs/*.deb, Packages a Debian repository with the packages that the roles install
    appgate-*.gitbundle  the checkout's last commit, to be cloned
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.image_work import fresh_directory, locked, run
from ansible_collections.appgate.platform.plugins.module_utils.sources.cache import (
    Cache,
    Entry,
    read_json,
    sha256_of,
    write_json,
)

MANIFEST = "manifest.json"
#: Raise it when an older version of this file could not install what this one makes.
FORMAT = 1
#: What the file systems of memory sticks round times to.
TIME_NS = 2_000_000_000
#: Files of the checkout that decide what has to be in a bundle.
DECIDING = (
    "app/requirements.txt",
    "requirements/runtime.txt",
    "roles/cluster/files/node-image/**/*",
    "roles/image/defaults/main.yml",
    "roles/image/files/prune.py",
    "roles/sources/files/go/*/go.mod",
    "roles/sources/files/go/*/go.sum",
    "roles/sources/vars/catalog.yml",
)
#: How many of many names a message tells.
TOLD = 5
LOCK_SECONDS = 900.0
Say = Callable[[str], None]


class BundleError(Exception):
    """A bundle that can't be made or used; the text names the variable, the place and the remedy."""


@dataclass(frozen=True)
class Item:
    """A file to carry, and its place in the bundle."""

    source: Path
    name: str


def wrong(path: Path, text: str) -> BundleError:
    """An error about a bundle."""
    return BundleError(f"bundle_path={str(path)!r}: {text}")


def some(names: Iterable[str]) -> str:
    """The first of many names."""
    listed = sorted(names)
    more = f" and {len(listed) - TOLD} more" if len(listed) > TOLD else ""
    return ", ".join(listed[:TOLD]) + more


def mib(size: int) -> str:
    """A size for people."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{-(-size // (1 << 20))} MiB"


# --- this machine and this checkout ---------------------------------------------------------------


def this_machine() -> dict[str, str]:
    """What a bundle depends on."""
    release = {}
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "release": f"{release.get('ID', 'unknown')} {release.get('VERSION_CODENAME') or release.get('VERSION_ID', '')}".strip(),
        "python": ".".join(map(str, sys.version_info[:2])),
    }


def deciding_files(root: Path) -> dict[str, str]:
    """The files that decide what has to be in a bundle, each with its checksum."""
    found = [Path(name) for pattern in DECIDING for name in glob.glob(str(root / pattern), recursive=True)]
    return {path.relative_to(root).as_posix(): sha256_of(str(path)) for path in found if path.is_file()}


# --- making ---------------------------------------------------------------------------------------


def files_below(directory: Path, name: str) -> list[Item]:
    """A directory, or one file, as items."""
    if not directory.is_dir():
        return [Item(directory, name)]
    found = [path for path in sorted(directory.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [Item(path, f"{name}/{path.relative_to(directory).as_posix()}") for path in found]


def check_target(bundle: Path) -> None:
    """Refuse a place where no bundle can be made, before anything is downloaded or built for it."""
    existing = bundle
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise wrong(bundle, f"{existing} is a file. Give a directory, which is made if it is not there.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise wrong(bundle, f"this user may not write to {existing}. Give another directory, or change its owner.")
    if bundle.is_dir() and any(bundle.iterdir()) and not looks_like_one(bundle):
        raise wrong(
            bundle, "it holds other things. Give an empty or a new directory: what is no part of it is removed."
        )


def make_directory(bundle: Path) -> None:
    """Make the directory itself: some places let nobody write, whatever their permissions say."""
    try:
        bundle.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise wrong(bundle, f"it can't be made ({error.strerror}). Give another directory.") from None


def looks_like_one(bundle: Path) -> bool:
    """A bundle, or one whose making was interrupted."""
    return (bundle / MANIFEST).is_file() or {path.name for path in bundle.iterdir()} <= {
        "cache",
        "debs",
        "images",
        "wheels",
        *(path.name for path in bundle.glob("appgate-*.gitbundle")),
        *(path.name for path in bundle.glob(".new-*")),
    }


def _same(known: Mapping[str, Any], path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return bool(found.st_size == known["size"] and abs(found.st_mtime_ns - known["mtime_ns"]) <= TIME_NS)


def compare(bundle: Path, items: Iterable[Item]) -> tuple[dict[str, Any], list[Item], list[str]]:
    """What of the bundle is as it should be, what has to be copied, and what is there and no part of it.

    Only sizes and times are looked at: the checksum that the manifest has for a file holds as long as both files have them.
    """
    before = (read_json(str(bundle / MANIFEST)) or {}).get("files", {})
    kept: dict[str, Any] = {}
    missing = []
    for item in items:
        known = before.get(item.name)
        if known and _same(known, item.source) and _same(known, bundle / item.name):
            kept[item.name] = known
        else:
            missing.append(item)
    wanted = {*kept, *(item.name for item in missing), MANIFEST}
    there = [path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file() or path.is_symlink()]
    return kept, missing, sorted(set(there) - wanted)


def make(bundle: Path, items: list[Item], about: Mapping[str, Any], say: Say) -> bool:
    """Bring a bundle to what is wanted; whether there was anything to do."""
    kept, missing, extra = compare(bundle, items)
    before = read_json(str(bundle / MANIFEST)) or {}
    facts = {"format": FORMAT, **about}
    if not missing and not extra and {key: before.get(key) for key in facts} == facts:
        return False
    need = sum(item.source.stat().st_size for item in missing)
    # What will be replaced is only gone once its successor is whole.
    make_directory(bundle)
    free = shutil.disk_usage(bundle).free
    if need > free:
        raise wrong(
            bundle,
            f"{mib(need)} have to be written and {mib(free)} are free. Free some space there, or give a directory on a larger "
            "disk.",
        )
    (bundle / MANIFEST).unlink(missing_ok=True)
    for name in extra:
        (bundle / name).unlink()
    done = 0
    files = dict(kept)
    for number, item in enumerate(missing, 1):
        size = item.source.stat().st_size
        if number == 1 or (done + size) // (256 << 20) > done // (256 << 20):
            say(f"copying {number} of {len(missing)} files ({mib(done)} of {mib(need)})")
        files[item.name] = _carry(item, bundle)
        done += size
    for directory in sorted((path for path in bundle.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            directory.rmdir()  # only an empty one goes
    write_json(str(bundle / MANIFEST), {**facts, "files": dict(sorted(files.items()))})
    return True


def _carry(item: Item, bundle: Path) -> dict[str, Any]:
    """Copy a file; what the manifest says about it. It takes its name when it is whole."""
    target = bundle / item.name
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = bundle / f".new-{os.getpid()}"
    found = item.source.stat()
    try:
        shutil.copyfile(item.source, temporary)
        # What was read is what is written down: a copy that the disk has spoilt is found by whoever checks the bundle.
        known = {
            "sha256": sha256_of(str(item.source)),
            "size": found.st_size,
            "mtime_ns": found.st_mtime_ns,
            "executable": bool(found.st_mode & 0o100),
        }
        os.utime(temporary, ns=(found.st_mtime_ns, found.st_mtime_ns))
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise wrong(
                bundle, f"no space is left for {item.name}. Free some there, and run again: what is there is kept."
            ) from None
        raise wrong(bundle, f"{item.name} can't be written ({error.strerror}).") from None
    return known


# --- using ----------------------------------------------------------------------------------------


def read(bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle, of a form that this version knows."""
    if not bundle.is_dir():
        raise wrong(bundle, "there is no such directory. Give the one that playbooks/bundle.yml has made.")
    if not (bundle / MANIFEST).is_file():
        raise wrong(
            bundle,
            f"it has no {MANIFEST}, which is written last: its making or copying was interrupted, or it is no bundle. "
            "Run playbooks/bundle.yml again, or copy all of it.",
        )
    manifest = read_json(str(bundle / MANIFEST))
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise wrong(bundle, f"{MANIFEST} is damaged. Copy the bundle again.")
    if manifest.get("format") != FORMAT:
        raise wrong(
            bundle,
            f"it has the format {manifest.get('format')}, and this version of the project reads {FORMAT}. "
            "Make it with the version that uses it.",
        )
    for name in manifest["files"]:
        if name.startswith("/") or ".." in Path(name).parts:
            raise wrong(bundle, f"{MANIFEST} names a file outside the bundle ({name}). Don't use it.")
    return manifest


def check_fit(bundle: Path, manifest: Mapping[str, Any], root: Path) -> None:
    """Refuse a bundle for another machine, or for another version of the project."""
    here = this_machine()
    made = manifest["machine"]
    if made["architecture"] != here["architecture"]:
        raise wrong(
            bundle,
            f"it was made for the architecture {made['architecture']}, and this machine is {here['architecture']}. "
            "Make one on a machine of the same architecture.",
        )
    if any(name.startswith("debs/") for name in manifest["files"]) and made["release"] != here["release"]:
        raise wrong(
            bundle,
            f"its packages are for {made['release']}, and this machine is {here['release']}. Make one on a machine with the "
            "same release, or with bundle_debian_packages=false, and install the packages some other way.",
        )
    if made["python"] != here["python"]:
        raise wrong(
            bundle,
            f"its wheels are for Python {made['python']}, and this is Python {here['python']}. Use that Python "
            f"(make PYTHON=python{made['python']} ...), or make one with Python {here['python']}.",
        )
    ours = deciding_files(root)
    theirs = manifest["made_from"]["files"]
    differ = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
    if differ:
        revision = manifest["made_from"]["revision"]
        raise wrong(
            bundle,
            f"it was made from another version of this project (revision {revision[:12]}), which wants other things: "
            f"{some(differ)} differ. Check that revision out (the bundle holds it: git clone <bundle>/appgate-*.gitbundle), "
            "or make a bundle from this one.",
        )


def verify(bundle: Path, manifest: Mapping[str, Any], say: Say, *, below: str = "") -> None:
    """Refuse a bundle of which any file is not what it was. All that are wrong are told."""
    found = []
    files = {name: known for name, known in manifest["files"].items() if name.startswith(below)}
    total = sum(known["size"] for known in files.values())
    say(f"checking {len(files)} files ({mib(total)})")
    for name, known in files.items():
        path = bundle / name
        if path.is_symlink() or not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != known["size"] or sha256_of(str(path)) != known["sha256"]:
            found.append(f"{name} is damaged")
    if found:
        raise wrong(
            bundle, f"{some(found)}. Copy the bundle again, or repair it with playbooks/bundle.yml where it was made."
        )


@dataclass(frozen=True)
class Unit:
    """What is put into the cache in one step: a directory, or a single file."""

    path: str  # below the cache
    files: tuple[str, ...]  # names in the bundle

    @property
    def is_file(self) -> bool:
        """Whether it is one file."""
        return self.files == (f"cache/{self.path}",)

    def there(self, cache: Path) -> bool:
        """Whether the cache has it, by the rule of the role that uses it: what has its name is whole."""
        target = cache / self.path
        if self.is_file:
            return target.is_file()
        if self.path.startswith("parts/"):
            return Entry(str(target), "build").looks_complete()
        return target.is_dir()


def units(manifest: Mapping[str, Any]) -> list[Unit]:
    """What of a bundle goes into the cache."""
    names = [name for name in manifest["files"] if name.startswith("cache/")]
    return [
        Unit(path, tuple(name for name in names if name == f"cache/{path}" or name.startswith(f"cache/{path}/")))
        for path in manifest["units"]
    ]


def missing_units(manifest: Mapping[str, Any], cache: Path) -> list[Unit]:
    """What the cache lacks."""
    return [unit for unit in units(manifest) if not unit.there(cache)]


def require_space(bundle: Path, manifest: Mapping[str, Any], wanted: Iterable[Unit], cache: Path) -> None:
    """Refuse before the first byte what would fill the disk."""
    # A base is unpacked as well.
    need = sum(
        manifest["files"][name]["size"] * (2 if name.endswith("/base.tar") else 1)
        for unit in wanted
        for name in unit.files
    )
    existing = cache
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if need > free:
        raise BundleError(
            f"bundle_cache_dir={str(cache)!r}: the bundle {bundle} needs {mib(need)} there, and {mib(free)} are free. Free some "
            "space, or set XDG_CACHE_HOME to a directory on a larger disk."
        )


def put(bundle: Path, manifest: Mapping[str, Any], unit: Unit, cache: Path) -> None:
    """Put one unit into the cache: it takes its name when it is whole."""
    target = cache / unit.path
    try:
        if unit.path.startswith("parts/"):
            _put_part(bundle, manifest, unit, cache)
            return
        # The roles image and monitoring lock their part of the cache while they build.
        with locked(cache / unit.path.split("/", 1)[0], LOCK_SECONDS):
            if unit.there(cache):
                return
            if unit.is_file:
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(bundle, manifest, unit.files[0], target.with_name(f".new-{target.name}"))
                os.replace(target.with_name(f".new-{target.name}"), target)
                return
            with fresh_directory(target) as staged:
                for name in unit.files:
                    _copy(bundle, manifest, name, staged / name.removeprefix(f"cache/{unit.path}/"))
                if (staged / "base.tar").is_file():
                    _unpack(staged / "base.tar", staged / "rootfs")
    except OSError as error:
        raise BundleError(
            f"bundle_cache_dir={str(cache)!r}: {error.filename or target} can't be written ({error.strerror}). What is whole is "
            "kept: put it right and run again."
        ) from None


def _put_part(bundle: Path, manifest: Mapping[str, Any], unit: Unit, cache: Path) -> None:
    _, name, entry = unit.path.split("/")
    home = cache / "parts" / name
    own = Cache(str(cache))
    with own.lock(name, "the installation of a bundle", lambda who: None):
        if unit.there(cache):
            return
        with fresh_directory(home / entry) as staged:
            for file_name in unit.files:
                _copy(bundle, manifest, file_name, staged / file_name.removeprefix(f"cache/{unit.path}/"))
            known = read_json(str(staged / MANIFEST))
            # Another Go than this machine's may have built it: that is no reason to build it again.
            write_json(str(staged / MANIFEST), {**known, "bundled": True})


def _copy(bundle: Path, manifest: Mapping[str, Any], name: str, target: Path) -> None:
    known = manifest["files"][name]
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle / name, target)
    target.chmod(0o755 if known["executable"] else 0o644)
    os.utime(target, ns=(known["mtime_ns"], known["mtime_ns"]))


def _unpack(archive: Path, directory: Path) -> None:
    """A base's files, as whoever runs this."""
    directory.mkdir()
    command = ["tar", "-C", str(directory), "--no-same-owner", "-xf", str(archive)]
    run(command, timeout_seconds=LOCK_SECONDS, what="Unpacking the base", disk=directory)


def digest(bundle: Path) -> str:
    """The checksum of the manifest, and by it of everything in the bundle."""
    return hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()


# --- Debian's packages ----------------------------------------------------------------------------


def write_index(directory: Path, fields: Callable[[Path], str]) -> None:
    """Make a directory of packages a repository that apt can use."""
    paragraphs = []
    for package in sorted(directory.glob("*.deb")):
        control = fields(package).strip()
        paragraphs.append(
            f"{control}\nFilename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {sha256_of(str(package))}\n"
        )
    (directory / "Packages").write_text("\n".join(paragraphs), encoding="utf-8")


def lacking(packages: Mapping[str, list[str]]) -> list[str]:
    """Debian packages of which this machine has none of the programs."""
    return sorted(
        package
        for package, programs in packages.items()
        if not any(shutil.which(program) or Path(program).exists() for program in programs)
    )
