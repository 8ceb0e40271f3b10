# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The role bundle as a playbook uses it: each bad input is told with its variable and its place, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import bundle

from tests.unit.bundle.test_bundle import about, quiet, stock

Play = Callable[..., CompletedProcess[str]]
PLAY = """
- hosts: all
  connection: local
  gather_facts: false
  vars:
    bundle_path: {path}
    bundle_cache_dir: {cache}
  tasks:
    - ansible.builtin.import_role:
        name: appgate.platform.bundle
        tasks_from: {entry}
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    bundle.make(tmp_path / "bundle", stock(tmp_path / "stock"), about(), quiet)
    return tmp_path / "bundle"


def refused(done: CompletedProcess[str], *texts: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    for text in texts:
        assert text in said, done.stdout
    assert "changed=0" in done.stdout


def test_a_bundle_is_installed_once(ansible_playbook: Play, made: Path, tmp_path: Path) -> None:
    play = PLAY.format(path=made, cache=tmp_path / "cache", entry="install")
    checked = ansible_playbook(play, "--check")
    assert "changed=1" in checked.stdout, checked.stdout + checked.stderr
    assert f"3 of 3 things would be put into {tmp_path}/cache" in " ".join(checked.stdout.split())
    assert not (tmp_path / "cache").exists()
    first = ansible_playbook(play)
    assert "changed=1" in first.stdout, first.stdout + first.stderr
    assert (tmp_path / "cache/images/node-1.tar").read_bytes() == b"image"
    assert "changed=0" in ansible_playbook(play).stdout


def test_a_damaged_file_is_named_with_the_variable_and_its_place(
    ansible_playbook: Play, made: Path, tmp_path: Path
) -> None:
    (made / "cache/images/node-1.tar").write_bytes(b"imagf")
    done = ansible_playbook(PLAY.format(path=made, cache=tmp_path / "cache", entry="install"))
    refused(
        done, f"bundle_path='{made}' (set in play.yml:6): cache/images/node-1.tar is damaged. Copy the bundle again"
    )
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("path", "entry", "says"),
    [
        ("/nowhere/at/all", "install", "there is no such directory. Give the one that playbooks/bundle.yml has made"),
        ('""', "install", "bundle_path='' (set in play.yml:6): it is empty. Give the directory of the bundle"),
        ('""', "check", "it is empty. Give the directory of the bundle"),
        ("/etc/hostname", "check", "/etc/hostname is a file. Give a directory"),
        ("/etc", "check", "it holds other things. Give an empty or a new directory"),
        ("/proc/bundle", "check", "bundle_path='/proc/bundle' (set in play.yml:6): it can't be made"),
    ],
)
def test_bad_places(ansible_playbook: Play, tmp_path: Path, path: str, entry: str, says: str) -> None:
    refused(ansible_playbook(PLAY.format(path=path, cache=tmp_path / "cache", entry=entry)), says)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("carried", [True, False])
def test_packages_that_are_missing(ansible_playbook: Play, tmp_path: Path, carried: bool) -> None:
    items = stock(tmp_path / "stock")
    if carried:
        (tmp_path / "Packages").write_text("")
        items.append(bundle.Item(tmp_path / "Packages", "debs/Packages"))
    bundle.make(tmp_path / "bundle", items, about(packages={"no-such-package": ["/no/such/program"]}), quiet)
    done = ansible_playbook(PLAY.format(path=tmp_path / "bundle", cache=tmp_path / "cache", entry="install"))
    if not carried:
        refused(
            done,
            "this machine lacks the packages no-such-package, and the bundle holds none. Install them some other way",
        )
    elif os.geteuid() == 0:
        # apt looks nowhere but in the bundle, and nothing is put anywhere.
        refused(done, "Installing the bundle's packages", "Unable to locate package no-such-package")
    else:
        refused(done, "this machine lacks the packages no-such-package, and only root can install them")
    assert not (tmp_path / "cache").exists()
