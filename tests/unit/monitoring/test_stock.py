# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a bundle takes for monitoring is named without a cluster, the published chart included where it is chosen."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_images as images
from ansible_collections.appgate.platform.plugins.module_utils.helm_chart import Source

from tests.machine import serve_folder

PLAY = """
- hosts: all
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"
    monitoring_chart_source: {source}
    monitoring_chart_ref: {ref}
    monitoring_chart_version: 1.2.3
    monitoring_chart_plain_http: {plain_http}
  tasks:
    - appgate.platform.monitoring_stock:
        cache_dir: {cache}
      register: stock
    - ansible.builtin.copy:
        content: "{{{{ stock | to_json }}}}"
        dest: {cache}.json
        mode: "0600"
"""


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """A chart repository with one chart."""
    place = tmp_path / "repository"
    place.mkdir()
    with tarfile.open(place / "shop-1.2.3.tgz", "w:gz") as archive:
        text = b"apiVersion: v2\nname: shop\nversion: 1.2.3\n"
        member = tarfile.TarInfo("shop/Chart.yaml")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    index = {"apiVersion": "v1", "entries": {"shop": [{"version": "1.2.3", "urls": ["shop-1.2.3.tgz"]}]}}
    (place / "index.yaml").write_text(yaml.safe_dump(index))
    with serve_folder(place) as address:
        yield address


def test_what_monitoring_takes(
    repository: str, tmp_path: Path, ansible_playbook: Callable[..., CompletedProcess[str]]
) -> None:
    cache = tmp_path / "cache"
    ref = f"{repository}/shop"
    places = {}
    for source in ("auto", "upstream"):
        done = ansible_playbook(PLAY.format(source=source, ref=ref, cache=cache, plain_http=False))
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(Path(f"{cache}.json").read_text())
        assert found["parts"] == [
            *("alertmanager", "helm", "kube-state-metrics", "node-exporter", "prometheus", "prometheus-operator"),
        ]
        assert {image["name"] for image in found["images"]} == {image.name for image in images.IMAGES}
        places[source] = found["stock"]["paths"]
    chart = Source(ref, "1.2.3", cache / "charts").cached()
    assert chart.is_file()
    assert dict(places["upstream"].items() - places["auto"].items()) == {f"monitoring/charts/{chart.name}": str(chart)}
    gone = ansible_playbook(PLAY.format(source="upstream", ref=f"{ref}s", cache=cache, plain_http=False))
    assert gone.returncode == 2
    assert "monitoring_chart_ref: " in gone.stdout


@pytest.mark.parametrize(
    ("switch", "says"), [("false", "Give an address that is in reach"), ("true", "there is no oci://")]
)
def test_a_switch_from_the_command_line_is_a_text(
    repository: str, tmp_path: Path, ansible_playbook: Callable[..., CompletedProcess[str]], switch: str, says: str
) -> None:
    # The repository speaks HTTP without TLS, and holds no image: what is said shows how it was asked.
    ref = f"oci://{repository.removeprefix('http://')}/shop"
    play = PLAY.format(source="upstream", ref=ref, cache=tmp_path / "cache", plain_http=f"'{switch}'")
    done = ansible_playbook(play)
    assert done.returncode == 2
    assert says in done.stdout, done.stdout
