# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A report as one HTML page that loads nothing, and the file that it becomes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jinja2
from ansible_collections.appgate.platform.plugins.module_utils.report import plots
from ansible_collections.appgate.platform.plugins.module_utils.report.model import STATE_WORDS, Report, duration
from markupsafe import Markup, escape

TEMPLATE = "page.html.j2"
STYLE = "page.css"
_ADDRESS = re.compile(r"(https?://[^\s<>\"'()]*[^\s<>\"'().,;:])")
_STATE = re.compile(r'<meta name="state" content="([0-9a-f]+)">')


def layout(templates: Path) -> str:
    """What the page looks like, as a hash: another one is another page."""
    texts = [(templates / name).read_bytes() for name in (TEMPLATE, STYLE)]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


def marked_up(text: str) -> Markup:
    """Text in which what stands between backticks is something to type, and an address is a link."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _linked(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else _linked(part) for at, part in enumerate(parts)
    )


def _linked(text: str) -> Markup:
    pieces = _ADDRESS.split(text)
    return Markup("").join(
        Markup('<a href="{0}" rel="noreferrer">{0}</a>').format(piece) if at % 2 else escape(piece)
        for at, piece in enumerate(pieces)
    )


def render(report: Report, templates: Path, siblings: Sequence[str] = ()) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["marked_up"] = marked_up
    drawn = []
    for plot in report.plots:
        wide = narrow = ""
        lines = []
        if not plot.reason:
            lines = [plots.summary(line, plot.unit) for line in plot.series]
            wide = plots.svg(plot, plots.WIDE, report.markers)
            narrow = plots.svg(plot, plots.NARROW)
        drawn.append(
            {
                "key": plot.key,
                "title": plot.title,
                "text": plot.text,
                "reason": plot.reason,
                "good": plot.good,
                "lines": lines,
                # Drawn by the library, with names of our own: the only markup that is not escaped.
                "wide": Markup(wide),  # noqa: S704
                "narrow": Markup(narrow),  # noqa: S704
            }
        )
    looks_back = "the last hour" if report.hours == 1 else f"the last {duration(report.hours * 3600)}"
    return environment.get_template(TEMPLATE).render(
        it=report,
        plots=drawn,
        words=STATE_WORDS,
        looks_back=looks_back,
        siblings=list(siblings) if len(siblings) > 1 and report.cluster in siblings else [],
        fingerprint=report.fingerprint(layout(templates)),
    )


def stated(path: Path) -> str:
    """The fingerprint of the page that is there; empty where there is none."""
    try:
        with path.open(encoding="utf-8") as stream:
            match = _STATE.search(stream.read(4096))
    except (OSError, UnicodeDecodeError):
        return ""
    return match[1] if match else ""


def unwritable(path: Path) -> str:
    """Why a page can't be written here; empty where it can."""
    if path.is_dir():
        return f"{path} is a directory"
    folder = path.parent
    while not folder.exists() and not folder.is_symlink():
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is not a directory"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} can't be written to by this user"
    return ""


def write(path: Path, text: str) -> None:
    """Whole or not at all: who has the page open never reads half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
