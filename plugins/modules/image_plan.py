#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action plugin image_plan: all of it happens on the control node."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: image_plan
short_description: Name an image by its inputs and find out what is there already
version_added: 0.1.0
author:
  - The Appgate platform authors
description:
  - Checks the inputs, hashes them to a tag, and asks the cache and the place of delivery whether that image is there.
  - Runs on the control node, which is the builder too. Changes nothing, and does the same in check mode.
options:
  base_only:
    description: Check the inputs, and only look for the base.
    type: bool
    default: false
  base:
    description: C(auto), C(bootstrap), C(pull), or an image with its digest.
    type: str
    required: true
  base_suite:
    description: Debian release of a bootstrapped base.
    type: str
    required: true
  base_mirrors:
    description: Lines of a C(sources.list); C({suite}) is put in.
    type: list
    elements: str
    required: true
  base_packages:
    description: Packages of a bootstrapped base.
    type: list
    elements: str
    required: true
  base_refresh:
    description: Whether the base is to be bootstrapped again.
    type: bool
    default: false
  cache_dir:
    description: Directory for bases, wheels, images and the builder's storage.
    type: path
    required: true
  context:
    description: Directory to build from.
    type: path
    required: true
  dockerfile:
    description: The Dockerfile, by default the one in O(context).
    type: path
  name:
    description: Name of the image, without registry and tag.
    type: str
    required: true
  haproxy_config:
    description: Text that takes the place of C(haproxy.cfg) in the context.
    type: str
    default: ""
  build_args:
    description: Build arguments by name.
    type: dict
    default: {}
  python_version:
    description: Python that the wheels are for.
    type: str
    default: "3.13"
  delivery:
    description: Where the image goes, as the options of M(appgate.platform.image_deliver) say it.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Find the base
  appgate.platform.image_plan:
    base_only: true
    base: auto
    base_suite: trixie
    base_mirrors: ["deb http://deb.debian.org/debian {suite} main"]
    base_packages: [haproxy, python3.13-minimal]
    cache_dir: ~/.cache/appgate/image
    context: app
    name: appgate
    delivery: {kind: none}
  register: plan
"""

RETURN = r"""
tag:
  description: The hash of all inputs; not known before the base is there.
  type: str
  returned: without O(base_only)
built:
  description: Whether the image is in the cache.
  type: bool
  returned: without O(base_only)
delivered:
  description: Whether the image is where it is to go.
  type: bool
  returned: without O(base_only)
reference:
  description: What a pod's image field says.
  type: str
  returned: without O(base_only)
plan:
  description: All inputs, for M(appgate.platform.image_build).
  type: dict
  returned: without O(base_only)
stock:
  description:
    - C(paths) of the cache that the image is and is made of, each by its place there, and Debian's C(packages) of the builder,
      each by a program of it.
  type: dict
  returned: without O(base_only)
base:
  description: What O(base) came to.
  type: str
  returned: always
base_ready:
  description: Whether the base needs nothing done.
  type: bool
  returned: always
missing_packages:
  description: Debian packages that the builder needs for what is left to do.
  type: list
  elements: str
  returned: always
haproxy_check_command:
  description: The base's HAProxy as a command; C({file}) stands for the file.
  type: list
  elements: str
  returned: always
"""
