# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A real build, twice: the same inputs give the same digest, and an interrupted build is repaired."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils import image_build, image_work
from ansible_collections.appgate.platform.plugins.module_utils.image_base import Base, haproxy_check_command
from ansible_collections.appgate.platform.plugins.module_utils.image_build import Plan, build, make_plan

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., subprocess.CompletedProcess[str]]


pytestmark = pytest.mark.usefixtures("builder")


@pytest.fixture(scope="module")
def base_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The person's own cache when it has the base, else one that is filled now."""
    own = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "appgate" / "image"
    found = base().find(own)
    if found is not None:
        return own
    made: Path = tmp_path_factory.mktemp("base")
    base().make(made, 900, 1767225600)
    return made


def base() -> Base:
    defaults = yaml.safe_load((ROOT / "roles" / "image" / "defaults" / "main.yml").read_text())
    return Base(
        defaults["image_base_suite"],
        tuple(defaults["image_base_mirrors"]),
        tuple(defaults["image_base_packages"]),
        ROOT / "roles" / "image" / "files" / "prune.py",
    )


def planned(base_cache: Path, cache: Path, *, onto_nodes: bool = False) -> tuple[Plan, Path]:
    record = base().find(base_cache)
    assert record is not None
    plan = make_plan(
        context=ROOT / "app",
        dockerfile=ROOT / "app" / "Dockerfile",
        name="appgate",
        base="bootstrap",
        base_id=record["sha256"],
        haproxy_config="",
        build_args={},
        python_version="3.13",
        cache_dir=cache,
        onto_nodes=onto_nodes,
    )
    return plan, base_cache / "base" / base().key / "base.tar"


LIMITS: dict[str, Any] = {"timeout_seconds": 300, "min_free_mib": 100, "keep": 3}


def test_same_inputs_same_digest(base_cache: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        plan, archive = planned(base_cache, tmp_path / name)
        done = build(plan, archive, **LIMITS)
        assert done["changed"]
        digests.append(done["digest"])
        assert build(plan, archive, **LIMITS) == {"changed": False, "digest": done["digest"]}
    assert digests[0] == digests[1]
    image = tmp_path / "one" / "images" / planned(base_cache, tmp_path / "one")[0].tag
    manifest = json.loads((image / "manifest.json").read_text())
    config = json.loads((image / manifest["config"]["digest"].removeprefix("sha256:")).read_text())["config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8404/tcp"}
    assert config["StopSignal"] == "SIGTERM"
    for label in ("version", "revision", "created", "licenses", "title"):
        assert config["Labels"][f"org.opencontainers.image.{label}"]
    # Python and HAProxy from their own images are 59 MB together.
    assert sum(layer["size"] for layer in manifest["layers"]) < 30_000_000


def test_an_image_for_nodes_has_an_id_of_its_own(base_cache: Path, tmp_path: Path) -> None:
    """A kubelet that has pulled an ID from a registry pulls it again under each other name."""
    ids = set()
    for onto_nodes in (False, True):
        plan, archive = planned(base_cache, tmp_path, onto_nodes=onto_nodes)
        build(plan, archive, **LIMITS)
        config = json.loads((plan.artifact / "manifest.json").read_text())["config"]["digest"]
        labels = json.loads((plan.artifact / config.removeprefix("sha256:")).read_text())["config"]["Labels"]
        assert labels["org.opencontainers.image.licenses"]
        ids.add((plan.tag, config))
    (tag, config), (other_tag, other_config) = ids
    assert tag != other_tag
    assert config != other_config


def test_a_killed_build_is_repaired_by_the_next(base_cache: Path, tmp_path: Path) -> None:
    plan, archive = planned(base_cache, tmp_path)
    program = (
        "import sys, json, pathlib\n"
        f"sys.path.insert(0, {str(ROOT / 'collections')!r})\n"
        "from ansible_collections.appgate.platform.plugins.module_utils.image_build import *\n"
        "value = json.loads(sys.argv[1])\n"
        f"build(Plan.from_dict(value), pathlib.Path(sys.argv[2]), **{LIMITS!r})\n"
    )
    # While its context is laid out, and while the built image is written.
    for sign in ("context-*", "images/.new-*"):
        process = subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(dataclasses.asdict(plan)), str(archive)],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        old = set(tmp_path.glob(sign))
        while not set(tmp_path.glob(sign)) - old:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert plan.digest() is None
    done = build(plan, archive, **LIMITS)
    assert done["digest"]
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith("context-")]
    assert left == []


def test_what_another_buildah_has_left_is_made_anew(base_cache: Path, tmp_path: Path) -> None:
    """A newer one notes a network in its storage that an older one doesn't have, and fails on."""
    plan, archive = planned(base_cache, tmp_path)
    first = build(plan, archive, **LIMITS)
    shutil.rmtree(plan.artifact)
    noted = tmp_path / "storage" / "defaultNetworkBackend"
    noted.write_text("cni" if any(Path(place).exists() for place in image_work.NETAVARK) else "netavark")
    about = tmp_path / "storage.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "program": "buildah version 0.1.0"}))
    assert build(plan, archive, **LIMITS)["digest"] == first["digest"]


@pytest.mark.parametrize("name", image_build.LIMITS)
def test_a_limit_below_what_buildah_would_set_is_kept(name: str) -> None:
    """To raise it takes a capability that root doesn't have everywhere."""
    program = (
        "import resource, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'collections')!r})\n"
        "from ansible_collections.appgate.platform.plugins.module_utils import image_build\n"
        f"resource.setrlimit({image_build.LIMITS[name]}, (900, 1000))\n"
        "print(image_build.ulimits())\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert f"'--ulimit={name}=900:1000'" in said.stdout, said.stderr


def test_the_bases_haproxy_runs_here(base_cache: Path) -> None:
    command = haproxy_check_command(base_cache / "base" / base().key / "rootfs")
    words = [word.replace("{file}", str(ROOT / "app" / "haproxy.cfg")) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
