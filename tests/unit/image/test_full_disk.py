# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A disk that fills up while a program writes to it and keeps the reason to itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_though_the_program_is_silent(small_disk: Path) -> None:
    silent = f"head -c 4000000 /dev/zero > {small_disk}/big 2> /dev/null; exit 25"
    with pytest.raises(ImageError, match="no space left on the disk"):
        run(["sh", "-c", silent], timeout_seconds=60, what="Writing", disk=small_disk)


def test_a_failure_on_a_disk_with_room_keeps_its_own_reason(small_disk: Path) -> None:
    with pytest.raises(ImageError, match="ended with 25:\nbecause"):
        run(["sh", "-c", "echo because; exit 25"], timeout_seconds=60, what="Writing", disk=small_disk)
