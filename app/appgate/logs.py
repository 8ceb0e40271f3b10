# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""One JSON object per line on the standard streams: access on stdout, messages on stderr."""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import os
import re
import uuid
from typing import Any

#: The id of the request that this thread is answering.
request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

# What HAProxy's unique-id-format, uuids and common tracers use. Anything else, and anything long,
# is replaced: the id goes into logs and back to the client.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:=@+/-]{1,128}", re.ASCII)

# A write of up to PIPE_BUF (4,096) bytes is never mixed with another worker's (pipe(7)).
_LONGEST_VALUE = 1024


def accept_request_id(given: str | None) -> str:
    """The id from the proxy if it is a sound one, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_access(entry: dict[str, Any], descriptor: int = 1) -> None:
    """Write one access line in one write, so that lines of several workers do not mix."""
    cut = {key: value[:_LONGEST_VALUE] if isinstance(value, str) else value for key, value in entry.items()}
    line = json.dumps({"time": _now(), "kind": "access", **cut}, separators=(",", ":"))
    try:
        os.write(descriptor, line.encode() + b"\n")
    except OSError:
        # Nobody reads the log any more (a closed pipe, a full disk). Answering matters more.
        return


class JsonFormatter(logging.Formatter):
    """A log record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "kind": "message",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if request_id.get():
            entry["request_id"] = request_id.get()
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, separators=(",", ":"))


def dict_config(level: str) -> dict[str, Any]:
    """Logging for gunicorn and the app, in the form of logging.config.dictConfig."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "appgate.logs.JsonFormatter"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": "json",
            }
        },
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"level": level.upper(), "handlers": ["stderr"], "propagate": False},
            # The app writes its own access log, with the request id and the route.
            "gunicorn.access": {"handlers": [], "propagate": False},
        },
    }
