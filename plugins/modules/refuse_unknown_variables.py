# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: refuse_unknown_variables
short_description: Refuses variables that a role doesn't know, and values of another type than it declares
version_added: 0.1.0
description:
  - Fails when a variable starts with the role's name and an underscore, and the role declares it neither in
    C(meta/argument_specs.yml) nor in C(meta/outputs.yml).
  - Ansible ignores such a variable, so that a typo silently leaves a default in place.
  - The message names each variable, the file and line that set it if they are known, and the declared variable that
    is most like it. It does not show the value, as that could be a secret.
  - Then values are held against types, choices and nested options that the entry point declares, and what it requires
    must be there. These messages show the value, unless it is declared C(no_log), and the remedy. Switch Ansible's own
    check off with C(rolespec_validate=false); it comes before any task, shows the whole specification and no place.
  - Runs on the controller, changes nothing, and does the same in check mode.
options:
  role:
    description:
      - Name of the role. In a role's own tasks it can be left out.
    type: str
  types:
    description:
      - Whether types are looked at. A role that does it in more depth says V(false).
    type: bool
    default: true
  required:
    description:
      - Whether what the role requires must be there. Before the role's own turn it may not be known yet.
    type: bool
    default: true
author:
  - The Appgate platform authors
"""

EXAMPLES = r"""
- name: Refuse variables of this role that don't exist
  appgate.platform.refuse_unknown_variables:
    role: haproxy
"""

RETURN = r"""
unknown:
  description: The unknown names, in order.
  type: list
  elements: str
  returned: failure
  sample: [haproxy_htp_port]
"""
