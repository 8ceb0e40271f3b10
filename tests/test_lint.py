"""Every linter is a test of its own; a failing one shows what it printed."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.parts import program

PLUGINS = "collections/ansible_collections/appgate/platform/plugins"


def lint(root: Path, environment: Mapping[str, str], *command: str) -> None:
    """Run a linter, and fail with its output."""
    result = subprocess.run(
        command,
        cwd=root,
        env={**environment, "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    if result.returncode:
        print(result.stdout)
        pytest.fail(f"{' '.join(command)} ended with {result.returncode}, its output follows", pytrace=False)


def test_ruff_check(root: Path, clean_environment: dict[str, str]) -> None:
    lint(root, clean_environment, "ruff", "check", ".")


def test_ruff_format(root: Path, clean_environment: dict[str, str]) -> None:
    lint(root, clean_environment, "ruff", "format", "--check", "--diff", ".")


def test_mypy(root: Path, clean_environment: dict[str, str]) -> None:
    # The plugins go by the name under which Ansible imports them.
    folders = ("scripts", "roles", "tests", "benchmarks", "molecule", "observability")
    lint(root, clean_environment, "mypy", PLUGINS, *(name for name in folders if any((root / name).rglob("*.py"))))


def test_mypy_on_the_app(root: Path, clean_environment: dict[str, str]) -> None:
    # Alone, because its tests are a folder `tests` as well.
    lint(root, clean_environment, "mypy", "app")


def test_yamllint(root: Path, clean_environment: dict[str, str]) -> None:
    lint(root, clean_environment, "yamllint", "--strict", ".")


def test_ansible_lint(root: Path, clean_environment: dict[str, str]) -> None:
    lint(root, clean_environment, "ansible-lint", "--strict", "--nocolor")


def test_actionlint(root: Path, clean_environment: dict[str, str]) -> None:
    workflows = [str(path) for path in sorted((root / ".github" / "workflows").glob("*.yml"))]
    lint(root, clean_environment, program("actionlint", "actionlint"), *workflows)


def test_shell_scripts_parse(root: Path, clean_environment: dict[str, str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.sh"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    scripts = [root / ".ci" / "run", *(root / name for name in listed)]
    assert len(scripts) > 1
    for script in scripts:
        lint(root, clean_environment, "bash", "-n", str(script))
