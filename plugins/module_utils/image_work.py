# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What all work on images takes: programs with a time limit, one builder at a time, directories that are whole or absent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

#: Part of every tag. Raise it when image_base or image_build makes something else from the same inputs.
RECIPE = "1"

#: The time of what comes from no commit: 2026-01-01, in seconds since 1970.
EPOCH = 1767225600

#: Program to Debian package.
TOOLS = {"mmdebstrap": "mmdebstrap", "buildah": "buildah", "skopeo": "skopeo"}
#: Since 1.35 buildah makes no container without this program, and Debian only recommends its package. These are its places.
NETAVARK = [f"/usr/{place}/podman/netavark" for place in ("lib", "libexec", "local/lib", "local/libexec")]


class ImageError(Exception):
    """Something that a person has to put right; the text says what and how."""


def sha256_file(path: Path) -> str:
    """The checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def short_hash(value: Any) -> str:
    """A short name for a value, the same for equal values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, value: Any) -> None:
    """Write a file that is either the old one or the new one, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The content, or None when the file is not there or not whole."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def machine() -> str:
    """The architecture as Python's wheels and Debian's directories name it."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


def missing_packages(programs: Sequence[str]) -> list[str]:
    """Debian packages of the programs that are not on this machine."""
    missing = {TOOLS[name] for name in programs if shutil.which(name) is None}
    if "buildah" in programs and takes_netavark() and not any(Path(place).exists() for place in NETAVARK):
        missing.add("netavark")
    return sorted(missing)


def builder_packages() -> dict[str, str]:
    """What it takes to build and to deliver an image: a program or its place, and its Debian package."""
    tools = {name: TOOLS[name] for name in ("buildah", "skopeo")}
    return {**tools, **dict.fromkeys(NETAVARK, "netavark")} if takes_netavark() else tools


def takes_netavark() -> bool:
    """Whether this release has such a buildah. An older one's podman is not to change from one network to another."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    kin = {release["ID"], *release.get("ID_LIKE", "").split()}
    if not {"debian", "ubuntu"} & kin:
        return False
    # Debian's testing and unstable have no number.
    number = re.match(r"\d+", release.get("VERSION_ID", ""))
    return number is None or int(number[0]) >= (25 if "ubuntu" in kin else 13)


_held: set[int] = set()


@contextlib.contextmanager
def locked(cache: Path, timeout_seconds: float) -> Iterator[None]:
    """Be the only builder in this cache; inventory hosts that run in parallel wait here."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        stream = (cache / "lock").open("a+")
    except OSError as error:
        raise ImageError(
            f"image_cache_dir={str(cache)!r} cannot be used ({error.strerror}): "
            "give a directory that this user may write to."
        ) from None
    with stream:
        end = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ImageError(
                        f"Another build has held {cache / 'lock'} for {timeout_seconds:.0f} s: "
                        "wait for it, stop it, or raise image_timeout_seconds."
                    ) from None
                time.sleep(0.1)
        # Programs that are started now hold the lock too: one that outlives a killed run is waited for by the next,
        # and not met in the middle of its work.
        _held.add(stream.fileno())
        try:
            yield
        finally:
            _held.discard(stream.fileno())


def run(
    argv: Sequence[str],
    *,
    timeout_seconds: float,
    what: str,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    disk: Path | None = None,
) -> str:
    """Run a program; its output, or an ImageError with the last lines of what it said.

    :param disk: where it writes to. A program that fails there on a full disk may not say why.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(environ or {})},
            cwd=cwd,
            pass_fds=tuple(_held),
            # A group of its own, so that a timeout reaches its children too.
            start_new_session=True,
        )
    except OSError as error:
        raise ImageError(f"{what}: {argv[0]} cannot be started ({error.strerror}).") from None
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise ImageError(
                f"{what}: not done after {timeout_seconds:.0f} s. "
                "Run again (what is finished is kept), or raise image_timeout_seconds."
            ) from None
        raise
    if process.returncode != 0:
        full = disk is not None and shutil.disk_usage(disk).free < (1 << 20)
        if full or "No space left on device" in output:
            raise ImageError(
                f"{what}: no space left on the disk. Free some, or set image_cache_dir to a larger one; then run again."
            )
        tail = "\n".join(output.strip().splitlines()[-12:])
        raise ImageError(f"{what}: {Path(argv[0]).name} ended with {process.returncode}:\n{tail}")
    return output


def require_space(directory: Path, least_mib: int) -> None:
    """Refuse to begin what would fill the disk."""
    existing = directory
    while not existing.exists():
        existing = existing.parent
    free_mib = shutil.disk_usage(existing).free // (1 << 20)
    if free_mib < least_mib:
        raise ImageError(
            f"{existing} has {free_mib} MiB free, image_min_free_mib={least_mib} are needed for a "
            "build: free some space, or set image_cache_dir to a larger disk."
        )


def remove_tree(path: Path) -> None:
    """Remove a directory, read-only parts included."""

    def again(function: Any, name: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(0o700)
            function(name)

    shutil.rmtree(path, onerror=again)


def unmount_below(directory: Path) -> None:
    """Let go of what a killed build has left mounted, innermost first."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    points = [line.split()[1].replace("\\040", " ") for line in lines]
    for point in sorted((p for p in points if Path(p).is_relative_to(directory)), reverse=True):
        run(["umount", "--lazy", point], timeout_seconds=30, what="Clearing a killed build away")


@contextlib.contextmanager
def fresh_directory(final: Path) -> Iterator[Path]:
    """A directory to fill, which takes its name only when it is complete."""
    final.parent.mkdir(parents=True, exist_ok=True)
    for left in final.parent.glob(".new-*"):
        # From a run that was killed: this one holds the lock.
        remove_tree(left)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=final.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        if final.exists():
            remove_tree(final)
        temporary.rename(final)
    finally:
        if temporary.exists():
            remove_tree(temporary)


def forget_old(images: Path, current: Path, keep: int) -> None:
    """Keep the newest builds only."""
    others = [path for path in images.iterdir() if path != current and not path.name.startswith(".")]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[max(0, keep - 1) :]:
        remove_tree(path)
