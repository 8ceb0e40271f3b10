# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The questions to a Grafana, put to a server that plays one."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from observability import grafana
from tests.unit.observability import support


@pytest.fixture
def played() -> Iterator[dict[str, Any]]:
    """A Grafana whose answers a test may change; its address is in `url`."""
    files = [json.loads(path.read_text()) for path in sorted(support.DASHBOARDS.glob("*.json"))]
    state: dict[str, Any] = {
        "datasources": [{"type": "loki", "uid": "l"}, {"type": "prometheus", "uid": "p"}],
        "health": {"status": "OK"},
        "dashboards": {dashboard["uid"]: dashboard for dashboard in files},
        "answer": {"frames": [{"data": {"values": [[1], [2]]}}]},
        "credentials": set(),
        "folder": {"folderTitle": "Appgate"},
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def reply(self, body: Any, status: int = 200) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            state["credentials"].add(self.headers["Authorization"])
            if self.path == "/api/datasources":
                self.reply(state["datasources"])
            elif self.path == "/api/datasources/uid/p/health":
                self.reply(state["health"])
            elif self.path.startswith("/api/search"):
                self.reply([{"uid": uid, **state["folder"]} for uid in state["dashboards"]])
            elif self.path.startswith("/api/dashboards/uid/"):
                self.reply({"dashboard": state["dashboards"][self.path.rpartition("/")[2]]})
            else:
                self.reply({"message": "not found"}, 404)

        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"][0]
            assert "$" not in query["expr"]
            assert query["datasource"]["uid"] == "p"
            self.reply({"results": {"A": state["answer"]}})

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state["url"] = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def run(played: dict[str, Any], capsys: pytest.CaptureFixture[str], **environment: str) -> tuple[int, str]:
    code = grafana.main({"GRAFANA_URL": played["url"], **environment})
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_all_is_well(played: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(played, capsys, GRAFANA_TOKEN="t") == (0, "Every dashboard is there and every panel has data\n")
    assert played["credentials"] == {"Bearer t"}


def test_each_thing_that_is_missing_is_named(played: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    played["health"] = {"status": "ERROR", "message": "connection refused"}
    del played["dashboards"]["appgate-app"]
    played["answer"] = {"frames": [{"data": {"values": []}}]}
    code, text = run(played, capsys, GRAFANA_USER="admin", GRAFANA_PASSWORD="secret")
    assert code == 1
    assert "data source p: connection refused" in text
    assert "dashboard appgate-app is not in Grafana" in text
    assert "dashboard appgate-haproxy, Requests in the queue: no data: sum by" in text
    assert "secret" not in text
    assert played["credentials"] == {"Basic YWRtaW46c2VjcmV0"}


def test_a_dashboard_in_another_folder_is_named(played: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    played["folder"] = {}
    assert "dashboard appgate-app is in the folder General, not in Appgate" in run(played, capsys)[1]
    assert run(played, capsys, GRAFANA_FOLDER="General")[0] == 0


def test_an_error_of_a_query_is_told(played: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    played["answer"] = {"error": "bad_data: parse error"}
    assert "bad_data: parse error" in run(played, capsys)[1]


@pytest.mark.parametrize(
    ("url", "message"),
    [("http://127.0.0.1:1", "can't be reached"), (None, "has no data source of the type prometheus")],
)
def test_a_grafana_that_can_not_be_asked(
    url: str | None, message: str, played: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    played["datasources"] = []
    code, text = run(played, capsys, **({"GRAFANA_URL": url} if url else {}))
    assert code == 1
    assert message in text


def test_without_a_grafana_it_says_that_it_was_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert grafana.main({}) == 0
    assert capsys.readouterr().out.startswith("skipped: GRAFANA_URL is not set")
