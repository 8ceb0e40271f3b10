# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The tag follows from the inputs and from nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import image_work
from ansible_collections.appgate.platform.plugins.module_utils.image_base import Base, check_base_choice, pack
from ansible_collections.appgate.platform.plugins.module_utils.image_build import (
    Plan,
    context_files,
    make_plan,
    normalize,
)
from ansible_collections.appgate.platform.plugins.module_utils.image_work import (
    ImageError,
    fresh_directory,
    locked,
    require_space,
    run,
)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    (directory / "src" / "__pycache__").mkdir(parents=True)
    (directory / "Dockerfile").write_text("FROM scratch\n")
    (directory / "src" / "a.py").write_text("a = 1\n")
    (directory / "src" / "__pycache__" / "a.pyc").write_text("x")
    (directory / "notes.txt").write_text("not part of it\n")
    (directory / ".dockerignore").write_text("*\n!src\n!Dockerfile\n**/*.pyc\n")
    return directory


def plan(context: Path, /, **changes: Any) -> Plan:
    arguments: dict[str, Any] = {
        "context": context,
        "dockerfile": context / "Dockerfile",
        "name": "appgate",
        "base": "bootstrap",
        "base_id": "0" * 64,
        "haproxy_config": "",
        "build_args": {},
        "python_version": "3.13",
        "cache_dir": context.parent / "cache",
    }
    return make_plan(**{**arguments, **changes})


def test_same_inputs_same_tag(context: Path, tmp_path: Path) -> None:
    first = plan(context).tag
    assert plan(context).tag == first
    os.utime(context / "src" / "a.py", (1, 1))
    assert plan(context).tag == first, "a time stamp is no input"
    (context / "notes.txt").write_text("changed\n")
    assert plan(context).tag == first, "what .dockerignore leaves out is no input"
    moved = context.rename(tmp_path / "elsewhere")
    assert plan(moved).tag == first, "the place of the checkout is no input"


@pytest.mark.parametrize(
    "change",
    [
        {"base_id": "1" * 64},
        {"base": "pull"},
        {"haproxy_config": "global\n"},
        {"build_args": {"VERSION": "2"}},
        {"python_version": "3.14"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_input_changes_the_tag(context: Path, change: dict[str, Any]) -> None:
    assert plan(context, **change).tag != plan(context).tag


def test_files_change_the_tag(context: Path) -> None:
    tags = {plan(context).tag}
    (context / "src" / "a.py").write_text("a = 2\n")
    tags.add(plan(context).tag)
    (context / "src" / "a.py").chmod(0o755)
    tags.add(plan(context).tag)
    (context / "src" / "b.py").touch()
    tags.add(plan(context).tag)
    (context / "Dockerfile").write_text("FROM scratch\nUSER 1\n")
    tags.add(plan(context).tag)
    assert len(tags) == 5


def test_a_plan_survives_its_way_through_ansible(context: Path) -> None:
    made = plan(context, haproxy_config="global\n")
    assert Plan.from_dict(json.loads(json.dumps(dataclasses.asdict(made)))) == made


def test_dockerignore(tmp_path: Path) -> None:
    for name in ("a.py", "b/c.py", "b/d.txt", "b/e/f.pyc", "docs/x.md", "docs/keep.md", ".git/config"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / ".dockerignore").write_text("# comment\n\n**/*.pyc\ndocs\n!docs/keep.md\n/b/?.txt\n.dockerignore\n")
    assert [path.as_posix() for path in context_files(tmp_path)] == ["a.py", "b/c.py", "docs/keep.md"]


def test_revision_is_the_last_commit_of_the_context(context: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=context.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert plan(context).revision == "unknown"
    git("init", "-q")
    git("add", "context")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    assert plan(context).revision == commit
    (context.parent / "other").touch()
    git("add", "other")
    git("commit", "-qm", "two")
    assert plan(context).revision == commit, "a commit elsewhere is not this image's"
    (context / "src" / "a.py").write_text("a = 3\n")
    assert plan(context).revision == f"{commit}-modified"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Appgate"}, "image_name='Appgate'"),
        ({"name": "appgate:latest"}, "no tag"),
        ({"name": ""}, "image_name=''"),
        ({"context": Path("/nowhere/app")}, "image_context='/nowhere/app' is no directory"),
        ({"dockerfile": Path("/nowhere/Dockerfile")}, "image_dockerfile='/nowhere/Dockerfile' is no file"),
    ],
)
def test_wrong_inputs_are_named(context: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message.replace("(", r"\(")):
        plan(context, **change)


@pytest.mark.parametrize("choice", ["debian", "debian:trixie", "", "pulled", "debian@sha256:12"])
def test_a_base_without_a_digest_is_refused(choice: str) -> None:
    with pytest.raises(ImageError, match="image_base="):
        check_base_choice(choice)


def test_known_bases() -> None:
    for choice in ("auto", "bootstrap", "pull", f"docker.io/library/debian:trixie@sha256:{'a' * 64}"):
        check_base_choice(choice)


def test_a_base_that_is_not_whole_is_not_found(tmp_path: Path) -> None:
    prune = tmp_path / "prune.py"
    prune.touch()
    base = Base("trixie", ("deb http://x {suite} main",), ("haproxy",), prune)
    assert base.sources() == ["deb http://x trixie main"]
    assert base.find(tmp_path) is None
    directory = tmp_path / "base" / base.key
    (directory / "rootfs").mkdir(parents=True)
    (directory / "base.tar").write_bytes(b"12345")
    assert base.find(tmp_path) is None
    image_work.write_json(directory / "base.json", {"sha256": "x", "bytes": 5})
    assert base.find(tmp_path) is not None
    (directory / "base.tar").write_bytes(b"123")
    assert base.find(tmp_path) is None
    assert dataclasses.replace(base, suite="forky").key != base.key


def test_pack_depends_on_content_alone(tmp_path: Path) -> None:
    sums = []
    for name, stamp in (("one", 2_000_000_000), ("two", 2_100_000_000)):
        root = tmp_path / name
        (root / "etc").mkdir(parents=True)
        (root / "etc" / "b").write_text("b")
        (root / "etc" / "a").write_text("a")
        (root / "link").symlink_to("etc/a")
        os.utime(root / "etc" / "a", (stamp, stamp))
        pack(root, tmp_path / f"{name}.tar", 1_700_000_000)
        sums.append(image_work.sha256_file(tmp_path / f"{name}.tar"))
    assert sums[0] == sums[1]
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert archive.getnames() == ["etc", "etc/a", "etc/b", "link"]
        assert {member.uid for member in archive} == {0}


def test_what_differs_in_every_build_is_taken_out(tmp_path: Path) -> None:
    digests = []
    for host in ("aaa", "bbb"):
        directory = tmp_path / host
        directory.mkdir()
        config = json.dumps({"container": host, "config": {"Hostname": host, "User": "1"}, "history": []}).encode()
        digest = hashlib.sha256(config).hexdigest()
        (directory / digest).write_bytes(config)
        manifest = {"config": {"digest": f"sha256:{digest}", "size": len(config)}, "layers": []}
        (directory / "manifest.json").write_text(json.dumps(manifest))
        digests.append(normalize(directory))
        assert len(list(directory.iterdir())) == 2
    assert digests[0] == digests[1]


def test_a_directory_takes_its_name_only_when_whole(tmp_path: Path) -> None:
    final = tmp_path / "images" / "tag"
    (tmp_path / "images" / ".new-left").mkdir(parents=True)
    with contextlib.suppress(RuntimeError), fresh_directory(final) as directory:
        (directory / "half").touch()
        raise RuntimeError
    assert list((tmp_path / "images").iterdir()) == []
    with fresh_directory(final) as directory:
        (directory / "whole").touch()
    assert (final / "whole").exists()


def test_too_little_space_is_said_before_the_build(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="image_min_free_mib=999999999 are needed"):
        require_space(tmp_path / "not" / "yet", 999_999_999)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="image_cache_dir="), locked(tmp_path / "file" / "x", 1):
        pass


def test_builders_wait_for_each_other(tmp_path: Path) -> None:
    events: list[str] = []
    enough = threading.Event()

    def first() -> None:
        with locked(tmp_path, 10):
            events.append("first in")
            enough.wait(10)
            events.append("first out")

    thread = threading.Thread(target=first)
    thread.start()
    while not events:
        time.sleep(0.01)
    with pytest.raises(ImageError, match="Another build"), locked(tmp_path, 0.05):
        pass
    enough.set()
    with locked(tmp_path, 10):
        events.append("second in")
    thread.join()
    assert events == ["first in", "first out", "second in"]


def test_a_program_that_outlives_a_killed_run_still_holds_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path, 1):
        run(["sh", "-c", "sleep 1 >/dev/null 2>&1 &"], timeout_seconds=5, what="Leaving a child behind")
    with pytest.raises(ImageError, match="Another build"), locked(tmp_path, 0.1):
        pass
    with locked(tmp_path, 10):
        pass


def test_a_failed_program_is_quoted() -> None:
    with pytest.raises(ImageError, match=r"(?s)Trying: sh ended with 3:.*the reason"):
        run(["sh", "-c", "echo the reason >&2; exit 3"], timeout_seconds=5, what="Trying")
    with pytest.raises(ImageError, match="image_cache_dir"):
        run(["sh", "-c", "echo write: No space left on device; exit 1"], timeout_seconds=5, what="Trying")


def test_a_timeout_ends_the_children_too(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"echo $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 60"
    with pytest.raises(ImageError, match="image_timeout_seconds"):
        run(["sh", "-c", f"sh -c '{child}' & wait"], timeout_seconds=1, what="Waiting")
    end = time.monotonic() + 10
    while Path(f"/proc/{mark.read_text().strip()}").exists():
        assert time.monotonic() < end, "the child lives on"
        time.sleep(0.01)


def test_old_images_are_forgotten(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        os.utime(tmp_path / str(number), (number, number))
    image_work.forget_old(tmp_path, tmp_path / "0", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3", "4"]


#: What os-release says, and whether that release's buildah looks for netavark.
RELEASES = {
    "Debian 12": ({"ID": "debian", "VERSION_ID": "12"}, False),
    "Debian 13": ({"ID": "debian", "VERSION_ID": "13"}, True),
    "Debian's testing": ({"ID": "debian"}, True),
    "Ubuntu 26.04": ({"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_ID": "26.04"}, True),
    "Ubuntu 24.04": ({"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_ID": "24.04"}, False),
    "a derivative": ({"ID": "pop", "ID_LIKE": "ubuntu debian", "VERSION_ID": "26.04"}, True),
    # Its package of buildah asks for netavark by itself.
    "Fedora": ({"ID": "fedora", "VERSION_ID": "44"}, False),
}


@pytest.mark.parametrize("name", RELEASES)
def test_newer_releases_have_a_buildah_that_looks_for_netavark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    release, wanted = RELEASES[name]
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    monkeypatch.setattr(image_work, "NETAVARK", [str(tmp_path / "other"), str(tmp_path / "netavark")])
    assert ("netavark" in image_work.missing_packages(["buildah", "skopeo"])) is wanted
    # What only copies an image does without.
    assert "netavark" not in image_work.missing_packages(["skopeo"])
    assert ("netavark" in image_work.builder_packages().values()) is wanted
    (tmp_path / "netavark").touch()
    assert "netavark" not in image_work.missing_packages(["buildah"])


WANTED = """
- name: Show what the nodes take from the machine
  hosts: localhost
  connection: local
  gather_facts: false
  vars_files: ["{variables}"]
  tasks:
    - name: Show it
      ansible.builtin.debug:
        msg: "{{{{ __cluster_wanted_packages.values() }}}}"
"""


@pytest.mark.parametrize("name", [name for name in RELEASES if name != "Fedora"])
def test_the_role_cluster_knows_the_same_of_a_release(
    tmp_path: Path, root: Path, ansible_playbook: Callable[..., subprocess.CompletedProcess[str]], name: str
) -> None:
    release, wanted = RELEASES[name]
    described = tmp_path / "os-release"
    described.write_text("".join(f'{key}="{value}"\n' for key, value in release.items()))
    text = WANTED.format(variables=root / "roles/cluster/vars/main.yml")
    shown = ansible_playbook(text, "--extra-vars", f"__cluster_os_release={described}")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "buildah" in shown.stdout
    assert ("netavark" in shown.stdout) is wanted
