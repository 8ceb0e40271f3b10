# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Run HAProxy as master and worker on a host where no systemd does it, and reload it without losing a connection."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

POLL_SECONDS = 0.1


class ProcessError(Exception):
    """HAProxy did not do what it was told."""


@dataclass(frozen=True)
class Processes:
    """What the master says about itself and its workers."""

    reloads: int
    workers: frozenset[int]
    failed: bool


def parse_show_proc(text: str) -> Processes | None:
    """Read the answer to `show proc`. None while the master does not answer sense (it is starting again)."""
    reloads: int | None = None
    workers: set[int] = set()
    failed = False
    group = "workers"
    for line in text.splitlines():
        if line.startswith("#"):
            group = line.lstrip("# ").strip()
            continue
        match = re.match(r"(\d+)\s+(master|worker)\s+(\S+)\s*(\[[^\]]*\])?", line)
        if not match:
            continue
        pid, kind, count, note = match.groups()
        if kind == "master":
            if not count.isdigit():
                return None
            reloads = int(count)
            failed = bool(note) and re.search(r"[1-9]", note or "") is not None
        elif group == "workers":
            workers.add(int(pid))
    return None if reloads is None else Processes(reloads, frozenset(workers), failed)


@dataclass
class Haproxy:
    """One HAProxy of a host, found by its pid file."""

    config: str
    pid_file: str
    master_socket: str
    binary: str = "/usr/sbin/haproxy"
    timeout_seconds: float = 20
    proc: Path = field(default=Path("/proc"))
    clock: Callable[[], float] = time.monotonic

    def pids(self) -> list[int]:
        """Living processes of the pid file; a number that the system has given to another program does not count."""
        try:
            words = Path(self.pid_file).read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            return []
        return [int(word) for word in words if word.isdigit() and self._is_haproxy(int(word))]

    def _is_haproxy(self, pid: int) -> bool:
        try:
            status = (self.proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        name, _, rest = status.partition("(")[2].rpartition(")")
        return name.startswith("haproxy") and not rest.lstrip().startswith("Z")

    def _arguments(self, pid: int) -> list[str]:
        try:
            return (self.proc / str(pid) / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
        except OSError:
            return []

    def is_ours(self, pids: list[int]) -> bool:
        """Whether it is a master that reads our file and listens on our socket, so that a signal reloads it."""
        if len(pids) != 1:
            return False
        words = self._arguments(pids[0])
        sockets = [word for word in words if word.split(",")[0] == self.master_socket]
        return ("-W" in words or "-Ws" in words) and self.config in words and bool(sockets)

    def ask(self) -> Processes | None:
        """Ask the master for its workers."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(2)
                connection.connect(self.master_socket)
                connection.sendall(b"show proc\n")
                # The master leaves the connection open; an empty line ends the answer.
                answer = b""
                while not answer.endswith(b"\n\n") and (chunk := connection.recv(65536)):
                    answer += chunk
        except OSError:
            return None
        return parse_show_proc(answer.decode("utf-8", errors="replace"))

    def has_failed_reload(self) -> bool:
        """Whether the last reload failed, so that an old worker serves something else than the file says."""
        processes = self.ask()
        return processes is not None and processes.failed

    def is_outdated(self) -> bool:
        """Whether the file is younger than the newest worker, which then serves what an older file said.

        False where that cannot be known: no master answers, its workers cannot be seen, there is no file, or its time is still to come.
        """
        processes = self.ask()
        try:
            changed = Path(self.config).stat().st_mtime
        except OSError:
            return False
        found = [self._started(pid) for pid in (processes.workers if processes else ())]
        starts = [start for start in found if start is not None]
        # After a clock was set back, a reload would not make the worker younger than the file.
        return bool(starts) and max(starts) < changed <= time.time()

    def _started(self, pid: int) -> float | None:
        """When a process was started at the latest, in seconds since 1970; None when it cannot be seen."""
        try:
            status = (self.proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # The 22nd field, counted behind the name, which may hold spaces: whole ticks since the boot.
        ticks = int(status.rpartition(")")[2].split()[19]) + 1
        # The boot time in /proc/stat is rounded to seconds.
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted + ticks / os.sysconf("SC_CLK_TCK")

    def _wait(self, done: Callable[[], bool], failure: str) -> None:
        end = self.clock() + self.timeout_seconds
        while not done():
            if self.clock() > end:
                raise ProcessError(failure)
            time.sleep(POLL_SECONDS)

    def start(self) -> None:
        """Start it, and take over from one that was started in another way (Debian's init script knows no master)."""
        old = self.pids()
        command = [
            self.binary,
            "-W",
            "-D",
            "-f",
            self.config,
            "-p",
            self.pid_file,
            "-S",
            f"{self.master_socket},mode,600",
        ]
        if old:
            command += ["-sf", *(str(pid) for pid in old)]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=self.timeout_seconds,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise ProcessError(f"HAProxy did not start (exit status {done.returncode}): {done.stdout.strip()}")

        def up() -> bool:
            processes = self.ask()
            return processes is not None and bool(processes.workers)

        self._wait(up, f"HAProxy started but no worker is up after {self.timeout_seconds:g} s: {done.stdout.strip()}")

    def reload(self) -> None:
        """Let a new worker take the listening sockets; the old one finishes what it has."""
        pids = self.pids()
        if not self.is_ours(pids):
            self.start()
            return
        before = self.ask()
        if before is None:
            raise ProcessError(f"The master {pids[0]} does not answer on {self.master_socket}.")
        os.kill(pids[0], signal.SIGUSR2)

        def reloaded() -> bool:
            after = self.ask()
            if after is None or after.reloads <= before.reloads:
                return False
            if after.workers and not after.workers & before.workers:
                return True
            if after.failed:
                raise ProcessError(
                    f"HAProxy could not reload {self.config} and goes on with what it had. Mostly a port is in use or may "
                    f"not be taken; `{self.binary} -d -f {self.config}` says which."
                )
            return False

        self._wait(reloaded, f"HAProxy has no new worker {self.timeout_seconds:g} s after the signal to reload.")

    def stop(self) -> None:
        """Stop it softly; what is left after the time is cut."""
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):
            for pid in self.pids():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            try:
                self._wait(lambda: not self.pids(), "")
            except ProcessError:
                continue
            break
        else:
            raise ProcessError(f"The processes {self.pids()} do not end.")
        for path in (self.pid_file, self.master_socket):
            Path(path).unlink(missing_ok=True)
