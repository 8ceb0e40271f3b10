# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the package importable from the checkout, wherever pytest is started."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
