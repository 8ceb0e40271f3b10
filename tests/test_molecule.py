# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Every Molecule scenario that shares a real cluster, each as one test.

The first one finds no cluster, as on a machine where the scenario ``default`` has not run, and has it made. The last one
removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios import NEEDS_ROOT, SHARING, molecule

pytestmark = NEEDS_ROOT
CLUSTER = Path("/var/lib/appgate/clusters/molecule")


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[None]:
    molecule("destroy", "--scenario-name", "default")  # what a killed run may have left
    yield
    molecule("destroy", "--scenario-name", "default")


@pytest.mark.parametrize("scenario", SHARING)
def test_scenario(scenario: str, shared_cluster: None) -> None:
    is_last = scenario == SHARING[-1]
    molecule("test", "--scenario-name", scenario, *([] if is_last else ["--destroy", "never"]))
    assert CLUSTER.exists() is not is_last
