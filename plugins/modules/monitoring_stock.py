#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: monitoring_stock
short_description: Name the parts and the images that the embedded monitoring chart takes
description:
  - Runs on the controller, asks no cluster and changes nothing. It is for making a bundle.
version_added: 0.1.0
author: The Appgate platform authors
options:
  cache_dir:
    description: Directory for built images, as the role monitoring has it.
    type: path
    required: true
attributes:
  check_mode:
    description: It never changes anything.
    support: full
"""

EXAMPLES = r"""
- name: Name what monitoring takes
  appgate.platform.monitoring_stock:
    cache_dir: "{{ monitoring_cache_dir }}"
  register: __monitoring_stock
"""

RETURN = r"""
parts:
  description: Parts of the role sources.
  returned: success
  type: list
  elements: str
  sample: [alertmanager, helm, prometheus]
images:
  description: Images, for M(appgate.platform.monitoring_images).
  returned: success
  type: list
  elements: dict
stock:
  description: C(paths) of the cache that hold the images, each by its place there, and Debian's C(packages) that deliver them.
  returned: success
  type: dict
"""
