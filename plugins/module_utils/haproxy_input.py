# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What the role haproxy is given, and what is wrong with it: types by the argument specs, then meaning across values.

Nothing here knows Ansible. check() tells everything at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.role_types import (
    Path,
    Problem,
    check_types,
    suggest,
)

PREFIX = "haproxy_"

TIME = re.compile(r"^([0-9]+)(us|ms|s|m|h|d)$")
SIZE = re.compile(r"^[0-9]+[kmg]?$", re.IGNORECASE)
NAME = re.compile(r"^[A-Za-z0-9_.:-]+$")
HEADER_NAME = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
FILE_MODE = re.compile(r"^0?[0-7]{3}$")
TIME_REMEDY = 'Write a positive number with its unit (us, ms, s, m, h, d), such as "10s".'
WILDCARDS = {"*", "", "0.0.0.0", "::"}
# HAProxy keeps times as signed 32-bit numbers of milliseconds.
MAX_MILLISECONDS = 2**31 - 1
MILLISECONDS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

PREDEFINED_ACLS = frozenset(
    {
        *("TRUE", "FALSE", "HTTP", "HTTP_1.0", "HTTP_1.1", "HTTP_2.0", "HTTP_3.0", "HTTP_CONTENT", "HTTP_URL_ABS"),
        *("HTTP_URL_SLASH", "HTTP_URL_STAR", "LOCALHOST", "METH_CONNECT", "METH_DELETE", "METH_GET", "METH_HEAD"),
        *("METH_OPTIONS", "METH_POST", "METH_PUT", "METH_TRACE", "RDP_COOKIE", "REQ_CONTENT", "WAIT_END"),
    }
)


# --- Meaning: across values ------------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """Split a HAProxy line into words as HAProxy does: quotes, backslashes, and comments."""
    words: list[str] = []
    word, inside, started, index = "", "", False, 0
    while index < len(text):
        char = text[index]
        if inside:
            if char == inside:
                inside = ""
            elif char == "\\" and inside == '"' and index + 1 < len(text):
                index += 1
                word += text[index]
            else:
                word += char
        elif char in "'\"":
            inside, started = char, True
        elif char == "\\" and index + 1 < len(text):
            index += 1
            word, started = word + text[index], True
        elif char == "#":
            break
        elif char.isspace():
            if started or word:
                words.append(word)
            word, started = "", False
        else:
            word += char
        index += 1
    if started or word:
        words.append(word)
    return words


def acls_of_condition(condition: str) -> list[str]:
    """Name the ACLs that a condition uses; what stands in braces is an anonymous one."""
    names: list[str] = []
    depth = 0
    for word in split_words(condition):
        bare = word.lstrip("!")
        if bare == "{":
            depth += 1
        elif word == "}":
            depth -= 1
        elif depth == 0 and bare and word not in ("||", "or", "and", "&&"):
            names.append(bare)
    return names


def _extra_words(section: Mapping[str, Any]) -> Iterator[list[str]]:
    for line in (section.get("extra") or "").splitlines():
        words = split_words(line)
        if words:
            yield words


class _Checker:
    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.problems: list[Problem] = []

    def add(
        self,
        path: Path,
        reason: str,
        remedy: str,
        value: Any = None,
        show_value: bool = True,
        other: Path | None = None,
    ) -> None:
        self.problems.append(Problem(path, reason, remedy, value, show_value, other))

    # Single values, found by what their key is called: a new option of the same kind is checked without a line here.
    _TIME_KEYS = re.compile(
        r"^(haproxy_)?(grace|hard_stop_after|period|expire|refresh|slowstart|stats_timeout|pool_purge_delay|check_interval|check_fast_interval"
        r"|check_down_interval|timeout_[a-z_]+)$"
    )
    _NOT_TIMES = frozenset({"haproxy_reload_timeout_seconds"})
    _MANY_LINES = frozenset({"extra", "haproxy_extra"})
    _PORT_KEYS = frozenset({"port", "haproxy_http_port", "haproxy_operations_port"})
    # Key -> lowest and highest.
    _RANGES: Mapping[str, tuple[int, int]] = {
        "maxconn": (1, 2**31 - 1),
        "fullconn": (1, 2**31 - 1),
        "haproxy_maxconn": (1, 2**31 - 1),
        "haproxy_threads": (1, 64),
        "threads": (1, 64),
        "haproxy_app_concurrency": (1, 65535),
        "haproxy_reload_timeout_seconds": (1, 3600),
        "requests": (1, 2**31 - 1),
        "deny_status": (400, 599),
        "weight": (0, 256),
        "rise": (1, 65535),
        "fall": (1, 65535),
        "retries": (0, 65535),
        "maxqueue": (0, 2**31 - 1),
        "pool_max_conn": (-1, 2**31 - 1),
    }
    _SOCKETS = frozenset({"socket", "haproxy_app_socket", "haproxy_master_socket"})

    def scalars(self) -> None:
        # The specs can't say it: an empty limit is none, and any other needs its number.
        self._limit(self.values.get("haproxy_rate_limit"), ("haproxy_rate_limit",))
        for variable, value in self.values.items():
            self._scalar(value, (variable,))

    def _limit(self, limit: Any, path: Path) -> None:
        if limit and limit.get("requests") is None:
            remedy = "Add requests: the number that one client address may send per period."
            self.add((*path, "requests"), "is missing", remedy, show_value=False)

    def _scalar(self, value: Any, path: Path) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                self._scalar(inner, (*path, key))
            return
        if isinstance(value, list):
            for index, inner in enumerate(value):
                self._scalar(inner, (*path, index))
            return
        if value is None:
            return
        key = str(path[-1])
        if isinstance(value, str) and key not in self._MANY_LINES and re.search(r"[\r\n\0]", value):
            self.add(path, "must be one line", "Write it as one line, or use extra for several raw lines.", value)
        is_time = key not in self._NOT_TIMES and bool(self._TIME_KEYS.match(key))
        if is_time or (len(path) > 1 and path[-2] == "timeouts"):
            self._time(value, path)
        if key in self._PORT_KEYS and not 1 <= value <= 65535:
            self.add(path, "is no port", "Write a number from 1 to 65535.", value)
        if key in self._RANGES:
            low, high = self._RANGES[key]
            if not low <= value <= high:
                self.add(path, "is out of range", f"Write a whole number from {low} to {high}.", value)
        if key in ("size", "table_size") and not SIZE.match(value):
            self.add(path, "is no size", 'Write a number, with k, m or g if wanted, such as "100k".', value)
        if key in self._SOCKETS and not value.startswith("/"):
            self.add(path, "must be an absolute path", "Start it with a slash.", value)
        if key == "mode" and path[-2:-1] != (path[0],) and value not in ("http", "tcp") and not FILE_MODE.match(value):
            self.add(path, "is no file mode", 'Write three octal digits in quotes, such as "660".', value)

    def _time(self, value: Any, path: Path) -> None:
        text = str(value)
        match = TIME.match(text)
        if not match:
            if re.fullmatch(r"-.*", text):
                reason = "is a negative time"
            elif re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
                reason = "is a time without a unit"
            else:
                reason = "is no time"
            self.add(path, reason, TIME_REMEDY, value)
            return
        amount = int(match.group(1)) * MILLISECONDS[match.group(2)]
        if amount <= 0:
            self.add(path, "is no time at all", TIME_REMEDY, value)
        elif amount > MAX_MILLISECONDS:
            self.add(path, "is longer than HAProxy can count", "Write at most 24d.", value)

    # Sections.
    def sections(self) -> None:
        frontends = self.values.get("haproxy_frontends") or []
        backends = self.values.get("haproxy_backends") or []
        if not frontends and not re.search(r"(?m)^\s*(frontend|listen)\s", self.values.get("haproxy_extra") or ""):
            self.add(
                ("haproxy_frontends",),
                "is empty, so HAProxy would serve nothing",
                "Define at least one frontend.",
                show_value=False,
            )
        self._names("haproxy_frontends", frontends, "frontend")
        self._names("haproxy_backends", backends, "backend")
        known = {section.get("name") for section in backends}
        known |= set(re.findall(r"(?m)^\s*(?:backend|listen)\s+(\S+)", self.values.get("haproxy_extra") or ""))
        self._binds(frontends)
        for index, frontend in enumerate(frontends):
            path: Path = ("haproxy_frontends", index)
            self._section(frontend, path)
            for use, item in enumerate(frontend.get("use_backends") or []):
                self._backend_reference(item.get("backend"), known, (*path, "use_backends", use, "backend"))
            self._backend_reference(frontend.get("default_backend"), known, (*path, "default_backend"))
            self._limit(frontend.get("rate_limit"), (*path, "rate_limit"))
            if frontend.get("rate_limit") and frontend.get("stick_table"):
                self.add(
                    (*path, "rate_limit"),
                    "needs the stick table of the frontend, which stick_table takes as well",
                    "Keep one of them, and write the other as rules over a table in a backend.",
                    show_value=False,
                )
        for index, backend in enumerate(backends):
            path = ("haproxy_backends", index)
            self._section(backend, path)
            servers = backend.get("servers") or []
            self._names((*path, "servers"), servers, "server")
            for number, server in enumerate(servers):
                self._server(server, (*path, "servers", number))

    def _names(self, where: str | Path, sections: Sequence[Mapping[str, Any]], kind: str) -> None:
        base: Path = (where,) if isinstance(where, str) else where
        seen: dict[str, int] = {}
        for index, section in enumerate(sections):
            name = section.get("name")
            if not isinstance(name, str):
                continue
            path = (*base, index, "name")
            if not NAME.match(name):
                self.add(path, f"is no {kind} name", "Use letters, digits and the characters _ . : - only.", name)
            if name in seen:
                first = (*base, seen[name])
                self.add(
                    path,
                    f"is the name of two {kind}s ({{other}} has it already)",
                    "Give each a name of its own.",
                    name,
                    other=first,
                )
            else:
                seen[name] = index

    def _backend_reference(self, name: Any, known: set[Any], path: Path) -> None:
        if isinstance(name, str) and "%[" not in name and name not in known:
            remedy = f"Define it in haproxy_backends. {suggest(name, {n for n in known if isinstance(n, str)})}"
            self.add(path, "names a backend that nobody defines", remedy, name)

    def _binds(self, frontends: Sequence[Mapping[str, Any]]) -> None:
        taken: list[tuple[int, str, Path]] = []
        sockets: dict[str, Path] = {}
        for index, frontend in enumerate(frontends):
            base: Path = ("haproxy_frontends", index, "binds")
            binds = frontend.get("binds")
            if binds == []:
                self.add(
                    base, "is empty, so the frontend would serve nobody", "Add a bind with a port or a socket.", binds
                )
            for number, bind in enumerate(binds or []):
                path = (*base, number)
                port, socket = bind.get("port"), bind.get("socket")
                if (port is None) == (socket is None):
                    self.add(path, "needs exactly one of port and socket", "Keep one of the two keys.", bind)
                if isinstance(port, int):
                    address = str(bind.get("address", "*")).strip("[]")
                    for other_port, other, other_path in taken:
                        if port == other_port and (address == other or address in WILDCARDS or other in WILDCARDS):
                            other_port_path = (*other_path, "port")
                            self.add(
                                (*path, "port"),
                                "is taken by {other} already",
                                "Use another port or address.",
                                port,
                                other=other_port_path,
                            )
                            break
                    taken.append((port, address, path))
                if isinstance(socket, str):
                    if socket in sockets:
                        self.add(
                            (*path, "socket"),
                            "is taken by {other} already",
                            "Use another path.",
                            socket,
                            other=sockets[socket],
                        )
                    sockets.setdefault(socket, (*path, "socket"))
                for key in ("mode", "user", "group"):
                    if bind.get(key) is not None and socket is None:
                        self.add(
                            (*path, key),
                            "belongs to a unix socket, and this bind has a port",
                            f"Remove {key}.",
                            bind[key],
                        )

    def _server(self, server: Mapping[str, Any], path: Path) -> None:
        socket, address, port = server.get("socket"), server.get("address"), server.get("port")
        if (socket is None) == (address is None):
            self.add(path, "needs exactly one of address and socket", "Keep one of the two keys.", dict(server))
        elif address is not None and port is None:
            self.add((*path, "port"), "is missing", "Add the server's TCP port.", show_value=False)

    def _section(self, section: Mapping[str, Any], path: Path) -> None:
        defined = set(PREDEFINED_ACLS)
        for index, acl in enumerate(section.get("acls") or []):
            name = acl.get("name")
            if isinstance(name, str):
                if not NAME.match(name):
                    self.add(
                        (*path, "acls", index, "name"),
                        "is no ACL name",
                        "Use letters, digits and the characters _ . : - only.",
                        name,
                    )
                defined.add(name)
        # A line of extra may define an ACL for the rules below it, and so may the defaults.
        for words in (*_extra_words(section), *_extra_words(self.values.get("haproxy_defaults") or {})):
            if words[0] == "acl" and len(words) > 1:
                defined.add(words[1])
        for index, condition in enumerate(section.get("monitor_fail_if") or []):
            self._condition(condition, defined, (*path, "monitor_fail_if", index))
        stats = section.get("stats") or {}
        if "admin_if" in stats:
            self._condition(stats["admin_if"], defined, (*path, "stats", "admin_if"))
        for key in RULE_KEYS:
            for index, rule in enumerate(section.get(key) or []):
                here = (*path, key, index)
                if rule.get("if") is not None and rule.get("unless") is not None:
                    self.add(here, "has both if and unless", "Keep one of them.", dict(rule))
                for word in ("if", "unless"):
                    if rule.get(word) is not None:
                        self._condition(rule[word], defined, (*here, word))
                if key.endswith("_headers"):
                    self._header(rule, here)
                if key == "use_backends" and rule.get("if") is None and rule.get("unless") is None:
                    self.add(here, "has no condition", "Add if, or name the backend in default_backend.", dict(rule))

    def _header(self, rule: Mapping[str, Any], path: Path) -> None:
        name = rule.get("name")
        if isinstance(name, str) and not HEADER_NAME.match(name):
            self.add((*path, "name"), "is no header name", "Use letters, digits and hyphens.", name)
        deletes = rule.get("operation") == "delete"
        if deletes and rule.get("value") is not None:
            self.add((*path, "value"), "makes no sense with operation: delete", "Remove it.", rule["value"])
        if not deletes and rule.get("value") is None:
            self.add((*path, "value"), "is missing", "Add the header's value, or operation: delete.", show_value=False)

    def _condition(self, condition: Any, defined: set[str], path: Path) -> None:
        if not isinstance(condition, str):
            return
        if re.match(r"\s*(if|unless)\s", condition):
            self.add(path, "starts with the word if or unless", "Write what follows that word only.", condition)
            return
        for name in acls_of_condition(condition):
            if name not in defined:
                remedy = f"Define it in acls of the same section. {suggest(name, defined - PREDEFINED_ACLS)}"
                self.add(path, f"uses the ACL {name}, which nobody defines", remedy, condition)


RULE_KEYS = (
    "tcp_request",
    "http_request",
    "http_response",
    "http_after_response",
    "request_headers",
    "response_headers",
    "use_backends",
)


def check_meaning(values: Mapping[str, Any]) -> list[Problem]:
    """Find what is wrong although each type is right. Takes what check_types() gave back."""
    checker = _Checker(values)
    checker.scalars()
    checker.sections()
    return checker.problems


def check(values: Mapping[str, Any], specs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Find everything that is wrong at once; give back the converted values."""
    checked, problems = check_types(values, specs)
    wrong = [problem.path for problem in problems]
    for problem in check_meaning(checked):
        # What follows only from a wrong type or a mistyped key (above, at or below it) would confuse.
        if not any(path[: len(problem.path)] == problem.path[: len(path)] for path in wrong):
            problems.append(problem)
    return checked, problems
