#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bundle_install
short_description: Put the content of a bundle where every role looks for it
description:
  - Runs on the controller. It refuses a bundle for another machine or another version of the project, and one of which a file
    is missing or damaged, by name and before anything is changed.
  - What the cache has already is left alone. Then the Debian packages that are missing are installed from the bundle, which
    needs root, and everything else goes into the cache, each thing in one step.
version_added: 0.1.0
author: The Appgate platform authors
options:
  path:
    description: Directory of the bundle.
    type: path
    required: true
  cache_dir:
    description: The cache of all roles.
    type: path
    required: true
  registry:
    description: Registry and prefix that the bundle's published images are pushed to. Empty leaves them in the bundle.
    type: str
    default: ""
  registry_plain_http:
    description: Whether O(registry) speaks HTTP without TLS.
    type: bool
    default: false
  registry_authfile:
    description: File with credentials for it, as C(skopeo login) writes it.
    type: path
    default: ""
  timeout_seconds:
    description: Time for each long step.
    type: int
    default: 900
attributes:
  check_mode:
    description: Checks the bundle, and says what would be installed.
    support: full
"""

EXAMPLES = r"""
- name: Install the bundle
  appgate.platform.bundle_install:
    path: /media/usb/appgate
    cache_dir: ~/.cache/appgate
"""

RETURN = r"""
installed:
  description: What was put into the cache, by its place there.
  returned: success
  type: list
  elements: str
  sample: [parts/etcd/v3.7.3-d2aa2564a495]
images:
  description: Published images that were pushed, by their new name.
  returned: success
  type: list
  elements: str
packages:
  description: Debian packages that were installed.
  returned: success
  type: list
  elements: str
"""
