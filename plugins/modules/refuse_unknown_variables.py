# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: refuse_unknown_variables
short_description: Refuses variables that a role doesn't know
version_added: 0.1.0
description:
  - Fails when a variable starts with the role's name and an underscore, and the role declares it neither in
    C(meta/argument_specs.yml) nor in C(meta/outputs.yml).
  - Ansible ignores such a variable, so that a typo silently leaves a default in place.
  - The message names each variable, the file and line that set it if they are known, and the declared variable that
    is most like it. It never shows a value, as that could be a secret.
  - Runs on the controller, changes nothing, and does the same in check mode.
options:
  role:
    description:
      - Name of the role. In a role's own tasks it can be left out.
    type: str
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
