# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The image's base: bootstrapped from Debian packages, or an image that is pulled."""

from __future__ import annotations

import re
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.image_work import (
    EPOCH,
    RECIPE,
    ImageError,
    forget_old,
    fresh_directory,
    locked,
    machine,
    read_json,
    require_space,
    run,
    sha256_file,
    short_hash,
    write_json,
)

#: A checkout of another version may want another base: a few are kept.
KEPT_BASES = 3

_REFERENCE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}")


#: Where apt looks for the keys that it trusts, and where Debian's own lie ready for whoever names them.
TRUSTED = Path("/etc/apt/trusted.gpg.d")
KEYRINGS = Path("/usr/share/keyrings")


def trusted() -> bool:
    """Whether apt trusts Debian's keys by itself. On Ubuntu it does not, even with their package installed."""
    return any(TRUSTED.glob("debian-archive-*"))


def keyrings() -> list[Path]:
    """Files with Debian's keys, where they have to be named."""
    return [] if trusted() else sorted(KEYRINGS.glob("debian-archive-keyring.[gp]*"))


@dataclass(frozen=True)
class Base:
    """What a bootstrapped base is asked to be."""

    suite: str
    mirrors: tuple[str, ...]
    packages: tuple[str, ...]
    prune: Path

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Base:
        """The base as it came through Ansible."""
        return cls(value["suite"], tuple(value["mirrors"]), tuple(value["packages"]), Path(value["prune"]))

    @property
    def key(self) -> str:
        """The name of this wish in the cache."""
        return short_hash(
            {
                "recipe": RECIPE,
                "suite": self.suite,
                "mirrors": self.mirrors,
                "packages": sorted(self.packages),
                "prune": sha256_file(self.prune),
                "machine": machine(),
            }
        )

    def sources(self) -> list[str]:
        """The lines of a sources.list."""
        return [line.format(suite=self.suite) for line in self.mirrors]

    def find(self, cache: Path) -> dict[str, Any] | None:
        """The base in the cache, if it is there and whole."""
        directory = cache / "base" / self.key
        record = read_json(directory / "base.json")
        if record is None or not (directory / "rootfs").is_dir():
            return None
        try:
            size = (directory / "base.tar").stat().st_size
        except OSError:
            return None
        return record if size == record.get("bytes") else None

    def make(self, cache: Path, timeout_seconds: float, epoch: int) -> dict[str, Any]:
        """Bootstrap it from Debian packages; the caller holds the lock."""
        with fresh_directory(cache / "base" / self.key) as directory:
            raw = directory / "raw.tar"
            run(
                [
                    "mmdebstrap",
                    "--variant=extract",
                    "--quiet",
                    *(f"--keyring={path}" for path in keyrings()[:1]),
                    f"--include={','.join(self.packages)}",
                    "--dpkgopt=path-exclude=/usr/share/man/*",
                    f"--extract-hook={_RECORD_PACKAGES}",
                    self.suite,
                    str(raw),
                    *self.sources(),
                ],
                timeout_seconds=timeout_seconds,
                what="Bootstrapping the base from Debian packages",
                environ={"SOURCE_DATE_EPOCH": str(epoch)},
                disk=directory,
            )
            rootfs = directory / "rootfs"
            rootfs.mkdir()
            run(
                # Device nodes need privileges, and an image has no use for them.
                ["tar", "-C", str(rootfs), "--exclude=./dev/*", "--no-same-owner", "-xf", str(raw)],
                timeout_seconds=timeout_seconds,
                what="Unpacking the base",
            )
            raw.unlink()
            packages = run(
                [sys.executable, str(self.prune), str(rootfs)],
                timeout_seconds=timeout_seconds,
                what="Pruning the base",
            ).split()
            pack(rootfs, directory / "base.tar", epoch)
            record = {
                "sha256": sha256_file(directory / "base.tar"),
                "bytes": (directory / "base.tar").stat().st_size,
                "packages": packages,
                "suite": self.suite,
                "mirrors": list(self.sources()),
            }
            write_json(directory / "base.json", record)
        return record


# mmdebstrap's variant `extract` only unpacks: without this, dpkg's status would be empty and a
# scanner would find no package in the image.
_RECORD_PACKAGES = (
    'for deb in "$1"/var/cache/apt/archives/*.deb; do '
    'dpkg-deb --field "$deb" | sed "s/^Package: .*/&\\nStatus: install ok installed/"; echo; '
    'done > "$1/var/lib/dpkg/status"'
)


def pack(root: Path, target: Path, epoch: int) -> None:
    """Write a tree as a tar file that depends on its content alone."""

    def clean(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = min(int(member.mtime), epoch)
        member.pax_headers = {}
        return member

    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            archive.add(path, path.relative_to(root).as_posix(), recursive=False, filter=clean)


def haproxy_check_command(rootfs: Path) -> list[str]:
    """HAProxy of the base as a command on this machine, without chroot and so without root."""
    libraries = rootfs / "usr/lib" / f"{machine()}-linux-gnu"
    loaders = sorted(libraries.glob("ld-linux-*.so.*"))
    if not loaders or not (rootfs / "usr/sbin/haproxy").exists():
        return []
    return [
        str(loaders[0]),
        "--library-path",
        str(libraries),
        str(rootfs / "usr/sbin/haproxy"),
        "-c",
        "-f",
        "{file}",
    ]


def check_base_choice(choice: str) -> None:
    """Refuse a base that is neither a known word nor a pinned image."""
    if choice in ("auto", "bootstrap", "pull") or _REFERENCE.fullmatch(choice):
        return
    raise ImageError(
        f"image_base={choice!r} is not known: give auto, bootstrap, pull, or an image with its "
        "digest (name@sha256:...), so that the same inputs stay the same image."
    )


def ensure_base(
    base: Base, cache: Path, *, refresh: bool, timeout_seconds: float, min_free_mib: int
) -> tuple[dict[str, Any], bool]:
    """The record of the bootstrapped base, and whether it is another one than before."""
    with locked(cache, timeout_seconds):
        before = base.find(cache)
        if before is not None and not refresh:
            return before, False
        require_space(cache, min_free_mib)
        record = base.make(cache, timeout_seconds, EPOCH)
        forget_old(cache / "base", cache / "base" / base.key, KEPT_BASES)
        return record, before is None or before["sha256"] != record["sha256"]
