# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What is made from the catalog of critical metrics when the project is developed: dashboards and documentation."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The catalog's reader is part of the collection, because the role needs it too.
if str(ROOT / "collections") not in sys.path:
    sys.path.insert(0, str(ROOT / "collections"))
