# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Small typed helpers over commands, conditions and /proc."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PATH = "/opt/appgate/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ClusterError(RuntimeError):
    """A step that failed: what, why, and what to look at."""


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    check: bool = True,
    timeout_seconds: float = 120,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return it; on failure raise :class:`ClusterError` with its last lines."""
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env=dict(env) if env is not None else {**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        raise ClusterError(f"The command '{argv[0]}' is not installed.") from None
    except subprocess.TimeoutExpired as error:
        said = error.stderr or error.stdout or b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise ClusterError(
            f"'{' '.join(argv[:12])}' did not end within {timeout_seconds:.0f} s. {tail(text)}"
        ) from None
    if check and done.returncode != 0:
        raise ClusterError(
            f"'{' '.join(argv[:12])}' failed with exit code {done.returncode}: {tail(done.stderr or done.stdout)}"
        )
    return done


def tail(text: str, lines: int = 12) -> str:
    """The last lines of an output, for an error message."""
    return "\n".join(text.strip().splitlines()[-lines:])


def delete_link(name: str) -> bool:
    """Delete a network interface; return whether there was one.

    The kernel takes a node's interface away by itself once the node's namespace has ended, at a moment of its own: so it
    may be gone before or while it is deleted here.
    """
    link = Path("/sys/class/net", name)
    if not link.exists():
        return False
    done = run(["ip", "link", "delete", name], check=False)
    if done.returncode != 0 and link.exists():
        raise ClusterError(f"The network interface {name} could not be deleted: {tail(done.stderr)}")
    return True


def wait_for(
    what: str,
    condition: Callable[[], bool],
    timeout_seconds: float,
    *,
    interval_seconds: float = 0.1,
    explain: Callable[[], str] | None = None,
) -> None:
    """Poll until ``condition`` holds.

    :raises ClusterError: after ``timeout_seconds``, with what ``explain`` says about the state.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            detail = f" {explain()}" if explain else ""
            raise ClusterError(f"Waited {timeout_seconds:.0f} s for {what}.{detail}")
        time.sleep(interval_seconds)


def find_process(marker: str) -> int | None:
    """The process id whose environment holds ``marker`` (``NAME=value``) and that is an init.

    A node's init is the first process of its PID namespace. No pid file is trusted: after a reboot a
    number may belong to anybody.
    """
    wanted = marker.encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            if namespace_pid(entry) == 1:
                return int(entry.name)
        except (OSError, ValueError):
            continue  # it ended while we looked
    return None


def namespace_pid(entry: Path) -> int | None:
    """The process's number in its innermost PID namespace, None in the machine's own one."""
    for line in (entry / "status").read_text().splitlines():
        if line.startswith("NSpid:"):
            numbers = line.split()[1:]
            return int(numbers[-1]) if len(numbers) > 1 else None
    return None
