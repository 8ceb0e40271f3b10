# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A module whose core runs in Ansible's own process on a local connection answers as the module does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from tests.unit.control_plane import ControlPlane

Play = Callable[..., subprocess.CompletedProcess[str]]

# With `environment` a task must run as a module.
TWICE = """
- name: Deploy in both ways
  hosts: all
  gather_facts: false
  module_defaults:
    appgate.platform.k8s_transaction:
      kubeconfig: {kubeconfig}
      context: {context}
      release: {name}
      namespace: {namespace}
      manifests:
        - apiVersion: v1
          kind: Namespace
          metadata: {{name: {namespace}}}
        - apiVersion: v1
          kind: ConfigMap
          metadata: {{name: {name}, namespace: {namespace}}}
          data: {{since: 2026-01-01, state: "{{{{ state }}}}"}}
  tasks:
    - name: Deploy
      appgate.platform.k8s_transaction:
      environment: {environment}
      register: deployed

    - name: Show it
      ansible.builtin.debug:
        msg: "answer={{{{ deployed | to_json }}}}"
"""
NOWHERE = """
- name: Ask a cluster that is not there
  hosts: all
  gather_facts: false
  tasks:
    - name: Remove
      appgate.platform.k8s_transaction:
        state: absent
        kubeconfig: /nonexistent
        context: nowhere
        release: none
        namespace: none
      environment: {environment}
"""
MODULE = '{"ANY": "value"}'
LOCAL = ("-e", "ansible_connection=local ansible_python_interpreter={{ansible_playbook_python}}", "-e")


def test_same_answers(ansible_playbook: Play, control_plane: ControlPlane, namespace: str) -> None:
    answers = []
    for name, environment in (("here", "{}"), ("module", MODULE)):
        playbook = TWICE.format(
            kubeconfig=control_plane.kubeconfig,
            context=control_plane.context,
            namespace=f"{namespace}-{name}",
            name=name,
            environment=environment,
        )
        for arguments in (("state=one", "--check", "--diff"), ("state=one",), ("state=one",), ("state=two", "--diff")):
            done = ansible_playbook(playbook, *LOCAL, *arguments)
            assert done.returncode == 0, done.stdout
            line = next(line for line in done.stdout.splitlines() if "answer=" in line)
            start = line.index("{")
            answer = json.loads(line[start : line.rindex("}") + 1].replace('\\"', '"').replace("\\\\", "\\"))
            answer.pop("diff", None)
            answers.append((name, json.loads(json.dumps(answer).replace(name, "NAME"))))
    here = [answer for name, answer in answers if name == "here"]
    module = [answer for name, answer in answers if name == "module"]
    assert here == module
    assert [answer["changed"] for answer in here] == [True, True, False, True]


def test_same_failure(ansible_playbook: Play) -> None:
    for environment in ("{}", MODULE):
        done = ansible_playbook(NOWHERE.format(environment=environment), *LOCAL, "any=value")
        assert done.returncode == 2
        assert "/nonexistent" in done.stdout
        assert "Traceback" not in done.stdout
