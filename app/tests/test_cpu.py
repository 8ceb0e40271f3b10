# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The number of workers follows the container's CPU limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from appgate import cpu


@pytest.fixture(autouse=True)
def _many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def machine(root: Path, group: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_v2_limit_in_a_container(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", {"cpu.max": "150000 100000\n"})
    assert cpu.limit(root) == 1.5
    assert cpu.workers(root) == 2


def test_v2_limit_of_a_parent_counts(tmp_path: Path) -> None:
    files = {"pod/cpu.max": "300000 100000\n", "pod/container/cpu.max": "max 100000\n"}
    root = machine(tmp_path, "0::/pod/container\n", files)
    assert cpu.limit(root) == 3
    assert cpu.workers(root) == 3


def test_v1_limit_with_the_path_of_the_host(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    root = machine(tmp_path, "4:cpu,cpuacct:/kubepods/pod1/abc\n", files)
    assert cpu.limit(root) == 4


def test_v1_without_limit(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert cpu.limit(machine(tmp_path, "4:cpu,cpuacct:/\n", files)) == 64


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    assert cpu.limit(tmp_path) == 64
    assert cpu.workers(tmp_path) == cpu.MOST_WORKERS


def test_nonsense_is_no_limit(tmp_path: Path) -> None:
    assert cpu.limit(machine(tmp_path, "0::/\n", {"cpu.max": "what\n"})) == 64
