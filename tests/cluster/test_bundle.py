# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""From nothing to a served and watched app on a machine without any network, by a bundle.

The machine is a network namespace that has a loopback interface and nothing else, with a checkout, a cache and a Python
environment of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NAME = "offline"
BLOCK = "10.218.0.0/16"
PAGE = "http://10.218.1.1:4000/"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="makes a network namespace and a cluster in it: needs to be root, not merely to have sudo"
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A clone, with what is not committed yet."""
    clone = tmp_path / "appgate"
    subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        source, target = root / name, clone / name
        if source.is_file() and not source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return clone


@pytest.fixture
def inventory(checkout: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "group_vars").symlink_to(checkout / "inventory/local/group_vars")
    hosts = {"embedded": {"hosts": {NAME: {"cluster_address_block": BLOCK}}}, "existing": {"hosts": {}}}
    (folder / "hosts.yml").write_text(json.dumps(hosts))
    return folder


@pytest.fixture
def offline(checkout: Path, inventory: Path, tmp_path: Path, clean_environment: dict[str, str]) -> Iterator[Run]:
    """Run a command where there is no network, in the checkout, with an empty cache."""
    subprocess.run(["ip", "netns", "add", f"agtest-{NAME}"], check=True)
    # `ip netns exec` would mount /sys anew and hide the control groups.
    inside = ["nsenter", f"--net=/run/netns/agtest-{NAME}"]
    # The machine's own Python and nothing of this test's.
    path = os.pathsep.join(part for part in clean_environment["PATH"].split(os.pathsep) if ".venv" not in part)
    environment = {
        **{key: value for key, value in clean_environment.items() if not key.startswith(("PIP_", "VIRTUAL_ENV"))},
        "PATH": path,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*inside, *command],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
    yield run
    if (checkout / ".venv/bin/ansible-playbook").exists():
        run("make", "down", f"ARGS=-i {inventory}")
    subprocess.run(["ip", "netns", "delete", f"agtest-{NAME}"], check=False)


def passed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_bundle_serves_the_app_and_its_monitoring_where_there_is_no_network(
    root: Path, checkout: Path, inventory: Path, offline: Run, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    carried = tmp_path / "bundle"
    make = ["ansible-playbook", "-i", str(inventory), "playbooks/bundle.yml", "-e", f"bundle_path={carried}"]

    def bundle() -> str:
        # With the network, the warm cache and the Python environment of whoever runs the tests.
        return passed(
            subprocess.run(
                make,
                cwd=checkout,
                env=clean_environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        )

    assert re.search(rf"{NAME} .*changed=[1-9]", bundle())
    before = {path: path.stat().st_mtime_ns for path in carried.rglob("*")}
    assert re.search(rf"{NAME} .*changed=0 ", bundle())
    assert {path: path.stat().st_mtime_ns for path in carried.rglob("*")} == before

    links = json.loads(passed(offline("ip", "-json", "link")))
    assert [link["ifname"] for link in links] == ["lo"]
    assert passed(offline("ip", "route")) == ""

    # Every package that the roles install comes out of the bundle, dependencies included, even on an empty system.
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{carried}/debs ./\n")
    (tmp_path / "status").touch()
    (tmp_path / "lists/partial").mkdir(parents=True)
    apt = ["apt-get", "-o", f"Dir::Etc::SourceList={tmp_path}/sources.list", "-o", "Dir::Etc::SourceParts=/dev/null"]
    apt += ["-o", f"Dir::State::Lists={tmp_path}/lists", "-o", f"Dir::State::status={tmp_path}/status"]
    apt += ["-o", f"Dir::Cache={tmp_path}", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true"]
    passed(offline(*apt, "update"))
    packages = json.loads((carried / "manifest.json").read_text())["packages"]
    assert {"buildah", "runc", "nftables", "containernetworking-plugins"} <= packages.keys()
    simulated = passed(offline(*apt, "--simulate", "--no-install-recommends", "install", *packages, "git", "make"))
    assert "Inst buildah" in simulated

    # A file that was spoilt on its way is named before anything is there.
    spoilt = next((carried / "cache/parts/etcd").rglob("bin/etcd"))
    whole = spoilt.read_bytes()
    spoilt.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    up = ["make", "up", f"BUNDLE={carried}", f"ARGS=-i {inventory}"]
    refused = offline(*up)
    assert refused.returncode != 0
    assert re.search(
        r"bundle_path='.*': cache/parts/etcd/\S+/bin/etcd is damaged\. Copy the bundle again", refused.stderr
    )
    assert not (checkout / ".venv").exists()
    assert not (tmp_path / "cache").exists()
    spoilt.write_bytes(whole)

    said = passed(offline(*up))
    assert PAGE in said
    page = passed(offline("curl", "--silent", "--show-error", "--fail", "--max-time", "10", PAGE))
    assert page.strip() == "<h1 style='color:blue'>Hello! This is Appgate world!</h1>"
    kubectl = [
        str(next((tmp_path / "cache/appgate/parts/kubernetes").rglob("bin/kubectl"))),
        f"--kubeconfig={Path.home()}/.kube/appgate-{NAME}.yaml",
    ]
    healthy = "/api/v1/namespaces/prometheus/services/prometheus-kube-prometheus-prometheus:9090/proxy/api/v1/rules"
    groups = json.loads(passed(offline(*kubectl, "get", "--raw", healthy)))["data"]["groups"]
    assert groups

    again = passed(offline(*up))
    assert not re.search(r"changed=[1-9]", again), again
