#!/usr/bin/env python3
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Check a bundle with Python alone, before there is a .venv: scripts/check_bundle.py DIRECTORY."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.appgate.platform.plugins.module_utils import bundle  # noqa: E402 (found by the line above)


def main(arguments: list[str]) -> int:
    """0 when the bundle is whole and for this machine and this version of the project."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    path = Path(arguments[0]).absolute()
    try:
        manifest = bundle.read(path)
        bundle.check_fit(path, manifest, ROOT)
        bundle.verify(path, manifest, lambda text: print(f"bundle: {text}", flush=True))
    except bundle.BundleError as error:
        print(error, file=sys.stderr)
        return 1
    print("bundle: whole, and for this machine")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
