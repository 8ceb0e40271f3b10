# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A real gunicorn on a unix socket: workers die, counters go on, a stop lets requests finish."""

from __future__ import annotations

import concurrent.futures
import functools
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[1]
PROBE = """
import time
from appgate.wsgi import app

app.add_url_rule("/slow", view_func=lambda: time.sleep(1.5) or "slow but whole")
"""


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


class Server:
    """One gunicorn with the project's own configuration."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.socket = directory / "s"
        self.metrics = directory / "prometheus"
        (directory / "probe.py").write_text(PROBE)
        self.log = directory / "log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("APPGATE_")}
        environment |= {
            "APPGATE_BIND": f"unix:{self.socket}",
            "APPGATE_WORKERS": "3",
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics),
            "PYTHONPATH": f"{APP}{os.pathsep}{directory}",
            **settings,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", str(APP / "gunicorn.conf.py"), "probe:app"],
                env=environment,
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str) -> tuple[int, str]:
        connection = Connection(self.socket)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def workers(self) -> list[int]:
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in text.split()]

    def sample(self, name: str) -> float:
        """The value of a metric: of all its samples together, or of the one with these labels."""
        status, text = self.get("/metrics")
        assert status == 200, text
        pattern = rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$"
        return sum(float(value) for value in re.findall(pattern, text, re.MULTILINE))


def wait_for(what: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(**settings: str) -> Server:
        directory = tmp_path / str(len(servers))
        directory.mkdir()
        server = Server(directory, **settings)
        servers.append(server)
        wait_for(server.ready)
        return server

    yield begin
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        print(server.log.read_text())


HELLO = 'appgate_http_request_duration_seconds_count{method="GET",route="/",status="200"}'


def replaced(server: Server, victim: int) -> bool:
    workers = server.workers()
    return victim not in workers and len(workers) == 3


def counted(server: Server, requests: float) -> bool:
    return server.sample(HELLO) == requests


def test_counters_survive_the_death_of_workers(start: Callable[..., Server]) -> None:
    server = start()
    asked = seen = 0.0
    for _ in range(4):
        for _ in range(10):
            assert server.get("/")[0] == 200
            asked += 1
            now = server.sample(HELLO)
            assert now >= seen, "a counter went backwards"
            seen = now
        # A request is counted after its answer has been sent.
        wait_for(functools.partial(counted, server, asked))
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(functools.partial(replaced, server, victim))
        assert server.sample(HELLO) == asked
    wait_for(lambda: server.sample("appgate_workers") == 3)
    assert server.sample("appgate_workers_started_total") == 7
    assert server.sample("appgate_worker_threads") == 12
    # The request for the metrics itself is the only one in flight, once the one before it has been counted off.
    wait_for(lambda: server.sample("appgate_http_requests_in_flight") == 1)
    # Four dead workers have left no files of their own.
    assert len(list(server.metrics.glob("histogram_*.db"))) <= 3


def test_counters_survive_a_reload(start: Callable[..., Server]) -> None:
    server = start()
    for _ in range(5):
        server.get("/")
    before = server.workers()
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(server.workers()) == 3 and not set(before) & set(server.workers()))
    assert server.sample(HELLO) == 5


def test_replaced_workers_leave_no_files(start: Callable[..., Server]) -> None:
    server = start(APPGATE_MAX_REQUESTS="5", APPGATE_WORKERS="2")
    first = set(server.workers())
    asked = 0
    while len(first & set(server.workers())) == 2 or asked < 60:
        assert server.get("/")[0] == 200
        asked += 1
    wait_for(functools.partial(counted, server, asked))
    assert len(list(server.metrics.glob("histogram_*.db"))) <= 4


def test_the_metrics_answer_while_a_worker_makes_its_files(start: Callable[..., Server]) -> None:
    server = start()
    server.get("/")
    # A file has no length for the moment between its making and its first use.
    (server.metrics / "counter_3.db").touch()
    wait_for(functools.partial(counted, server, 1))


def test_term_lets_a_slow_request_finish(start: Callable[..., Server]) -> None:
    server = start()
    wait_for(lambda: server.sample("appgate_workers") == 3)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(server.get, "/slow")
        wait_for(lambda: server.sample("appgate_http_requests_in_flight") == 2)
        server.process.send_signal(signal.SIGTERM)
        assert slow.result() == (200, "slow but whole")
        assert server.process.wait(timeout=10) == 0


def test_the_directory_of_a_running_server_is_left_alone(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start()
    server.get("/")
    second = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", str(APP / "gunicorn.conf.py"), "appgate.wsgi:app"],
        env={**os.environ, "APPGATE_BIND": f"unix:{tmp_path}/t", "PROMETHEUS_MULTIPROC_DIR": str(server.metrics)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 78
    assert "is in use by another running server" in second.stderr
    assert server.sample(HELLO) == 1


def test_files_of_an_earlier_server_are_removed(start: Callable[..., Server], tmp_path: Path) -> None:
    left = tmp_path / "0" / "prometheus"
    left.parent.mkdir()
    left.mkdir()
    (left / "counter_9.db").write_bytes(b"left behind")
    (tmp_path / "0").rename(tmp_path / "later")
    server = start(PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "later" / "prometheus"))
    assert not (tmp_path / "later" / "prometheus" / "counter_9.db").exists()
    assert server.get("/")[0] == 200


def test_a_wrong_setting_stops_the_start() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", str(APP / "gunicorn.conf.py"), "appgate.wsgi:app"],
        env={**os.environ, "APPGATE_THREADS": "0"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78
    assert "APPGATE_THREADS='0' is out of range: give a whole number from 1 to 128." in done.stderr
    assert "Traceback" not in done.stderr
