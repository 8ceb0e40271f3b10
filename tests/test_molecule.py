# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Every Molecule scenario on a real cluster, each as one test.

Most share the cluster of the scenario ``default``: it is made before the first one and removed after the last. Those
with ``shared_state: false`` need none, or make their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = {
    path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for path in sorted(ROOT.glob("molecule/*/molecule.yml"))
    if path.parent.name != "default"
}
SHARING = [name for name, config in SCENARIOS.items() if config.get("shared_state", True)]

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and shutil.which("sudo") is None,
    reason="the embedded cluster needs root: namespaces, cgroups and routes",
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


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[None]:
    molecule("destroy", "--scenario-name", "default")  # what a killed run may have left
    molecule("create", "--scenario-name", "default")
    yield
    molecule("destroy", "--scenario-name", "default")


@pytest.mark.xdist_group("shared cluster")
@pytest.mark.parametrize("scenario", SHARING)
def test_scenario(scenario: str, shared_cluster: None) -> None:
    molecule("test", "--scenario-name", scenario, "--destroy", "never")


@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in SCENARIOS if name not in SHARING]
)
def test_scenario_of_its_own(scenario: str) -> None:
    molecule("test", "--scenario-name", scenario, "--destroy", "never")
