# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Figures that documents name are those of the catalog that they speak of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import read

FIGURE = re.compile(r"\b(\d+)\s+(alerts|dashboards)\b")


def test_documents_count_alerts_and_dashboards_as_they_are(root: Path) -> None:
    counted = {
        "alerts": len(list(read([root / "observability" / "catalog.yml"]).alerts())),
        "dashboards": len(list((root / "roles" / "observability" / "files" / "dashboards").glob("*.json"))),
    }
    seen = 0
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        for found in FIGURE.finditer(path.read_text(encoding="utf-8")):
            seen += 1
            if int(found[1]) != counted[found[2]]:
                pytest.fail(f"{path.relative_to(root)} says '{found[0]}', but there are {counted[found[2]]}.")
    assert seen
