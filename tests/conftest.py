"""What all tests share: where the tree is, and how a playbook is run the way a person runs it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]

# `import ansible_collections.appgate.platform...` finds this tree through the link under collections/.
sys.path.insert(0, str(ROOT / "collections"))
sys.path.insert(0, str(ROOT / "app"))

Run = Callable[..., subprocess.CompletedProcess[str]]

#: Whether this machine is to prove everything: what is missing is built, and a test that is skipped has failed.
COMPLETE = bool(os.environ.get("TESTS_COMPLETE"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest begin: where files run side by side (`make test`), they are handed out in this order.

    Those with a cluster of their own come last: more nodes at a time would take more inotify instances than a kernel allows.
    """
    last = ROOT / "tests" / "cluster"
    items.sort(key=lambda item: (not item.path.name.startswith("test_molecule"), item.path.parent == last))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what was skipped, where everything is to be proven."""
    report = yield
    if COMPLETE and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome, report.longrepr = "failed", f"{reason}, and TESTS_COMPLETE leaves nothing out"
    return report


def stage(nodeid: str) -> str:
    """The stage that a test belongs to, in the words of the closing lines."""
    name = nodeid.partition("::")[0]
    if name.startswith("tests/test_molecule"):
        return "scenarios"
    if name.startswith("tests/cluster/"):
        return "lives of clusters"
    return "linters" if name in ("tests/test_lint.py", "tests/test_house.py") else "unit tests"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long each stage took. Stages run side by side, so together they are longer than the run."""
    seconds: dict[str, float] = {}
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            seconds[stage(report.nodeid)] = seconds.get(stage(report.nodeid), 0.0) + report.duration
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"== {name}: {spent:.0f} s")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """The person's environment without Ansible's and Molecule's settings, and with this Python's programs first."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return environment


@pytest.fixture(scope="session")
def run_ansible(clean_environment: dict[str, str]) -> Run:
    """Run one of Ansible's programs in a folder, as a person without a terminal would."""

    def run(folder: Path, *words: str, timeout_seconds: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=folder,
            env=clean_environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    return run


@pytest.fixture
def run_inventory(tmp_path: Path, run_ansible: Run) -> Run:
    """Run a playbook of the checkout with an inventory that is given as data."""

    def run(playbook: str, inventory: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
        if not (tmp_path / "group_vars").exists():
            (tmp_path / "group_vars").symlink_to(ROOT / "inventory/local/group_vars")
        return run_ansible(ROOT, "ansible-playbook", "--inventory", str(tmp_path / "hosts.yml"), playbook, *arguments)

    return run


@pytest.fixture
def ansible_playbook(tmp_path: Path, run_ansible: Run) -> Run:
    """Run a playbook, given as text, from an empty folder, with this tree as the collection appgate.platform."""

    def run(playbook: str, *arguments: str, inventory: str = "local,") -> subprocess.CompletedProcess[str]:
        (tmp_path / "ansible.cfg").write_text(
            "[defaults]\n"
            f"collections_path = {ROOT / 'collections'}\n"
            "interpreter_python = auto_silent\n"
            "inject_facts_as_vars = false\n"
            "callbacks_enabled = appgate.platform.closing_table\n"
            "[inventory]\nunparsed_is_failed = true\n"
        )
        (tmp_path / "play.yml").write_text(playbook)
        return run_ansible(tmp_path, "ansible-playbook", "-i", inventory, "play.yml", *arguments)

    return run
