# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A bundle is whole or refused, made again only where it differs, and put into the cache in whole things."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import bundle
from ansible_collections.appgate.platform.plugins.module_utils.bundle import BundleError, Item

ROOT = Path(__file__).resolve().parents[3]
PART = "parts/tool/v1.2.3-0123456789ab"
PROGRAM = b"#!/bin/sh\necho tool\n"


def quiet(text: str) -> None:
    """Nobody listens."""


def stock(folder: Path) -> list[Item]:
    """A cache with a part, a base and an image of one file, and some wheels."""
    part = folder / PART
    (part / "bin").mkdir(parents=True)
    (part / "bin" / "tool").write_bytes(PROGRAM)
    (part / "bin" / "tool").chmod(0o755)
    found = (part / "bin" / "tool").stat()
    content = {"bin/tool": {"sha256": "", "size": found.st_size, "mtime_ns": found.st_mtime_ns}}
    (part / "manifest.json").write_text(json.dumps({"source": "build", "go": "1.26.8", "content": content}))
    base = folder / "image/base/0123"
    (base / "rootfs" / "etc").mkdir(parents=True)
    (base / "rootfs" / "etc" / "hostname").write_text("base\n")
    subprocess.run(["tar", "-C", str(base / "rootfs"), "-cf", str(base / "base.tar"), "."], check=True)
    (base / "base.json").write_text("{}")
    (folder / "images").mkdir()
    (folder / "images" / "node-1.tar").write_bytes(b"image")
    (folder / "wheels").mkdir()
    (folder / "wheels" / "tool-1-py3-none-any.whl").write_bytes(b"wheel")
    items = bundle.files_below(part, f"cache/{PART}")
    items += bundle.files_below(base / "base.tar", "cache/image/base/0123/base.tar")
    items += bundle.files_below(base / "base.json", "cache/image/base/0123/base.json")
    items += bundle.files_below(folder / "images" / "node-1.tar", "cache/images/node-1.tar")
    return items + bundle.files_below(folder / "wheels", "wheels")


def about(**changes: Any) -> dict[str, Any]:
    return {
        "machine": bundle.this_machine(),
        "made_from": {"revision": "0123456789abcdef", "files": bundle.deciding_files(ROOT)},
        "packages": {},
        "images": {},
        "parts": {"tool": "v1.2.3"},
        "units": [PART, "image/base/0123", "images/node-1.tar"],
        **changes,
    }


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return stock(tmp_path / "stock")


@pytest.fixture
def made(tmp_path: Path, items: list[Item]) -> Path:
    assert bundle.make(tmp_path / "bundle", items, about(), quiet)
    return tmp_path / "bundle"


def install(made: Path, cache: Path) -> list[str]:
    manifest = bundle.read(made)
    bundle.check_fit(made, manifest, ROOT)
    missing = bundle.missing_units(manifest, cache)
    bundle.verify(made, manifest, quiet)
    bundle.require_space(made, manifest, missing, cache)
    for unit in missing:
        bundle.put(made, manifest, unit, cache)
    return [unit.path for unit in missing]


# --- making


def test_a_second_making_writes_nothing(made: Path, items: list[Item]) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert not bundle.make(made, items, about(), quiet)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_only_what_differs_is_copied_and_what_is_no_longer_wanted_goes(made: Path, items: list[Item]) -> None:
    said: list[str] = []
    items[-1].source.write_bytes(b"another wheel")
    kept = (made / f"cache/{PART}/bin/tool").stat().st_ino
    assert bundle.make(made, [item for item in items if "images/" not in item.name], about(), said.append)
    assert said == ["copying 1 of 1 files (0 MiB of 1 MiB)"]
    assert (made / items[-1].name).read_bytes() == b"another wheel"
    assert (made / f"cache/{PART}/bin/tool").stat().st_ino == kept
    assert not (made / "cache/images").exists()
    bundle.verify(made, bundle.read(made), quiet)


def test_an_interrupted_making_is_refused_and_repaired_by_another(
    tmp_path: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    copy = shutil.copyfile
    copied: list[str] = []

    def interrupted(source: Path, destination: Path) -> Path:
        copied.append(str(source))
        if len(copied) == 3:
            destination.write_bytes(b"ha")
            raise KeyboardInterrupt
        return Path(copy(source, destination))

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bundle.make(target, items, about(), quiet)
    monkeypatch.undo()
    with pytest.raises(BundleError, match=r"has no manifest\.json.*interrupted.*Run playbooks/bundle\.yml again"):
        bundle.read(target)
    bundle.check_target(target)
    assert bundle.make(target, items, about(), quiet)
    bundle.verify(target, bundle.read(target), quiet)
    assert not list(target.glob(".new-*"))


def test_places_where_no_bundle_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleError, match=r"^bundle_path='.*/file/below': .*/file is a file\. Give a directory"):
        bundle.check_target(tmp_path / "file" / "below")
    with pytest.raises(BundleError, match=r"it holds other things\. Give an empty or a new directory"):
        bundle.check_target(tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_directory_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write everywhere but to a file system that is read-only.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BundleError, match=r"this user may not write to .*Give another directory"):
        bundle.check_target(tmp_path / "new")


def test_a_disk_that_is_too_small_is_refused_before_the_first_byte(tmp_path: Path, items: list[Item]) -> None:
    with items[0].source.open("r+b") as stream:
        stream.truncate(1 << 43)  # no byte of it is on the disk
    with pytest.raises(BundleError, match=r"have to be written and .* are free\. Free some space there"):
        bundle.make(tmp_path / "bundle", items, about(), quiet)
    assert not [path for path in (tmp_path / "bundle").rglob("*") if path.is_file()]


# --- using


def test_what_is_in_a_bundle_comes_out_of_it(made: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert install(made, cache) == [PART, "image/base/0123", "images/node-1.tar"]
    assert (cache / PART / "bin/tool").read_bytes() == PROGRAM
    assert os.access(cache / PART / "bin/tool", os.X_OK)
    assert json.loads((cache / PART / "manifest.json").read_text())["bundled"] is True
    assert (cache / "image/base/0123/rootfs/etc/hostname").read_text() == "base\n"
    assert (cache / "images/node-1.tar").read_bytes() == b"image"
    assert install(made, cache) == []


@pytest.mark.parametrize(
    "name", [f"cache/{PART}/bin/tool", "cache/images/node-1.tar", "wheels/tool-1-py3-none-any.whl"]
)
@pytest.mark.parametrize("damage", ["bytes", "size", "missing", "link"])
def test_a_damaged_file_is_named_before_anything_is_changed(made: Path, tmp_path: Path, name: str, damage: str) -> None:
    path = made / name
    before = path.stat()
    content = path.read_bytes()
    path.unlink()
    if damage == "bytes":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif damage == "size":
        path.write_bytes(content[:-1])
    elif damage == "link":
        path.symlink_to("/etc/hostname")
    word = "damaged" if damage in ("bytes", "size") else "missing"
    with pytest.raises(BundleError, match=rf"^bundle_path='.*': {name} is {word}\. Copy the bundle again"):
        install(made, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "riscv64"}, "made for the architecture riscv64, and this machine is"),
        ({"release": "debian buzz"}, "its packages are for debian buzz, and this machine is"),
        ({"python": "3.8"}, r"its wheels are for Python 3\.8, and this is Python"),
    ],
)
def test_a_bundle_for_another_machine_is_refused(
    tmp_path: Path, items: list[Item], change: dict[str, str], says: str
) -> None:
    (tmp_path / "deb").write_bytes(b"deb")
    items.append(Item(tmp_path / "deb", "debs/tool.deb"))
    bundle.make(tmp_path / "bundle", items, about(machine={**bundle.this_machine(), **change}), quiet)
    with pytest.raises(BundleError, match=says):
        install(tmp_path / "bundle", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_another_release_is_fine_without_packages(tmp_path: Path, items: list[Item]) -> None:
    machine = {**bundle.this_machine(), "release": "debian buzz"}
    bundle.make(tmp_path / "bundle", items, about(machine=machine), quiet)
    assert install(tmp_path / "bundle", tmp_path / "cache")


def test_a_bundle_of_another_version_of_the_project_is_refused(tmp_path: Path, items: list[Item]) -> None:
    files = {**bundle.deciding_files(ROOT), "roles/sources/files/go/etcd/go.mod": "0" * 64}
    bundle.make(tmp_path / "bundle", items, about(made_from={"revision": "f" * 40, "files": files}), quiet)
    with pytest.raises(BundleError, match=r"revision ffffffffffff.*roles/sources/files/go/etcd/go\.mod differ"):
        install(tmp_path / "bundle", tmp_path / "cache")


def test_what_decides_is_there() -> None:
    names = set(bundle.deciding_files(ROOT))
    assert {"requirements/runtime.txt", "app/requirements.txt", "roles/image/files/prune.py"} <= names
    assert "roles/sources/files/go/etcd/go.mod" in names
    assert "roles/cluster/files/node-image/Containerfile" in names


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", r"manifest\.json is damaged"),
        ("[]", r"manifest\.json is damaged"),
        ('{"format": 99, "files": {}}', "it has the format 99, and this version of the project reads 1"),
        ('{"format": 1, "files": {"../etc/passwd": {}}}', r"names a file outside the bundle \(\.\./etc/passwd\)"),
        ('{"format": 1, "files": {"/etc/passwd": {}}}', "names a file outside the bundle"),
    ],
)
def test_a_manifest_that_is_none(made: Path, text: str, says: str) -> None:
    (made / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=says):
        bundle.read(made)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such directory"):
        bundle.read(tmp_path / "nowhere")


def test_an_interrupted_installation_is_repaired_by_another(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    copy = shutil.copyfile

    def interrupted(source: Path, destination: Path) -> Path:
        if source.name == "base.tar":
            destination.write_bytes(b"ha")
            raise KeyboardInterrupt
        return Path(copy(source, destination))

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install(made, cache)
    monkeypatch.undo()
    assert install(made, cache) == ["image/base/0123", "images/node-1.tar"]
    assert (cache / "image/base/0123/rootfs/etc/hostname").is_file()
    assert not list(cache.rglob(".new-*"))


def test_a_damaged_part_of_the_cache_is_put_there_again(made: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    install(made, cache)
    (cache / PART / "bin/tool").write_bytes(b"cut")
    assert install(made, cache) == [PART]
    assert (cache / PART / "bin/tool").read_bytes() == PROGRAM


def test_a_cache_on_a_full_disk_is_named(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(BundleError, match=r"^bundle_cache_dir='.*XDG_CACHE_HOME"):
        install(made, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_check_before_there_is_a_venv(made: Path) -> None:
    """It runs with nothing but Python's own library: -I -S leaves out every installed package."""

    def check(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", str(ROOT / "scripts/check_bundle.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = check(str(made))
    assert good.returncode == 0, good.stderr
    (made / "wheels/tool-1-py3-none-any.whl").write_bytes(b"spoilt")
    bad = check(str(made))
    assert bad.returncode == 1
    assert "wheels/tool-1-py3-none-any.whl is damaged" in bad.stderr
    assert check().returncode == 2
