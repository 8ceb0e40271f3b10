# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The project itself travels as a file that git clones, and a directory of packages is a repository for apt."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import bundle
from ansible_collections.appgate.platform.plugins.module_utils import bundle_sources as sources


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *own, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "site.yml").write_text("first\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=first")
    return folder


def test_the_last_commit_can_be_cloned(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    carried, revision, changed = sources.checkout(project, cache)
    assert carried is not None
    assert revision == git(project, "rev-parse", "HEAD")
    assert not changed
    git(tmp_path, "clone", "--quiet", str(carried), "clone")
    assert git(tmp_path / "clone", "rev-parse", "HEAD") == revision
    assert git(tmp_path / "clone", "branch", "--show-current") == "main"
    (project / "site.yml").write_text("second\n")
    assert sources.checkout(project, cache) == (carried, revision, True)
    git(project, "commit", "--quiet", "--all", "--message=second")
    other, _, changed = sources.checkout(project, cache)
    assert other != carried
    assert not changed
    assert not carried.exists()


def test_what_is_no_whole_checkout_is_left_out(project: Path, tmp_path: Path) -> None:
    git(project, "commit", "--quiet", "--allow-empty", "--message=second")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{project}", "shallow")
    assert sources.checkout(tmp_path / "shallow", tmp_path / "cache")[0] is None
    (tmp_path / "none").mkdir()
    assert sources.checkout(tmp_path / "none", tmp_path / "cache") == (None, "unknown", False)


def test_a_directory_of_packages_is_a_repository(tmp_path: Path) -> None:
    (tmp_path / "tool_1_all.deb").write_bytes(b"package")
    bundle.write_index(tmp_path, lambda package: f"Package: {package.name.split('_')[0]}\nVersion: 1\n")
    text = (tmp_path / "Packages").read_text()
    assert text.startswith("Package: tool\nVersion: 1\nFilename: ./tool_1_all.deb\nSize: 7\nSHA256: ")
