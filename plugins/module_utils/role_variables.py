# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Find variables that carry a role's prefix but that the role doesn't know: almost always a typo."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as Loader  # ten times as fast, and this runs in every role
except ImportError:
    from yaml import SafeLoader as Loader  # type: ignore[assignment]


class RoleError(Exception):
    """The role's own files can't be used."""


def load(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping."""
    try:
        with path.open(encoding="utf-8") as stream:
            data = yaml.load(stream, Loader=Loader)  # a safe loader, just the quick one
    except (OSError, yaml.YAMLError) as error:
        raise RoleError(f"{path} can't be read: {error}") from error
    if not isinstance(data, dict):
        raise RoleError(f"{path} must hold a mapping.")
    return data


def declared(role_path: Path) -> set[str]:
    """Every option of every entry point, and every fact that the role hands on."""
    names: set[str] = set()
    specs = load(role_path / "meta" / "argument_specs.yml").get("argument_specs") or {}
    for spec in specs.values():
        names.update(spec.get("options") or {})
    outputs = role_path / "meta" / "outputs.yml"
    if outputs.is_file():
        names.update(load(outputs))
    return names


def options(role_path: Path, entry_point: str) -> dict[str, dict[str, Any]]:
    """The options of an entry point; none where the role declares no such one."""
    specs = load(role_path / "meta" / "argument_specs.yml").get("argument_specs") or {}
    return dict((specs.get(entry_point) or {}).get("options") or {})


def longer_prefixes(role_path: Path) -> tuple[str, ...]:
    """Prefixes of sibling roles that start with this role's own: `java_agent_` beside `java_`."""
    prefix = f"{role_path.name}_"
    try:
        return tuple(f"{other.name}_" for other in role_path.parent.iterdir() if other.name.startswith(prefix))
    except OSError:
        return ()


def unknown(role_path: Path, names: Iterable[str]) -> dict[str, str]:
    """Unknown names with the role's prefix, each with the known name that is most like it, or an empty string."""
    prefix = f"{role_path.name}_"
    candidates = [name for name in names if isinstance(name, str) and name.startswith(prefix)]
    known = declared(role_path)
    suspects = sorted(set(candidates) - known)
    if not suspects:
        return {}
    others = longer_prefixes(role_path)
    found: dict[str, str] = {}
    for name in suspects:
        if name.startswith(others):
            continue
        matches = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
        found[str(name)] = matches[0] if matches else ""
    return found


def message(role: str, found: Mapping[str, str], origin: Callable[[str], str]) -> str:
    """One line for each unknown variable: its name, where it was set, and what was probably meant."""
    lines = []
    for name, match in found.items():
        place = origin(name)
        where = f" (set in {place})" if place else ""
        remedy = (
            f"Did you mean {match}?" if match else f"Remove it, or see roles/{role}/README.md for those that exist."
        )
        lines.append(f"{name} is not a variable of the role {role}{where}. {remedy}")
    return "\n".join(lines)
