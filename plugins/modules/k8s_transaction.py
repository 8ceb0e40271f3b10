#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Deploy objects to Kubernetes as one transaction."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_transaction
short_description: Deploy objects to Kubernetes as one transaction
version_added: 0.1.0
author: The Appgate platform authors
description:
  - Checks access and permissions, has the API server validate all objects (dry run), applies them server-side, waits
    once for the rollout, and asks the service from outside.
  - Where that fails it says which container of which pod failed and why, puts the last good revision back, and fails.
  - Objects that an earlier run made and that are no longer wanted are removed. Only objects with the label
    C(appgate.platform/release) of this release are ever removed.
  - Every deploy that changes something is kept as a revision, in a Secret of the namespace. A run that was interrupted
    is continued by the next one. Of two runs at the same release, one waits for the other.
  - One process does all of this, because a task per object costs a second each.
requirements:
  - PyYAML and urllib3; the Python package kubernetes for kubeconfigs with an auth-provider only
extends_documentation_fragment:
  - appgate.platform.connection
  - appgate.platform.connection.names
options:
  state:
    description:
      - V(present) deploys, V(absent) removes all objects of the release, V(rolled_back) goes to an earlier revision.
    type: str
    choices: [present, absent, rolled_back]
    default: present
  release:
    description: What this set of objects is known by.
    type: str
    required: true
  namespace:
    description: Namespace of the objects and of the revisions.
    type: str
    required: true
  manifests:
    description: All objects of the release. Values that nobody may see belong into O(secrets).
    type: list
    elements: dict
    default: []
  secrets:
    description: Secrets to make, as name, key and value.
    type: dict
    default: {}
  revision:
    description: With O(state=rolled_back), the revision to go to. Without it, the one before the current one.
    type: int
  probes:
    description: Requests that must be answered before a deploy counts.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Name of the Service to ask. Without an address outside the cluster, the API server passes it on.
        type: str
        default: ""
      port:
        description: Name or number of the Service's port.
        type: str
        default: http
      url:
        description: Ask this URL and not the Service's address.
        type: str
        default: ""
      path:
        description: Path of the request.
        type: str
        default: /
      scheme:
        description: How to ask.
        type: str
        choices: [http, https]
        default: http
      host:
        description: Value of the Host header, where it isn't that of the URL.
        type: str
        default: ""
      status:
        description: Status code to expect.
        type: int
        default: 200
      text:
        description: Text that the answer must hold.
        type: str
        default: ""
      timeout_seconds:
        description: How long to ask again before giving up.
        type: float
        default: 30
  wait_timeout_seconds:
    description: How long the rollout may take. A rollout that can't succeed any more is given up at once.
    type: float
    default: 180
  namespace_wait_seconds:
    description: How long to wait for a namespace that is being deleted to be gone, before refusing.
    type: float
    default: 0
  lock_wait_seconds:
    description:
      - How long to wait for another run that is changing this release, before refusing. 0 refuses at once.
      - A run holds a Lease C(<release>-deploy) of the namespace while it changes something. That of a run that was killed
        is taken over 30 s after its last sign of life. Runs that change nothing take none.
    type: float
    default: 300
  history_limit:
    description: How many revisions are kept.
    type: int
    default: 10
  roll_back:
    description: Put the last good revision back when the new one doesn't come up.
    type: bool
    default: true
  remove_namespace:
    description:
      - With O(state=absent), remove the namespace as well, if this release made it and nobody else uses it.
    type: bool
    default: true
  description:
    description: A note to keep with the revision.
    type: str
    default: ""
attributes:
  check_mode:
    description: The server's own dry run; also before the namespace exists.
    support: full
  diff_mode:
    description: One diff for each object that changes. Values of Secrets are hidden.
    support: full
"""

EXAMPLES = r"""
- name: Deploy, and go back by itself if it does not serve
  appgate.platform.k8s_transaction:
    kubeconfig: "{{ appgate_kubeconfig }}"
    context: "{{ appgate_context }}"
    release: hello
    namespace: hello
    manifests: "{{ lookup('ansible.builtin.template', 'hello.yml.j2') | from_yaml_all }}"
    probes:
      - service: hello
        text: Hello

- name: Go back to the revision before
  appgate.platform.k8s_transaction:
    state: rolled_back
    kubeconfig: "{{ appgate_kubeconfig }}"
    context: "{{ appgate_context }}"
    release: hello
    namespace: hello
"""

RETURN = r"""
revision:
  description: Number of the revision that is deployed now.
  returned: success
  type: int
  sample: 4
previous_revision:
  description: Number of the revision that was deployed before; 0 where there was none.
  returned: always
  type: int
  sample: 3
rolled_back_to:
  description: Number of the revision that was put back after a failure; 0 where none was.
  returned: always
  type: int
  sample: 0
changes:
  description: What was done to which object.
  returned: always
  type: list
  elements: dict
  sample: [{action: update, kind: Deployment, namespace: hello, name: hello}]
services:
  description: URL, type, addresses outside the cluster and ports of each Service of the release.
  returned: success
  type: dict
  sample: {hello: {url: http://10.201.0.1:4000/, type: LoadBalancer, addresses: [10.201.0.1], ports: [{name: http, port: 4000, node_port: 31234}]}}
probes:
  description: The requests that were answered.
  returned: success
  type: list
  elements: dict
  sample: [{url: "GET http://10.201.0.1:4000/", status: 200}]
server_version:
  description: Version of the API server.
  returned: success
  type: str
  sample: v1.37.2
network_policy_engine:
  description: The engine that enforces NetworkPolicy objects, as far as its API groups show; null where unknown.
  returned: success
  type: str
  sample: Cilium
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    CONNECTION,
    NAMES,
    AccessError,
    ApiError,
    Names,
    connect,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import secret_manifest
from ansible_collections.appgate.platform.plugins.module_utils.kube_plan import Outcome, TransactionError
from ansible_collections.appgate.platform.plugins.module_utils.kube_probe import Probe
from ansible_collections.appgate.platform.plugins.module_utils.kube_transaction import Settings, Transaction

PROBE_OPTIONS: dict[str, Any] = {
    "service": {"type": "str", "default": ""},
    "port": {"type": "str", "default": "http"},
    "url": {"type": "str", "default": ""},
    "path": {"type": "str", "default": "/"},
    "scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
    "host": {"type": "str", "default": ""},
    "status": {"type": "int", "default": 200},
    "text": {"type": "str", "default": ""},
    "timeout_seconds": {"type": "float", "default": 30},
}

ARGUMENTS: dict[str, Any] = {
    **CONNECTION,
    **NAMES,
    "state": {"type": "str", "choices": ["present", "absent", "rolled_back"], "default": "present"},
    "release": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "manifests": {"type": "list", "elements": "dict", "default": []},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "revision": {"type": "int"},
    "probes": {"type": "list", "elements": "dict", "default": [], "options": PROBE_OPTIONS},
    "wait_timeout_seconds": {"type": "float", "default": 180},
    "namespace_wait_seconds": {"type": "float", "default": 0},
    "lock_wait_seconds": {"type": "float", "default": 300},
    "history_limit": {"type": "int", "default": 10},
    "roll_back": {"type": "bool", "default": True},
    "remove_namespace": {"type": "bool", "default": True},
    "description": {"type": "str", "default": ""},
}


def history(outcome: Outcome) -> dict[str, Any]:
    """What was done, and where that leaves the release."""
    return {
        "revision": outcome.revision,
        "previous_revision": outcome.previous_revision,
        "rolled_back_to": outcome.rolled_back_to,
        "changes": [change.summary() for change in outcome.changes],
    }


def result(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a module's result."""
    return {
        **history(outcome),
        "services": outcome.services,
        "probes": outcome.probes,
        "server_version": outcome.server_version,
        "network_policy_engine": outcome.network_policy_engine,
    }


def run(given: dict[str, Any], check_mode: bool, on_lock_wait: Callable[[str], None]) -> Outcome:
    """Do what the module's options say."""
    cluster = connect(
        given["kubeconfig"], given["context"], Names(**given["variables"]), given["connect_timeout_seconds"]
    )
    transaction = Transaction(
        cluster,
        Settings(
            release=given["release"],
            namespace=given["namespace"],
            wait_timeout_seconds=given["wait_timeout_seconds"],
            namespace_wait_seconds=given["namespace_wait_seconds"],
            lock_wait_seconds=given["lock_wait_seconds"],
            history_limit=given["history_limit"],
            probes=tuple(Probe(**probe) for probe in given["probes"]),
            description=given["description"],
            check_mode=check_mode,
            roll_back=given["roll_back"],
            on_lock_wait=on_lock_wait,
        ),
    )
    if given["state"] == "absent":
        return transaction.remove(remove_namespace=given["remove_namespace"])
    if given["state"] == "rolled_back":
        return transaction.roll_back(given["revision"])
    secrets = [
        secret_manifest(name, given["namespace"], values, {}) for name, values in sorted(given["secrets"].items())
    ]
    return transaction.deploy([*given["manifests"], *secrets])


def perform(
    given: dict[str, Any], *, check_mode: bool, diff: bool, on_lock_wait: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Do what the options say; the module's result, a failure with `failed` and `msg`."""
    try:
        outcome = run(given, check_mode, on_lock_wait)
    except TransactionError as error:
        failed = error.outcome
        return {
            "failed": True,
            "msg": str(error),
            # What was applied and put back again has left the cluster as it was.
            "changed": bool(failed and failed.changed and not failed.rolled_back_to),
            **({**history(failed), "warnings": failed.warnings} if failed else {}),
        }
    except (AccessError, ApiError) as error:
        return {"failed": True, "msg": str(error)}
    answer: dict[str, Any] = {"changed": outcome.changed, **result(outcome)}
    if outcome.warnings:
        answer["warnings"] = outcome.warnings
    if diff:
        answer["diff"] = outcome.diff()
    return answer


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    # module._diff is the only way to learn that --diff was given.
    answer = perform(module.params, check_mode=module.check_mode, diff=module._diff)
    for text in answer.pop("warnings", []):
        module.warn(text)
    if answer.pop("failed", False):
        module.fail_json(**answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
