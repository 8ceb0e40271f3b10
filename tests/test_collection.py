"""The tree as other people get it: built, installed elsewhere, and used by its full names."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

PLAY = """
- name: Use a role of the collection by its full name
  hosts: all
  connection: local
  gather_facts: false
  tasks:
    - name: Render a configuration
      ansible.builtin.include_role:
        name: appgate.platform.haproxy
        tasks_from: render
    - name: Show it
      ansible.builtin.debug:
        var: haproxy_config_text
"""


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="module")
def tarball(root: Path, tmp_path_factory: pytest.TempPathFactory, clean_environment: dict[str, str]) -> Path:
    """The collection, built from the files that git knows, as a release would be."""
    source = tmp_path_factory.mktemp("source")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in names.split("\0"):
        if name and (root / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, source / name, follow_symlinks=False)
    built = tmp_path_factory.mktemp("built")
    run(["ansible-galaxy", "collection", "build", "--output-path", str(built)], source, clean_environment)
    return next(built.glob("appgate-platform-*.tar.gz"))


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory, clean_environment: dict[str, str]) -> Path:
    """A collections path that holds only the built collection."""
    path = tmp_path_factory.mktemp("collections")
    command = [
        "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "--no-deps",
        "--collections-path",
        str(path),
        str(tarball),
    ]
    run(command, path, clean_environment)
    return path


def test_tarball_holds_what_a_user_needs_and_no_more(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    assert {"LICENSE", "README.md", "meta/runtime.yml", "MANIFEST.json"} <= set(names)
    assert not [name for name in names if name.startswith(("collections/", ".git/", ".venv/", ".ci/", ".github/"))]


def test_role_works_by_its_full_name(installed: Path, tmp_path: Path, clean_environment: dict[str, str]) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip(
            "the role has its text accepted by haproxy -c, and there is no haproxy here (apt-get install haproxy)"
        )
    (tmp_path / "play.yml").write_text(PLAY)
    environment = {
        **clean_environment,
        "ANSIBLE_COLLECTIONS_PATH": str(installed),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
    }
    result = run(["ansible-playbook", "-i", "elsewhere,", "play.yml"], tmp_path, environment)
    assert "frontend http" in result.stdout
    assert "changed=0" in result.stdout


def test_plugins_are_documented(installed: Path, tmp_path: Path, clean_environment: dict[str, str]) -> None:
    environment = {**clean_environment, "ANSIBLE_COLLECTIONS_PATH": str(installed)}
    plugins = installed / "ansible_collections" / "appgate" / "platform" / "plugins"
    for kind, folder in (("module", "modules"), ("filter", "filter"), ("callback", "callback")):
        listed = json.loads(
            run(["ansible-doc", "-t", kind, "--list", "--json", "appgate.platform"], tmp_path, environment).stdout
        )
        files = [
            path.stem
            for path in (plugins / folder).glob("*")
            if path.suffix in {".py", ".yml"} and path.stem != "__init__"
        ]
        if kind == "filter":
            # A file holds several filters, each documented in a file of its own name or in the code.
            assert bool(listed) == bool(files)
        else:
            missing = set(files) - {name.rsplit(".", 1)[1] for name in listed}
            assert not missing, (
                f"ansible-doc doesn't list (a module's documentation is in a .py file): {sorted(missing)}"
            )
        if listed:
            documents = json.loads(run(["ansible-doc", "-t", kind, "--json", *listed], tmp_path, environment).stdout)
            for name, document in documents.items():
                assert "error" not in document, f"{name}: {document.get('error')}"
                assert document["doc"]["short_description"], name
                assert document.get("examples"), f"{name} has no EXAMPLES"
                if kind == "module":
                    assert document.get("return"), f"{name} has no RETURN"


def test_actions_have_a_documented_module(root: Path) -> None:
    actions = {path.stem for path in (root / "plugins" / "action").glob("*.py")} - {"__init__"}
    modules = {path.stem for path in (root / "plugins" / "modules").glob("*")}
    assert actions <= modules, f"without documentation: {sorted(actions - modules)}"
