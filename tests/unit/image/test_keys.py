# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Debian's keys, on a machine whose apt trusts them by itself and on one (Ubuntu) where it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import image_base

COLLECTIONS = Path(__file__).resolve().parents[3] / "collections"
MAKE = """
import sys
sys.path.insert(0, {collections!r})
from pathlib import Path
from ansible_collections.appgate.platform.plugins.module_utils.image_base import Base
mirrors = ("deb http://deb.debian.org/debian {{suite}} main",)
Base("trixie", mirrors, ("base-files",), Path({prune!r})).make(Path({cache!r}), 300, 0)
"""


@pytest.mark.usefixtures("builder")
def test_a_base_is_made_where_apt_does_not_trust_debian(tmp_path: Path) -> None:
    prune = tmp_path / "prune.py"
    prune.write_text("print('base-files')\n")
    code = MAKE.format(collections=str(COLLECTIONS), prune=str(prune), cache=str(tmp_path / "cache"))
    # In a mount namespace of its own, the folder with what apt trusts is empty, as on Ubuntu.
    hide = f'mount -t tmpfs tmpfs {image_base.TRUSTED} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", hide, sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "cache" / "base").glob("*/rootfs/etc/debian_version"))


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["trusted/debian-archive-trixie-stable.asc", "keys/debian-archive-keyring.gpg"], []),
        (["keys/debian-archive-keyring.gpg", "keys/debian-archive-removed-keys.gpg"], ["debian-archive-keyring.gpg"]),
        (["keys/debian-archive-keyring.pgp"], ["debian-archive-keyring.pgp"]),
        ([], []),
    ],
)
def test_which_keys_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], named: list[str]
) -> None:
    for place in ("trusted", "keys"):
        (tmp_path / place).mkdir()
    for file in files:
        (tmp_path / file).touch()
    monkeypatch.setattr(image_base, "TRUSTED", tmp_path / "trusted")
    monkeypatch.setattr(image_base, "KEYRINGS", tmp_path / "keys")
    assert [path.name for path in image_base.keyrings()] == named
