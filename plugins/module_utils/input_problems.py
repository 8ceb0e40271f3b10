# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Mistakes in a role's variables, as the checks of every role tell them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One mistake: the variable to change, and why."""

    variable: str
    text: str


def whole(value: object) -> int | None:
    """A whole number, also one that came as text from the command line; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else None


def out_of_bounds(values: Mapping[str, Any], bounds: Mapping[str, tuple[int, int]]) -> Iterator[Problem]:
    """Variables that aren't a whole number from the least to the greatest value; those that aren't set are skipped."""
    for variable, (low, high) in bounds.items():
        value = values.get(variable)
        if value is None:
            continue
        number = whole(value)
        if number is None or not low <= number <= high:
            yield Problem(variable, f"{value!r} must be a whole number from {low} to {high}")
