"""A real HAProxy with the role's own defaults in front of a small application on a unix socket."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import re
import signal
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_config import render, to_text
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_input import check
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_process import (
    Haproxy,
    ProcessError,
    parse_show_proc,
)
from jinja2.nativetypes import NativeEnvironment

from tests.machine import free_port, run_module

from .support import HAPROXY, ROLE, minimal, specs

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed on this machine")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PATIENCE_SECONDS = 15


def wait(done: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (value := done()):
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.05)
    return value


def defaults(**changes: Any) -> dict[str, Any]:
    """The role's defaults with their templates worked out."""
    raw = {**yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()), **changes}
    raw.pop("haproxy_check_cache_dir")
    environment = NativeEnvironment()

    def work_out(value: Any) -> Any:
        if isinstance(value, str) and "{{" in value:
            return environment.from_string(value).render(raw)
        if isinstance(value, dict):
            return {key: work_out(inner) for key, inner in value.items()}
        return [work_out(inner) for inner in value] if isinstance(value, list) else value

    return {key: work_out(value) for key, value in raw.items()}


class Application(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    ready = True
    hold = threading.Event()
    connections = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Application

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:  # the name is http.server's
        status = 200
        if self.path == "/readyz":
            status = 200 if self.server.ready else 503
        if self.path == "/slow":
            self.server.hold.wait(PATIENCE_SECONDS)
        body = json.dumps({"path": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def address_string(self) -> str:
        return "unix"


@dataclass
class Stack:
    port: int
    operations: int
    app: Application
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, headers: dict[str, str] | None = None, port: int = 0) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def seen(self, path: str, headers: dict[str, str] | None = None) -> dict[str, list[str]]:
        """The headers that the application got."""
        status, _, body = self.get(path, headers)
        assert status == 200, body
        found: dict[str, list[str]] = {}
        for key, value in json.loads(body)["headers"]:
            found.setdefault(key, []).append(value)
        return found

    def health(self) -> int:
        try:
            return self.get("/healthz", port=self.operations)[0]
        except OSError:
            return 0


@dataclass
class Starter:
    folder: Path
    stacks: list[Stack] = field(default_factory=list)

    def __call__(self, **changes: Any) -> Stack:
        path = self.folder / "app.sock"
        app = Application(str(path), Handler)
        threading.Thread(target=app.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        values = defaults(
            haproxy_http_port=free_port(), haproxy_operations_port=free_port(), haproxy_app_socket=str(path), **changes
        )
        checked, problems = check(values, specs())
        assert not problems
        config = self.folder / "haproxy.cfg"
        config.write_text(to_text(render(checked)))
        log = self.folder / "log"
        assert HAPROXY
        with log.open("wb") as output:
            process = subprocess.Popen([HAPROXY, "-W", "-db", "-f", str(config)], stdout=output, stderr=output)
        stack = Stack(values["haproxy_http_port"], values["haproxy_operations_port"], app, process, log)
        self.stacks.append(stack)
        wait(lambda: stack.health() == 200)
        wait(lambda: stack.get("/")[0] == 200)
        return stack

    def stop(self) -> None:
        for stack in self.stacks:
            stack.app.hold.set()
            stack.process.terminate()
            stack.process.wait(PATIENCE_SECONDS)
            stack.app.shutdown()
            stack.app.server_close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    Application.hold = threading.Event()
    yield starter
    starter.stop()


def test_requests_headers_and_ports(start: Starter) -> None:
    stack = start()
    # Nothing that a client says about where it comes from reaches the application.
    lies = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Host": "evil",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/evil",
        "X-Real-IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
    }
    got = stack.seen("/", lies)
    assert got["x-forwarded-for"] == ["127.0.0.1"]
    assert got["x-forwarded-proto"] == ["http"]
    assert got["x-forwarded-host"] == [f"127.0.0.1:{stack.port}"]
    assert got["x-forwarded-port"] == [str(stack.port)]
    assert not {"x-forwarded-prefix", "x-real-ip", "forwarded"} & set(got)
    # A header name that WSGI can't tell from another one.
    assert stack.get("/", {"X_Forwarded_For": "6.6.6.6"})[0] == 403

    # Request ids: made here, or taken when harmless.
    assert UUID.fullmatch(got["x-request-id"][0])
    assert stack.seen("/", {"X-Request-ID": "abc-123_DEF.4"})["x-request-id"] == ["abc-123_DEF.4"]
    for bad in ("short", "x" * 65, 'quote"inside-it', "has spaces in it"):
        (given,) = stack.seen("/", {"X-Request-ID": bad})["x-request-id"]
        assert UUID.fullmatch(given)
    _, headers, _ = stack.get("/", {"X-Request-ID": "abc-123_DEF.4"})
    assert headers["x-request-id"] == "abc-123_DEF.4"

    # The application's own metrics are for the operations port only, however they are spelled.
    for path in ("/metrics", "/metrics/", "//metrics", "/%6detrics", "/metrics?a=b"):
        status, headers, _ = stack.get(path)
        assert status == 403, path
        assert UUID.fullmatch(headers["x-request-id"])
    assert stack.get("/metricsx")[0] == 200
    status, _, body = stack.get("/app/metrics", port=stack.operations)
    assert (status, json.loads(body)["path"]) == (200, "/metrics")
    status, _, body = stack.get("/metrics", port=stack.operations)
    assert status == 200
    assert b'haproxy_server_status{proxy="flask",server="gunicorn",state="UP"} 1' in body
    assert b"Statistics Report" in stack.get("/stats", port=stack.operations)[2]
    assert stack.get("/", port=stack.operations)[0] == 404

    # One log line of JSON per request, with the id and whatever a client puts into the address.
    stack.get('/a"b\\c')
    lines = wait(lambda: [line for line in stack.log.read_text().splitlines() if "b\\\\c" in line])
    record = json.loads(lines[0])
    assert record["uri"] == '/a"b\\c'
    assert (record["frontend"], record["backend"], record["server"]) == ("http", "flask", "gunicorn")
    assert UUID.fullmatch(record["request_id"])
    for line in stack.log.read_text().splitlines():
        if line.startswith("{"):
            assert json.loads(line)["component"] == "haproxy"


def test_connections_are_kept_on_both_sides(start: Starter) -> None:
    stack = start()
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=PATIENCE_SECONDS)
    connection.connect()
    local = connection.sock.getsockname()
    # Health checks connect to the application as well, each once.
    for _ in range(30):
        connection.request("GET", "/")
        connection.getresponse().read()
        assert connection.sock is not None
        assert connection.sock.getsockname() == local
    connection.close()
    assert stack.app.connections < 20


def test_too_many_requests_are_refused_only_when_a_limit_is_set(start: Starter) -> None:
    stack = start(haproxy_rate_limit={"requests": 10, "period": "1m"})
    statuses = [stack.get("/")[0] for _ in range(15)]
    assert statuses[-1] == 429
    assert 200 in statuses


def test_an_application_that_is_not_ready_gets_no_requests(start: Starter) -> None:
    stack = start()
    stack.app.ready = False
    wait(lambda: stack.get("/")[0] == 503)
    assert stack.health() == 200
    # Its metrics still can be read.
    assert stack.get("/app/metrics", port=stack.operations)[0] == 200
    stack.app.ready = True
    wait(lambda: stack.get("/")[0] == 200)


def test_a_soft_stop_tells_first_and_cuts_nothing(start: Starter) -> None:
    stack = start(haproxy_grace="2s", haproxy_hard_stop_after="10s")
    slow: list[int] = []
    thread = threading.Thread(target=lambda: slow.append(stack.get("/slow")[0]))
    thread.start()
    wait(lambda: b'"path": "/"' in stack.get("/")[2])

    # A master that has only just started its worker still misses signals; once more does no harm.
    def told() -> bool:
        stack.process.send_signal(signal.SIGUSR1)
        return "Exiting Master process" in stack.log.read_text()

    wait(told)
    # Balancers see it, while users are still served.
    wait(lambda: stack.health() == 503)
    assert stack.get("/")[0] == 200
    # After the grace time nothing new comes in, and what is open still ends well.
    wait(lambda: stack.health() == 0)
    assert stack.process.poll() is None
    stack.app.hold.set()
    thread.join(PATIENCE_SECONDS)
    assert slow == [200]
    assert stack.process.wait(PATIENCE_SECONDS) == 0


# --- Master and worker without systemd


def test_show_proc_is_read() -> None:
    text = """\
#<PID>          <type>          <reloads>       <uptime>        <version>
10              master          3 [failed: 1]   0d00h00m03s     2.6.12
# workers
12              worker          1               0d00h00m02s     2.6.12
# old workers
11              worker          2               0d00h00m03s     2.6.12
# programs

"""
    processes = parse_show_proc(text)
    assert processes is not None
    assert (processes.reloads, processes.workers, processes.failed) == (3, frozenset({12}), True)
    assert parse_show_proc("") is None
    done = parse_show_proc(text.replace("failed: 1", "failed: 0"))
    assert done is not None
    assert not done.failed


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[Haproxy, int]]:
    assert HAPROXY
    port = free_port()
    config = tmp_path / "haproxy.cfg"
    values = minimal()
    values["haproxy_frontends"][0]["binds"] = [{"address": "127.0.0.1", "port": port}]
    config.write_text(to_text(render(check(values, specs())[0])))
    haproxy = Haproxy(str(config), str(tmp_path / "pid"), str(tmp_path / "sock"), HAPROXY, PATIENCE_SECONDS)
    yield haproxy, port
    haproxy.stop()


def reachable(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def test_start_reload_and_stop(host: tuple[Haproxy, int]) -> None:
    haproxy, port = host
    assert not haproxy.pids()
    haproxy.start()
    (master,) = haproxy.pids()
    assert haproxy.is_ours([master])
    first = haproxy.ask()
    # Not one connection is refused while workers change.
    stop, refused = threading.Event(), []

    def knock() -> None:
        while not stop.is_set():
            if not reachable(port):
                refused.append(time.monotonic())

    thread = threading.Thread(target=knock)
    thread.start()
    for _ in range(3):
        haproxy.reload()
    stop.set()
    thread.join()
    assert not refused
    last = haproxy.ask()
    assert haproxy.pids() == [master]
    assert first is not None
    assert last is not None
    assert last.reloads == first.reloads + 3
    assert not last.workers & first.workers
    haproxy.stop()
    assert not haproxy.pids()
    assert not reachable(port)
    assert not Path(haproxy.pid_file).exists()


def test_a_reload_that_fails_says_so_and_the_old_worker_stays(host: tuple[Haproxy, int]) -> None:
    haproxy, port = host
    haproxy.start()
    good = Path(haproxy.config).read_text()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        Path(haproxy.config).write_text(f"{good}\nfrontend other\n    bind 127.0.0.1:{taken}\n")
        with pytest.raises(ProcessError, match="could not reload"):
            haproxy.reload()
        assert reachable(port)
        assert haproxy.has_failed_reload()
    # The port is free now, and the file says what it said.
    haproxy.reload()
    assert not haproxy.has_failed_reload()
    assert reachable(taken)
    Path(haproxy.config).write_text(good)
    haproxy.reload()
    assert reachable(port)


def started(haproxy: Haproxy) -> dict[str, Any]:
    """What the module says to `state: started`."""
    arguments = {"config": haproxy.config, "pid_file": haproxy.pid_file, "master_socket": haproxy.master_socket}
    module = ROLE.parents[1] / "plugins" / "modules" / "haproxy_process.py"
    return run_module(module, {**arguments, "binary": haproxy.binary, "state": "started"})


def test_started_repeats_a_reload_that_failed(host: tuple[Haproxy, int]) -> None:
    haproxy, port = host
    haproxy.start()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with Path(haproxy.config).open("a") as config:
            config.write(f"\nfrontend other\n    bind 127.0.0.1:{taken}\n")
        with pytest.raises(ProcessError, match="could not reload"):
            haproxy.reload()
        assert "could not reload" in started(haproxy)["msg"]
        assert reachable(port)
    assert started(haproxy)["changed"]
    assert reachable(taken)
    assert not started(haproxy)["changed"]


def test_a_file_that_is_younger_than_its_worker_is_noticed(host: tuple[Haproxy, int], tmp_path: Path) -> None:
    haproxy, _ = host
    assert not haproxy.is_outdated(), "nothing runs"
    haproxy.start()
    assert not haproxy.is_outdated()
    assert started(haproxy)["outdated"] is False

    def younger() -> bool:
        # A worker counts as started for the whole tick of its start.
        os.utime(haproxy.config)
        return haproxy.is_outdated()

    for _ in range(2):
        wait(younger)
        assert started(haproxy)["outdated"] is True
        assert not dataclasses.replace(haproxy, proc=tmp_path).is_outdated(), "of a worker that cannot be seen"
        haproxy.reload()
        assert not haproxy.is_outdated()
    # A clock that was set back tells nothing about the order.
    later = time.time() + 3600
    os.utime(haproxy.config, (later, later))
    assert not haproxy.is_outdated()
    Path(haproxy.config).unlink()
    assert not haproxy.is_outdated()


def test_one_that_was_started_without_a_master_is_taken_over(host: tuple[Haproxy, int]) -> None:
    haproxy, port = host
    subprocess.run([haproxy.binary, "-D", "-f", haproxy.config, "-p", haproxy.pid_file], check=True)
    (old,) = haproxy.pids()
    assert not haproxy.is_ours([old])
    haproxy.reload()
    (new,) = haproxy.pids()
    assert new != old
    assert haproxy.is_ours([new])
    assert reachable(port)


def test_the_number_of_another_program_is_not_touched(host: tuple[Haproxy, int]) -> None:
    haproxy, _ = host
    with subprocess.Popen(["sleep", "60"]) as other:
        Path(haproxy.pid_file).write_text(f"{other.pid}\n")
        assert not haproxy.pids()
        haproxy.stop()
        assert other.poll() is None
        other.kill()


def test_tls_with_a_real_certificate(start: Starter, tmp_path: Path) -> None:
    key, certificate, both = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "both.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    both.write_text(certificate.read_text() + key.read_text())
    port = free_port()
    frontends = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())["haproxy_frontends"]
    frontends[0]["binds"] = [
        {"port": "{{ haproxy_http_port }}"},
        {"address": "127.0.0.1", "port": port, "tls": {"certificates": [str(both)], "min_version": "TLSv1.3"}},
    ]
    start(haproxy_frontends=frontends)

    trusting = ssl.create_default_context(cafile=str(certificate))
    connection = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE_SECONDS, context=trusting)
    connection.request("GET", "/")
    seen = dict(json.loads(connection.getresponse().read())["headers"])
    connection.close()
    assert seen["x-forwarded-proto"] == "https"

    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    old = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE_SECONDS, context=trusting)
    with pytest.raises(ssl.SSLError):
        old.request("GET", "/")
