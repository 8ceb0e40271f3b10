# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Check the variables of the role haproxy, render haproxy.cfg, and let HAProxy accept it before it goes anywhere.

An action, not a module: it works on variables that only the control node has (with the file and line where each was
written), and an unchanged run is over without a process on any host.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, ClassVar

import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_config import (
    Finding,
    Line,
    explain,
    render,
    to_text,
)
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_input import check
from ansible_collections.appgate.platform.plugins.module_utils.role_types import Path, Problem, short, show_path
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction

try:
    from yaml import CSafeLoader as Loader  # ten times as fast as the other
except ImportError:
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

try:  # ansible-core 2.19 and later remember where a value was written. It is not a public interface, so do without it.
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None

ROLE = FilePath(__file__).resolve().parents[2] / "roles" / "haproxy"
# haproxy lives in sbin, which is not on the path of every user.
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
HOST_CHECK = "/usr/sbin/haproxy -c -f %s"
CHECK_TIMEOUT_SECONDS = 120
# An accepted text is a file with a hash as its name; this many are kept.
REMEMBERED = 200
PLAIN_REFERENCE = re.compile(r"^\{\{\s*(haproxy_\w+)\s*\}\}$")


class ActionModule(ControllerAction):
    """See plugins/modules/haproxy_config.py for what it takes and gives."""

    _supports_diff = True

    arguments: ClassVar[dict[str, Any]] = {
        "check": {"type": "str", "choices": ["available", "command", "host", "variables"], "default": "command"},
        "dest": {"type": "path"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "str"},
        "backup": {"type": "bool", "default": False},
        "run_as_user": {"type": "str"},
        "run_as_group": {"type": "str"},
    }
    required_if: ClassVar[list[tuple[str, str, list[str]]]] = [("check", "host", ["dest"])]

    def work(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["dest"] is not None and not arguments["dest"].strip():
            raise AnsibleActionFail(
                "The file to write has no path, and nothing was changed. Set haproxy_file_path (or dest) to one."
            )
        self._raw = self.variables
        values = self._checked_values()
        if arguments["check"] == "variables" or (arguments["check"] == "available" and not _program(values)):
            return {}
        section = values.get("haproxy_global") or {}
        for key in ("user", "group"):
            if arguments[f"run_as_{key}"] and not section.get(key):
                section = {**section, key: arguments[f"run_as_{key}"]}
        lines = render({**values, "haproxy_global": section})
        text = to_text(lines)
        warnings: list[str] = []
        if arguments["check"] != "host":
            warnings = self._accept(text, lines, values)
        answer = self._write(text, lines, arguments, self.variables) if arguments["dest"] else {}
        if warnings:
            answer["warnings"] = [*answer.get("warnings", []), *warnings]
        return {**answer, "text": text}

    # --- Variables

    def _checked_values(self) -> dict[str, Any]:
        with (ROLE / "meta" / "argument_specs.yml").open(encoding="utf-8") as stream:
            specs = yaml.load(stream, Loader=Loader)["argument_specs"]["main"]["options"]
        problems: list[Problem] = []
        self._values: dict[str, Any] = {}
        for name in specs:
            if name not in self._raw:
                continue
            try:
                self._values[name] = self._templar.template(self._raw[name])
            except Exception as error:  # whatever a person's template raises is theirs to read
                reason = f"cannot be worked out: {str(error).rstrip('.')}"
                problems.append(
                    Problem((name,), reason, "Correct the template or define what it needs.", show_value=False)
                )
        checked, found = check(self._values, specs)
        broken = {problem.path[0] for problem in problems}
        problems += [problem for problem in found if problem.path[0] not in broken]
        if problems:
            texts = list(dict.fromkeys(self._describe(problem) for problem in problems))
            count = "1 problem" if len(texts) == 1 else f"{len(texts)} problems"
            raise AnsibleActionFail(
                f"The variables of the role haproxy have {count}, and nothing was changed.\n"
                + "\n".join(f"- {text}" for text in texts)
            )
        return checked

    def _describe(self, problem: Problem) -> str:
        path = self._source(problem.path)
        reason = problem.reason
        if problem.other:
            reason = reason.replace("{other}", show_path(self._source(problem.other)))
        # As it was written, not as it was converted: 150 and "150" are different to a person who looks for it.
        written = _look_up(self._values, problem.path)
        value = f" is {short(problem.value if written is None else written)}, which" if problem.show_value else ""
        place = self._place(problem.path)
        # "X is VALUE, which must be ...", or "X is missing".
        return f"{show_path(path)}{value} {reason}{f' ({place})' if place else ''}. {problem.remedy}"

    def _source(self, path: Path) -> Path:
        """Name the variable that a person sets, where a structure of the defaults only passes it on."""
        node: Any = self._raw
        for index, step in enumerate(path):
            try:
                node = node[step]
            except (KeyError, IndexError, TypeError):
                return path
            match = PLAIN_REFERENCE.match(node) if isinstance(node, str) else None
            if match and match.group(1) in self._raw:
                return self._source((match.group(1), *path[index + 1 :]))
        return path

    def _origin(self, path: Path) -> Any:
        """The deepest place that is known, as written in the file (not in what a template made of it)."""
        if Origin is None:
            return None
        best = None
        for root in (self._values, self._raw):
            node: Any = root
            deepest = None
            for step in self._source(path):
                try:
                    node = node[step]
                except (KeyError, IndexError, TypeError):
                    break
                deepest = Origin.get_tag(node) or deepest
            best = deepest or best
        return best

    def _place(self, path: Path) -> str:
        origin = self._origin(path)
        if origin is None:
            return ""
        if not origin.path:
            return str(origin.description or "")
        text = _short_path(origin.path)
        return f"{text}:{origin.line_num}" if origin.line_num else text

    def _line_place(self, line: Line) -> str:
        """The place of a line; inside a block of raw lines, of that very line."""
        origin = self._origin(line.path)
        if origin is not None and origin.path and origin.line_num and line.extra_line:
            number = origin.line_num + line.extra_line
            try:
                written = FilePath(origin.path).read_text(encoding="utf-8").splitlines()[number - 1]
            except (OSError, IndexError, UnicodeDecodeError):
                written = ""
            if written.strip() == line.text.strip():
                return f"{_short_path(origin.path)}:{number}"
        return self._place(line.path)

    # --- HAProxy's own check

    def _accept(self, text: str, lines: Sequence[Line], values: Mapping[str, Any]) -> list[str]:
        command = [str(word) for word in values.get("haproxy_check_command") or []]
        place = self._place(("haproxy_check_command",))
        where = f" ({place})" if place else ""
        if not command:
            raise AnsibleActionFail(
                f"haproxy_check_command is empty{where}, and a text that no HAProxy has accepted is not handed on. "
                "Write the words of a command such as [haproxy, -c, -f, '{file}']."
            )
        binary = _program(values)
        if not binary:
            raise AnsibleActionFail(
                f"haproxy_check_command starts with {short(command[0])}, which is not installed here{where}. "
                "Install the package haproxy on the machine that runs Ansible, or name a command that runs HAProxy in an image."
            )
        status = os.stat(binary)
        key = json.dumps([text, command, os.path.realpath(binary), status.st_size, status.st_mtime_ns])
        cache = FilePath(os.path.expanduser(values["haproxy_check_cache_dir"]))
        record = cache / hashlib.sha256(key.encode()).hexdigest()
        try:
            os.utime(record)
            return json.loads(record.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        except (OSError, ValueError):
            pass
        returncode, output = self._run_check([binary, *command[1:]], text)
        warnings = self._judge(returncode, output, lines, " ".join(command))
        self._remember(record, warnings)
        return warnings

    def _run_check(self, command: list[str], text: str) -> tuple[int, str]:
        with tempfile.TemporaryDirectory(prefix="haproxy-check-") as directory:
            file = FilePath(directory) / "haproxy.cfg"
            file.write_text(text, encoding="utf-8")
            by_file = any("{file}" in word for word in command)
            try:
                done = subprocess.run(
                    [word.replace("{file}", str(file)) for word in command],
                    input=None if by_file else text,
                    stdin=subprocess.DEVNULL if by_file else None,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=CHECK_TIMEOUT_SECONDS,
                    text=True,
                    errors="replace",
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return 124, f"It took longer than {CHECK_TIMEOUT_SECONDS} s."
            except OSError as error:
                return 126, str(error)
        return done.returncode, done.stdout

    def _judge(self, returncode: int, output: str, lines: Sequence[Line], command: str) -> list[str]:
        findings = explain(output, lines)
        if returncode == 0:
            return [f"HAProxy warns: {self._tell(finding)}" for finding in findings]
        alerts = [finding for finding in findings if finding.severity == "ALERT"]
        if not alerts:
            raise AnsibleActionFail(
                f"The check of haproxy.cfg failed (exit status {returncode}) without naming a line, and haproxy.cfg was not changed. "
                f"Run it by hand: {command}\n{output.strip()}"
            )
        raise AnsibleActionFail(
            "HAProxy refuses the configuration, and haproxy.cfg was not changed.\n"
            + "\n".join(f"- {self._tell(finding)}" for finding in alerts)
        )

    def _tell(self, finding: Finding) -> str:
        line = finding.line
        if line is None or not line.path:
            return finding.message
        name = show_path(self._source(line.path))
        if line.extra_line:
            name += f" line {line.extra_line}"
        place = self._line_place(line)
        return f"{name}{f' ({place})' if place else ''}: {short(line.text.strip())}. HAProxy says: {finding.message}"

    @staticmethod
    def _remember(record: FilePath, warnings: list[str]) -> None:
        """Write down that this text was accepted. Without a place to write, the next run just checks again."""
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=record.parent, prefix=".new-", delete=False, encoding="utf-8"
            ) as file:
                json.dump(warnings, file)
            os.replace(file.name, record)
            oldest_last = sorted(record.parent.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in oldest_last[REMEMBERED:]:
                path.unlink(missing_ok=True)
        except OSError:
            return

    # --- The file

    def _write(
        self, text: str, lines: Sequence[Line], arguments: Mapping[str, Any], task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        """Hand over to ansible.builtin.copy, which knows diff, backup and check mode."""
        options = {
            key: arguments[key] for key in ("dest", "owner", "group", "mode", "backup") if arguments[key] is not None
        }
        with tempfile.TemporaryDirectory(prefix="haproxy-config-") as directory:
            source = FilePath(directory) / FilePath(arguments["dest"]).name
            source.write_text(text, encoding="utf-8")
            arguments_of_copy = {**options, "src": str(source)}
            if arguments["check"] == "host":
                # copy would validate too, but only after the backup, and not at all in check mode.
                result = self._copy(arguments_of_copy, task_vars, check_mode=True)
                if result.get("failed") or not result.get("changed"):
                    return result
                self._accept_on_host(source, lines)
                if self._task.check_mode:
                    return result
                arguments_of_copy["validate"] = HOST_CHECK
            return self._copy(arguments_of_copy, task_vars, check_mode=self._task.check_mode)

    def _copy(self, arguments: dict[str, Any], task_vars: dict[str, Any], check_mode: bool) -> dict[str, Any]:
        task = self._task.copy()
        task.args = arguments
        task.check_mode = check_mode
        copy = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        result: dict[str, Any] = copy.run(task_vars=task_vars)
        return result

    def _accept_on_host(self, source: FilePath, lines: Sequence[Line]) -> None:
        folder = self._make_tmp_path()
        try:
            remote = self._connection._shell.join_path(folder, "haproxy.cfg")
            self._transfer_file(str(source), remote)
            self._fixup_perms2((folder, remote))
            done = self._low_level_execute_command(HOST_CHECK % shlex.quote(remote))
        finally:
            self._remove_tmp_path(folder)
        output = f"{done.get('stdout', '')}\n{done.get('stderr', '')}"
        self._judge(int(done.get("rc", 1)), output, lines, HOST_CHECK % "FILE")


def _program(values: Mapping[str, Any]) -> str | None:
    """The program that haproxy_check_command starts, where this machine has it."""
    command = values.get("haproxy_check_command") or [""]
    return shutil.which(os.path.expanduser(str(command[0])), path=SEARCH_PATH)


def _look_up(values: Any, path: Path) -> Any:
    for step in path:
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _short_path(path: str) -> str:
    """Relative to the project, where a person types the command."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
