# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of sources."""

from __future__ import annotations

from .support import go, go_caches, go_on_path, publisher, taker

__all__ = ["go", "go_caches", "go_on_path", "publisher", "taker"]
