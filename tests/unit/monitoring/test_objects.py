# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What Helm doesn't do, where a cluster can't be made to show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import ApiError
from ansible_collections.appgate.platform.plugins.modules import monitoring_objects as objects


class BusyServer:
    """An API server that refuses the first requests."""

    def __init__(self, *refusals: int) -> None:
        self.refusals = list(refusals)
        self.applied = 0

    def call(self, *_: Any, **__: Any) -> None:
        if self.refusals:
            raise ApiError(self.refusals.pop(0), "Timeout", "request did not complete within requested timeout")
        self.applied += 1

    def get(self, _path: str) -> dict[str, Any]:
        return {"resources": [{"name": "prometheuses"}]}


def apply(server: BusyServer, directory: Path) -> list[str]:
    (directory / "one.yaml").write_text("kind: CustomResourceDefinition\nmetadata: {name: one}\n")
    given = {"crds_dir": str(directory), "crds_content": "1", "namespace": "a", "release": "b", "timeout_seconds": 60}
    return objects.apply_crds(server, given)  # type: ignore[arg-type]


def test_a_busy_api_server_is_asked_again(tmp_path: Path) -> None:
    server = BusyServer(504, 429)
    assert apply(server, tmp_path) == ["1 CRDs"]
    assert server.applied == 1


def test_a_refusal_is_none_to_wait_for(tmp_path: Path) -> None:
    with pytest.raises(ApiError):
        apply(BusyServer(403), tmp_path)
