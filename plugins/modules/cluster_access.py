#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Check that a cluster can be used, before anything is changed on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_access
short_description: Check that a cluster can be used, before anything is changed on it
version_added: 0.1.0
author: The Appgate platform authors
description:
  - Reads a kubeconfig, takes the context that is named (never the current one), reaches the API server, logs in, and
    asks by SelfSubjectAccessReview whether the user may do what a run is going to do.
  - Whatever is wrong fails this host with one sentence; the other hosts of a play go on.
extends_documentation_fragment:
  - appgate.platform.connection
  - appgate.platform.connection.names
options:
  permissions:
    description: What the run is going to do.
    type: list
    elements: dict
    default: []
    suboptions:
      verbs:
        description: Verbs of the API, such as C(get) or C(patch).
        type: list
        elements: str
        required: true
      group:
        description: API group, empty for the core one.
        type: str
        default: ""
      resources:
        description: Plural names of the resources; a subresource after a slash.
        type: list
        elements: str
        required: true
      namespace:
        description: Namespace, empty for the whole cluster.
        type: str
        default: ""
attributes:
  check_mode:
    description: Changes nothing anyway.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Refuse a cluster that cannot be used
  appgate.platform.cluster_access:
    kubeconfig: "{{ appgate_kubeconfig }}"
    context: "{{ appgate_context }}"
    permissions:
      - verbs: [get, create, patch]
        group: apps
        resources: [deployments]
        namespace: monitoring
    variables:
      kubeconfig: appgate_kubeconfig
      context: appgate_context
"""

RETURN = r"""
server:
  description: URL of the API server.
  returned: success
  type: str
  sample: https://10.200.0.2:6443
server_version:
  description: Version of the API server.
  returned: success
  type: str
  sample: v1.37.2
network_policy_engine:
  description: The engine that enforces NetworkPolicy objects, as far as its API groups show; null where unknown.
  returned: success
  type: str
  sample: Calico
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    CONNECTION,
    NAMES,
    AccessError,
    ApiError,
    Names,
    Permission,
    connect,
    preflight,
)


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **NAMES,
            "permissions": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "verbs": {"type": "list", "elements": "str", "required": True},
                    "group": {"type": "str", "default": ""},
                    "resources": {"type": "list", "elements": "str", "required": True},
                    "namespace": {"type": "str", "default": ""},
                },
            },
        },
        supports_check_mode=True,
    )
    given = module.params
    permissions = []
    for item in given["permissions"]:
        for resource in item["resources"]:
            plural, _slash, subresource = resource.partition("/")
            permissions += [
                Permission(verb, item["group"], plural, item["namespace"], subresource) for verb in item["verbs"]
            ]
    try:
        cluster = connect(
            given["kubeconfig"], given["context"], Names(**given["variables"]), given["connect_timeout_seconds"]
        )
        access = preflight(cluster, permissions)
    except (AccessError, ApiError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        server=cluster.entry.server,
        server_version=access.version,
        network_policy_engine=access.network_policy_engine,
    )


if __name__ == "__main__":
    main()
