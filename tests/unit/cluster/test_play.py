# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What a person reads whose variables no cluster can be made of."""

from __future__ import annotations

import json
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

PLAY = """\
- hosts: all
  gather_facts: false
  roles:
    - role: appgate.platform.cluster
"""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("cluster_name: Bad_Name", "cluster_name (set in hosts.yml:5): 'Bad_Name' must be 1 to 32 lower-case letters"),
        (
            "cluster_address_block: 8.8.0.0/16",
            "cluster_address_block (set in hosts.yml:5): '8.8.0.0/16' must be a private block of size /16",
        ),
        ("cluster_node_count: 0", "cluster_node_count (set in hosts.yml:5): 0 must be a number from 1 to 100"),
        (
            "cluster_dns_domain: Cluster_Local",
            "cluster_dns_domain (set in hosts.yml:5): 'Cluster_Local' must be at most 253 characters",
        ),
    ],
)
@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_message_about_a_variable_names_its_place(
    ansible_playbook: Callable[..., CompletedProcess[str]], tmp_path: Path, line: str, says: str, state: str
) -> None:
    (tmp_path / "hosts.yml").write_text(
        f"all:\n  hosts:\n    local:\n      ansible_connection: local\n      {line}\n      cluster_state: {state}\n"
    )
    done = ansible_playbook(PLAY, inventory="hosts.yml")
    assert done.returncode != 0
    assert says in re.sub(r"\s+", " ", done.stdout + done.stderr)


def play_of(tasks_from: str, **variables: object) -> str:
    """A play of some of the role's tasks, by the Python that runs the tests."""
    role = {"name": "appgate.platform.cluster", "tasks_from": tasks_from}
    task = {"ansible.builtin.include_role": role, "vars": {**variables, "ansible_python_interpreter": sys.executable}}
    return json.dumps([{"hosts": "all", "connection": "local", "gather_facts": False, "tasks": [task]}])


def test_check_mode_does_not_need_an_image_in_the_cache(
    ansible_playbook: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    play = play_of("take", __cluster_parts=[], cluster_cache_dir=str(cache), sources_cache_dir=str(cache))
    done = ansible_playbook(play, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (cache / "images").exists()


@pytest.mark.usefixtures("builder")
def test_an_image_that_another_run_has_made_meanwhile_is_no_reason_to_fail(
    ansible_playbook: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    image = tmp_path / "cache" / "node.tar"
    image.parent.mkdir()
    image.write_text("of the other run")
    play = play_of("node_image", __cluster_node_image=str(image))
    done = ansible_playbook(play)
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(image) as archive:
        assert "index.json" in archive.getnames()
