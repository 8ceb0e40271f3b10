# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The options of the action plugin and of its module, in one place."""

from __future__ import annotations

from typing import Any

from .catalog import MODES
from .core import Options
from .errors import SourceError

PUBLIC: dict[str, dict[str, Any]] = {
    "parts": {"type": "list", "elements": "str", "required": True},
    "catalog": {"type": "path", "required": True},
    "go_dir": {"type": "path", "required": True},
    "cache_dir": {"type": "path", "required": True},
    "mode": {"type": "str", "choices": list(MODES), "default": "auto"},
    "mode_by_part": {"type": "dict", "default": {}},
    "mirror": {"type": "str", "default": ""},
    "probe_timeout_seconds": {"type": "float", "default": 3.0},
    "download_timeout_seconds": {"type": "float", "default": 60.0},
    "disk_reserve_mib": {"type": "int", "default": 1024},
    "verify": {"type": "bool", "default": False},
    "prune": {"type": "bool", "default": False},
    "keep_build_cache": {"type": "bool", "default": True},
    "pages_enabled": {"type": "bool", "default": True},
    "progress_seconds": {"type": "float", "default": 15.0},
}
# Filled in by the action plugin, which reads catalog and go.mod files on the controller.
INTERNAL: dict[str, dict[str, Any]] = {
    "plan_path": {"type": "path"},
    "progress_path": {"type": "path"},
    "run": {"type": "str", "default": ""},
    "owner": {"type": "str", "default": "another run"},
    "pip_python": {"type": "str", "default": ""},
}


def check(params: dict[str, Any]) -> None:
    """Refuse values that have the right type and make no sense."""
    for name in ("probe_timeout_seconds", "download_timeout_seconds", "progress_seconds"):
        if params[name] <= 0:
            raise SourceError(f"sources_{name} is {params[name]}: give a number of seconds above 0.")
    if params["disk_reserve_mib"] < 0:
        raise SourceError(f"sources_disk_reserve_mib is {params['disk_reserve_mib']}: give 0 or more MiB.")
    if params["mirror"] and not params["mirror"].startswith(("http://", "https://")):
        raise SourceError(
            f"sources_mirror is '{params['mirror']}': give a URL that starts with https:// or"
            " http://, for example https://mirror.example.com/releases."
        )


def options(params: dict[str, Any], probe_url: str) -> Options:
    """Turn a task's options into the core's."""
    return Options(
        cache_dir=params["cache_dir"],
        mode=params["mode"],
        mode_by_part=params["mode_by_part"],
        probe_url=probe_url,
        mirror=params["mirror"],
        probe_timeout_seconds=params["probe_timeout_seconds"],
        download_timeout_seconds=params["download_timeout_seconds"],
        disk_reserve_mib=params["disk_reserve_mib"],
        verify=params["verify"],
        prune=params["prune"],
        keep_build_cache=params["keep_build_cache"],
        run=params.get("run") or "",
        owner=params.get("owner") or "another run",
        pip_python=params.get("pip_python") or "",
    )
