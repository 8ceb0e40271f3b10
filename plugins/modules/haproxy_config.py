# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action plugin of the same name, which does the work on the control node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_config
short_description: Check the variables of the role haproxy and render haproxy.cfg
description:
  - Reads the variables of the role C(appgate.platform.haproxy) from the play. It takes no structure as an argument, so that an error can name the
    variable, its value, and the file and line where it was written.
  - All problems are reported at once, before anything is changed.
  - The rendered text is accepted by HAProxy itself. What HAProxy says about a line is traced back to the variable (and the line within C(extra)).
  - It is an action plugin. Only with O(dest) does it touch the host.
author:
  - The Appgate platform authors
options:
  check:
    description:
      - V(command) runs C(haproxy_check_command) on the machine that runs Ansible. A text that the same command accepted before is not checked again.
      - V(host) lets the host's own HAProxy check the file before it replaces O(dest).
      - V(variables) only checks the variables and renders nothing.
      - V(available) is V(command) where that program is on the machine that runs Ansible, else V(variables).
    type: str
    choices: [available, command, host, variables]
    default: command
  dest:
    description: File to write on the host.
    type: path
  owner:
    description: Owner of the file.
    type: str
  group:
    description: Group of the file.
    type: str
  mode:
    description: Mode of the file.
    type: str
  backup:
    description: Whether the previous file is kept next to it.
    type: bool
    default: false
  run_as_user:
    description: User for the section C(global), unless C(haproxy_global) names one.
    type: str
  run_as_group:
    description: Group for the section C(global), unless C(haproxy_global) names one.
    type: str
attributes:
  check_mode:
    description: Changes nothing and tells what would change.
    support: full
  diff_mode:
    description: Shows the change of the file.
    support: full
"""

EXAMPLES = r"""
- name: Render the text for a ConfigMap
  appgate.platform.haproxy_config:

- name: Write the file of a host
  appgate.platform.haproxy_config:
    check: host
    dest: /etc/haproxy/haproxy.cfg
    mode: "0644"
    backup: true
    run_as_user: haproxy
    run_as_group: haproxy
"""

RETURN = r"""
text:
  description: The accepted text.
  returned: where HAProxy was asked, or is by O(check=host)
  type: str
  sample: "global\n    maxconn 2048\n"
backup_file:
  description: Where the previous file is.
  returned: changed, with O(dest) and O(backup)
  type: str
"""
