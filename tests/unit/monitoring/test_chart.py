"""The embedded chart: Helm, helm-unittest and promtool look at it, where they are in the cache."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_images as images

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "monitoring"
GO = ROOT / "roles" / "sources" / "files" / "go"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appgate" / "parts"


def program(part: str, name: str) -> str:
    found = sorted(CACHE.glob(f"{part}/*/bin/{name}"), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.skip(f"{name} is not in {CACHE}: a run of playbooks/monitoring.yml brings it")
    return str(found[-1])


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_helm_lint() -> None:
    run(program("helm", "helm"), "lint", "--strict", str(CHART))


def test_helm_unittest() -> None:
    run(program("helm-unittest", "helm-unittest"), str(CHART))


def test_rules_are_taken_by_promtool() -> None:
    run(program("prometheus", "promtool"), "check", "rules", *map(str, sorted((CHART / "files/rules").glob("*.yaml"))))


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
    assert values["prometheus"]["prometheusSpec"]["version"] == images.version(GO, "prometheus")
    assert values["alertmanager"]["alertmanagerSpec"]["version"] == images.version(GO, "alertmanager")


def test_an_image_is_named_by_what_it_is_made_of(tmp_path: Path) -> None:
    for part in {image.part for image in images.IMAGES}:
        (tmp_path / part).mkdir()
        for name in ("go.mod", "go.sum"):
            (tmp_path / part / name).write_bytes((GO / part / name).read_bytes())
    before = {image.name: images.tag(tmp_path, image) for image in images.IMAGES}
    assert len(set(before.values())) == len(images.IMAGES)
    assert before == {image.name: images.tag(GO, image) for image in images.IMAGES}
    with (tmp_path / "prometheus" / "go.sum").open("a") as stream:
        stream.write("more\n")
    after = {image.name: images.tag(tmp_path, image) for image in images.IMAGES}
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
