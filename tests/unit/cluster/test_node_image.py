# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What makes a living cluster's nodes start again: other binaries, manifests, or another image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.embedded import spec
from ansible_collections.appgate.platform.plugins.module_utils.embedded.cluster import EmbeddedCluster
from ansible_collections.appgate.platform.plugins.module_utils.image_build import ulimits

from tests.machine import write_program

Edit = Callable[[Path], None]


def replace(name: str, old: str, new: str) -> Edit:
    """A change of one word of a file below roles/."""

    def edit(roles: Path) -> None:
        text = (roles / name).read_text()
        assert old in text
        (roles / name).write_text(text.replace(old, new))

    return edit


def append(name: str) -> Edit:
    """A change of a file below roles/ that may be empty."""

    def edit(roles: Path) -> None:
        with (roles / name).open("a") as stream:
            stream.write("added:x:1:\n")

    return edit


def rename(old: str, new: str) -> Edit:
    """The same text in a file of another name."""

    def edit(roles: Path) -> None:
        (roles / old).rename(roles / new)

    return edit


ROOT = Path(__file__).resolve().parents[3]
CATALOG = "sources/vars/catalog.yml"
IMAGE = "cluster/files/node-image"
#: What is changed -> whether that is another node image, and whether the nodes run something else.
EDITS: dict[str, tuple[Edit, bool, bool]] = {
    "nothing": (lambda _roles: None, False, False),
    "version": (append("sources/files/go/etcd/go.mod"), False, True),
    "flags": (replace(CATALOG, "-X main.VERSION=", "-X main.RELEASE="), False, True),
    "manifests": (replace(CATALOG, "config/crd/bases/*.yaml", "config/crd/*.yaml"), False, True),
    "estimate": (replace(CATALOG, "build_mib: 6144", "build_mib: 6145"), False, False),
    "license": (replace(CATALOG, "license: Apache-2.0", "license: MIT"), False, False),
    "another part": (replace(CATALOG, "helm/v3/internal/version.version", "helm/v3/version"), False, False),
    "new file": (append(f"{IMAGE}/etc/hosts"), True, True),
    **{
        f"file {path.relative_to(ROOT / 'roles' / IMAGE)}": (append(str(path.relative_to(ROOT / "roles"))), True, True)
        for path in (ROOT / "roles" / IMAGE).rglob("*")
        if path.is_file()
    },
    "renamed": (rename(f"{IMAGE}/etc/group", f"{IMAGE}/etc/groups"), True, True),
}


def test_fingerprints_change_with_what_the_nodes_run(
    tmp_path: Path, ansible_playbook: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    shown = "{{ [__cluster_node_image | basename, __cluster_parts_fingerprint] }}"
    tasks: list[dict[str, Any]] = []
    for name, (edit, _image, _parts) in EDITS.items():
        roles = tmp_path / re.sub(r"\W", "-", name)
        for role in ("cluster", "sources"):
            shutil.copytree(ROOT / "roles" / role, roles / role)
        edit(roles)
        show = {"ansible.builtin.debug": {"msg": f"{name}: {shown}"}}
        (roles / "cluster/tasks/show.yml").write_text(json.dumps([show]))
        tasks.append({"ansible.builtin.include_role": {"name": str(roles / "cluster"), "tasks_from": "show"}})
    done = ansible_playbook(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    assert done.returncode == 0, done.stdout + done.stderr
    said = {
        name: tuple(re.findall(r"[\w.-]+", values))
        for name, values in re.findall(r'"msg": "([^":]+): \[([^\]]*)\]', done.stdout)
    }
    assert said.keys() == EDITS.keys(), done.stdout
    image, parts = said["nothing"]
    for name, (_edit, other_image, other_parts) in EDITS.items():
        assert (said[name][0] != image) == other_image, name
        assert (said[name][1] != parts) == other_parts, name


class FakeNode:
    """A node's containerd, as far as an image goes."""

    def __init__(self, directory: Path, images: Sequence[str]) -> None:
        self.node = SimpleNamespace(name=directory.name)
        self.directory = directory
        (directory / "opt").mkdir(parents=True)
        self.images = list(images)
        self.log: list[str] = []

    def enter(self, argv: Sequence[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        words = list(argv)
        if "import" in words:
            self.log.append("import " + (self.directory / "opt" / "node-image.tar").read_text())
            self.images.append(spec.NODE_IMAGE)
        said = "\n".join(self.images) if "list" in words else ""
        return subprocess.CompletedProcess(words, 0, said, "")

    def daemon_log(self, _name: str) -> str:
        return ""

    def pid(self) -> int | None:
        return 1

    def stop(self) -> bool:
        self.log.append("stop")
        return True

    def start(self) -> bool:
        self.log.append("start")
        return True


def made(
    folder: Path, archive: str, node: FakeNode, monkeypatch: pytest.MonkeyPatch, parts: str = "new"
) -> EmbeddedCluster:
    """A cluster that was made with the parts `old`, wants others, and has an archive of the image."""
    monkeypatch.setattr(EmbeddedCluster, "_wait_for_api", lambda _self: node.log.append("wait"))
    monkeypatch.setattr(EmbeddedCluster, "pending", lambda _self: ["something"])
    monkeypatch.setattr(EmbeddedCluster, "_apply_addons", lambda _self: None)
    for name in ("_link_binaries", "_connect_host", "_prepare", "_route_pods", "_wait_ready", "_write_kubeconfig"):
        monkeypatch.setattr(EmbeddedCluster, name, lambda *_arguments: None)
    (folder / archive).write_text(archive)
    cluster = EmbeddedCluster(
        spec.parse("local", "10.200.0.0/16", 1, "cluster.local", "v1.37.2", folder / "clusters"),
        parts_fingerprint=parts,
        addons_fingerprint="1",
        binaries={},
        node_image=folder / archive,
        addons="",
        kubeconfig=folder / "kubeconfig",
        owner=(0, 0),
        drain_timeout_seconds=90,
    )
    cluster.nodes = [node]  # type: ignore[list-item]
    cluster._remember(initialised=True, parts="old", addons="1", joined=[node.node.name])
    return cluster


def test_a_changed_image_is_imported_and_the_node_started_again_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = FakeNode(tmp_path / "local-control-plane", [])
    made(tmp_path, "node-1.tar", node, monkeypatch).present()
    # The first one: nothing ran from another.
    assert node.log == ["stop", "start", "import node-1.tar", "wait"]

    node.log.clear()
    made(tmp_path, "node-1.tar", node, monkeypatch).present()
    assert node.log == ["stop", "start", "wait"]

    node.log.clear()
    made(tmp_path, "node-2.tar", node, monkeypatch).present()
    # What the first start began may still be of the old one.
    assert node.log == ["stop", "start", "import node-2.tar", "stop", "start", "wait"]

    node.log.clear()
    made(tmp_path, "node-2.tar", node, monkeypatch).present()
    assert node.log == ["stop", "start", "wait"]


def test_an_image_that_is_there_without_a_note_of_which_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = FakeNode(tmp_path / "local-control-plane", [spec.NODE_IMAGE])
    made(tmp_path, "node-1.tar", node, monkeypatch).present()
    assert node.log == ["stop", "start", "import node-1.tar", "stop", "start", "wait"]


def test_the_add_ons_are_applied_again_when_the_parts_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pending = EmbeddedCluster.pending
    node = FakeNode(tmp_path / "local-control-plane", [])
    old = made(tmp_path, "node-1.tar", node, monkeypatch)
    state = {"identity": old._identity(), "addons": old.addons_fingerprint}
    old._remember(**state)
    assert "apply the add-ons" not in pending(old)
    newer = made(tmp_path, "node-1.tar", node, monkeypatch, parts="newer")
    newer._remember(**state)
    assert "apply the add-ons" in pending(newer)


BUILD = """
- hosts: all
  connection: local
  gather_facts: false
  environment:
    PATH: "{{ path }}"
  tasks:
    - ansible.builtin.include_role:
        name: appgate.platform.cluster
        tasks_from: node_image
      vars:
        __cluster_node_image: "{{ target }}"
        __cluster_busybox: "{{ busybox }}"
"""


# The package as releases before and after the merge of /bin into /usr/bin have it.
APT_GET = """\
set -e
/usr/bin/apt-get "$@"
case " $* " in *" download "*) ;; *) exit ;; esac
deb=$(ls busybox-static_*.deb)
dpkg-deb --raw-extract "$deb" tree
mkdir -p tree/{place}
test -e tree/{place}/busybox || mv "$(find tree -path '*bin/busybox')" tree/{place}/
dpkg-deb --build tree "$deb" > /dev/null
rm -r tree
"""


@pytest.mark.usefixtures("builder")
@pytest.mark.parametrize("place", ["bin", "usr/bin"])
def test_a_machine_whose_busybox_needs_libraries_has_an_image_with_one_that_needs_none(
    tmp_path: Path, ansible_playbook: Callable[..., subprocess.CompletedProcess[str]], place: str
) -> None:
    """Debian's package `busybox` has that one, and can't be installed beside the other."""
    target, store = tmp_path / "node.tar", tmp_path / "storage"
    python = shutil.which("python3", path="/usr/bin")
    needs_libraries = shutil.which("sh", path="/bin")
    write_program(tmp_path / "apt-get", APT_GET.format(place=place))
    path = f"{tmp_path}:{os.environ['PATH']}"
    variables = {
        "ansible_python_interpreter": python, "target": str(target), "busybox": needs_libraries, "path": path
    }  # fmt: skip
    done = ansible_playbook(BUILD, "--extra-vars", json.dumps(variables))
    assert done.returncode == 0, done.stdout + done.stderr
    buildah = ["buildah", "--storage-driver=vfs", f"--root={store}", f"--runroot={tmp_path}/run"]
    name = subprocess.run(
        [*buildah, "from", *ulimits(), f"oci-archive:{target}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    said = subprocess.run(
        [*buildah, "run", "--isolation=chroot", name, "--", "/bin/sh", "-c", "exit 7"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 7, said.stderr
