#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bundle_make
short_description: Make a bundle for machines without a network
description:
  - Runs on the controller, once for all hosts of the play. It carries what the entry points C(stock) of the roles have named
    into one directory, with the wheels of C(.venv), Debian packages and the project itself.
  - A file that is there is not copied again. The manifest with all checksums is written last.
version_added: 0.1.0
author: The Appgate platform authors
options:
  path:
    description: Directory of the bundle.
    type: path
    required: true
  cache_dir:
    description: The cache of all roles, which keeps what only a bundle needs as well.
    type: path
    required: true
  debian_packages:
    description: Whether the bundle holds the Debian packages that the roles install.
    type: bool
    default: true
  images:
    description: Published images to carry as well, each as C(registry/path:tag).
    type: list
    elements: str
    default: []
  registry_plain_http:
    description: Whether the registries of O(images) speak HTTP without TLS.
    type: bool
    default: false
  registry_authfile:
    description: File with credentials for them, as C(skopeo login) writes it.
    type: path
    default: ""
  refresh:
    description: Fetch Debian packages and O(images) again, because newer ones may be there under the same name.
    type: bool
    default: false
  timeout_seconds:
    description: Time for each long step.
    type: int
    default: 900
  check_only:
    description: Only refuse a directory in which no bundle can be made.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says whether it would make or change the bundle.
    support: full
"""

EXAMPLES = r"""
- name: Make the bundle
  appgate.platform.bundle_make:
    path: /media/usb/appgate
    cache_dir: ~/.cache/appgate
  run_once: true
"""

RETURN = r"""
bundle:
  description: Its C(path), its size in C(bytes), and the C(sha256) of its manifest.
  returned: unless O(check_only)
  type: dict
"""
