# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Every Molecule scenario that needs no cluster, or makes its own, each as one test."""

from __future__ import annotations

import pytest

from tests.scenarios import ALONE, NEEDS_ROOT, molecule

pytestmark = NEEDS_ROOT


@pytest.mark.parametrize("scenario", ALONE)
def test_scenario(scenario: str) -> None:
    molecule("test", "--scenario-name", scenario, "--destroy", "never")
