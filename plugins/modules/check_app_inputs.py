# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of an action plugin: plugins/action/check_app_inputs.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_app_inputs
short_description: Refuses variables of the role app that don't fit together
version_added: 0.1.0
description:
  - Checks the variables of the role C(app) one by one and against each other, before anything is changed.
  - Tells all mistakes at once, each with the variable, its value, the file and line that set it, and what is right.
  - Runs on the controller, changes nothing, and does the same in check mode.
options:
  deferred:
    description: Variables that a later task sets, about which nothing is said yet.
    type: list
    elements: str
    default: []
author: The Appgate platform authors
"""

EXAMPLES = r"""
- name: Refuse values that do not fit together
  appgate.platform.check_app_inputs:
"""

RETURN = r"""
msg:
  description: All mistakes, one a line.
  returned: failure
  type: str
  sample: "app_replicas (set in inventory/local/hosts.yml:4): 0 must be a whole number from 1 to 1000."
"""
