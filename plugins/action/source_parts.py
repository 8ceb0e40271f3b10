# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Runs beside the module source_parts: answers from the cache, shows progress otherwise."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import yaml
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.appgate.platform.plugins.module_utils.sources import arguments, catalog
from ansible_collections.appgate.platform.plugins.module_utils.sources.core import Taker
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import SourceError
from ansible_collections.appgate.platform.plugins.module_utils.sources.progress import Reader
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import located

display = Display()
POLL_SECONDS = 0.25


def run_id() -> str:
    """Name this run of ansible-playbook: the process that started the workers, and when."""
    parent = os.getppid()
    try:
        with open(f"/proc/{parent}/stat", encoding="utf-8") as handle:
            return f"{parent}-{handle.read().rpartition(')')[2].split()[19]}"
    except OSError:
        return ""


class ActionModule(ActionBase):
    """Take parts."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        super().run(tmp, task_vars)
        _validation, params = self.validate_argument_spec(arguments.PUBLIC)
        try:
            parts, probe_url = self._read(params)
            here = self._connection.transport == "local" and not self._connection.become
            if here:
                cached = Taker(arguments.options(params, probe_url)).from_cache(parts)
                if cached is not None:
                    return self._answer(cached.to_dict(), task_vars)
        except SourceError as error:
            raise AnsibleActionFail(located(str(error), task_vars, "sources_")) from None
        result = self._work(params, parts, probe_url, here, task_vars)
        for line in result.get("would", ()):
            display.display(f"sources: would {line}")
        return result if result.get("failed") else self._answer(result, task_vars)

    def _read(self, params: dict[str, Any]) -> tuple[list[catalog.Part], str]:
        """Read the catalog and the go.mod files, and refuse what does not fit."""
        arguments.check(params)
        with open(params["catalog"], encoding="utf-8") as handle:
            # A safe loader, written in C where PyYAML has it: 3 ms instead of 30.
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            known = yaml.load(handle, Loader=loader)["sources_catalog"]  # noqa: S506
        names = list(known["parts"])
        catalog.check_names(params["parts"], names, "sources_parts")
        catalog.check_modes(params["mode_by_part"], names)
        wanted = list(dict.fromkeys(params["parts"]))
        parts = [
            catalog.read_part(name, known["parts"][name], params["go_dir"], with_pages=params["pages_enabled"])
            for name in wanted
        ]
        return parts, known["probe_url"]

    def _work(
        self,
        params: dict[str, Any],
        parts: list[catalog.Part],
        probe_url: str,
        here: bool,
        task_vars: dict[str, Any],
    ) -> dict[str, Any]:
        """Run the module; the parts go in a file, since go.sum is long."""
        host = task_vars.get("inventory_hostname", "")
        if here and "ansible_python_interpreter" not in task_vars:
            # The controller's own Python is there for certain, and looking for one costs 0.5 s.
            task_vars = {**task_vars, "ansible_python_interpreter": sys.executable}
        self._make_tmp_path()
        plan_path = self._connection._shell.join_path(self._connection._shell.tmpdir, "plan.json")
        plan = {"parts": [part.to_dict() for part in parts], "probe_url": probe_url}
        self._transfer_data(plan_path, json.dumps(plan))
        self._fixup_perms2((self._connection._shell.tmpdir, plan_path))
        several = len(task_vars.get("ansible_play_hosts_all", ())) > 1
        with self._progress(params["progress_seconds"], f"[{host}] " if several else "") as path:
            module_args = {
                **params,
                "plan_path": plan_path,
                "progress_path": path if here else None,
                "run": run_id(),
                "owner": f"{host} of {task_vars.get('playbook_dir', 'another run')}",
                "pip_python": sys.executable if here else "",
            }
            try:
                result: dict[str, Any] = self._execute_module(
                    module_name="appgate.platform.source_parts",
                    module_args=module_args,
                    task_vars=task_vars,
                )
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        result.pop("invocation", None)
        return result

    @contextlib.contextmanager
    def _progress(self, every_seconds: float, prefix: str) -> Iterator[str]:
        """Show what the module writes while it works; Display of a worker prints at once."""
        handle, path = tempfile.mkstemp(prefix="sources-", dir=constants.DEFAULT_LOCAL_TMP)
        os.close(handle)
        reader = Reader(path, lambda line: display.display(prefix + line), every_seconds)
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(POLL_SECONDS):
                reader.poll()
            reader.poll()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            ended.set()
            thread.join()
            os.unlink(path)

    def _answer(self, result: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Add the row for the closing table: all parts that this host has taken in the run."""
        if result.get("would"):
            return result
        result.pop("would", None)
        before = task_vars.get("sources_taken") or {}
        result["ansible_stats"] = {
            "data": {"closing_rows": {"30 Parts": describe({**before, **result["taken"]})}},
            "per_host": True,
            "aggregate": True,
        }
        return result


def describe(taken: dict[str, Any]) -> str:
    """Say in one line what came from where."""
    words = {"build": "built now", "upstream": "downloaded now", "cache": "from the cache"}
    groups = []
    for source, word in words.items():
        names = [f"{n} {p['release']}" for n, p in taken.items() if p["source"] == source]
        if names:
            groups.append(f"{word}: {', '.join(names)}")
    return "; ".join(groups)
