# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Every Molecule scenario that shares a real cluster, each as one test.

The cluster of the scenario ``default`` is made before the first one and removed after the last.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios import NEEDS_ROOT, SHARING, molecule

pytestmark = NEEDS_ROOT


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[None]:
    molecule("destroy", "--scenario-name", "default")  # what a killed run may have left
    molecule("create", "--scenario-name", "default")
    yield
    molecule("destroy", "--scenario-name", "default")


@pytest.mark.parametrize("scenario", SHARING)
def test_scenario(scenario: str, shared_cluster: None) -> None:
    molecule("test", "--scenario-name", scenario, "--destroy", "never")
