# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The role and the task as a person uses them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .support import Publisher, archive, sha256

Run = Callable[..., subprocess.CompletedProcess[str]]
PLAY = """
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - name: Take the parts
      ansible.builtin.import_role:
        name: appgate.platform.sources
        rolespec_validate: false
    - name: Show where they are
      ansible.builtin.debug:
        msg: "bin={{ sources_bin | to_json }} taken={{ sources_taken | to_json }}"
"""


def given(tmp_path: Path, **variables: object) -> tuple[str, str]:
    values = {f"sources_{name}": value for name, value in variables.items()}
    return "-e", json.dumps({"sources_cache_dir": str(tmp_path / "cache"), **values})


def plain(done: subprocess.CompletedProcess[str]) -> str:
    """The output with Ansible's line breaks undone."""
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"parts": ["etc"]}, r"sources_parts: unknown part 'etc'\. Did you mean 'etcd'\? Known parts: actionlint, "),
        (
            {"parts": ["etcd"], "mode": "compile"},
            r"sources_mode is \"compile\", which must be one of auto, upstream, build",
        ),
        ({"parts": ["etcd"], "mode_by_part": {"etcd": 1}}, r"part 'etcd' has the mode '1'\. Use one of"),
        ({"parts": ["etcd"], "mode_by_part": {"helmm": "build"}}, r"sources_mode_by_part: unknown part 'helmm'"),
        ({"parts": ["etcd"], "mirror": "mirror.test"}, r"sources_mirror is 'mirror\.test': give a URL"),
        ({"parts": ["etcd"], "probe_timeout_seconds": -1}, r"sources_probe_timeout_seconds is -1\.0: give a number"),
        ({"parts": ["etcd"], "disk_reserve_mib": -5}, r"sources_disk_reserve_mib is -5: give 0 or more MiB"),
        (
            {"parts": ["etcd"], "mode": "build", "disk_reserve_mib": 10**9},
            r"MiB free, but taking what is missing needs",
        ),
        ({"parts": ["etcd"], "verfy": True}, r"sources_verfy is not a variable of the role sources"),
        ({}, r"sources_parts is missing"),
    ],
)
def test_bad_input_is_refused_with_a_remedy_and_changes_nothing(
    ansible_playbook: Run, tmp_path: Path, variables: dict[str, object], message: str
) -> None:
    done = ansible_playbook(PLAY, *given(tmp_path, **variables))
    assert done.returncode != 0
    assert re.search(message, plain(done)), plain(done)
    assert not (tmp_path / "cache").exists()


def test_a_refusal_says_where_the_value_was_set(ansible_playbook: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("---\nsources_parts: [etcd]\nsources_mirror: mirror.test\n")
    done = ansible_playbook(PLAY, "-e", f"@{tmp_path / 'mine.yml'}")
    assert re.search(r"\(sources_mirror is set in mine\.yml:3\)", plain(done)), plain(done)


def test_check_mode_on_an_empty_cache(ansible_playbook: Run, tmp_path: Path) -> None:
    done = ansible_playbook(PLAY, "--check", *given(tmp_path, parts=["etcd", "helm"], mode="build"))
    assert done.returncode == 0, plain(done)
    assert re.search(r"sources: would build etcd v\d", done.stdout)
    assert re.search(r"sources: would build helm v\d", done.stdout)
    assert not (tmp_path / "cache").exists()


def publish_kubeconform(publisher: Publisher) -> str:
    """Put a part of the real catalog at the mirror; return its path there."""
    text = (Path(__file__).resolve().parents[3] / "roles/sources/files/go/kubeconform/go.mod").read_text()
    version = re.search(r"yannh/kubeconform (v\S+)", text)
    assert version
    path = f"/yannh/kubeconform/releases/download/{version.group(1)}/"
    lists = []
    for arch in ("amd64", "arm64"):
        body = archive(kubeconform=f"#!/bin/sh\necho {arch}\n".encode())
        publisher.publish(f"{path}kubeconform-linux-{arch}.tar.gz", body)
        lists.append(f"{sha256(body)}  kubeconform-linux-{arch}.tar.gz\n")
    publisher.publish(path + "CHECKSUMS", "".join(lists).encode())
    publisher.publish("/release/stable.txt", b"v1\n")
    return path


def test_a_part_from_a_mirror_and_then_from_the_cache(
    ansible_playbook: Run, tmp_path: Path, publisher: Publisher
) -> None:
    publish_kubeconform(publisher)
    variables = given(tmp_path, parts=["kubeconform"], mirror=publisher.url)
    first = ansible_playbook(PLAY, *variables)
    assert first.returncode == 0, plain(first)
    assert "changed=1" in first.stdout
    assert re.search(r"sources: 1 of 1 kubeconform v\S+: downloading", first.stdout)
    assert re.search(r"sources: 1 of 1 kubeconform v\S+: downloaded, \d+ s", first.stdout)
    assert "downloaded now: kubeconform" in plain(first)
    programs = list((tmp_path / "cache" / "parts" / "kubeconform").glob("*/bin/kubeconform"))
    assert len(programs) == 1
    assert str(programs[0].parent) in plain(first)

    asked = len(publisher.seen)
    for arguments in ((), ("--check", "--diff")):
        again = ansible_playbook(PLAY, *variables, *arguments)
        assert again.returncode == 0, plain(again)
        assert "changed=0" in again.stdout
        assert "sources: " not in again.stdout
        assert "from the cache: kubeconform" in plain(again)
    assert len(publisher.seen) == asked


def test_a_wrong_checksum_stops_the_play(ansible_playbook: Run, tmp_path: Path, publisher: Publisher) -> None:
    path = publish_kubeconform(publisher)
    for arch in ("amd64", "arm64"):
        publisher.publish(f"{path}kubeconform-linux-{arch}.tar.gz", b"something else")
    done = ansible_playbook(PLAY, *given(tmp_path, parts=["kubeconform"], mirror=publisher.url, mode="upstream"))
    assert done.returncode != 0
    assert f"Checksum mismatch: {publisher.url}{path}kubeconform-linux-" in plain(done)
    assert "do not use it before you know why" in plain(done)
    assert not list((tmp_path / "cache").glob("parts/*/*/bin"))


def test_hosts_that_run_at_once_probe_and_download_once(
    ansible_playbook: Run, tmp_path: Path, publisher: Publisher
) -> None:
    path = publish_kubeconform(publisher)
    variables = given(tmp_path, parts=["kubeconform"], mirror=publisher.url)
    done = ansible_playbook(PLAY, *variables, inventory="one,two,three,")
    assert done.returncode == 0, plain(done)
    assert sum("kubeconform-linux" in seen for _method, seen, _range in publisher.seen) == 1, path
    assert sum(method == "HEAD" for method, _seen, _range in publisher.seen) == 1
    assert re.search(r"\[(one|two|three)\] sources: 1 of 1 kubeconform", done.stdout)


def test_progress_appears_while_the_part_is_at_work(
    tmp_path: Path, clean_environment: dict[str, str], root: Path
) -> None:
    """A line must come when the build starts, not when it has ended."""
    go_dir = tmp_path / "go"
    (go_dir / "tool").mkdir(parents=True)
    (go_dir / "tool" / "go.mod").write_text("module x\n\ngo 1.20\n\nrequire example.test/tool v1.2.3\n")
    (go_dir / "tool" / "go.sum").write_text("")
    (tmp_path / "catalog.yml").write_text(
        "sources_catalog:\n  probe_url: http://127.0.0.1:1/\n  parts:\n"
        "    tool: {module: example.test/tool, binaries: [{name: tool}], build_mib: 1}\n"
    )
    fake = tmp_path / "fake" / "bin"
    fake.mkdir(parents=True)
    (tmp_path / "fake" / "VERSION").write_text("go1.30\n")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (fake / "go").write_text(f'#!/bin/sh\nread line < {gate}\necho built > "$7tool"\n')
    (fake / "go").chmod(0o755)
    (tmp_path / "play.yml").write_text(
        "- hosts: all\n  connection: local\n  gather_facts: false\n  tasks:\n"
        "    - appgate.platform.source_parts:\n        parts: [tool]\n        mode: build\n        disk_reserve_mib: 0\n"
        f"        catalog: {tmp_path}/catalog.yml\n        go_dir: {go_dir}\n        cache_dir: {tmp_path}/cache\n"
        "        progress_seconds: 0.3\n"
    )
    (tmp_path / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {root / 'collections'}\n")
    run = subprocess.Popen(
        [shutil.which("ansible-playbook", path=clean_environment["PATH"]) or "", "-i", "local,", "play.yml"],
        cwd=tmp_path,
        env={**clean_environment, "PATH": f"{fake}:{clean_environment['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    seen = []
    signs_of_life = 0
    for line in run.stdout:
        seen.append(line)
        if line.startswith("sources: 1 of 1 tool v1.2.3: building"):
            signs_of_life += 1
            if signs_of_life == 3:
                gate.write_text("go on\n")
    assert run.wait(30) == 0, "".join(seen)
    assert signs_of_life >= 3
    assert any(line.startswith("sources: 1 of 1 tool v1.2.3: built, ") for line in seen)


def test_the_module_alone_says_how_it_is_used(root: Path, tmp_path: Path, clean_environment: dict[str, str]) -> None:
    arguments = {"parts": ["etcd"], "catalog": "x", "go_dir": "x", "cache_dir": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(root / "plugins" / "modules" / "source_parts.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**clean_environment, "PYTHONPATH": str(root / "collections")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "works through its action plugin" in done.stdout + done.stderr
