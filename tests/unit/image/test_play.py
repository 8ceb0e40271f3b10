# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The role as a person runs it: bad inputs are refused with their remedy, before anything is made."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Run = Callable[..., subprocess.CompletedProcess[str]]
GOOD = {"image_delivery": "none", "image_base": "pull"}


def play(**variables: Any) -> str:
    tasks = [
        {"ansible.builtin.import_role": {"name": "appgate.platform.image"}},
        {"ansible.builtin.debug": {"msg": "{{ [image_reference, image_tag, image_changed] | to_json }}"}},
    ]
    hosts = {"hosts": "all", "connection": "local", "gather_facts": False}
    return yaml.safe_dump([{**hosts, "vars": {**GOOD, **variables}, "tasks": tasks}])


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"image_dockerfile": "/nowhere/Dockerfile"}, ["image_dockerfile='/nowhere/Dockerfile'", "is no file"]),
        ({"image_context": "/nowhere"}, ["image_context='/nowhere'", "is no directory"]),
        ({"image_delivery": "registry"}, ["image_registry=''", "names no registry", "host[:port]"]),
        ({"image_delivery": "registry", "image_registry": "appgate"}, ["image_registry='appgate'"]),
        ({"image_delivery": "ftp"}, ["image_delivery", "registry", "ftp"]),
        ({"image_name": "Appgate:latest"}, ["image_name='Appgate:latest'", "no tag"]),
        ({"image_base": "debian:trixie"}, ["image_base='debian:trixie'", "@sha256"]),
        ({"image_delivry": "none"}, ["image_delivry", "image_delivery"]),
        ({"image_keep": "many"}, ["image_keep", "many"]),
        ({"image_build_args": ["VERSION"]}, ["image_build_args"]),
        (
            {
                "image_delivery": "registry",
                "image_registry": "127.0.0.1:1/x",
                "image_registry_plain_http": True,
                "image_registry_username": "me",
                "image_registry_password": "hunter2-secret",
            },
            ["image_registry='127.0.0.1:1/x'", "cannot be reached"],
        ),
        (
            {"image_delivery": "registry", "image_registry": "127.0.0.1:1/x", "image_registry_username": "me"},
            ["image_registry_password"],
        ),
        ({"image_min_free_mib": 999999999}, ["image_min_free_mib=999999999", "MiB free"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(
    ansible_playbook: Run, tmp_path: Path, variables: dict[str, Any], said: list[str]
) -> None:
    cache = tmp_path / "cache"
    done = ansible_playbook(play(image_cache_dir=str(cache), **variables))
    output = done.stdout + done.stderr
    assert done.returncode != 0
    for text in said:
        assert text in output
    assert "Traceback" not in output
    assert "hunter2" not in output
    left = [path for path in cache.rglob("*") if path.name != "lock"] if cache.exists() else []
    assert left == [], "something was made before the refusal"


def test_check_mode_builds_nothing(ansible_playbook: Run, tmp_path: Path) -> None:
    done = ansible_playbook(play(image_cache_dir=str(tmp_path / "cache")), "--check", "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" not in done.stdout
    assert not (tmp_path / "cache").exists()


def test_the_checked_in_haproxy_cfg_is_what_the_role_renders(ansible_playbook: Run, root: Path) -> None:
    found = re.search(
        r"^ +haproxy_grace: (\S+)$", (root / "playbooks" / "steps" / "image.yml").read_text(), re.MULTILINE
    )
    assert found is not None
    grace = found[1]
    file_play = yaml.safe_load((root / "app" / "haproxy.yml").read_text())[0]
    assert file_play["tasks"][0]["vars"]["haproxy_grace"] == grace
    tasks = [
        {
            "ansible.builtin.import_role": {"name": "appgate.platform.haproxy", "tasks_from": "render"},
            # What is compared is the text. HAProxy 3.0 judges it where the image is built.
            "vars": {"haproxy_grace": grace, "haproxy_check_command": ["true", "{file}"]},
        },
        {"ansible.builtin.debug": {"msg": "<{{ haproxy_config_text | b64encode }}>"}},
    ]
    done = ansible_playbook(
        yaml.safe_dump([{"hosts": "all", "connection": "local", "gather_facts": False, "tasks": tasks}]),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"<([A-Za-z0-9+/=]+)>", done.stdout)
    assert found is not None
    rendered = base64.b64decode(found[1]).decode()
    assert (root / "app" / "haproxy.cfg").read_text() == rendered, "write it again: ansible-playbook app/haproxy.yml"


def test_a_built_image_is_found_without_work(ansible_playbook: Run, tmp_path: Path) -> None:
    """An image in the cache is all that is needed: nothing is built for it again."""
    cache = tmp_path / "cache"
    first = ansible_playbook(play(image_cache_dir=str(cache)), "--check", "-v")
    found = re.search(r'\btag"?: "?([0-9a-f]{16})\b', first.stdout)
    assert found is not None, first.stdout + first.stderr
    tag = found[1]
    artifact = cache / "images" / tag
    artifact.mkdir(parents=True)
    (artifact / "manifest.json").write_text(json.dumps({"layers": []}))
    done = ansible_playbook(play(image_cache_dir=str(cache)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    assert f"localhost/appgate:{tag}" in done.stdout


def test_a_refusal_says_where_the_value_was_set(ansible_playbook: Run, tmp_path: Path) -> None:
    done = ansible_playbook(play(image_cache_dir=str(tmp_path / "cache"), image_base="debian:trixie"))
    said = " ".join((done.stdout + done.stderr).split())
    assert re.search(r"\(image_base is set in play\.yml:\d+\)", said), said
