# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Say at the end of a run, in a few aligned lines, what a person needs next."""

from __future__ import annotations

DOCUMENTATION = r"""
name: closing_table
type: aggregate
short_description: Ends a run with one short table per host
version_added: 0.1.0
description:
  - After the recap, prints the rows that roles and plays left with M(ansible.builtin.set_stats) under C(closing_rows),
    one aligned table for each host.
  - If a host failed, its table starts with the failed task and the first line of the reason.
  - Prints nothing when there are no rows and nothing failed.
  - Where the output is a pipe or a file, each line is there as soon as it is printed. Ansible would keep them back, a long
    build's signs of life among them.
  - A row's name starts with a number that sorts it and is not shown. The project uses C(10) for the application,
    C(20) for access, C(30) for what was built or downloaded, C(90) for what is missing, C(99) for the next command.
requirements:
  - Enabled by C(callbacks_enabled = appgate.platform.closing_table) in C(ansible.cfg).
author:
  - The Appgate platform authors
"""

EXAMPLES = r"""
- name: Say where the application answers
  ansible.builtin.set_stats:
    per_host: true
    aggregate: true
    data:
      closing_rows:
        10 App: "http://192.0.2.10:4000"
        99 Next: make test
"""

import io
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from ansible import constants as C  # noqa: N812
from ansible.plugins.callback import CallbackBase

STAT = "closing_rows"
# A log file or a pipe has no width of its own.
WIDTH_WITHOUT_TERMINAL = 120
NARROWEST = 60
MISSING = 90


def sort_key(name: str) -> tuple[int, str]:
    """The number that a row's name starts with, then the rest; a name without a number stands in the middle."""
    match = re.match(r"(\d+)\s+", name)
    return (int(match[1]), name[match.end() :]) if match else (50, name)


def lines_of(value: Any) -> list[str]:
    """A row's value as lines; every item of a list has its own."""
    if isinstance(value, Mapping):
        value = [f"{key}: {item}" for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [line for item in value for line in lines_of(item)]
    return str(value).splitlines() or [""]


def table(rows: Mapping[str, Any], width: int) -> list[tuple[int, str]]:
    """The rows in order and aligned, each line with the number of its row."""
    ordered = sorted(((*sort_key(str(name)), value) for name, value in rows.items()), key=lambda row: row[:2])
    column = max((len(name) for _, name, _ in ordered), default=0)
    result = []
    for number, name, value in ordered:
        indent = f"  {name:<{column}}  "
        for line in lines_of(value):
            # Paths, URLs and options stay whole, so that they can be copied.
            for wrapped in textwrap.wrap(line, width - len(indent), break_long_words=False, break_on_hyphens=False) or [
                ""
            ]:
                result.append((number, (indent + wrapped).rstrip()))
                indent = " " * len(indent)
    return result


def reason_of(result: Mapping[str, Any]) -> str:
    """The first line of why a task failed; a loop's reason is that of its first failed item."""
    if "censored" in result:
        return "the reason is hidden because the task handles a secret"
    for item in result.get("results") or []:
        if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable")):
            return reason_of(item)
    for key in ("msg", "module_stderr", "stderr", "module_stdout", "stdout", "exception"):
        lines = [line.strip() for line in str(result.get(key) or "").splitlines() if line.strip()]
        if lines:
            return lines[0]
    return "no reason was given"


class CallbackModule(CallbackBase):
    """Prints the table; the recap before it comes from the stdout callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "appgate.platform.closing_table"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, str] = {}
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            self._remember(result, "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._remember(result, "unreachable")

    def _remember(self, result: Any, what: str) -> None:
        # The last failure counts: after a rescue that diagnoses, it is the one with the reason.
        task = result._task.get_name()
        self.failures[result._host.get_name()] = f"{what} at “{task}”: {reason_of(result._result)}"

    def v2_playbook_on_stats(self, stats: Any) -> None:
        width = WIDTH_WITHOUT_TERMINAL
        if sys.stdout.isatty():
            width = max(NARROWEST, shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns)
        custom = stats.custom or {}
        for host in [*sorted(stats.processed), "_run"]:
            summary = stats.summarize(host)
            failed = bool(summary["failures"] or summary["unreachable"])
            rows = (custom.get(host) or {}).get(STAT) or {}
            if not failed and not rows:
                continue
            title = "all hosts" if host == "_run" else host
            if failed:
                self._display.display(f"{title} {self.failures.get(host, 'failed')}", color=C.COLOR_ERROR)
            else:
                self._display.display(title, color=C.COLOR_HIGHLIGHT)
            for number, line in table(rows, width):
                self._display.display(line, color=C.COLOR_WARN if MISSING <= number < MISSING + 9 else None)
            self._display.display("")
