# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Render haproxy.cfg from checked variables, and trace what `haproxy -c` says back to the variable.

Nothing here knows Ansible or starts a process. The order of work is haproxy_input.check(), render(), and explain() for
what `haproxy -c` says about the rendered text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.role_types import (
    Path,
)

HEADER = "# Written by Ansible (role haproxy). A change made here is lost: change the role's variables."


@dataclass(frozen=True)
class Line:
    """A rendered line and the value it comes from (with the line inside it, when the value has several)."""

    text: str
    path: Path
    extra_line: int | None = None


def quote(text: str) -> str:
    """Make one HAProxy word of a text. Single quotes keep everything, so they come first."""
    if text and not re.search(r"[\s#'\"\\$]", text):
        return text
    if "'" not in text:
        return f"'{text}'"
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'


class _Section:
    """Collects the lines of one section with their origins."""

    def __init__(self, head: str, path: Path, values: Mapping[str, Any]) -> None:
        self.lines = [Line("", path), Line(head, (*path, "name") if "name" in values else path)]
        self.path = path
        self.values = values

    def add(self, text: str, *steps: str | int) -> None:
        self.lines.append(Line("    " + text, (*self.path, *steps)))

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def word(self, keyword: str, key: str, make: Callable[[str], str] = str) -> None:
        """KEYWORD VALUE, if there is a value."""
        if self.get(key) not in (None, ""):
            self.add(f"{keyword} {make(self.get(key))}", key)

    def each(self, keyword: str, key: str) -> None:
        for index, item in enumerate(self.get(key) or []):
            self.add(f"{keyword} {item}", key, index)

    def log(self) -> None:
        self.each("log", "log")
        self.word("log-format", "log_format", quote)

    def options(self) -> None:
        for index, option in enumerate(self.get("options") or []):
            negated = option.startswith("no ")
            self.add(f"no option {option[3:]}" if negated else f"option {option}", "options", index)

    def timeouts(self) -> None:
        for key, value in (self.get("timeouts") or {}).items():
            if value is not None:
                self.add(f"timeout {key} {value}", "timeouts", key)

    def error_files(self) -> None:
        for index, item in enumerate(self.get("error_files") or []):
            self.add(f"errorfile {item['status']} {quote(item['path'])}", "error_files", index)

    def acls(self) -> None:
        for index, acl in enumerate(self.get("acls") or []):
            self.add(f"acl {acl['name']} {acl['test']}", "acls", index)

    def stick_table(self) -> None:
        table = self.get("stick_table")
        if table:
            words = ["stick-table type", table["type"], "size", table["size"]]
            if table.get("expire"):
                words += ["expire", table["expire"]]
            if table.get("store"):
                words += ["store", ",".join(table["store"])]
            if table.get("params"):
                words.append(table["params"])
            self.add(" ".join(words), "stick_table")

    def rate_limit(self) -> None:
        limit = self.get("rate_limit")
        if limit:
            period = limit["period"]
            # An entry that expires earlier than the period would forget requests that still count.
            self.add(
                f"stick-table type ipv6 size {limit['table_size']} expire {period} store http_req_rate({period})",
                "rate_limit",
            )
            self.add("http-request track-sc0 src", "rate_limit")
            self.add(
                f"http-request deny deny_status {limit['deny_status']} if {{ sc_http_req_rate(0) gt {limit['requests']} }}",
                "rate_limit",
            )

    def rules(self, keyword: str, key: str) -> None:
        for index, rule in enumerate(self.get(key) or []):
            self.add(f"{keyword} {rule['action']}{_condition(rule)}", key, index)

    def headers(self, keyword: str, key: str) -> None:
        for index, header in enumerate(self.get(key) or []):
            if header["operation"] == "delete":
                text = f"{keyword} del-header {header['name']}"
            else:
                text = f"{keyword} {header['operation']}-header {header['name']} {quote(header['value'])}"
            self.add(text + _condition(header), key, index)

    def http_rules(self) -> None:
        self.rules("tcp-request", "tcp_request")
        self.rate_limit()
        self.rules("http-request", "http_request")
        self.headers("http-request", "request_headers")
        self.word(
            "http-request use-service prometheus-exporter if { path",
            "prometheus_path",
            lambda path: f"{quote(path)} }}",
        )
        self.rules("http-response", "http_response")
        self.rules("http-after-response", "http_after_response")
        # After-response rules reach the answers that HAProxy makes itself as well.
        self.headers("http-after-response", "response_headers")

    def stats(self) -> None:
        stats = self.get("stats")
        if stats:
            self.add("stats enable", "stats")
            self.add(f"stats uri {quote(stats['uri'])}", "stats", "uri")
            if stats.get("refresh"):
                self.add(f"stats refresh {stats['refresh']}", "stats", "refresh")
            if stats.get("hide_version"):
                self.add("stats hide-version", "stats", "hide_version")
            if stats.get("show_legends"):
                self.add("stats show-legends", "stats", "show_legends")
            if stats.get("admin_if"):
                self.add(f"stats admin if {stats['admin_if']}", "stats", "admin_if")

    def extra(self) -> None:
        for number, line in enumerate((self.get("extra") or "").splitlines(), start=1):
            self.lines.append(Line(("    " + line.strip()).rstrip(), (*self.path, "extra"), number))


def _condition(rule: Mapping[str, Any]) -> str:
    for word in ("if", "unless"):
        if rule.get(word) is not None:
            return f" {word} {rule[word]}"
    return ""


def _bind(bind: Mapping[str, Any]) -> str:
    words = ["bind"]
    if bind.get("socket"):
        words.append(quote(f"unix@{bind['socket']}"))
        for key in ("mode", "user", "group"):
            if bind.get(key):
                words += [key, bind[key]]
    else:
        address = str(bind.get("address", "*"))
        words.append(
            f"[{address}]:{bind['port']}"
            if ":" in address and not address.startswith("[")
            else f"{address}:{bind['port']}"
        )
    if bind.get("accept_proxy"):
        words.append("accept-proxy")
    tls = bind.get("tls")
    if tls:
        words.append("ssl")
        for certificate in tls["certificates"]:
            words += ["crt", quote(certificate)]
        words += ["ssl-min-ver", tls["min_version"]]
        for key, word in (
            ("ciphers", "ciphers"),
            ("ciphersuites", "ciphersuites"),
            ("ca_file", "ca-file"),
            ("verify", "verify"),
        ):
            if tls.get(key):
                words += [word, quote(tls[key])]
        if tls.get("alpn"):
            words += ["alpn", ",".join(tls["alpn"])]
    if bind.get("params"):
        words.append(bind["params"])
    return " ".join(words)


# Key -> HAProxy's word, in the order in which they are written.
_SERVER_WORDS = (
    ("maxconn", "maxconn"),
    ("maxqueue", "maxqueue"),
    ("weight", "weight"),
    ("cookie", "cookie"),
    ("check_interval", "inter"),
    ("check_fast_interval", "fastinter"),
    ("check_down_interval", "downinter"),
    ("rise", "rise"),
    ("fall", "fall"),
    ("slowstart", "slowstart"),
    ("pool_max_conn", "pool-max-conn"),
    ("pool_purge_delay", "pool-purge-delay"),
    ("resolvers", "resolvers"),
    ("init_addr", "init-addr"),
    ("tls_verify", "verify"),
    ("tls_ca_file", "ca-file"),
    ("tls_sni", "sni"),
)


def _server_words(server: Mapping[str, Any]) -> list[str]:
    words = ["check"] if server.get("check") else ["no-check"] if server.get("check") is False else []
    if server.get("tls"):
        words.append("ssl")
    for key, word in _SERVER_WORDS:
        if server.get(key) is not None:
            words += [word, quote(str(server[key]))]
    if server.get("tls_alpn"):
        words += ["alpn", ",".join(server["tls_alpn"])]
    if server.get("send_proxy"):
        words.append("send-proxy" if server["send_proxy"] == "v1" else "send-proxy-v2")
    words += [word for word in ("backup", "disabled") if server.get(word)]
    if server.get("params"):
        words.append(server["params"])
    return words


def _server(server: Mapping[str, Any]) -> str:
    if server.get("socket"):
        place = quote(f"unix@{server['socket']}")
    else:
        address = server["address"]
        place = (
            f"[{address}]:{server['port']}"
            if ":" in address and not address.startswith("[")
            else f"{address}:{server['port']}"
        )
    return " ".join(["server", server["name"], place, *_server_words(server)])


def _global(values: Mapping[str, Any]) -> _Section:
    section = _Section("global", ("haproxy_global",), values)
    section.log()
    section.word("maxconn", "maxconn")
    section.word("nbthread", "threads")
    section.word("user", "user")
    section.word("group", "group")
    section.word("chroot", "chroot", quote)
    section.word("grace", "grace")
    section.word("hard-stop-after", "hard_stop_after")
    for index, item in enumerate(section.get("stats_sockets") or []):
        words = ["stats socket", quote(item["path"])]
        for key in ("mode", "user", "group", "level"):
            if item.get(key):
                words += [key, item[key]]
        if item.get("expose_fd_listeners"):
            words.append("expose-fd listeners")
        section.add(" ".join(words), "stats_sockets", index)
    section.word("stats timeout", "stats_timeout")
    section.word("ssl-default-bind-ciphers", "tls_ciphers", quote)
    section.word("ssl-default-bind-ciphersuites", "tls_ciphersuites", quote)
    section.word("ssl-default-bind-options ssl-min-ver", "tls_min_version")
    for key, value in (section.get("tune") or {}).items():
        section.add(f"tune.{key} {value}", "tune", key)
    section.extra()
    return section


def _defaults(values: Mapping[str, Any]) -> _Section:
    section = _Section("defaults", ("haproxy_defaults",), values)
    section.log()
    section.word("mode", "mode")
    section.options()
    section.timeouts()
    section.word("maxconn", "maxconn")
    section.word("retries", "retries")
    section.word("retry-on", "retry_on", " ".join)
    section.word("balance", "balance")
    section.word("http-reuse", "http_reuse")
    section.word("unique-id-format", "unique_id_format", quote)
    section.word("unique-id-header", "unique_id_header")
    section.error_files()
    if section.get("default_server"):
        section.add(" ".join(["default-server", *_server_words(section.get("default_server"))]), "default_server")
    section.extra()
    return section


def _frontend(index: int, values: Mapping[str, Any]) -> _Section:
    section = _Section(f"frontend {values['name']}", ("haproxy_frontends", index), values)
    for number, bind in enumerate(section.get("binds")):
        section.add(_bind(bind), "binds", number)
    section.word("mode", "mode")
    section.log()
    section.options()
    section.timeouts()
    section.word("maxconn", "maxconn")
    section.word("unique-id-format", "unique_id_format", quote)
    section.word("unique-id-header", "unique_id_header")
    section.error_files()
    section.word("monitor-uri", "monitor_uri", quote)
    section.acls()
    section.each("monitor fail if", "monitor_fail_if")
    section.stick_table()
    section.http_rules()
    section.stats()
    section.extra()
    for number, item in enumerate(section.get("use_backends") or []):
        section.add(f"use_backend {item['backend']}{_condition(item)}", "use_backends", number)
    section.word("default_backend", "default_backend")
    return section


def _backend(index: int, values: Mapping[str, Any]) -> _Section:
    section = _Section(f"backend {values['name']}", ("haproxy_backends", index), values)
    section.word("mode", "mode")
    section.log()
    section.word("balance", "balance")
    section.word("hash-type", "hash_type")
    section.word("cookie", "cookie")
    section.options()
    section.timeouts()
    section.word("fullconn", "fullconn")
    section.word("retries", "retries")
    section.word("retry-on", "retry_on", " ".join)
    section.word("http-reuse", "http_reuse")
    section.error_files()
    check = section.get("http_check")
    if check:
        section.add("option httpchk", "http_check")
        host = f" ver HTTP/1.1 hdr Host {quote(check['host'])}" if check.get("host") else ""
        section.add(f"http-check send meth {check['method']} uri {quote(check['uri'])}{host}", "http_check")
        if check.get("expect"):
            section.add(f"http-check expect {check['expect']}", "http_check", "expect")
    section.acls()
    section.stick_table()
    section.each("stick", "stick")
    section.http_rules()
    section.stats()
    section.extra()
    if section.get("default_server"):
        section.add(" ".join(["default-server", *_server_words(section.get("default_server"))]), "default_server")
    for number, server in enumerate(section.get("servers") or []):
        section.add(_server(server), "servers", number)
    return section


def render(values: Mapping[str, Any]) -> list[Line]:
    """Render checked values. The line with index N is line N + 1 of the file."""
    lines = [Line(HEADER, ())]
    sections = [_global(values.get("haproxy_global") or {}), _defaults(values.get("haproxy_defaults") or {})]
    sections += [_frontend(index, item) for index, item in enumerate(values.get("haproxy_frontends") or [])]
    sections += [_backend(index, item) for index, item in enumerate(values.get("haproxy_backends") or [])]
    for section in sections:
        lines += section.lines
    extra = values.get("haproxy_extra") or ""
    if extra.strip():
        lines.append(Line("", ("haproxy_extra",)))
        lines += [
            Line(line.rstrip(), ("haproxy_extra",), number) for number, line in enumerate(extra.splitlines(), start=1)
        ]
    return lines


def to_text(lines: Sequence[Line]) -> str:
    """Make the file's text of rendered lines."""
    return "".join(f"{line.text}\n" for line in lines)


# --- What haproxy -c says --------------------------------------------------------------------------------------------

_SEVERITY = re.compile(r"^\[(ALERT|WARNING|NOTICE|DIAG)\]\s*(?:\d+/\d+\s*)?(?:\(\d+\)\s*)?:\s*(.*)$")
_POSITION = re.compile(r"\[[^\[\]\s]*:(\d+)\]|(?:^|\s|')/[^\s:']*:(\d+)")
_SUMMARY = re.compile(
    r"Error\(s\) found in configuration file|Fatal errors found in configuration|Errors found in configuration|config : (?:parsing )?\[[^\]]*\]$"
)


@dataclass(frozen=True)
class Finding:
    """One message of HAProxy, with the line it is about when it names one."""

    severity: str
    message: str
    line: Line | None


def explain(output: str, lines: Sequence[Line]) -> list[Finding]:
    """Read what `haproxy -c` wrote and trace each message to the variable that caused it."""
    findings: list[Finding] = []
    for raw in output.splitlines():
        match = _SEVERITY.match(raw.strip())
        if not match:
            continue
        severity, message = match.groups()
        if severity in ("NOTICE", "DIAG") or _SUMMARY.search(message):
            continue
        position = _POSITION.search(message)
        number = int(next(group for group in position.groups() if group)) if position else None
        line = lines[number - 1] if number and number <= len(lines) else _by_name(message, lines)
        message = re.sub(r"^config : ", "", message)
        message = re.sub(r"^(?:parsing )?\[[^\]]*:\d+\]\s*:?\s*", "", message)
        message = re.sub(r"\[[^\[\]\s]*:(\d+)\]", r"line \1 of the rendered file", message)
        # HAProxy lists every word that it knows, up to fifty; the close one comes at the end anyway.
        message = re.sub(r"(?:'[^']*', ){8,}", "... ", message)
        findings.append(Finding(severity, message.strip(), line))
    return findings


def _by_name(message: str, lines: Sequence[Line]) -> Line | None:
    """A message without a line number mostly names its section in quotes."""
    for name in re.findall(r"'([^']+)'", message):
        for line in lines:
            if line.text in (f"frontend {name}", f"backend {name}"):
                return Line(line.text, line.path[:-1])
    return None
