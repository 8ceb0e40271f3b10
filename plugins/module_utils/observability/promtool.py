# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Expressions, checked by promtool, with the catalog's own names in the answer."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import CatalogError
from ansible_collections.appgate.platform.plugins.module_utils.observability.rules import Group

# promtool: <file>: <line>:<column>: group "g", rule 2, "Name": could not parse expression: 1:5: parse error: ...
_COMPLAINT = re.compile(r'group "(?P<group>[^"]+)", rule (?P<rule>\d+), "[^"]*": (?P<text>.+)')
_SHORTER = re.compile(r"^could not parse expression: (?:\d+:\d+: )?")


def check(program: str, groups: Sequence[Group], cache_dir: Path | None = None) -> None:
    """Refuse rules that Prometheus would refuse. What was found right once is not asked again."""
    text = json.dumps({"groups": [group.body() for group in groups]}, sort_keys=True)
    mark = cache_dir / hashlib.sha256(f"{program}\n{text}".encode()).hexdigest() if cache_dir else None
    if mark and mark.exists():
        return
    with tempfile.TemporaryDirectory(prefix="appgate-") as directory:
        path = Path(directory) / "rules.json"
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run(
                [program, "check", "rules", "--lint=none", str(path)],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CatalogError([f"observability_promtool: {program} can't be run ({error})."]) from None
    if done.returncode != 0:
        raise CatalogError(explain(done.stdout + done.stderr, groups))
    if mark:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def explain(output: str, groups: Sequence[Group]) -> list[str]:
    """promtool's complaints, each with the entry of the catalog that caused it."""
    by_name = {group.name: group for group in groups}
    found: dict[str, None] = {}
    for line in output.splitlines():
        match = _COMPLAINT.search(line)
        group = by_name.get(match["group"]) if match else None
        if match is None or group is None:
            continue
        rule = group.rules[int(match["rule"]) - 1]
        name = rule.body.get("alert") or rule.body.get("record")
        complaint = _SHORTER.sub("", match["text"]).rstrip(".")
        shown = f" The expression is: {' '.join(rule.body['expr'].split())}" if _SHORTER.match(match["text"]) else ""
        found[f"{rule.entry}, rule {name}: {complaint}.{shown}"] = None
    return list(found) or [f"promtool refuses the rules: {output.strip()}"]


def cache_root() -> Path:
    """Where this user keeps what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appgate" / "observability"
