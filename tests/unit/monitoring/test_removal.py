# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a removal takes away belongs to the release, and what doesn't keeps the namespace."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils import monitoring_cluster as live
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import Response


class Server:
    """An API server with volumes, and nothing else."""

    def __init__(self, **labels_of: dict[str, str]) -> None:
        self.items = [{"metadata": {"name": name, "labels": labels}} for name, labels in labels_of.items()]

    def call(self, _method: str, path: str, **_: Any) -> Response:
        items = self.items if path.endswith("/persistentvolumeclaims") else []
        return Response(200, json.dumps({"items": items}).encode())


def operators(kind: str, name: str) -> dict[str, str]:
    """The labels that the operator gives the volumes of one of its objects."""
    own = {"operator.prometheus.io/name": name} if kind == "prometheus" else {}
    return {
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "prometheus-operator",
        kind: name,
        **own,
    }


def two_releases() -> Server:
    return Server(
        metrics_of_a=operators("prometheus", "prometheus-kube-prometheus-prometheus"),
        silences_of_a=operators("alertmanager", "prometheus-kube-prometheus-alertmanager"),
        grafana_of_a={"app.kubernetes.io/instance": "prometheus", "app.kubernetes.io/name": "grafana"},
        metrics_of_b=operators("prometheus", "second-kube-prometheus-sta-prometheus"),
        silences_of_b=operators("alertmanager", "second-kube-prometheus-sta-alertmanager"),
        grafana_of_b={"app.kubernetes.io/instance": "second", "app.kubernetes.io/name": "grafana"},
        # Made without Helm, and called like the first release.
        metrics_by_hand=operators("prometheus", "prometheus"),
        silences_by_hand=operators("alertmanager", "prometheus"),
    )


def test_the_data_of_another_release_is_not_taken() -> None:
    server = two_releases()
    assert live.claims(server, "one", "prometheus") == ["grafana_of_a", "metrics_of_a", "silences_of_a"]  # type: ignore[arg-type]
    assert live.claims(server, "one", "second") == ["grafana_of_b", "metrics_of_b", "silences_of_b"]  # type: ignore[arg-type]


def test_the_data_of_another_release_keeps_the_namespace() -> None:
    found = live.others(two_releases(), "one", "second")  # type: ignore[arg-type]
    assert found == [
        *("persistentvolumeclaims/metrics_of_a", "persistentvolumeclaims/silences_of_a"),
        *("persistentvolumeclaims/grafana_of_a", "persistentvolumeclaims/metrics_by_hand"),
        "persistentvolumeclaims/silences_by_hand",
    ]
    own = Server(metrics=operators("prometheus", "second-kube-prometheus-sta-prometheus"))
    assert live.others(own, "one", "second") == []  # type: ignore[arg-type]
