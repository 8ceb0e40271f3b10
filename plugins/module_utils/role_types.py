# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Values of a role's variables against its argument specs, at every depth, with a remedy for each that doesn't fit."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHORT = 120

# One step into a structure: a key or an index. The first step of a path is the variable's name.
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in terms of what a person wrote."""

    path: Path
    reason: str
    remedy: str
    value: Any = None
    show_value: bool = True
    # The reason may contain {other}, for a second place that has to do with it.
    other: Path | None = None


def show_path(path: Path) -> str:
    """Write a path as a person would in a template: haproxy_backends[0].servers[1].port."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def suggest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, or which there are."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Known here: {', '.join(names) or 'none'}."


def _type_name(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    return f"a {type(value).__name__}"


_WANTED = {
    "str": ("a text", "Write one text."),
    "path": ("a path", "Write one path."),
    "int": ("a whole number", "Write a whole number without quotes or unit."),
    "float": ("a number", "Write a number without quotes or unit."),
    "bool": ("true or false", "Write true or false."),
    "list": ("a list", 'Write a list: each item on a line of its own that starts with "- ".'),
    "dict": ("a mapping", "Write keys and values: each on a line of its own, as KEY: VALUE."),
}


class _WrongTypeError(Exception):
    """The value can't be what the specs want."""


def _convert(value: Any, wanted: str) -> Any:
    """Convert like Ansible does for `-e` (where everything is text), and no further: no list from a text with commas."""
    if wanted == "int":
        if isinstance(value, int) and not isinstance(value, bool):
            return int(value)
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value):
            return int(value)
    elif wanted == "float":
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]+([.][0-9]+)?", value):
            return float(value)
    elif wanted == "bool":
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "yes", "on", "false", "no", "off"):
            return value.lower() in ("true", "yes", "on")
    elif wanted in ("str", "path"):
        if isinstance(value, str):
            return str(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
    elif wanted == "list":
        if isinstance(value, Sequence) and not isinstance(value, str):
            return list(value)
    elif wanted == "dict":
        if isinstance(value, Mapping):
            return dict(value)
    else:
        return value
    raise _WrongTypeError


def check_types(values: Mapping[str, Any], specs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Check values against argument specs at every depth; give them back converted, with nested defaults filled in."""
    problems: list[Problem] = []

    def one(value: Any, spec: Mapping[str, Any], path: Path) -> Any:
        wanted = spec.get("type", "str")
        if "default" in spec and value == spec["default"]:
            return value
        try:
            value = _convert(value, wanted)
        except _WrongTypeError:
            what, remedy = _WANTED[wanted]
            problems.append(Problem(path, f"must be {what}, not {_type_name(value)}", remedy, value))
            # Something empty in its place keeps the other indexes right, for the checks that follow.
            return {"dict": {}, "list": []}.get(wanted)
        choices = spec.get("choices")
        if choices and value not in choices:
            problems.append(
                Problem(
                    path,
                    f"must be one of {', '.join(map(str, choices))}",
                    suggest(str(value), map(str, choices)),
                    value,
                )
            )
            return None
        if wanted == "dict":
            return mapping(value, spec["options"], path) if "options" in spec else value
        if wanted == "list":
            # Without options, a mapping may have any keys.
            item_spec = {
                "type": spec.get("elements", "str"),
                **({"options": spec["options"]} if "options" in spec else {}),
            }
            return [one(item, item_spec, (*path, index)) for index, item in enumerate(value)]
        return value

    def mapping(value: Mapping[Any, Any], options: Mapping[str, Any], path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, inner in value.items():
            if key not in options:
                problems.append(
                    Problem((*path, str(key)), "is no option that the role knows", suggest(str(key), options), inner)
                )
            elif inner is not None:
                result[str(key)] = one(inner, options[key], (*path, str(key)))
        for key, spec in options.items():
            if value.get(key) is None:
                if spec.get("required"):
                    problems.append(
                        Problem((*path, key), "is missing", f"Add {key}: {_first_sentence(spec)}", show_value=False)
                    )
                elif "default" in spec:
                    result[key] = spec["default"]
        return result

    # A null top-level variable is as good as none: the renderer treats it as empty.
    checked = {
        key: one(value, specs[key], (key,)) for key, value in values.items() if key in specs and value is not None
    }
    return checked, problems


def missing(values: Mapping[str, Any], specs: Mapping[str, Any]) -> list[Problem]:
    """The variables that a role can't do without."""
    return [
        Problem((name,), "is missing", f"Set it: {_first_sentence(spec)}", show_value=False)
        for name, spec in specs.items()
        if spec.get("required") and values.get(name) is None
    ]


def sentence(problem: Problem, where: str) -> str:
    """A problem as a person reads it: "X is VALUE, which must be ... (set in FILE:LINE). REMEDY", or "X is missing"."""
    value = f" is {short(problem.value)}, which" if problem.show_value else ""
    return f"{show_path(problem.path)}{value} {problem.reason}{f' (set in {where})' if where else ''}. {problem.remedy}"


def short(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHORT else text[: SHORT - 3] + "..."


def _first_sentence(spec: Mapping[str, Any]) -> str:
    text = spec.get("description", "")
    if not isinstance(text, str):
        text = text[0]
    return str(text).split(". ")[0].rstrip(".") + "."
