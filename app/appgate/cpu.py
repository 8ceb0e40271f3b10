# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""How many CPUs this process may use: the container's limit, not the machine's count."""

from __future__ import annotations

import math
import os
from pathlib import Path

#: Two, so that one worker that dies never means nobody answers.
LEAST_WORKERS = 2
#: Threads carry the waiting; more processes than this only cost memory on a large machine.
MOST_WORKERS = 16


def _own_groups(proc: Path) -> dict[str, str]:
    """The cgroup of this process by controller; v2 is the controller ''."""
    groups = {}
    for line in proc.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _levels(root: Path, path: str) -> list[Path]:
    """The group's directory and its parents up to the root, as far as they can be seen.

    Inside a container the path may be the host's view while the mount begins at the container's
    own group: then only the root itself is there, and it is the right one.
    """
    found = []
    inner = root / path.lstrip("/")
    while True:
        if inner.is_dir():
            found.append(inner)
        if inner == root or root not in inner.parents:
            break
        inner = inner.parent
    return found


def _quota_v2(directory: Path) -> float | None:
    try:
        quota, period = (directory / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(directory: Path) -> float | None:
    try:
        quota = int((directory / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((directory / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def limit(root: Path = Path("/")) -> float:
    """CPUs that may be used: the least of the cgroup quotas and the allowed processors."""
    try:
        limits = [float(len(os.sched_getaffinity(0)))]
    except AttributeError:  # not Linux
        limits = [float(os.cpu_count() or 1)]
    try:
        groups = _own_groups(root / "proc/self/cgroup")
    except (OSError, ValueError):
        groups = {"": "/", "cpu": "/"}
    mount = root / "sys/fs/cgroup"
    quotas = [_quota_v2(level) for level in _levels(mount, groups.get("", "/"))]
    for name in ("cpu", "cpu,cpuacct"):
        quotas += [_quota_v1(level) for level in _levels(mount / name, groups.get("cpu", "/"))]
    limits += [quota for quota in quotas if quota is not None]
    return min(limits)


def workers(root: Path = Path("/")) -> int:
    """Worker processes for this limit, one per CPU."""
    return max(LEAST_WORKERS, min(MOST_WORKERS, math.ceil(limit(root))))
