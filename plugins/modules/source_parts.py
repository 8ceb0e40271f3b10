#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: source_parts
short_description: Take outside parts from the cache, their publishers or their source
description:
  - Makes sure that the programs of each part are in the cache, in the version that the part's
    go.mod pins, and tells where they are.
  - A part that is missing is downloaded from its publisher and checked, or compiled with Go.
  - An action plugin of the same name runs on the controller. It answers alone when everything is in
    the cache, and shows the progress while this module works.
version_added: 0.1.0
author: The Appgate platform authors
options:
  parts:
    description: Names of the parts, as in the catalog.
    type: list
    elements: str
    required: true
  catalog:
    description: Path of the catalog on the controller.
    type: path
    required: true
  go_dir:
    description: Directory on the controller with one directory per part that holds go.mod and go.sum.
    type: path
    required: true
  cache_dir:
    description: Directory of the cache, shared by all checkouts of a user.
    type: path
    required: true
  mode:
    description:
      - V(upstream) downloads official releases, V(build) compiles, V(auto) downloads when the
        publishers can be reached and compiles otherwise.
      - A part whose publisher offers neither a program nor an image is always compiled.
    type: str
    choices: [auto, upstream, build]
    default: auto
  mode_by_part:
    description: A mode of its own for single parts.
    type: dict
    default: {}
  mirror:
    description: Base URL that takes the place of the publishers' hosts; paths stay as they are.
    type: str
    default: ""
  probe_timeout_seconds:
    description: How long the one probe of a run may take.
    type: float
    default: 3.0
  download_timeout_seconds:
    description: How long a publisher may be silent during a download.
    type: float
    default: 60.0
  disk_reserve_mib:
    description: Free disk that must remain beyond what the missing parts need.
    type: int
    default: 1024
  verify:
    description: Check the SHA-256 of every file instead of size and time.
    type: bool
    default: false
  prune:
    description: Remove other versions of these parts, unless a process runs from them.
    type: bool
    default: false
  keep_build_cache:
    description: Keep Go's build and module caches, with which a rebuild takes seconds.
    type: bool
    default: true
  pages_enabled:
    description: Build the web pages of parts whose module has them as source only, with Node and packages from npm.
    type: bool
    default: true
  progress_seconds:
    description: How often a long part shows a sign of life.
    type: float
    default: 15.0
  plan_path:
    description: Set by the action plugin.
    type: path
  progress_path:
    description: Set by the action plugin.
    type: path
  run:
    description: Set by the action plugin.
    type: str
    default: ""
  owner:
    description: Set by the action plugin.
    type: str
    default: another run
  pip_python:
    description: Set by the action plugin.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says what would be downloaded or built, and does not do it.
    support: full
"""

EXAMPLES = r"""
- name: Take etcd and CoreDNS
  appgate.platform.source_parts:
    parts: [etcd, coredns]
    catalog: "{{ role_path }}/vars/catalog.yml"
    go_dir: "{{ role_path }}/files/go"
    cache_dir: ~/.cache/appgate
  register: taken

- name: Show etcd's version
  ansible.builtin.command: "{{ taken.bin.etcd }}/etcd --version"
  changed_when: false
"""

RETURN = r"""
bin:
  description: For each part, the directory with its programs.
  type: dict
  returned: success
files:
  description: For each part, the directory with its manifests.
  type: dict
  returned: success
taken:
  description:
    - For each part its version, release, source (V(cache), V(upstream) or V(build)), origin (how it
      first came into the cache) and the SHA-256 of each program.
  type: dict
  returned: success
would:
  description: What would be done, in words.
  type: list
  elements: str
  returned: in check mode
pruned:
  description: Directories that were removed.
  type: list
  elements: str
  returned: success
"""

import json
import signal
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.appgate.platform.plugins.module_utils.sources import arguments, core
from ansible_collections.appgate.platform.plugins.module_utils.sources.catalog import Part
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import SourceError
from ansible_collections.appgate.platform.plugins.module_utils.sources.progress import Progress


def stop(number: int, _frame: Any) -> None:
    """End as an exception does, so that the compiler and temporary files go as well."""
    sys.exit(128 + number)


def main() -> None:
    module = AnsibleModule(argument_spec={**arguments.PUBLIC, **arguments.INTERNAL}, supports_check_mode=True)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    params = module.params
    if not params["plan_path"]:
        module.fail_json(msg="appgate.platform.source_parts works through its action plugin: use it in a task.")
    try:
        with open(params["plan_path"], encoding="utf-8") as handle:
            plan = json.load(handle)
        parts = [Part.from_dict(part) for part in plan["parts"]]
        taker = core.Taker(arguments.options(params, plan["probe_url"]), Progress(params["progress_path"]))
        result = taker.plan(parts) if module.check_mode else taker.take(parts)
    except SourceError as error:
        module.fail_json(msg=str(error))
    for warning in result.warnings:
        module.warn(warning)
    returned = result.to_dict()
    del returned["warnings"]
    module.exit_json(**returned)


if __name__ == "__main__":
    main()
