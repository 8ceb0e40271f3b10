# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The page, the probes, the metrics, the request id and the access log."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from appgate import logs, metrics
from appgate.application import PAGE, create_app
from appgate.config import Settings
from flask import Flask, request
from flask.testing import FlaskClient


class WholeAnswers(FlaskClient):
    """Reads every answer to its end, as a server does: only then is a request over."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        return super().open(*args, **{"buffered": True, **kwargs})


def make(**settings: str) -> Flask:
    app = create_app(Settings.from_environ(settings))
    app.test_client_class = WholeAnswers
    return app


@pytest.fixture
def app() -> Flask:
    return make()


def access_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_page_is_exact(app: Flask) -> None:
    answer = app.test_client().get("/")
    assert answer.status_code == 200
    assert answer.get_data(as_text=True) == "<h1 style='color:blue'>Hello! This is Appgate world!</h1>"
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.get_data(as_text=True) == PAGE


def test_probes(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    assert client.post("/").status_code == 405
    assert client.get("/nowhere").status_code == 404


def test_not_ready_without_the_metrics_directory(app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert str(tmp_path) in answer.get_data(as_text=True)
    assert app.test_client().get("/healthz").status_code == 200


def test_request_id_is_passed_on_once(app: Flask) -> None:
    answer = app.test_client().get("/", headers={"X-Request-ID": "abc-123.DEF"})
    assert answer.headers.getlist("X-Request-ID") == ["abc-123.DEF"]


@pytest.mark.parametrize("given", [None, "", "a b", 'x"}', "a" * 129, "<script>", "é"])
def test_bad_request_id_is_replaced(given: str | None) -> None:
    made = logs.accept_request_id(given)
    assert made != given
    assert len(made) == 32


def test_access_log_is_json(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    app.test_client().get(
        "/nowhere?token=secret",
        headers={"X-Request-ID": "id-1", "User-Agent": 'a "quoted"\tname', "X-Forwarded-For": "192.0.2.7"},
    )
    (line,) = access_lines(capfd.readouterr().out)
    assert line["request_id"] == "id-1"
    assert line["status"] == 404
    assert line["route"] == "unmatched"
    assert line["path"] == "/nowhere"
    assert line["client"] == "192.0.2.7"
    assert line["user_agent"] == 'a "quoted"\tname'
    assert "secret" not in json.dumps(line)


def test_probes_are_logged_only_on_request(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    app.test_client().get("/healthz")
    assert access_lines(capfd.readouterr().out) == []
    chatty = make(APPGATE_ACCESS_LOG_PROBES="true")
    chatty.test_client().get("/healthz")
    assert [line["route"] for line in access_lines(capfd.readouterr().out)] == ["/healthz"]
    silent = make(APPGATE_ACCESS_LOG="false")
    silent.test_client().get("/")
    assert access_lines(capfd.readouterr().out) == []


@pytest.mark.parametrize(
    ("hops", "forwarded", "seen"),
    [
        ("1", "203.0.113.9, 192.0.2.7", "192.0.2.7"),
        ("2", "203.0.113.9, 192.0.2.7", "203.0.113.9"),
        ("0", "203.0.113.9", "127.0.0.1"),
    ],
)
def test_exactly_so_many_proxies_are_believed(hops: str, forwarded: str, seen: str) -> None:
    app = make(APPGATE_TRUSTED_PROXY_HOPS=hops)
    app.add_url_rule("/who", view_func=lambda: str(request.remote_addr))
    assert app.test_client().get("/who", headers={"X-Forwarded-For": forwarded}).get_data(as_text=True) == seen


def count(route: str, status: str, method: str = "GET") -> float:
    labels = {"method": method, "route": route, "status": status}
    return metrics.REGISTRY.get_sample_value("appgate_http_request_duration_seconds_count", labels) or 0.0


def test_requests_are_counted_by_route_and_status(app: Flask) -> None:
    client = app.test_client()
    before = count("/", "200"), count("unmatched", "404"), count("unmatched", "405", "OTHER")
    client.get("/")
    client.get("/made/up/by/a/client")
    client.open("/", method="BREW")
    assert count("/", "200") == before[0] + 1
    assert count("unmatched", "404") == before[1] + 1
    assert count("unmatched", "405", "OTHER") == before[2] + 1
    assert metrics.REGISTRY.get_sample_value("appgate_http_requests_in_flight") == 0


def test_a_failing_view_is_counted_and_logged_with_its_id(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> str:
        raise RuntimeError("on purpose")

    app.add_url_rule("/fail", view_func=fail)
    before = count("/fail", "500")
    with caplog.at_level(logging.ERROR):
        answer = app.test_client().get("/fail", headers={"X-Request-ID": "broken-1"})
    assert answer.status_code == 500
    assert answer.headers["X-Request-ID"] == "broken-1"
    assert count("/fail", "500") == before + 1
    assert "on purpose" in caplog.text


def test_messages_are_json_with_the_request_id() -> None:
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "two\nlines", None, None)
    token = logs.request_id.set("r-1")
    try:
        entry = json.loads(logs.JsonFormatter().format(record))
    finally:
        logs.request_id.reset(token)
    assert entry["message"] == "two\nlines"
    assert entry["request_id"] == "r-1"
    assert entry["level"] == "warning"


def test_metrics_page(app: Flask) -> None:
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    assert "# TYPE appgate_http_request_duration_seconds histogram" in answer.get_data(as_text=True)
