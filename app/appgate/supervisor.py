# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Runs HAProxy and gunicorn in one container, as its first process.

What is expected of it: both or none (when one ends, the other is stopped and the exit code is not
0, so that the container's restart policy acts), every orphan is reaped, and a stop drains in
order: HAProxy stops listening and finishes what it has, only then gunicorn is asked to end. Were
gunicorn first, what waits in its listen queue would be lost.

``appgate-supervisor haproxy`` or ``appgate-supervisor gunicorn`` runs only one of the two with the
same manners: a SIGTERM, which for HAProxy means "drop everything", becomes its soft stop.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appgate.config import EXIT_CONFIG, ConfigError, Settings

EXIT_CHILD_DIED = 1
_STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT})
_FORWARDED = frozenset({signal.SIGHUP})
_WATCHED = _STOP | _FORWARDED | {signal.SIGCHLD}

#: How long gunicorn may take until its socket is there.
START_SECONDS = 30.0
#: Part of the time for stopping that is left to gunicorn after HAProxy.
GUNICORN_SHARE = 0.3


def say(level: str, message: str, **more: object) -> None:
    """One JSON line on stderr, like all other messages in the container."""
    entry = {"kind": "message", "level": level, "logger": "supervisor", "message": message}
    print(json.dumps({**entry, **more}, separators=(",", ":")), file=sys.stderr, flush=True)


@dataclass
class Program:
    """One of the programs that are looked after."""

    name: str
    argv: Sequence[str]
    soft_stop: signal.Signals
    hard_stop: signal.Signals
    pid: int | None = None
    status: int | None = None

    def start(self) -> None:
        """Start it with default signals: this process has blocked its own."""
        try:
            self.pid = os.posix_spawnp(self.argv[0], list(self.argv), os.environ, setsigmask=[], setsigdef=_WATCHED)
        except OSError as error:
            say("error", f"{self.name} cannot be started: {error}", command=list(self.argv))
            self.status = EXIT_CONFIG << 8

    @property
    def running(self) -> bool:
        return self.pid is not None and self.status is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a program that has just ended needs none."""
        if self.running and self.pid is not None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        if self.status is None:
            return "is running"
        code = os.waitstatus_to_exitcode(self.status)
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


class Supervisor:
    """Starts the programs in order, waits, and stops them in the opposite order."""

    def __init__(self, programs: Sequence[Program], stop_seconds: float, bind: str) -> None:
        self.programs = programs
        self.stop_seconds = stop_seconds
        self._bind = bind
        self._stop_asked = 0
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)

    def run(self) -> int:
        """Look after the programs until all have ended; the exit code of the container."""
        for program in self.programs:
            program.start()
            if not program.running:
                break
            say("info", f"{program.name} started", pid=program.pid)
            if program.name == "gunicorn" and len(self.programs) > 1:
                self._await_socket(program)
            if self._stop_asked or not program.running:
                break
        while not self._stop_asked and all(program.running for program in self.programs):
            self._wait(None)
        if self._stop_asked:
            self._drain()
            # A stop that was asked for and went well is no failure, whatever the programs say.
            return 0
        for program in self.programs:
            if not program.running and program.pid is not None:
                say("error", f"{program.name} {program.outcome}: the container ends", fatal=True)
        self._drain()
        codes = [os.waitstatus_to_exitcode(program.status) for program in self.programs if program.status is not None]
        # A refused setting keeps its exit code; everything else is 'a child died'.
        return EXIT_CONFIG if EXIT_CONFIG in codes else EXIT_CHILD_DIED

    def _wait(self, deadline: float | None) -> None:
        """Handle the next signal; return at the deadline at the latest."""
        if deadline is None:
            number = signal.sigwaitinfo(_WATCHED).si_signo
        else:
            info = signal.sigtimedwait(_WATCHED, max(0.0, deadline - time.monotonic()))
            if info is None:
                return
            number = info.si_signo
        if number in _STOP:
            self._stop_asked += 1
            say("info", f"stop asked by {signal.Signals(number).name}")
        elif number in _FORWARDED:
            for program in self.programs:
                # HAProxy's master reloads on SIGUSR2, gunicorn on SIGHUP.
                reload = signal.SIGUSR2 if program.name == "haproxy" else signal.SIGHUP
                program.send(reload)
        # Several children may have ended behind one SIGCHLD.
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for program in self.programs:
                if program.pid == pid:
                    program.status = status

    def _await_socket(self, program: Program) -> None:
        """Wait until gunicorn listens, so that HAProxy's first check finds it."""
        deadline = time.monotonic() + START_SECONDS
        while program.running and not self._stop_asked and time.monotonic() < deadline:
            if _listens(self._bind):
                return
            self._wait(min(deadline, time.monotonic() + 0.05))

    def _drain(self) -> None:
        """Stop in order, the last started first, within the time that there is."""
        end = time.monotonic() + self.stop_seconds
        asked = self._stop_asked
        for program in reversed(self.programs):
            if not program.running:
                continue
            last = program is self.programs[0]
            deadline = end if last else end - self.stop_seconds * GUNICORN_SHARE
            program.send(program.soft_stop)
            while program.running and time.monotonic() < deadline and self._stop_asked <= asked + 1:
                self._wait(deadline)
            if program.running:
                say("warning", f"{program.name} still has work after its time: it is cut off")
                program.send(program.hard_stop)
                limit = time.monotonic() + 0.5
                while program.running and time.monotonic() < limit:
                    self._wait(limit)
            if program.running:
                program.send(signal.SIGKILL)
                limit = time.monotonic() + 2.0
                while program.running and time.monotonic() < limit:
                    self._wait(limit)
            say("info", f"{program.name} {program.outcome}")


def _listens(bind: str) -> bool:
    """Whether something accepts connections there."""
    if bind.startswith("unix:"):
        probe, address = socket.socket(socket.AF_UNIX), bind.removeprefix("unix:")
        with probe:
            return probe.connect_ex(address) == 0
    host, _, port = bind.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def programs(only: str | None, haproxy_config: Path, gunicorn_config: Path) -> list[Program]:
    """What to run, in the order of starting."""
    both = [
        Program(
            "gunicorn",
            ["gunicorn", "-c", str(gunicorn_config), "appgate.wsgi:app"],
            soft_stop=signal.SIGTERM,
            hard_stop=signal.SIGQUIT,
        ),
        Program(
            "haproxy",
            ["haproxy", "-W", "-db", "-f", str(haproxy_config)],
            soft_stop=signal.SIGUSR1,
            hard_stop=signal.SIGTERM,
        ),
    ]
    return [program for program in both if only in (None, program.name)]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="appgate-supervisor", description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="?", choices=("gunicorn", "haproxy"), help="only this one")
    parser.add_argument("--haproxy-config", type=Path, default=Path("/etc/haproxy/haproxy.cfg"))
    parser.add_argument("--gunicorn-config", type=Path, default=Path("/opt/appgate/gunicorn.conf.py"))
    arguments = parser.parse_args()
    try:
        settings = Settings.from_environ(os.environ)
    except ConfigError as error:
        print(f"appgate does not start:\n{error}", file=sys.stderr)
        return EXIT_CONFIG
    return Supervisor(
        programs(arguments.only, arguments.haproxy_config, arguments.gunicorn_config),
        stop_seconds=settings.stop_timeout_seconds,
        bind=settings.bind,
    ).run()


if __name__ == "__main__":
    sys.exit(main())
