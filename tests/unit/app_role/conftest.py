# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A node and an app that are played, beside a real API server."""

from __future__ import annotations

import http.server
import itertools
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import Cluster, connect
from ansible_collections.appgate.platform.plugins.module_utils.kube_transaction import Settings, Transaction

from tests.unit.app_role.fake_node import FakeNode
from tests.unit.control_plane import ControlPlane

GOOD = "registry.test/good@sha256:" + "a" * 64
HELLO = b"<h1 style='color:blue'>Hello! This is Appgate world!</h1>"


@pytest.fixture(scope="session")
def node(cluster: Cluster) -> Iterator[FakeNode]:
    """Pods fare as their image says."""
    with FakeNode(cluster) as fake:
        yield fake


@pytest.fixture
def app_server() -> Iterator[dict[str, Any]]:
    """What a request from outside meets: set `body` and `status`; its port is in `port`."""
    answer: dict[str, Any] = {"body": HELLO, "status": 200}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(answer["body"])))
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answer["port"] = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield answer
    finally:
        server.shutdown()
        server.server_close()


class Relay:
    """Passes requests on to the API server, but for those that `trouble` answers itself."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        #: Asked about each request by its method and path: None passes it on, 0 hangs up, another number is the answer.
        self.trouble: Callable[[str, str], int | None] = lambda method, path: None
        context = ssl.create_default_context(cafile=str(plane.authority.path))
        context.load_cert_chain(plane.folder / "admin.crt", plane.folder / "admin.key")
        pool = urllib3.PoolManager(ssl_context=context, retries=False, maxsize=16)
        relay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                trouble = relay.trouble(self.command, self.path)
                if trouble == 0:
                    self.close_connection = True
                    return
                status, date, answer = trouble or 0, "", b'{"message": "the API server is busy"}'
                if trouble is None:
                    headers = {name: self.headers[name] for name in ("Content-Type", "Accept") if self.headers[name]}
                    passed = pool.request(self.command, plane.server + self.path, body=body or None, headers=headers)
                    status, date, answer = passed.status, passed.headers["Date"], passed.data
                self.send_response_only(status)
                self.send_header("Date", date or self.date_time_string())
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return self.handle_any
                raise AttributeError(name)

            def log_message(self, format: str, *args: object) -> None:
                """Silent."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server.server_address[1]}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "relay", "context": {"cluster": "c", "user": "u"}}],
        }
        kubeconfig = folder / "relay.kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.client = connect(str(kubeconfig), "relay")


@pytest.fixture
def relay(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Relay]:
    """A way to the API server that can be disturbed."""
    found = Relay(control_plane, tmp_path)
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        found.server.server_close()


_numbers = itertools.count(1)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A name that no other test uses; whatever is made in it goes in the end."""
    name = f"test-{next(_numbers)}"
    yield name
    if cluster.get(f"/api/v1/namespaces/{name}"):
        cluster.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def transaction(cluster: Cluster, namespace: str) -> Callable[..., Transaction]:
    """A transaction of the release `demo` in that namespace; settings as keywords."""

    def make(client: Cluster = cluster, **settings: Any) -> Transaction:
        values = {"release": "demo", "namespace": namespace, "wait_timeout_seconds": 20.0, **settings}
        return Transaction(client, Settings(**values))

    return make


@pytest.fixture
def manifests(namespace: str) -> Callable[..., list[dict[str, Any]]]:
    """Namespace, ConfigMap, Service and Deployment of a small app."""

    def make(
        image: str = GOOD, *, replicas: int | None = 1, text: str = "one", port: int = 4000, **extra: Any
    ) -> list[dict[str, Any]]:
        labels = {"app": "demo"}
        spec: dict[str, Any] = {
            "progressDeadlineSeconds": 60,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": False,
                    "containers": [{"name": "main", "image": image, **extra}],
                    "terminationGracePeriodSeconds": 1,
                },
            },
        }
        if replicas is not None:
            spec["replicas"] = replicas
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"team": "web"}}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "demo"}, "data": {"text": text}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "demo"},
                "spec": {
                    "type": "LoadBalancer",
                    "selector": labels,
                    "ports": [{"name": "http", "port": port, "targetPort": 8080}],
                },
            },
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "demo"}, "spec": spec},
        ]

    return make
