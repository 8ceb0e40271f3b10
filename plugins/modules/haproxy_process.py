# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Thin module around module_utils/haproxy_process.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_process
short_description: Start, reload or stop HAProxy where no systemd does it
description:
  - Runs HAProxy as master and worker, found again by its pid file. For containers and hosts without systemd.
  - A reload is SIGUSR2 to the master, whose new worker takes the listening sockets, so no connection is lost. It is over when the master names the
    new worker, and an error when the old one had to stay.
  - A HAProxy that was started without a master, as Debian's init script does, is taken over in the same way.
author:
  - The Appgate platform authors
options:
  state:
    description: What should be. V(reloaded) also starts it, and V(started) also repeats a reload that failed.
    type: str
    choices: [started, reloaded, stopped]
    default: started
  config:
    description: The configuration file.
    type: path
    default: /etc/haproxy/haproxy.cfg
  pid_file:
    description: Where the master's process id is.
    type: path
    default: /run/haproxy.pid
  master_socket:
    description: Socket of the master.
    type: path
    default: /run/haproxy-master.sock
  binary:
    description: The program.
    type: path
    default: /usr/sbin/haproxy
  timeout_seconds:
    description: How long a start, a reload, or each step of a stop may take.
    type: int
    default: 20
attributes:
  check_mode:
    description: Changes nothing and tells what would change.
    support: full
"""

EXAMPLES = r"""
- name: Reload HAProxy in a container
  appgate.platform.haproxy_process:
    state: reloaded

- name: Find out whether a reload is due, also where systemd runs HAProxy
  appgate.platform.haproxy_process:
  check_mode: true
  changed_when: false
  register: haproxy
"""

RETURN = r"""
outdated:
  description:
    - Whether the file is younger than the newest worker, so that HAProxy serves what an older file said. Found out before anything is done.
    - False where no master answers at O(master_socket).
  returned: success
  type: bool
pids:
  description: Processes of the pid file afterwards, one with a master.
  returned: success
  type: list
  elements: int
  sample: [4711]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_process import Haproxy, ProcessError


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "reloaded", "stopped"], "default": "started"},
            "config": {"type": "path", "default": "/etc/haproxy/haproxy.cfg"},
            "pid_file": {"type": "path", "default": "/run/haproxy.pid"},
            "master_socket": {"type": "path", "default": "/run/haproxy-master.sock"},
            "binary": {"type": "path", "default": "/usr/sbin/haproxy"},
            "timeout_seconds": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    wanted = module.params["state"]
    haproxy = Haproxy(**{key: value for key, value in module.params.items() if key != "state"})
    pids = haproxy.pids()
    outdated = haproxy.is_outdated()
    if wanted == "started":
        # The file is unchanged after a failed reload, so nothing else would try again once the port is free.
        retry = haproxy.is_ours(pids) and haproxy.has_failed_reload()
        changed = retry or not haproxy.is_ours(pids)
        act = haproxy.reload if retry else haproxy.start
    elif wanted == "reloaded":
        changed, act = True, haproxy.reload
    else:
        changed, act = bool(pids), haproxy.stop
    if changed and not module.check_mode:
        try:
            act()
        except (ProcessError, OSError) as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=changed, outdated=outdated, pids=pids if module.check_mode else haproxy.pids())


if __name__ == "__main__":
    main()
