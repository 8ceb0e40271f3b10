# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""How a Service is reached from outside the cluster, and whether it answers there as it should."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from ansible_collections.appgate.platform.plugins.module_utils import kube_objects as objects
from ansible_collections.appgate.platform.plugins.module_utils import kube_rollout as rollout
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    AccessError,
    ApiError,
    Cluster,
    is_timeout,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import Manifest, ObjectId


@dataclass(frozen=True)
class Probe:
    """A request that must be answered before a deploy counts."""

    service: str = ""
    port: str = ""
    path: str = "/"
    scheme: str = "http"
    host: str = ""
    status: int = 200
    text: str = ""
    url: str = ""
    timeout_seconds: float = 30.0


class Outside:
    """Looks at the Services of one namespace from where this runs."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._http = urllib3.PoolManager(retries=False)

    def ask(self, probe: Probe, live: Mapping[ObjectId, Manifest]) -> tuple[str, str]:
        """One request. Returns where it went and, unless all is well, what was wrong."""
        url = probe.url
        service = next(
            (item for key, item in live.items() if key.kind == "Service" and key.name == probe.service), None
        )
        if not url and service is not None:
            url = self._outside_url(probe, service)
        if url:
            headers = {"Host": probe.host} if probe.host else {}
            try:
                answer = self._http.request("GET", url, headers=headers, redirect=False, timeout=3.0)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if is_timeout(error):
                    return f"GET {url}", "did not answer within 3 s"
                reason = "the connection was refused" if "refused" in str(error) else str(error).rpartition(": ")[2]
                return f"GET {url}", f"could not be reached ({reason})"
            return f"GET {url}", _judge(probe, answer.status, answer.data)
        # No address outside the cluster: the API server passes the request on.
        path = objects.resource_path("v1", "services", self.namespace)
        path += f"/{probe.scheme}:{probe.service}:{probe.port}/proxy{probe.path}"
        where = f"GET {self.cluster.entry.server}{path}"
        try:
            answer_ = self.cluster.call("GET", path, timeout_seconds=5.0)
        except ApiError as error:
            return where, f"got {error.status}: {rollout.clean_line(error.message)[:200]}"
        except AccessError as error:
            return where, f"failed: {error}"
        return where, _judge(probe, answer_.status, answer_.body)

    def services(self, wanted: Iterable[Manifest], live: Mapping[ObjectId, Manifest]) -> dict[str, dict[str, Any]]:
        """How each wanted Service is reached."""
        found: dict[str, dict[str, Any]] = {}
        for manifest in wanted:
            item = live.get(objects.object_id(manifest))
            if manifest["kind"] == "Service" and item:
                found[str(manifest["metadata"]["name"])] = described = describe_service(item)
                node_port = next((port["node_port"] for port in described["ports"]), 0)
                if described["type"] == "NodePort" and node_port:
                    address = self._node_address()
                    described["url"] = f"http://{_bracket(address)}:{node_port}/" if address else ""
        return found

    def _outside_url(self, probe: Probe, service: Manifest) -> str:
        described = describe_service(service)
        port = next((item for item in described["ports"] if probe.port in (item["name"], str(item["port"]))), None)
        if port is None or not described["addresses"]:
            return ""
        return f"{probe.scheme}://{_bracket(described['addresses'][0])}:{port['port']}{probe.path}"

    def _node_address(self) -> str:
        """An address of some node, where this user may know it."""
        try:
            nodes = self.cluster.call("GET", "/api/v1/nodes", query={"limit": "10"}).json().get("items") or []
        except ApiError:
            return ""
        addresses = [address for node in nodes for address in (node.get("status") or {}).get("addresses") or []]
        for kind in ("ExternalIP", "InternalIP"):
            for address in addresses:
                if address.get("type") == kind:
                    return str(address["address"])
        return ""


def describe_service(service: Mapping[str, Any]) -> dict[str, Any]:
    """Type, addresses outside the cluster, and ports of a live service."""
    spec = service.get("spec") or {}
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    addresses = [
        str(item.get("ip") or item.get("hostname")) for item in ingress if item.get("ip") or item.get("hostname")
    ]
    numbers = [int(port["port"]) for port in spec.get("ports") or []]
    return {
        "url": f"http://{_bracket(addresses[0])}:{numbers[0]}/" if addresses and numbers else "",
        "type": str(spec.get("type", "ClusterIP")),
        "cluster_ip": str(spec.get("clusterIP", "")),
        "addresses": addresses,
        "ports": [
            {"name": str(port.get("name", "")), "port": int(port["port"]), "node_port": int(port.get("nodePort") or 0)}
            for port in spec.get("ports") or []
        ],
    }


def lacks_address(service: Mapping[str, Any]) -> bool:
    """Whether a load balancer is still to be given its address."""
    described = describe_service(service)
    return described["type"] == "LoadBalancer" and not described["addresses"]


def _judge(probe: Probe, status: int, body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    start = rollout.clean_line(text)[:160]
    if status != probe.status:
        return f"answered {status} where {probe.status} was expected: {start}"
    if probe.text and probe.text not in text:
        return f"answered without {probe.text!r} in it: {start}"
    return ""


def _bracket(address: str) -> str:
    return f"[{address}]" if ":" in address else address
