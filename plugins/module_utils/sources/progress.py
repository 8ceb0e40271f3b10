# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Progress as lines of JSON in a file, so that another process can show it while it happens."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

SECONDS_BETWEEN_NOTES = 1.0


class Progress:
    """Says which of how many parts is at work, and how far it is."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._state: dict[str, Any] = {}
        self._noted_at = 0.0

    def start(self, number: int, total: int, part: str, version: str) -> None:
        """A part is at work from now on."""
        self._state = {"number": number, "total": total, "part": part, "version": version}

    def say(self, doing: str, detail: str = "") -> None:
        """Tell what is being done; always written."""
        self._state.update(doing=doing, detail=detail)
        self._write()

    def note(self, detail: str) -> None:
        """Tell how far it is; written at most once a second."""
        if time.monotonic() - self._noted_at >= SECONDS_BETWEEN_NOTES:
            self._state.update(detail=detail)
            self._write()

    def end(self, what: str) -> None:
        """A part is complete, or has failed."""
        self._state.update(doing="done", detail=what)
        self._write()

    def _write(self) -> None:
        self._noted_at = time.monotonic()
        if self._path is None:
            return
        try:
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(self._state) + "\n")
        except OSError:
            # Showing progress is a courtesy: it must not stop the work.
            self._path = None


class Reader:
    """Turns the progress file into lines for a person; lives beside the module."""

    def __init__(self, path: str, show: Callable[[str], None], every_seconds: float) -> None:
        self._path = path
        self._show = show
        self._every = every_seconds
        self._offset = os.path.getsize(path) if os.path.exists(path) else 0
        self._state: dict[str, Any] = {}
        self._part_since = 0.0
        self._shown_at = 0.0

    def poll(self) -> None:
        """Show what is new, or a sign of life when the same work goes on for long."""
        try:
            with open(self._path, encoding="utf-8") as handle:
                handle.seek(self._offset)
                text = handle.read()
        except OSError:
            return
        complete = text.rfind("\n") + 1
        self._offset += len(text[:complete].encode())
        now = time.monotonic()
        for line in text[:complete].splitlines():
            state = json.loads(line)
            if state.get("part") != self._state.get("part"):
                self._part_since = now
            fresh = (state.get("part"), state.get("doing")) != (
                self._state.get("part"),
                self._state.get("doing"),
            )
            self._state = state
            if fresh:
                self._print(now)
        if self._state and self._state["doing"] != "done" and now - self._shown_at >= self._every:
            self._print(now)

    def _print(self, now: float) -> None:
        self._shown_at = now
        state = self._state
        seconds = round(now - self._part_since)
        head = f"sources: {state['number']} of {state['total']} {state['part']} {state['version']}"
        if state["doing"] == "done":
            self._show(f"{head}: {state['detail']}, {seconds} s")
            return
        extra = f", {state['detail']}" if state["detail"] else ""
        elapsed = f", {seconds} s" if seconds else ""
        self._show(f"{head}: {state['doing']}{elapsed}{extra}")
