# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The cache: complete or absent, checked, pruned, and never fuller than the disk."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.sources import cache as cache_module
from ansible_collections.appgate.platform.plugins.module_utils.sources.cache import Cache, build_key, upstream_key
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import SourceError

from .support import ARCHIVE, TOOL, Publisher, TakerMaker, make_part, publish_tool


def test_the_key_names_everything_that_goes_into_a_build() -> None:
    part = make_part()
    same = build_key(part, "amd64", "1.26.8")
    assert same == build_key(make_part(), "amd64", "1.26.8")
    others = {
        build_key(make_part(go_mod="other"), "amd64", "1.26.8"),
        build_key(make_part(go_sum="other"), "amd64", "1.26.8"),
        build_key(make_part(ldflags="-s"), "amd64", "1.26.8"),
        build_key(part, "arm64", "1.26.8"),
        build_key(part, "amd64", "1.26.9"),
        upstream_key(part, "amd64"),
        upstream_key(part, "arm64"),
    }
    assert len(others) == 7
    assert same not in others


def test_a_damaged_program_is_taken_again(publisher: Publisher, taker: TakerMaker) -> None:
    publish_tool(publisher)
    program = Path(taker().take([make_part()]).bin["tool"], "tool")
    program.write_bytes(b"cut")
    assert taker().from_cache([make_part()]) is None
    assert taker().take([make_part()]).changed
    assert program.read_bytes() == TOOL


def test_damage_that_keeps_size_and_time_is_found_by_verify(publisher: Publisher, taker: TakerMaker) -> None:
    publish_tool(publisher)
    program = Path(taker().take([make_part()]).bin["tool"], "tool")
    before = program.stat()
    program.write_bytes(TOOL.replace(b"echo", b"exit"))
    os.utime(program, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert taker().from_cache([make_part()]) is not None
    assert taker(verify=True).from_cache([make_part()]) is None
    assert taker(verify=True).take([make_part()]).changed
    assert program.read_bytes() == TOOL
    assert not taker(verify=True).take([make_part()]).changed


def test_a_cache_that_was_copied_is_accepted_after_one_look(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    publish_tool(publisher)
    taker().take([make_part()])
    shutil.copytree(tmp_path / "cache", tmp_path / "copy", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy").rglob("tool"):
        os.utime(path, (1, 1))
    asked = len(publisher.gets(ARCHIVE))
    copy = str(tmp_path / "copy")
    assert taker(cache_dir=copy).from_cache([make_part()]) is None
    assert not taker(cache_dir=copy).take([make_part()]).changed
    assert taker(cache_dir=copy).from_cache([make_part()]) is not None
    assert len(publisher.gets(ARCHIVE)) == asked


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_manifest_counts_as_absent(publisher: Publisher, taker: TakerMaker, text: str) -> None:
    publish_tool(publisher)
    folder = Path(taker().take([make_part()]).bin["tool"]).parent
    (folder / "manifest.json").write_text(text)
    assert taker().take([make_part()]).changed
    assert taker().from_cache([make_part()]) is not None


def test_prune_removes_other_versions_but_none_that_is_running(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    publish_tool(publisher)
    home = tmp_path / "cache" / "parts" / "tool"
    for name in ("v1.0.0-old", "v1.1.0-running"):
        (home / name / "bin").mkdir(parents=True)
        shutil.copy("/bin/sleep", home / name / "bin" / "sleep")
    running = subprocess.Popen([home / "v1.1.0-running" / "bin" / "sleep", "60"])
    try:
        taker().take([make_part()])
        assert len(list(home.iterdir())) == 3
        planned = taker(prune=True).plan([make_part()])
        assert planned.would == [f"remove {home / 'v1.0.0-old'}"]
        assert taker(prune=True).from_cache([make_part()]) is None
        result = taker(prune=True).take([make_part()])
        assert result.changed
        assert result.pruned == [str(home / "v1.0.0-old")]
        assert taker(prune=True).from_cache([make_part()]) is not None
        assert (home / "v1.1.0-running").is_dir()
    finally:
        running.kill()
        running.wait()


def test_gos_caches_are_dropped_on_demand_unless_a_build_needs_them(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    publish_tool(publisher)
    taker().take([make_part()])
    read_only = tmp_path / "cache" / "go" / "mod" / "module"
    read_only.mkdir(parents=True)
    (read_only / "file").write_text("")
    read_only.chmod(0o555)
    with Cache(str(tmp_path / "cache")).go_cache_in_use():
        assert not taker(keep_build_cache=False).take([make_part()]).changed
    assert taker(keep_build_cache=False).plan([make_part()]).would == [
        f"remove Go's caches in {tmp_path / 'cache' / 'go'}"
    ]
    assert taker(keep_build_cache=False).take([make_part()]).changed
    assert not (tmp_path / "cache" / "go" / "mod").exists()
    assert taker(keep_build_cache=False).from_cache([make_part()]) is not None


def test_check_mode_says_what_would_come_from_where_and_writes_nothing(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    publish_tool(publisher)
    result = taker(mode="auto").plan([make_part(), make_part(name="built", upstream=None)])
    assert result.changed
    assert result.would == ["download tool v1.2.3", "build built v1.2.3"]
    assert result.bin["tool"] == taker().take([make_part()]).bin["tool"]
    shutil.rmtree(tmp_path / "cache")
    taker(mode="auto").plan([make_part()])
    assert not (tmp_path / "cache").exists()


def test_too_little_disk_is_refused_before_anything_is_taken(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    publish_tool(publisher)
    with pytest.raises(SourceError) as caught:
        taker(disk_reserve_mib=10**9).take([make_part()])
    said = str(caught.value)
    assert f"{tmp_path / 'cache'} has " in said
    assert "needs 1000000001 MiB" in said
    assert "sources_cache_dir" in said
    assert not publisher.gets(ARCHIVE)

    taker().take([make_part()])
    assert not taker(disk_reserve_mib=10**9).take([make_part()]).changed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_is_named_with_a_remedy(publisher: Publisher, taker: TakerMaker, small_disk: Path) -> None:
    publish_tool(publisher, os.urandom(3 << 20))
    with pytest.raises(SourceError, match=rf"The disk that holds {small_disk}/cache.* is full\. Free some space"):
        taker(cache_dir=str(small_disk / "cache")).take([make_part(upstream_mib=0)])
    part_file = list((small_disk / "cache" / "downloads").iterdir())
    assert [path.suffix for path in part_file] == [".part"]


def test_a_cache_that_may_not_be_written(taker: TakerMaker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"Cannot use .*file"):
        taker(cache_dir=str(tmp_path / "file" / "cache")).take([make_part()])


def test_a_process_runs_from_a_directory(tmp_path: Path) -> None:
    assert not cache_module.in_use(str(tmp_path))


def test_a_part_survives_being_written_down() -> None:
    part = make_part(files=("a", "b"))
    assert type(part).from_dict(part.to_dict()) == part
    bare = dataclasses.replace(part, upstream=None)
    assert type(part).from_dict(bare.to_dict()) == bare


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"bundled": False}, False),
        ({"go": "1.26.0"}, False),  # the name says that another Go has built it
        ({"source": "upstream"}, False),
    ],
)
def test_what_a_bundle_brought_is_taken_whichever_go_has_built_it(
    taker: TakerMaker, tmp_path: Path, change: dict[str, object], taken: bool
) -> None:
    part = make_part()
    folder = tmp_path / "cache" / "parts" / "tool" / f"v1.2.3-{build_key(part, 'amd64', '1.99.9')}"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "tool").write_bytes(TOOL)
    found = (folder / "bin" / "tool").stat()
    content = {
        "bin/tool": {
            "sha256": cache_module.sha256_of(str(folder / "bin" / "tool")),
            "size": found.st_size,
            "mtime_ns": found.st_mtime_ns,
        }
    }
    facts = {"part": "tool", "source": "build", "go": "1.99.9", "bundled": True, "content": content}
    cache_module.write_json(str(folder / "manifest.json"), {**facts, **change})
    for mode in ("auto", "build"):
        result = taker(mode=mode).from_cache([part])
        assert (result is not None) is taken
        if result is not None:
            assert result.bin == {"tool": str(folder / "bin")}
    # Who asks for the publisher's own gets nothing else.
    assert taker(mode="upstream").from_cache([part]) is None
