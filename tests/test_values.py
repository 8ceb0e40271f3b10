# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong in any case is told by site.yml before it makes or builds anything for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.haproxy.support import HAPROXY

INVENTORY = {
    "embedded": {"hosts": {"never-made": {"cluster_address_block": "10.219.0.0/16"}}},
    "existing": {"hosts": {}},
}


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("app_replicas", 0, "app_replicas (set in <CLI option '-e'>): 0 must be a whole number from 1"),
        ("app_gunicorn_memory_request", "999Gi", "app_gunicorn_memory_request"),
        ("haproxy_timeout_client", 150, "haproxy_timeout_client is 150, which is a time without a unit"),
        pytest.param(
            "haproxy_extra",
            "balanse roundrobin",
            "haproxy_extra line 1 (<CLI option '-e'>): \"balanse roundrobin\"",
            marks=pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed on this machine"),
        ),
        ("image_registy", "x", "image_registry"),
        ("image_registry", "", "image_registry is set in <CLI option '-e'>"),
        ("image_dockerfile", "/nowhere", "image_dockerfile is set in <CLI option '-e'>"),
        ("sources_mode", "compile", 'sources_mode is "compile", which must be one of auto, upstream, build'),
        ("sources_mirrorr", "x", "sources_mirrorr is not a variable of the role sources"),
        ("monitoring_retentoin", "6h", "monitoring_retention"),
        ("monitoring_retention", "6", "monitoring_retention (set in <CLI option '-e'>)"),
        ("monitoring_receivers", [{"name": "chat", "type": "slack"}], "monitoring_receivers"),
        ("observability_scrape_intervall_seconds", 5, "observability_scrape_interval_seconds"),
    ],
)
def test_a_wrong_value_is_refused_before_there_is_a_cluster(
    run_inventory: Any, variable: str, value: object, says: str
) -> None:
    done = run_inventory("site.yml", INVENTORY, "--extra-vars", json.dumps({variable: value}))
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert variable in said
    assert says in said
    assert "Make the embedded clusters" not in said
    assert not Path("/var/lib/appgate/clusters/never-made").exists()


@pytest.mark.parametrize("variable", ["image_dockerfile", "image_registry"])
def test_what_no_image_can_be_made_of_is_refused_before_its_base_is_made(
    run_inventory: Any, tmp_path: Path, variable: str
) -> None:
    values = {variable: "", "image_cache_dir": str(tmp_path / "cache")}
    if variable == "image_dockerfile":
        values[variable] = "/nowhere"
    done = run_inventory("playbooks/image.yml", INVENTORY, "--extra-vars", json.dumps(values))
    assert done.returncode != 0
    assert f"{variable} is set in <CLI option '-e'>" in " ".join((done.stdout + done.stderr).split())
    assert "changed=0" in done.stdout
    assert not (tmp_path / "cache").exists()


def test_a_wrong_value_for_the_parts_is_refused_before_a_package_is_installed(run_inventory: Any) -> None:
    done = run_inventory("playbooks/cluster.yml", INVENTORY, "--extra-vars", "sources_mirrorr=x")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "sources_mirrorr is not a variable of the role sources" in said
    assert "Install what the nodes take" not in said
