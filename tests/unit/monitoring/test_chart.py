"""The embedded chart: Helm and helm-unittest look at it."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_images as images
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_values as values
from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError

from tests.parts import program

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "monitoring"
SOURCES = ROOT / "roles" / "sources"


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_helm_lint() -> None:
    run(program("helm", "helm"), "lint", "--strict", str(CHART))


def test_helm_unittest() -> None:
    run(program("helm-unittest", "helm-unittest"), str(CHART))


def test_two_renderings_are_the_same() -> None:
    command = [program("helm", "helm"), "template", "prometheus", str(CHART), "--namespace=prometheus"]
    first = run(*command)
    assert run(*command) == first
    objects = [item for item in yaml.safe_load_all(first) if item]
    assert len(
        {(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects}
    ) == len(objects)
    for item in objects:
        assert item["metadata"]["labels"]["release"] == "prometheus", item["metadata"]["name"]


def test_defaults_name_the_versions_that_are_built() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert values["prometheus"]["prometheusSpec"]["version"] == images.version(SOURCES, "prometheus")
    assert values["alertmanager"]["alertmanagerSpec"]["version"] == images.version(SOURCES, "alertmanager")


def test_an_image_is_named_by_what_it_is_made_of(tmp_path: Path) -> None:
    def tags(name: str, **how: bool) -> dict[str, str]:
        # What is read is remembered by its directory.
        role = shutil.copytree(SOURCES, tmp_path / name)
        if name in edits:
            edits[name](role)
        return {image.name: images.tag(role, image, **how) for image in images.IMAGES}

    def append(role: Path) -> None:
        with (role / "files/go/prometheus/go.sum").open("a") as stream:
            stream.write("more\n")

    def flags(role: Path) -> None:
        path = role / "vars/catalog.yml"
        path.write_text(path.read_text().replace("tag: builtinassets", "tag: others"))

    edits = {"go.sum": append, "flags": flags}
    before = tags("same")
    assert len(set(before.values())) == len(images.IMAGES)
    assert before == {image.name: images.tag(SOURCES, image) for image in images.IMAGES}
    for after in (tags("go.sum"), tags("flags"), tags("no pages", pages=False)):
        assert {name for name in before if before[name] != after[name]} == {"prometheus"}


def test_an_image_holds_its_program_and_little_else(tmp_path: Path) -> None:
    source = tmp_path / "prometheus"
    source.write_bytes(b"program")
    images.lay_out(tmp_path / "context", images.Image("prometheus", "prometheus", "prometheus"), source)
    files = sorted(
        path.relative_to(tmp_path / "context").as_posix()
        for path in (tmp_path / "context").rglob("*")
        if path.is_file()
    )
    assert files == [
        "Containerfile",
        "rootfs/bin/prometheus",
        "rootfs/etc/group",
        "rootfs/etc/nsswitch.conf",
        "rootfs/etc/passwd",
        "rootfs/etc/ssl/certs/ca-certificates.crt",
    ]
    assert "USER 65534:65534" in (tmp_path / "context" / "Containerfile").read_text()


def references(node: Any) -> list[str]:
    """Every image that an object names: in an `image:` field, or in a flag of the operator."""
    if isinstance(node, dict):
        own = [value for key, value in node.items() if key == "image" and isinstance(value, str)]
        return own + [text for value in node.values() for text in references(value)]
    if isinstance(node, list):
        return [text for item in node for text in references(item)]
    flag = re.fullmatch(r"--[\w-]+=(\S+/\S+[:@]\S+)", node) if isinstance(node, str) else None
    return [flag.group(1)] if flag and "://" not in flag.group(1) else []


@pytest.mark.parametrize("mirror", ["mirror.example.com", "mirror.example.com:5000/some/where"])
def test_one_variable_points_every_image_at_a_mirror(mirror: str, tmp_path: Path) -> None:
    given = {
        **yaml.safe_load((ROOT / "roles/monitoring/defaults/main.yml").read_text(encoding="utf-8")),
        "monitoring_cluster_name": "one",
        "monitoring_image_registry": "registry.example.com:5000/own",
        "monitoring_image_registry_pull": "nodes.example.com:5000/own",
        "monitoring_image_mirror": mirror,
    }
    wanted = images.deliveries(SOURCES, given)
    assert {delivery.registry for delivery in wanted.values()} == {mirror}
    digests = dict.fromkeys(wanted, f"sha256:{'0' * 64}")
    merged = values.build(
        given,
        embedded=True,
        images=images.as_values(wanted, digests, mirror=True),
        versions={name: images.version(SOURCES, name) for name in ("prometheus", "alertmanager")},
        scraped={},
        grafana=True,
    )
    (tmp_path / "values.yml").write_text(yaml.safe_dump(merged), encoding="utf-8")
    text = run(program("helm", "helm"), "template", "prometheus", str(CHART), f"--values={tmp_path}/values.yml")
    found = {name for item in yaml.safe_load_all(text) for name in references(item)}
    assert found == {
        *(f"{mirror}/monitoring/{image.name}@{digests[image.name]}" for image in images.IMAGES),
        *(f"{mirror}/{name}" for name in ("grafana/grafana:13.2.0", "kiwigrid/k8s-sidecar:2.10.1")),
    }
    # No other place of the text names a registry: the defaults' are all gone.
    assert not re.search(r"quay\.io|docker\.io|registry\.k8s\.io|nodes\.example|registry\.example", text)


@pytest.fixture
def mirror() -> Iterator[tuple[str, set[str]]]:
    """A registry that has what is put into the set."""
    there: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            found = self.path in there and "image.index" in self.headers["Accept"]
            self.send_response(200 if found else 404)
            self.send_header("Docker-Content-Digest", f"sha256:{'0' * 64}")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output to what failed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", there
        server.shutdown()


def test_grafana_is_looked_for_in_the_mirror(mirror: tuple[str, set[str]]) -> None:
    address, there = mirror
    given = {
        **yaml.safe_load((ROOT / "roles/monitoring/defaults/main.yml").read_text(encoding="utf-8")),
        "monitoring_image_registry_plain_http": True,
        "monitoring_image_mirror": f"{address}/all",
    }
    grafana = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["grafana"]
    published = [grafana["image"], grafana["sidecar"]["image"]]
    there.add("/v2/all/grafana/grafana/manifests/13.2.0")
    assert not images.mirrored(given, published)
    there.add("/v2/all/kiwigrid/k8s-sidecar/manifests/2.10.1")
    assert images.mirrored(given, published)


def test_a_mirror_out_of_reach_is_named_by_its_variable() -> None:
    given = {
        **yaml.safe_load((ROOT / "roles/monitoring/defaults/main.yml").read_text(encoding="utf-8")),
        "monitoring_image_registry_plain_http": True,
        "monitoring_image_mirror": "127.0.0.1:1",
    }
    with pytest.raises(ImageError, match=r"^monitoring_image_mirror='127\.0\.0\.1:1' cannot be reached"):
        images.find(images.deliveries(SOURCES, given), mirror=True)
