# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Builds the inside of the image: wheels unpacked, byte code compiled, the user made.

Python and its standard library are all it needs: the base has no shell and no pip. It refuses a
wheel whose checksum is not in requirements.txt, and a set of wheels that is not complete.
"""

from __future__ import annotations

import hashlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

USER = "appgate"
UID = 10001

# What the running image imports, compiled below. The root file system is read-only: byte code
# that is not there now would be made anew at every start and every health check.
ENTRY_POINTS = (
    "appgate.wsgi",
    "appgate.supervisor",
    "appgate.healthcheck",
    "gunicorn.app.wsgiapp",
    "gunicorn.workers.gthread",
    "gunicorn.glogging",
    "encodings.idna",
    "encodings.latin_1",
    "logging.config",
)


def read_lock(path: Path) -> dict[str, set[str]]:
    """Project name to allowed sha256 sums."""
    lock: dict[str, set[str]] = {}
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==", line)
        if match:
            sums = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
            lock[re.sub(r"[-_.]+", "-", match[1]).lower()] = sums
    return lock


def unpack(wheels: Path, lock: dict[str, set[str]], target: Path) -> None:
    """Unpack every wheel of the lock."""
    missing = dict(lock)
    for wheel in sorted(wheels.glob("*.whl")):
        name = re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if digest not in lock.get(name, set()):
            raise SystemExit(f"{wheel.name}: sha256 {digest} is not in requirements.txt")
        missing.pop(name, None)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    if missing:
        raise SystemExit(f"no wheel in {wheels} for: {', '.join(sorted(missing))}")


def compile_used() -> None:
    """Compile what the entry points import, wherever it lies."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "for module in list(sys.modules.values()):\n"
        "    path = getattr(module, '__file__', None)\n"
        "    if path and path.endswith('.py'): print(path)\n"
    )
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    # There is no server now, so no directory for its metric files.
    environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    found = subprocess.run(
        [sys.executable, "-c", program, *ENTRY_POINTS],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    ).stdout.split()
    for path in sorted(set(found)):
        # Without a time stamp in it the file depends on the source alone.
        py_compile.compile(path, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def add_user(root: Path) -> None:
    """Add the user and group, without the tools that a lean base does not have."""
    for name, line in (
        ("passwd", f"{USER}:x:{UID}:{UID}:Appgate:/nonexistent:/usr/sbin/nologin\n"),
        ("group", f"{USER}:x:{UID}:\n"),
    ):
        path = root / "etc" / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if f"\n{USER}:" not in f"\n{text}":
            path.write_text(text + line, encoding="utf-8")


def main() -> None:
    """``install.py <wheels> <requirements.txt>``"""
    wheels, requirements = Path(sys.argv[1]), Path(sys.argv[2])
    target = Path("/opt/appgate/lib")
    target.mkdir(parents=True, exist_ok=True)
    unpack(wheels, read_lock(requirements), target)
    # Stubs, tests and C sources of the dependencies are of no use here.
    for pattern in ("*.pyi", "*.c", "*.pyx"):
        for file in target.rglob(pattern):
            file.unlink()
    add_user(Path("/"))
    run = Path("/run/appgate")
    run.mkdir(parents=True, exist_ok=True)
    os.chown(run, UID, UID)
    run.chmod(0o770)
    compile_used()
    shutil.rmtree("/root/.cache", ignore_errors=True)


if __name__ == "__main__":
    main()
