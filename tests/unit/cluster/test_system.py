# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What the embedded cluster asks of the machine, where the machine has a will of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.embedded import system

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network interfaces are made by root")
NAME = "agvtest000000"


@pytest.fixture
def link() -> Iterator[Path]:
    """A network interface."""
    subprocess.run(["ip", "link", "add", NAME, "type", "veth", "peer", "name", f"{NAME}p"], check=True)
    yield Path("/sys/class/net", NAME)
    subprocess.run(["ip", "link", "delete", NAME], check=False, capture_output=True)


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put another `ip` before the real one."""
    program = folder / "ip"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_an_interface_is_deleted_once(link: Path) -> None:
    assert system.delete_link(NAME)
    assert not link.exists()
    assert not system.delete_link(NAME)


def test_an_interface_that_the_kernel_takes_away_meanwhile_is_gone_as_wanted(
    link: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("ip")
    stand_in(tmp_path, f'{real} "$@"; exec {real} "$@"', monkeypatch)  # the second finds nothing any more
    assert system.delete_link(NAME)
    assert not link.exists()


def test_an_interface_that_stays_is_an_error_with_its_reason(
    link: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "echo 'RTNETLINK answers: Operation not permitted' >&2; exit 2", monkeypatch)
    with pytest.raises(system.ClusterError, match=f"{NAME} could not be deleted: .*not permitted"):
        system.delete_link(NAME)
