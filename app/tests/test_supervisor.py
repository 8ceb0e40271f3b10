# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The supervisor: both or none, a stop in order, orphans reaped. The two programs are stand-ins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from appgate.supervisor import Program, programs

APP = Path(__file__).resolve().parents[1]

# Says when it was stopped. "gunicorn" opens its socket; "haproxy" may be slow to drain.
STAND_IN = """#!{python}
import os, signal, socket, sys, time
name = os.path.basename(sys.argv[0])
log = open(os.environ["EVENTS"], "a", buffering=1)
def stop(number, frame):
    log.write(name + " asked " + signal.Signals(number).name + "\\n")
    time.sleep(float(os.environ.get("DRAIN_" + name, "0")))
    log.write(name + " gone\\n")
    sys.exit(0)
wanted = signal.SIGUSR1 if name == "haproxy" else signal.SIGTERM
signal.signal(wanted, stop)
open(os.environ["EVENTS"] + "." + name, "w").write(str(os.getpid()))
log.write(name + " began\\n")
if os.environ.get("EXIT_" + name):
    sys.exit(int(os.environ["EXIT_" + name]))
if name == "gunicorn":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ["APPGATE_BIND"].removeprefix("unix:"))
    listener.listen()
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
    os.wait()
while True:
    signal.pause()
"""


class Container:
    def __init__(self, directory: Path, **settings: str) -> None:
        for name in ("gunicorn", "haproxy"):
            path = directory / name
            path.write_text(STAND_IN.format(python=sys.executable))
            path.chmod(0o755)
        self.events_file = directory / "events"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "appgate.supervisor"],
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith("APPGATE_")},
                "PATH": f"{directory}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(APP),
                "EVENTS": str(self.events_file),
                "APPGATE_BIND": f"unix:{directory}/socket",
                **settings,
            },
            stderr=subprocess.PIPE,
            text=True,
        )

    def events(self) -> list[str]:
        return self.events_file.read_text().splitlines() if self.events_file.exists() else []

    def wait_for(self, event: str) -> None:
        end = time.monotonic() + 15
        while event not in self.events():
            assert time.monotonic() < end, f"{event!r} did not happen: {self.events()}"
            time.sleep(0.02)

    def kill(self, name: str, number: signal.Signals) -> None:
        os.kill(int(Path(f"{self.events_file}.{name}").read_text()), number)

    def finish(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Container]:
    return lambda **settings: Container(tmp_path, **settings)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_haproxy_drains_before_gunicorn_is_asked(start: Callable[..., Container], number: signal.Signals) -> None:
    container = start(DRAIN_haproxy="0.3")
    container.wait_for("haproxy began")
    container.process.send_signal(number)
    assert container.finish()[0] == 0
    assert container.events() == [
        "gunicorn began",
        "haproxy began",
        "haproxy asked SIGUSR1",
        "haproxy gone",
        "gunicorn asked SIGTERM",
        "gunicorn gone",
    ]


@pytest.mark.parametrize(("victim", "survivor"), [("gunicorn", "haproxy"), ("haproxy", "gunicorn")])
def test_when_one_dies_the_container_ends(start: Callable[..., Container], victim: str, survivor: str) -> None:
    container = start()
    container.wait_for("haproxy began")
    container.kill(victim, signal.SIGKILL)
    code, said = container.finish()
    assert code == 1
    assert f"{victim} was killed by SIGKILL" in said
    assert f"{survivor} gone" in container.events()


def test_an_exit_without_error_is_a_death_too(start: Callable[..., Container]) -> None:
    container = start()
    container.wait_for("haproxy began")
    container.kill("gunicorn", signal.SIGTERM)
    code, said = container.finish()
    assert code == 1
    assert "gunicorn ended with exit code 0: the container ends" in said


def test_a_refused_setting_keeps_its_exit_code(start: Callable[..., Container]) -> None:
    code, _ = start(EXIT_gunicorn="78").finish()
    assert code == 78


def test_a_wrong_setting_starts_nothing(start: Callable[..., Container]) -> None:
    container = start(APPGATE_THREADS="0")
    code, said = container.finish()
    assert code == 78
    assert "APPGATE_THREADS='0'" in said
    assert container.events() == []


def test_the_whole_stop_has_a_limit(start: Callable[..., Container]) -> None:
    container = start(DRAIN_haproxy="60", APPGATE_STOP_TIMEOUT_SECONDS="2")
    container.wait_for("haproxy began")
    container.process.send_signal(signal.SIGTERM)
    code, said = container.finish()
    assert code == 0
    assert "haproxy still has work after its time" in said
    assert "gunicorn gone" in container.events()


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    program = Program("haproxy", [str(tmp_path / "nothing")], signal.SIGUSR1, signal.SIGTERM)
    program.start()
    assert not program.running
    assert program.outcome == "ended with exit code 78"


def test_one_alone() -> None:
    assert [p.name for p in programs("haproxy", Path("h"), Path("g"))] == ["haproxy"]
    assert [p.name for p in programs(None, Path("h"), Path("g"))] == ["gunicorn", "haproxy"]
