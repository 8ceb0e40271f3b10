# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the observability share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import Catalog, read

from tests.parts import program

ROOT = Path(__file__).resolve().parents[3]
CATALOG = ROOT / "observability" / "catalog.yml"
DASHBOARDS = ROOT / "roles" / "observability" / "files" / "dashboards"


def catalog() -> Catalog:
    """The project's own catalog."""
    return read([CATALOG])


def promtool() -> str:
    """The promtool of the Prometheus that is installed."""
    return program("prometheus", "promtool")


def write(path: Path, data: Any) -> Path:
    """A YAML file."""
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def metric(**changes: Any) -> dict[str, Any]:
    """An entry that is right, but for the changes."""
    entry: dict[str, Any] = {
        "name": "till",
        "system": "shop",
        "title": "Till",
        "expr": "sum(till_open{${any}})",
        "legend": "{{pod}}",
        "unit": "short",
        "why": "Without it nobody can pay.",
        "threshold": {"below": 1, "reason": "There is one till."},
        "alert": {
            "name": "ShopTillShut",
            "for": "5m",
            "severity": "critical",
            "summary": "The till is shut",
            "runbook": "Open it.",
        },
    }
    entry.update(changes)
    return {key: value for key, value in entry.items() if value is not None}


def added(*metrics: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A catalog that adds to the project's own."""
    return {
        "version": 1,
        "systems": [{"name": "shop", "title": "Shop", "text": "Sells things."}],
        "metrics": list(metrics) or [metric()],
        **changes,
    }
