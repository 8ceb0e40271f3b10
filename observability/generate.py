# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Write dashboards and documentation from the catalog, or check that they are as they would be written.

python -m observability.generate [--check]

The results are checked in, so that a run of the role needs no Grafana library.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import CatalogError, read

from observability import ROOT, dashboards, reference

CATALOG = Path("observability/catalog.yml")
DASHBOARDS = Path("roles/observability/files/dashboards")
REFERENCE = Path("docs/metrics.md")


def wanted(root: Path) -> dict[Path, str]:
    """Every generated file and its text."""
    catalog = read([root / CATALOG])
    hidden = [metric.name for metric in catalog.metrics if not catalog.shown_on(metric.name)]
    if hidden:
        raise CatalogError(
            [f"{CATALOG}: metrics ({name}): no panel shows it. Add one under dashboards." for name in hidden]
        )
    files = {
        DASHBOARDS / f"{given.name}.json": dashboards.encode(dashboards.build(catalog, given))
        for given in catalog.dashboards
    }
    return {**files, REFERENCE: reference.render(catalog)}


def stale(root: Path, files: dict[Path, str]) -> dict[Path, str]:
    """Files that differ from what they should be, with the difference; also dashboards that nobody asks for."""
    found = {}
    for path, text in files.items():
        full = root / path
        before = full.read_text(encoding="utf-8") if full.is_file() else ""
        if before != text:
            difference = difflib.unified_diff(before.splitlines(), text.splitlines(), str(path), str(path), lineterm="")
            found[path] = "\n".join(list(difference)[:40])
    for full in sorted((root / DASHBOARDS).glob("*.json")):
        if full.relative_to(root) not in files:
            found[full.relative_to(root)] = f"{full.relative_to(root)} is not in the catalog"
    return found


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m observability.generate", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say what is not as it would be written")
    given = parser.parse_args(arguments)
    try:
        files = wanted(root)
    except CatalogError as error:
        print(error, file=sys.stderr)
        return 1
    found = stale(root, files)
    if given.check:
        for difference in found.values():
            print(difference, file=sys.stderr)
        if found:
            print(f"Not current: {', '.join(map(str, found))}. Write them: make docs", file=sys.stderr)
        return 1 if found else 0
    for path in found:
        if path in files:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(files[path], encoding="utf-8")
        else:
            (root / path).unlink()
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
