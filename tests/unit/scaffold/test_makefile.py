"""make is thin, and says what is missing with the line that installs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
# As on Debian without python3-venv: `import venv` works, `import ensurepip` doesn't.
NO_VENV = '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\n' + GOOD.splitlines()[1] + "\n"
# Makes the parts of a virtual environment that the script looks at, without the seconds that pip takes.
QUICK = (
    '#!/bin/sh\nif [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "VIRTUAL_ENV=$PWD/$3" > "$3/bin/activate"; exit; fi\n'
    + GOOD.splitlines()[1]
    + "\n"
)
OLD = '#!/bin/sh\ncase "$2" in *print*) echo 3.10 ;; *) exit 1 ;; esac\n'


def venv_script(
    root: Path, folder: Path, python: str | None, name: str = "python3"
) -> subprocess.CompletedProcess[str]:
    """Run scripts/venv.sh in a copy of the tree where PATH holds little else than this python."""
    (folder / "scripts").mkdir(exist_ok=True)
    shutil.copy(root / "scripts" / "venv.sh", folder / "scripts")
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for program in ("bash", "cp", "dirname", "git", "grep", "mkdir", "rm", "sh"):
        found = shutil.which(program)
        assert found
        if not (programs / program).exists():
            (programs / program).symlink_to(found)
    if python is not None:
        (programs / name).write_text(python)
        (programs / name).chmod(0o755)
    return subprocess.run(
        [programs / "bash", "scripts/venv.sh"],
        cwd=folder,
        env={"PATH": str(programs), "PYTHON": name},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("python", "name", "problem", "remedy"),
    [
        (None, "python3", "python3 was not found.", "sudo apt-get install python3 python3-venv"),
        (OLD, "python3", "python3 is Python 3.10, and Python 3.11 or newer is needed.", "make PYTHON=python3.12 up"),
        (NO_VENV, "python3", "python3 has no venv module.", "sudo apt-get install python3-venv"),
        (NO_VENV, "python3.99", "python3.99 has no venv module.", "sudo apt-get install python3."),
    ],
)
def test_missing_python_is_named_with_its_remedy(
    root: Path, tmp_path: Path, python: str | None, name: str, problem: str, remedy: str
) -> None:
    result = venv_script(root, tmp_path, python, name)
    assert result.returncode == 1
    assert problem in result.stderr
    assert remedy in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_venv_is_kept_while_it_works_and_made_anew_after_a_move(root: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    assert venv_script(root, here, QUICK).returncode == 0
    (here / ".venv" / "marker").touch()
    assert venv_script(root, here, QUICK).returncode == 0
    assert (here / ".venv" / "marker").exists()
    there = here.rename(tmp_path / "there")
    assert venv_script(root, there, QUICK).returncode == 0
    assert not (there / ".venv" / "marker").exists()
    assert str(there) in (there / ".venv" / "bin" / "activate").read_text()


def make(root: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "ARGS"}}
    result = subprocess.run(
        ["make", *arguments],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("up", "ansible-playbook site.yml --check --diff"),
        ("down", "ansible-playbook playbooks/destroy.yml --check --diff"),
        ("test", "pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=15 --check --diff"),
    ],
)
def test_a_target_is_one_line_that_takes_arguments(root: Path, target: str, line: str) -> None:
    assert line in make(root, "--dry-run", target, "ARGS=--check --diff").splitlines()


def test_without_a_network_everything_comes_from_the_bundle(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a stick"
    (folder / "wheels").mkdir(parents=True)
    lines = make(root, "--dry-run", "up", f"BUNDLE={folder}", "ARGS=--check").splitlines()
    wanted = f"""ansible-playbook playbooks/bundle_install.yml site.yml -e 'bundle_path="{folder}"' --check"""
    assert wanted in lines
    # pip hears of it by its environment: a recipe that shows it stands in for pip.
    shown = make(root, f"BUNDLE={folder}", "--eval=shown: ; @env | grep ^PIP_", "shown")
    assert f"PIP_FIND_LINKS=file://{tmp_path}/a%20stick/wheels\n" in shown
    assert "PIP_NO_INDEX=1\n" in shown
    # Making one needs the network.
    made = make(root, f"BUNDLE={folder}", "--dry-run", "bundle", "ARGS=--check").splitlines()
    assert f"""ansible-playbook playbooks/bundle.yml -e 'bundle_path="{folder}"' --check""" in made


def test_help_lists_every_target(root: Path) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (root / "Makefile").read_text(), re.MULTILINE)
    assert phony
    text = make(root)
    for target in phony[1].split():
        assert re.search(rf"^  make {target} ", text, re.MULTILINE), f"{target} is not in the help"
