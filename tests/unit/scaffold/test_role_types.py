# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What of a value's type is refused, and what is left to the role."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.role_types import check_types, missing, sentence

SPECS: dict[str, dict[str, Any]] = {
    "shop_open": {"type": "bool"},
    "shop_price": {"type": "float"},
    "shop_tills": {"type": "list", "elements": "dict"},
    "shop_shelves": {"type": "list", "elements": "dict", "options": {"height": {"type": "int", "required": True}}},
    "shop_name": {"type": "str", "required": True, "description": "What is over the door. Nothing long."},
    "shop_any": {"type": "raw"},
}


@pytest.mark.parametrize(
    "values",
    [
        {"shop_open": "yes"},
        {"shop_price": "1.5"},
        {"shop_price": 2},
        {"shop_tills": [{"anything": 1, "else": []}]},
        {"shop_shelves": [{"height": 1}]},
        {"shop_any": False},
        {"shop_open": None},
    ],
)
def test_what_fits_is_taken(values: dict[str, Any]) -> None:
    assert check_types(values, SPECS)[1] == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"shop_open": "maybe"},
            'shop_open is "maybe", which must be true or false, not a text (set in a.yml:3). Write true',
        ),
        (
            {"shop_price": "1 EUR"},
            'shop_price is "1 EUR", which must be a number, not a text (set in a.yml:3). Write a number',
        ),
        ({"shop_tills": "one,two"}, 'shop_tills is "one,two", which must be a list'),
        ({"shop_shelves": [{"hight": 1}]}, "shop_shelves[0].hight is 1, which is no option that the role knows"),
        ({"shop_shelves": [{}]}, "shop_shelves[0].height is missing"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place_and_remedy(values: dict[str, Any], said: str) -> None:
    problem = check_types(values, SPECS)[1][0]
    assert sentence(problem, "a.yml:3").startswith(said)


def test_what_is_required_is_missed() -> None:
    (problem,) = missing({"shop_name": None}, SPECS)
    assert sentence(problem, "") == "shop_name is missing. Set it: What is over the door."
