# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Ask a live Grafana whether every dashboard is there, its data source is well, and every panel gets an answer.

GRAFANA_URL=https://grafana.example.com python -m observability.grafana

Dashboards are looked for in the folder Appgate, or in GRAFANA_FOLDER. It logs in with GRAFANA_TOKEN, or with GRAFANA_USER and
GRAFANA_PASSWORD. They are taken from the environment, so that no process list shows them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import in_parallel

from observability import ROOT
from observability.generate import DASHBOARDS
from observability.live import VARIABLES

TIMEOUT_SECONDS = 30.0


class GrafanaError(Exception):
    """Grafana can't be asked; the text says why."""


class Grafana:
    """The few questions that are asked of its HTTP API."""

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._http = urllib3.PoolManager(retries=False, timeout=TIMEOUT_SECONDS)
        token, user = environment.get("GRAFANA_TOKEN"), environment.get("GRAFANA_USER")
        self._headers: dict[str, str] = {}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif user:
            self._headers.update(urllib3.make_headers(basic_auth=f"{user}:{environment.get('GRAFANA_PASSWORD', '')}"))

    def ask(self, path: str, body: Any = None) -> Any:
        """The answer to a GET, or to a POST with a body."""
        method = "GET" if body is None else "POST"
        try:
            answer = self._http.request(method, self._url + path, headers=self._headers, json=body)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise GrafanaError(f"GRAFANA_URL {self._url} can't be reached: {error}") from None
        if answer.status >= 400:
            raise GrafanaError(f"{method} {self._url}{path} answered {answer.status}: {answer.data[:200].decode()}")
        return answer.json()

    def datasource(self) -> str:
        """The uid of the Prometheus that dashboards use by default."""
        found = [item for item in self.ask("/api/datasources") if item["type"] == "prometheus"]
        if not found:
            raise GrafanaError("Grafana has no data source of the type prometheus.")
        return str(next((item for item in found if item.get("isDefault")), found[0])["uid"])

    def complaint(self, datasource: str, target: Mapping[str, Any]) -> str:
        """Why a panel's query has no data; empty where it has."""
        expr = target["expr"]
        for name, value in VARIABLES.items():
            expr = expr.replace(name, value)
        query = {
            "refId": "A",
            "datasource": {"type": "prometheus", "uid": datasource},
            "expr": expr,
            "instant": bool(target.get("instant")),
            "range": not target.get("instant"),
            "intervalMs": 30000,
            "maxDataPoints": 200,
        }
        try:
            result = self.ask("/api/ds/query", {"queries": [query], "from": "now-1h", "to": "now"})["results"]["A"]
        except GrafanaError as error:
            return str(error)
        if result.get("error"):
            return str(result["error"])
        frames = [frame for frame in result.get("frames") or [] if any(frame["data"]["values"])]
        return "" if frames else "no data"


def problems(grafana: Grafana, folder: str) -> Iterator[str]:
    """Everything that is not as it should be."""
    datasource = grafana.datasource()
    health = grafana.ask(f"/api/datasources/uid/{datasource}/health")
    if health.get("status") != "OK":
        yield f"data source {datasource}: {health.get('message', health)}"
    there = {item["uid"]: item for item in grafana.ask("/api/search?type=dash-db&tag=appgate")}
    for path in sorted((ROOT / DASHBOARDS).glob("*.json")):
        uid = json.loads(path.read_text(encoding="utf-8"))["uid"]
        if uid not in there:
            yield f"dashboard {uid} is not in Grafana"
            continue
        found = there[uid].get("folderTitle") or "General"
        if folder and found != folder:
            yield f"dashboard {uid} is in the folder {found}, not in {folder}"
        dashboard = grafana.ask(f"/api/dashboards/uid/{uid}")["dashboard"]
        targets = [(panel["title"], target) for panel in dashboard["panels"] for target in panel.get("targets") or []]
        answers = in_parallel(lambda item: grafana.complaint(datasource, item[1]), targets)
        for (title, target), why in zip(targets, answers, strict=True):
            if why:
                yield f"dashboard {uid}, {title}: {why}: {target['expr']}"


def main(environment: Mapping[str, str] = os.environ) -> int:
    """The command line."""
    url = environment.get("GRAFANA_URL", "")
    if not url:
        print("skipped: GRAFANA_URL is not set, so there is no Grafana to ask")
        return 0
    try:
        found = list(problems(Grafana(url, environment), environment.get("GRAFANA_FOLDER", "Appgate")))
    except GrafanaError as error:
        found = [str(error)]
    for text in found:
        print(text, file=sys.stderr)
    print("Every dashboard is there and every panel has data" if not found else f"{len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
