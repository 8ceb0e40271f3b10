# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration by environment variables, checked before anything listens.

Every setting is one ``APPGATE_<NAME>`` variable. A wrong type, a value out of range and a
variable that nobody knows (a typo) each stop the start with one sentence that names the variable,
its value and what would be right.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from appgate import cpu

PREFIX = "APPGATE_"

#: sysexits.h: EX_CONFIG, so that a supervisor can tell a wrong setting from a crash.
EXIT_CONFIG = 78

# Kubernetes and old Docker links put one set of variables per Service into every container. The
# Service of this very app is called appgate-service, so these arrive with the app's own prefix.
_SERVICE_LINK = re.compile(
    r"""^APPGATE(_[A-Z0-9_]+)?_
        (SERVICE_HOST
        |SERVICE_PORT(_[A-Z0-9_]+)?
        |PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)$""",
    re.VERBOSE,
)
_SERVICE_LINK_PORT = re.compile(r"^APPGATE(_[A-Z0-9_]+)?_PORT$")


class ConfigError(ValueError):
    """A setting that the app refuses to start with."""


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text):
            raise ValueError(f"is not a whole number: give one from {low} to {high}")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"is out of range: give a whole number from {low} to {high}")
        return number

    return parse


def _workers(text: str) -> int:
    if text == "auto":
        return cpu.workers()
    try:
        return _integer(1, 64)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or 'auto'") from None


def _boolean(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise ValueError("is not a boolean: give 'true' or 'false'")


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"is not known: give one of {', '.join(choices)}")
        return text

    return parse


def _bind(text: str) -> str:
    if re.fullmatch(r"unix:/[^\0]+", text):
        # sun_path is 108 bytes with its closing zero (unix(7)).
        if len(text.removeprefix("unix:").encode()) > 107:
            raise ValueError("is too long for a unix socket: give a path of at most 107 bytes")
        return text
    host, colon, port = text.rpartition(":")
    if colon and host and port.isdigit() and 1 <= int(port) <= 65535:
        return text
    raise ValueError("is not an address: give 'unix:/absolute/path' or 'host:port'")


def _setting(default: str, parse: Callable[[str], Any], text: str) -> Any:
    return dataclasses.field(metadata={"default": default, "parse": parse, "text": text})


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of the app and of the server that runs it."""

    bind: str = _setting("unix:/run/appgate/gunicorn.sock", _bind, "Where gunicorn listens.")
    workers: int = _setting("auto", _workers, "Worker processes; 'auto' follows the CPU limit of the container.")
    threads: int = _setting("4", _integer(1, 128), "Threads of one worker.")
    backlog: int = _setting("128", _integer(16, 4096), "Connections that may wait in the listen queue.")
    timeout_seconds: int = _setting("30", _integer(5, 3600), "A worker without a heartbeat for this long is replaced.")
    graceful_timeout_seconds: int = _setting(
        "15", _integer(1, 3600), "How long requests may go on after a stop was asked for."
    )
    keepalive_seconds: int = _setting(
        # HAProxy forgets an idle connection after pool-purge-delay, 5 s. It must be the one that
        # hangs up first: a request sent on a connection that gunicorn is closing becomes a 502.
        "15",
        _integer(6, 600),
        "How long an idle connection from HAProxy stays open.",
    )
    max_requests: int = _setting(
        "0", _integer(0, 10_000_000), "A worker is replaced after so many requests; 0 is never."
    )
    trusted_proxy_hops: int = _setting(
        "1", _integer(0, 8), "Proxies in front whose X-Forwarded-* headers are believed."
    )
    stop_timeout_seconds: int = _setting(
        # Docker and podman kill a container 10 s after they have asked it to stop.
        "9",
        _integer(1, 3600),
        "Time for a container's whole stop; used by the supervisor.",
    )
    log_level: str = _setting("info", _choice("debug", "info", "warning", "error"), "Least severe message to log.")
    access_log: bool = _setting("true", _boolean, "Log one JSON line per request.")
    access_log_probes: bool = _setting("false", _boolean, "Log successful /healthz, /readyz and /metrics requests too.")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read all settings, or raise one ConfigError that lists every mistake."""
        fields = {PREFIX + field.name.upper(): field for field in dataclasses.fields(cls)}
        mistakes = []
        for name, value in sorted(environ.items()):
            if not name.startswith(PREFIX) or name in fields or is_service_link(name, value):
                continue
            mistakes.append(
                f"{name}={value!r} is not a setting of this app: remove it or use one of {', '.join(fields)}."
            )
        values: dict[str, Any] = {}
        for name, field in fields.items():
            text = environ.get(name, field.metadata["default"])
            try:
                values[field.name] = field.metadata["parse"](text)
            except ValueError as error:
                mistakes.append(f"{name}={text!r} {error}.")
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        return cls(**values)


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes put this variable there for a Service, not a person for the app."""
    if _SERVICE_LINK.match(name):
        return True
    return bool(_SERVICE_LINK_PORT.match(name)) and "://" in value
