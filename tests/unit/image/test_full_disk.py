# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A disk that fills up: under a program that keeps the reason to itself, and under this project's own writing."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.image_build import make_plan
from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError, run

from tests.machine import run_module

MODULE = Path(__file__).resolve().parents[3] / "plugins" / "modules" / "image_build.py"
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


def test_a_disk_that_fills_up_while_the_files_are_laid_out_is_named(small_disk: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")
    (context / "big").write_bytes(b"0" * 4_000_000)
    plan = make_plan(
        context=context,
        dockerfile=context / "Dockerfile",
        name="appgate",
        base="pull",
        base_id="",
        haproxy_config="",
        build_args={},
        python_version="3.13",
        cache_dir=small_disk,
    )
    arguments = {
        "plan": {"cache_dir": str(small_disk), "base": "pull", "plan": dataclasses.asdict(plan)},
        "min_free_mib": 0,
    }
    result = run_module(MODULE, arguments)
    assert result["failed"]
    assert result["msg"] == (
        f"The disk that holds {small_disk} is full. Free some space there, or set image_cache_dir to a directory on a "
        "larger disk, and run again: what is complete is kept."
    )
    assert not list(small_disk.glob("context-*"))
