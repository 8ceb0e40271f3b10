# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""An API server that answers from a table, for the report's cases. The shapes are those of a real one (v1.37)."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import math
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

Answer = dict[str, Any] | tuple[int, dict[str, Any]] | Callable[[dict[str, str]], dict[str, Any]]
CONTEXT = "recorded"
PROMETHEUS = "/api/v1/namespaces/prometheus/services/http:prometheus-kube-prometheus-prometheus:9090/proxy/api/v1"
APP_IMAGE = "10.200.0.2:5000/appgate@sha256:" + "ab" * 32
STAMP = "2026-11-23T08:00:00Z"


def status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    """How the API server refuses."""
    return code, {"kind": "Status", "status": "Failure", "code": code, "message": message}


def items(*found: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "List", "items": list(found)}


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


def workload(
    name: str, replicas: int = 1, ready: int | None = None, labels: dict[str, str] | None = None
) -> dict[str, Any]:
    """A Deployment or a StatefulSet."""
    there = replicas if ready is None else ready
    counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": there, "readyReplicas": there}
    return {
        "metadata": meta(name, generation=1, labels=labels or {}),
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}},
        "status": {"observedGeneration": 1, **counts},
    }


def daemon_set(name: str, wanted: int = 1) -> dict[str, Any]:
    counts = {"desiredNumberScheduled": wanted, "updatedNumberScheduled": wanted, "numberAvailable": wanted}
    return {
        "metadata": meta(name, generation=1),
        "spec": {"selector": {"matchLabels": {"app": name}}},
        "status": {"observedGeneration": 1, **counts},
    }


def pod(name: str, app: str, image: str, *, waiting: str = "", restarts: int = 0, version: str = "") -> dict[str, Any]:
    state: dict[str, Any] = {"running": {"startedAt": STAMP}}
    if waiting:
        state = {"waiting": {"reason": waiting, "message": f"Back-off pulling image {image!r}"}}
    return {
        "metadata": meta(
            name,
            labels={"app": app, **({"app.kubernetes.io/version": version} if version else {})},
            ownerReferences=[{"kind": "ReplicaSet", "name": app}],
        ),
        "spec": {"containers": [{"name": app, "image": image}]},
        "status": {
            "phase": "Pending" if waiting else "Running",
            "containerStatuses": [
                {"name": app, "ready": not waiting, "started": not waiting, "restartCount": restarts, "state": state}
            ],
        },
    }


def node(name: str, *, ready: bool = True) -> dict[str, Any]:
    conditions = [{"type": "MemoryPressure", "status": "False"}]
    conditions.append(
        {
            "type": "Ready",
            "status": str(ready),
            "message": "kubelet is posting ready status" if ready else "Kubelet stopped posting node status.",
        }
    )
    return {
        "metadata": meta(name, labels={"node-role.kubernetes.io/control-plane": ""}),
        "spec": {},
        "status": {
            "capacity": {"cpu": "2", "memory": "16384Mi"},
            "conditions": conditions,
            "nodeInfo": {
                "kubeletVersion": "v1.37.2",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
                "containerRuntimeVersion": "containerd://2.4.2",
            },
        },
    }


def helm_secret(release: str, revision: int, record: dict[str, Any]) -> dict[str, Any]:
    packed = base64.b64encode(gzip.compress(json.dumps(record).encode()))
    return {
        "metadata": meta(
            f"sh.helm.release.v1.{release}.v{revision}",
            labels={"owner": "helm", "name": release, "version": str(revision), "status": record["info"]["status"]},
        ),
        "type": "helm.sh/release.v1",
        "data": {"release": base64.b64encode(packed).decode()},
    }


def chart_record(status_text: str = "deployed") -> dict[str, Any]:
    return {
        "name": "prometheus",
        "namespace": "prometheus",
        "version": 1,
        "info": {"status": status_text, "last_deployed": STAMP},
        "chart": {"metadata": {"name": "monitoring", "version": "0.1.0"}},
        "config": {"grafana": {"enabled": False}, "password": "not-for-a-page"},
        "manifest": "",
    }


def revision(number: int, status_text: str) -> dict[str, Any]:
    labels = {
        "appgate.platform/release": "appgate",
        "appgate.platform/revision": str(number),
        "appgate.platform/status": status_text,
    }
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1500))
    return {
        "metadata": meta(
            f"appgate-revision-{number}", labels=labels, annotations={"appgate.platform/applied-at": moment}
        )
    }


def target(job: str, *, error: str = "") -> dict[str, Any]:
    return {
        "labels": {"job": job, "instance": "10.200.128.9:8404", "pod": f"{job}-pod"},
        "scrapePool": job,
        "health": "down" if error else "up",
        "lastError": error,
        "lastScrape": STAMP,
        "scrapeInterval": "15s",
    }


def rule(name: str, state: str = "inactive", severity: str = "warning") -> dict[str, Any]:
    active = []
    if state != "inactive":
        active = [
            {
                "state": state,
                "activeAt": STAMP,
                "labels": {
                    "alertname": name,
                    "severity": severity,
                    "namespace": "appgate",
                    "job": "kube-state-metrics",
                },
                "annotations": {
                    "summary": f"{name}: a pod <b>fails</b>",
                    "runbook": "`kubectl -n appgate get pods` names it",
                },
            }
        ]
    return {
        "type": "alerting",
        "name": name,
        "state": state,
        "health": "ok",
        "labels": {"severity": severity},
        "alerts": active,
    }


def alert_rules(*rules: dict[str, Any]) -> dict[str, Any]:
    return prometheus({"groups": [{"name": "all", "rules": list(rules)}]})


def prometheus(data: Any) -> dict[str, Any]:
    return {"status": "success", "data": data}


def matrix(query: dict[str, str], **series: Callable[[int], float | None]) -> dict[str, Any]:
    """Values of functions of time at the moments that were asked for. A name is the value of the label `status`."""
    moments = range(int(query["start"]), int(query["end"]) + 1, int(query["step"]))
    result = []
    for name, value in series.items():
        known = [(moment, value(moment)) for moment in moments]
        values = [[moment, "NaN" if number is None else str(number)] for moment, number in known]
        result.append({"metric": {"status": name.removeprefix("s")} if name.startswith("s") else {}, "values": values})
    return prometheus({"resultType": "matrix", "result": result})


def traffic(query: dict[str, str]) -> dict[str, Any]:
    """An hour with traffic, as the expression asks for it."""
    expr = query["query"]

    def wave(height: float, share: float = 0.25) -> Callable[[int], float]:
        return lambda moment: height * (1 + share * math.sin(moment / 400))

    if expr.startswith("sum by (status)"):
        return matrix(query, s200=wave(31.0), s404=wave(1.5), s500=lambda moment: 0.4 if moment % 3600 < 900 else 0.0)
    if expr.startswith("histogram_quantile"):
        height = {"0.99": 0.0048, "0.95": 0.0024, "0.5": 0.0009}[expr.partition("(")[2].partition(",")[0]]
        return matrix(query, all=wave(height))
    if "haproxy" in expr or "status=~" in expr:
        return matrix(query, all=lambda moment: 0.012 if moment % 3600 < 900 else 0.0)
    return matrix(query, all=wave(0.08, 0.9))


def outage(query: dict[str, str]) -> dict[str, Any]:
    """An hour that ends with nothing but errors."""
    if "haproxy" in query["query"]:
        return matrix(query, all=lambda moment: 1.0 if int(query["end"]) - moment < 900 else 0.0)
    return traffic(query)


def builds(query: dict[str, str]) -> dict[str, Any]:
    """What programs say of themselves."""
    assert "_build_info" in query["query"]
    labels = {
        "namespace": "prometheus",
        "pod": "exporter-1",
        "container": "prometheus-node-exporter",
        "version": "1.12.1",
    }
    return prometheus({"resultType": "vector", "result": [{"metric": labels, "value": [0, "1"]}]})


def silence(query: dict[str, str]) -> dict[str, Any]:
    """An hour in which nobody came."""
    expr = query["query"]
    if expr.startswith("sum by (status)"):
        return matrix(query, s200=lambda _moment: 0.0)
    return matrix(query, all=lambda _moment: None)


def nothing(query: dict[str, str]) -> dict[str, Any]:
    """What Prometheus says of metrics that it does not have."""
    return matrix(query)


@dataclass
class Recorded:
    """A cluster as a table of answers by path, on which all is well until a test changes it."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        apps = "/apis/apps/v1/namespaces"
        own = {"appgate.platform/release": "appgate"}
        self.answers.update(
            {
                "/version": {"gitVersion": "v1.37.2"},
                "/apis": {"groups": [{"name": "apps"}]},
                "/api/v1/namespaces": items(
                    *({"metadata": meta(name)} for name in ("appgate", "kube-system", "prometheus", "shop"))
                ),
                "/api/v1/nodes": items(node("one-control-plane")),
                "/apis/metrics.k8s.io/v1beta1/nodes": items(
                    {"metadata": meta("one-control-plane"), "usage": {"cpu": "412345678n", "memory": "2097152Ki"}}
                ),
                f"{apps}/appgate/deployments": items(workload("appgate", 2, labels=own)),
                "/api/v1/namespaces/appgate/pods": items(
                    *(pod(f"appgate-{at}", "appgate", APP_IMAGE, version="1a2b3c") for at in "xy")
                ),
                "/api/v1/namespaces/appgate/services": items(
                    {
                        "metadata": meta("appgate-service", labels=own),
                        "spec": {"ports": [{"port": 4000}]},
                        "status": {"loadBalancer": {"ingress": [{"ip": "10.200.1.1"}]}},
                    }
                ),
                "/api/v1/namespaces/appgate/secrets": items(revision(1, "superseded"), revision(2, "deployed")),
                "/apis/networking.k8s.io/v1/namespaces/appgate/networkpolicies": items({"metadata": meta("appgate")}),
                f"{apps}/kube-system/deployments": items(workload("coredns", 2)),
                "/api/v1/namespaces/prometheus/pods": items(
                    pod(
                        "exporter-1",
                        "prometheus-node-exporter",
                        "10.200.0.2:5000/monitoring/node-exporter@sha256:" + "cd" * 32,
                    )
                ),
                f"{apps}/prometheus/daemonsets": items(daemon_set("prometheus-node-exporter")),
                f"{apps}/prometheus/statefulsets": items(workload("prometheus-prometheus-kube-prometheus-prometheus")),
                "/api/v1/namespaces/prometheus/services": items(
                    {
                        "metadata": meta("prometheus-kube-prometheus-prometheus"),
                        "spec": {"ports": [{"name": "http-web", "port": 9090}, {"name": "reloader-web", "port": 8080}]},
                    }
                ),
                "/api/v1/namespaces/prometheus/secrets": items(helm_secret("prometheus", 1, chart_record())),
                "/api/v1/namespaces/prometheus/secrets/sh.helm.release.v1.prometheus.v1": helm_secret(
                    "prometheus", 1, chart_record()
                ),
                f"{PROMETHEUS}/status/buildinfo": prometheus({"version": "3.15.0"}),
                f"{PROMETHEUS}/targets": prometheus(
                    {"activeTargets": [target("appgate-app"), target("appgate-haproxy"), target("kubelet")]}
                ),
                f"{PROMETHEUS}/rules": alert_rules(
                    rule("AppgateDown", severity="critical"),
                    rule("KubePodCrashLooping"),
                    rule("Watchdog", "firing", "none"),
                ),
                f"{PROMETHEUS}/alertmanagers": prometheus(
                    {"activeAlertmanagers": [{"url": "http://10.200.128.4:9093/api/v2/alerts"}]}
                ),
                f"{PROMETHEUS}/query": builds,
                f"{PROMETHEUS}/query_range": traffic,
            }
        )
        for name in ("appgate", "kube-system", "prometheus", "shop"):
            self.answers[f"/api/v1/namespaces/{name}"] = {"metadata": meta(name)}
            for kind in ("deployments", "statefulsets", "daemonsets"):
                self.answers.setdefault(f"{apps}/{name}/{kind}", items())
            for kind in ("pods", "secrets", "services"):
                self.answers.setdefault(f"/api/v1/namespaces/{name}/{kind}", items())

    def without_monitoring(self) -> None:
        """A cluster that has none."""
        self.remove("/namespaces/prometheus")

    def remove(self, part: str) -> None:
        """Forget all answers whose path has this."""
        self.answers = {path: answer for path, answer in self.answers.items() if part not in path}

    def answer(self, path: str, query: dict[str, str], accept: str) -> tuple[int, dict[str, Any]]:
        """The answer to a request; labels are looked at, and content is left out where only metadata is wanted."""
        self.asked.append(path)
        found = self.answers.get(path)
        if found is None:
            return status(404, f"{path} not found")
        if callable(found):
            found = found(query)
        if isinstance(found, tuple):
            return found
        if query.get("labelSelector") and isinstance(found.get("items"), list):
            wanted = query["labelSelector"].split(",")
            found = items(*(item for item in found["items"] if all(_has(item, text) for text in wanted)))
        if "PartialObjectMetadata" in accept:
            found = items(*({"metadata": copy.deepcopy(item["metadata"])} for item in found["items"]))
        return 200, found


def _has(item: dict[str, Any], text: str) -> bool:
    name, equals, value = text.partition("=")
    labels = item["metadata"].get("labels") or {}
    return labels.get(name) == value if equals else name in labels


@contextmanager
def serve(recorded: Recorded, folder: Path) -> Iterator[Path]:
    """Serve a table of answers; gives the kubeconfig."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            code, body = recorded.answer(parts.path, query, self.headers.get("Accept", ""))
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield write_kubeconfig(folder, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def write_kubeconfig(folder: Path, server: str) -> Path:
    """A kubeconfig with one context."""
    path = folder / "kubeconfig.yaml"
    config = {
        "contexts": [{"name": CONTEXT, "context": {"cluster": "it", "user": "reader"}}],
        "clusters": [{"name": "it", "cluster": {"server": server}}],
        "users": [{"name": "reader", "user": {"token": "t0ken-not-for-a-page"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path
