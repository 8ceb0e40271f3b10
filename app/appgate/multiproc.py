# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""One set of metric files per worker slot, shared by all workers of one gunicorn.

prometheus_client names its files after the process id, so that every worker that is ever started
leaves files behind: /run/appgate is memory. Here they are named after a slot that a new worker
takes over from a dead one. Counters then go on where the dead worker left them, and the directory
stays as small as the number of workers.

This module must not import prometheus_client: that reads PROMETHEUS_MULTIPROC_DIR while it is
imported, and the directory has to be ready before.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
DEFAULT_DIRECTORY = "/run/appgate/prometheus"

_lock: int | None = None
_slot = "arbiter"


class DirectoryError(RuntimeError):
    """The directory for the metric files cannot be used."""


def prepare(directory: Path) -> None:
    """Empty the directory and keep it for this server; do nothing when that was done already.

    gunicorn reads its configuration again on SIGHUP: the counters must survive that.
    """
    global _lock
    if _lock is not None:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise DirectoryError(
                    f"{VARIABLE}={str(directory)!r} is in use by another running server: "
                    "give each server a directory of its own."
                ) from None
            raise
        for file in directory.glob("*.db"):
            file.unlink()
    except OSError as error:
        raise DirectoryError(
            f"{VARIABLE}={str(directory)!r} cannot be used ({error.strerror}): "
            "give a directory that this user may write to, best in memory."
        ) from None
    _lock = lock


def release() -> None:
    """Give up the directory: in a worker, which must not outlive its server's claim."""
    global _lock
    if _lock is not None:
        os.close(_lock)
        _lock = None


def slot() -> str:
    """The name of this process in the file names."""
    return _slot


def take(name: str) -> None:
    """Become the owner of a slot: called once in a new worker."""
    global _slot
    _slot = name


class Slots:
    """Which worker holds which slot; kept by the arbiter only."""

    def __init__(self) -> None:
        self._held: dict[int, str] = {}

    def acquire(self, age: int) -> str:
        """The lowest free slot for the worker with this age (gunicorn's own serial number)."""
        taken = set(self._held.values())
        name = next(str(n) for n in range(len(taken) + 1) if str(n) not in taken)
        self._held[age] = name
        return name

    def held_by(self, age: int) -> str:
        """The slot of this worker."""
        return self._held[age]

    def give_back(self, age: int) -> str | None:
        """Free the slot of a worker that has died."""
        return self._held.pop(age, None)


#: The arbiter's book. It lives here and not in gunicorn.conf.py, which is read again on SIGHUP.
SLOTS = Slots()
