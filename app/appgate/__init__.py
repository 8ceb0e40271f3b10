# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The Appgate world: one page, served well."""

__version__ = "1.0.0"
