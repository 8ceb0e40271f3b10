# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes without a way out: `auto` gives them nothing that they can't pull, and Grafana's images are copied for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_images as images
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import Cluster
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import resource_path

from tests.machine import run_module, serve_folder
from tests.unit.control_plane import ControlPlane
from tests.unit.monitoring.test_live import one_host
from tests.unit.monitoring.test_values import defaults
from tests.unit.registry import digest, publish, serve

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "plugins/modules/monitoring_images.py"
SIDECAR = {"registry": "quay.io", "repository": "kiwigrid/k8s-sidecar", "tag": "2.10.1", "digest": ""}
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: appgate.platform.monitoring
"""
Play = Callable[..., CompletedProcess[str]]


def given() -> dict[str, Any]:
    registry = {"monitoring_image_registry": "10.0.0.2:5000", "monitoring_image_registry_pull": ""}
    return {**defaults(), **registry}


def test_what_the_nodes_registry_has_is_not_copied() -> None:
    here = {"registry": "10.0.0.2:5000", "repository": "grafana/grafana", "tag": "13.2.0", "digest": ""}
    found = images.copies(given(), {"grafana": here, "grafana-sidecar": SIDECAR})
    assert {name: (item.source, item.delivery.push_name) for name, item in found.items()} == {
        "grafana-sidecar": ("quay.io/kiwigrid/k8s-sidecar:2.10.1", "10.0.0.2:5000/monitoring/grafana-sidecar:2.10.1")
    }


def test_an_image_that_is_given_by_digest_keeps_a_name() -> None:
    hashed = {"registry": "r.test", "repository": "a/b", "tag": "", "digest": f"sha256:{'1' * 64}"}
    found = images.copies(given(), {"grafana": hashed})["grafana"]
    assert found.source == f"r.test/a/b@sha256:{'1' * 64}"
    assert found.delivery.push_name == f"10.0.0.2:5000/monitoring/grafana:sha256-{'1' * 64}"


@pytest.mark.usefixtures("builder")
def test_a_published_image_comes_to_the_nodes_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(tmp_path / "public") as public, serve(tmp_path / "nodes") as nodes:
        # skopeo is told that the public registry is this one, as a company's machine would be.
        settings = tmp_path / ".config" / "containers" / "registries.conf"
        settings.parent.mkdir(parents=True)
        settings.write_text(f'[[registry]]\nprefix = "quay.io"\nlocation = "{public}"\ninsecure = true\n')
        monkeypatch.setenv("HOME", str(tmp_path))
        publish(f"{public}/kiwigrid/k8s-sidecar:2.10.1", tmp_path / "image")
        arguments = {"bin_dirs": {}, "cache_dir": str(tmp_path / "cache"), "registry": nodes, "plain_http": True}

        def copy(source: str) -> dict[str, Any]:
            return run_module(
                MODULE, {**arguments, "images": [{"name": "grafana-sidecar", "tag": "2.10.1", "source": source}]}
            )

        done = copy("quay.io/kiwigrid/k8s-sidecar:2.10.1")
        wanted = digest(f"{public}/kiwigrid/k8s-sidecar:2.10.1")
        assert done.get("references") == [f"{nodes}/monitoring/grafana-sidecar@{wanted}"], done
        assert digest(f"{nodes}/monitoring/grafana-sidecar:2.10.1") == wanted
        away = copy("127.0.0.1:1/kiwigrid/k8s-sidecar:2.10.1")
    assert away["failed"]
    for text in ("Copying 127.0.0.1:1/kiwigrid/k8s-sidecar:2.10.1 to", "monitoring_grafana to disabled"):
        assert text in away["msg"]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """A chart repository that answers."""
    place = tmp_path / "charts"
    place.mkdir()
    (place / "index.yaml").write_text("apiVersion: v1\nentries: {}\n")
    with serve_folder(place) as address:
        yield f"{address}/kube-prometheus-stack"


@pytest.fixture
def nodes_registry(tmp_path: Path) -> Iterator[str]:
    with serve(tmp_path / "nodes") as address:
        yield address


@pytest.fixture
def check(
    control_plane: ControlPlane, repository: str, nodes_registry: str, ansible_playbook: Play, tmp_path: Path
) -> Callable[..., str]:
    """What a first run says that it would do, on one line."""

    def run(**more: Any) -> str:
        more = {
            "monitoring_cache_dir": str(tmp_path / "cache"),
            "monitoring_chart_ref": repository,
            "monitoring_image_registry": nodes_registry,
            "monitoring_image_registry_plain_http": True,
            **more,
        }
        inventory = one_host(tmp_path, control_plane, "published", **more)
        done = ansible_playbook(PLAY, "--check", "-vv", inventory=inventory)
        return f"{done.returncode} " + " ".join((done.stdout + done.stderr).split())

    return run


def test_auto_takes_the_chart_whose_images_the_nodes_can_pull(check: Callable[..., str], cluster: Cluster) -> None:
    # The repository answers, so it is the one to take the chart from. It has none, and check mode ends there.
    assert "has no chart 'kube-prometheus-stack'" in check(monitoring_nodes_pull_published=True)
    said = check(monitoring_nodes_pull_published=False)
    assert said.startswith("0 "), said
    assert "from the embedded chart" in said
    assert not cluster.get(resource_path("v1", "namespaces", "", "published"))


@pytest.mark.usefixtures("builder")
def test_grafana_is_copied_for_nodes_that_pull_nothing_published(
    check: Callable[..., str], nodes_registry: str, tmp_path: Path
) -> None:
    alone = {"monitoring_nodes_pull_published": False}
    copied = "images are copied to the nodes' registry: grafana"
    # An image that this machine can pull, and the nodes can't.
    elsewhere = check(**alone, monitoring_grafana="enabled", monitoring_grafana_image="r.test/grafana/grafana:13.2.0")
    assert f"{copied}, grafana-sidecar" in elsewhere, elsewhere
    # Whoever names an image in the values means it; what is no mapping is the schema's to refuse.
    named = {"grafana": {"sidecar": {"image": {"registry": "r.test"}}}}
    assert f"{copied} " in check(**alone, monitoring_grafana="enabled", monitoring_values=named).replace('"', " ")
    refused = check(**alone, monitoring_grafana="enabled", monitoring_values={"grafana": {"sidecar": "no"}})
    assert "grafana.sidecar" in refused
    assert "Traceback" not in refused
    # What is there is used, and no public registry is asked.
    for name, tag in (("grafana", "13.2.0"), ("grafana-sidecar", "2.10.1")):
        publish(f"{nodes_registry}/monitoring/{name}:{tag}", tmp_path / name)
    there = check(**alone)
    assert copied not in there
    assert "15 Grafana password" in there, there
    wanted = digest(f"{nodes_registry}/monitoring/grafana-sidecar:2.10.1")
    assert wanted in there
