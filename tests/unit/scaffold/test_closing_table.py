"""The closing table: as functions, and from outside as a person sees it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.callback import closing_table

Run = Callable[..., CompletedProcess[str]]


def closing(result: CompletedProcess[str]) -> str:
    """What stands after the recap."""
    recap = result.stdout.split("PLAY RECAP", 1)[1]
    return recap.split("\n\n", 1)[1].strip("\n")


def test_rows_are_sorted_by_number_and_aligned() -> None:
    rows = {"99 Next": "make test", "10 App": "http://192.0.2.1:4000", "5 Z": "first", "Plain": "middle"}
    assert [line for _, line in closing_table.table(rows, 80)] == [
        "  Z      first",
        "  App    http://192.0.2.1:4000",
        "  Plain  middle",
        "  Next   make test",
    ]


def test_wide_value_wraps_between_words_and_keeps_a_path_whole() -> None:
    path = "/" + "long-" * 20
    lines = [line for _, line in closing_table.table({"10 Kubeconfig": f"see {path} for it"}, 60)]
    assert lines == ["  Kubeconfig  see", f"              {path}", "              for it"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a\nb", ["a", "b"]), (["a", "b"], ["a", "b"]), ({"k": 1}, ["k: 1"]), ("", [""]), (True, ["True"])],
)
def test_value_of_any_shape_becomes_lines(value: Any, expected: list[str]) -> None:
    assert closing_table.lines_of(value) == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"msg": "\nfirst\nsecond"}, "first"),
        ({"msg": "", "stderr": "from stderr"}, "from stderr"),
        ({"msg": "One or more items failed", "results": [{"msg": "fine"}, {"failed": True, "msg": "item"}]}, "item"),
        ({"censored": "x", "msg": "secret"}, "the reason is hidden because the task handles a secret"),
        ({}, "no reason was given"),
    ],
)
def test_reason_is_the_first_line(result: dict[str, Any], expected: str) -> None:
    assert closing_table.reason_of(result) == expected


def test_nothing_after_a_run_without_rows(ansible_playbook: Run) -> None:
    result = ansible_playbook(
        """
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: hello}
"""
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert closing(result) == ""


def test_one_table_per_host_after_the_recap(ansible_playbook: Run) -> None:
    result = ansible_playbook(
        """
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.set_stats:
        per_host: true
        aggregate: true
        data: {closing_rows: {"10 App": "http://{{ inventory_hostname }}"}}
    - ansible.builtin.set_stats:
        per_host: true
        aggregate: true
        data: {closing_rows: {"90 Missing: Grafana": "no image"}}
      when: inventory_hostname == "b"
""",
        inventory="b,a,",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "changed=0" in result.stdout
    assert "\x1b" not in result.stdout
    assert closing(result).splitlines() == [
        "a",
        "  App  http://a",
        "",
        "b",
        "  App               http://b",
        "  Missing: Grafana  no image",
    ]


def test_failed_host_starts_with_task_and_reason(ansible_playbook: Run) -> None:
    result = ansible_playbook(
        """
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.set_stats:
        per_host: true
        aggregate: true
        data: {closing_rows: {"20 Kubeconfig": /tmp/k}}
    - when: inventory_hostname == "broken"
      block:
        - name: Apply
          ansible.builtin.fail: {msg: raw}
      rescue:
        - name: Say why
          ansible.builtin.fail: {msg: "The container app failed.\\nIts log says more."}
    - name: Ignored on purpose
      ansible.builtin.command: "false"
      ignore_errors: true
      when: inventory_hostname == "fine"
""",
        inventory="broken,fine,",
    )
    assert result.returncode == 2, result.stdout + result.stderr
    assert closing(result).splitlines() == [
        "broken failed at “Say why”: The container app failed.",
        "  Kubeconfig  /tmp/k",
        "",
        "fine",
        "  Kubeconfig  /tmp/k",
    ]


def test_a_pipe_gets_each_line_at_once(root: Path, tmp_path: Path, clean_environment: dict[str, str]) -> None:
    """Where the output is kept as a log, a person follows it, and a killed run leaves what it has said."""
    play, go = tmp_path / "play.yml", tmp_path / "go"
    play.write_text(
        f"""
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.wait_for:
        path: "{{{{ '{play}' if inventory_hostname == 'quick' else '{go}' }}}}"
        timeout: 30
"""
    )
    environment = {key: value for key, value in clean_environment.items() if key != "PYTHONUNBUFFERED"}
    python = f"ansible_python_interpreter={sys.executable}"
    command = ["ansible-playbook", "-i", "quick,slow,", str(play), "-e", python]
    with subprocess.Popen(
        command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("ok: [quick]" in line for line in process.stdout)
        go.touch()
        rest = process.stdout.read()
    assert process.returncode == 0, rest
