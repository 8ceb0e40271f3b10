# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Which Molecule scenarios there are, and how one is run as a person would."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = {
    path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for path in sorted(ROOT.glob("molecule/*/molecule.yml"))
    if path.parent.name != "default"
}
#: In this order, so that what takes long does not begin late. The one with three clusters is first and the one that adds a node
#: is last: more than four nodes at a time need more inotify instances than a kernel allows a user.
ORDER = ["fleet", "monitoring", "observability", "app", "site", "haproxy", "image", "sources", "cluster"]
#: Those that use the cluster of the scenario `default`. The others need none, or make their own.
SHARING = sorted((name for name, config in SCENARIOS.items() if config.get("shared_state", True)), key=ORDER.index)
ALONE = sorted(SCENARIOS.keys() - SHARING, key=ORDER.index)

NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="the embedded cluster needs root, not merely sudo: namespaces, cgroups and routes"
)


def molecule(*arguments: str) -> None:
    """Run molecule as a person would; on failure show all that it said."""
    done = subprocess.run(
        ["molecule", *arguments],
        cwd=ROOT,
        env={**os.environ, "MOLECULE_GLOB": "molecule/*/molecule.yml", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"molecule {' '.join(arguments)} failed:\n{done.stdout}", pytrace=False)
