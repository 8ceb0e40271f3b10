# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Open a page in headless Chromium, look at it as a person would, and tell all that is wrong with it.

    python -m tests.unit.report.browser PAGE --text "2 of 2 replicas" --plot requests --screenshots DIRECTORY

Chromium is driven over a pipe (its DevTools protocol), so neither a port nor a driver is needed.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
#: Name, width, height, dark. 360 is a small phone.
VIEWS = (
    ("desktop", 1280, 900, False),
    ("desktop-dark", 1280, 900, True),
    ("phone", 360, 740, False),
    ("phone-dark", 360, 740, True),
)
ANSWER_SECONDS = 60

#: What is wrong with the page in this window, as sentences.
LOOK = """
(plots) => {
  const wrong = [];
  const name = (node) => node.tagName.toLowerCase() + (node.className.baseVal ?? node.className ? '.' + (node.className.baseVal ?? node.className) : '');
  const shown = (node) => node.getClientRects().length > 0;
  if (document.documentElement.scrollWidth > innerWidth)
    wrong.push(`the page is ${document.documentElement.scrollWidth} wide in a window of ${innerWidth}`);
  for (const node of document.body.querySelectorAll('*')) {
    if (node.closest('svg') && node.tagName !== 'svg' || !shown(node)) continue;
    const box = node.getBoundingClientRect();
    if (box.right > innerWidth + 0.5 || box.left < -0.5) wrong.push(`${name(node)} reaches from ${box.left} to ${box.right} in a window of ${innerWidth}`);
    if (node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 1 && getComputedStyle(node).display !== 'inline')
      wrong.push(`${name(node)} holds ${node.scrollWidth} in a width of ${node.clientWidth}`);
  }
  for (const svg of [...document.querySelectorAll('svg')].filter(shown)) {
    const frame = svg.getBoundingClientRect();
    if (!svg.getAttribute('aria-label')) wrong.push('a plot has no words for those who do not see it');
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1) wrong.push(`the text ${text.textContent} leaves its plot`);
      if (box.height < 9) wrong.push(`the text ${text.textContent} of a plot is ${box.height} high`);
    }
  }
  for (const key of plots) {
    const drawn = [...document.querySelectorAll(`#plot-${key} svg`)].filter(shown);
    if (drawn.length !== 1) { wrong.push(`${drawn.length} drawings of the plot ${key} are shown`); continue; }
    const points = [...drawn[0].querySelectorAll('.series path')].map((path) => path.getAttribute('d').split(/[ML ]+/).length - 1);
    const bars = [...drawn[0].querySelectorAll('.series rect')].filter((bar) => bar.getBoundingClientRect().height > 0);
    if (Math.max(0, bars.length, ...points) < 2) wrong.push(`the plot ${key} shows fewer than two values`);
    const ink = drawn[0].querySelector('.series path, .series rect');
    const style = ink && getComputedStyle(ink);
    if (!style || (ink.tagName === 'path' ? style.stroke : style.fill) === 'none') wrong.push(`the plot ${key} has no colour`);
  }
  for (const figure of document.querySelectorAll('figure'))
    if (![...figure.querySelectorAll('svg')].some(shown) && !figure.querySelector('.instead')?.textContent.trim()) wrong.push(`${figure.id} is empty`);
  const levels = [...document.querySelectorAll('h1,h2,h3')].map((node) => Number(node.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) wrong.push('there is not one main heading');
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) wrong.push(`heading ${at + 1} skips a level`); });
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map((part) => (part /= 255) <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => { for (; node; node = node.parentElement) { const found = getComputedStyle(node).backgroundColor; if (!/, 0\\)$/.test(found)) return found; } return 'rgb(255, 255, 255)'; };
  for (const node of document.querySelectorAll('p, a, code, small, th, td, .badge, h1, h2, h3, b, figcaption span')) {
    if (!shown(node) || !node.textContent.trim()) continue;
    const [one, other] = [light(getComputedStyle(node).color), light(ground(node))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) wrong.push(`${name(node)} has a contrast of ${contrast.toFixed(1)}: ${node.textContent.trim().slice(0, 40)}`);
  }
  return wrong;
}
"""


def program() -> str | None:
    """The browser of this machine."""
    return next((found for found in map(shutil.which, PROGRAMS) if found), None)


@dataclass
class Look:
    """What a look at a page has found."""

    text: str = ""
    wrong: list[str] = field(default_factory=list)


class Browser:
    """A Chromium with one page."""

    def __init__(self, command: str, scratch: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()

        def pipes() -> None:
            # The browser reads from 3 and writes to 4; the copies first, as either may be one of these numbers.
            one, other = os.dup(to_read), os.dup(to_write)
            os.dup2(one, 3)
            os.dup2(other, 4)

        self._log = (scratch / "browser.log").open("wb")
        self._process = subprocess.Popen(
            [command, *FLAGS, f"--user-data-dir={scratch / 'profile'}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            close_fds=False,
            preexec_fn=pipes,
            start_new_session=True,
            env={**os.environ, "HOME": str(scratch)},
        )
        os.close(to_read)
        os.close(to_write)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # All of its processes are in a group of their own. None of them has anything to save.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._log.close()

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" in self._rest:
                text, _, self._rest = self._rest.partition(b"\0")
                yield json.loads(text)
            more = os.read(self._from, 1 << 20)
            if not more:
                raise RuntimeError(f"the browser has ended: see {self._log.name}")
            self._rest += more

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for its answer; what it tells meanwhile is kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer.get("result") or {})
            self.events.append(answer)
        raise RuntimeError(f"{method}: no answer")

    def open(self, page: Path) -> None:
        """Open a page and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        if not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            for event in self._messages():
                self.events.append(event)
                if event.get("method") == "Page.loadEventFired":
                    return

    def window(self, width: int, height: int, *, dark: bool) -> None:
        """The size of the window, and what its person prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True, height: int = 0) -> None:
        """A picture of the page; of its whole length, or of the first pixels of it."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        tall = min(size["height"], height) if height else size["height"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": tall, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self, page: Path) -> list[str]:
        """What went to the console, and what was loaded besides the page itself."""
        found = []
        own = page.resolve().as_uri()
        for event in self.events:
            method, told = event.get("method"), event.get("params") or {}
            if method == "Network.requestWillBeSent" and not told["request"]["url"].startswith((own, "data:")):
                found.append(f"the page asks for {told['request']['url']}")
            if method == "Log.entryAdded":
                found.append(f"{told['entry']['level']}: {told['entry']['text']}")
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                found.append(f"the console has {json.dumps(told)[:300]}")
        return found


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """The machine's browser with a folder of its own."""
    command = program()
    if command is None:
        raise FileNotFoundError("No Chromium was found. Install it: sudo apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, Browser(command, Path(scratch)) as found:
        yield found


def look(chromium: Browser, page: Path, plots: Sequence[str], screenshots: Path | None = None) -> Look:
    """Open a page in all windows; gives its text and all that is wrong."""
    found = Look()
    for name, width, height, dark in VIEWS:
        chromium.window(width, height, dark=dark)
        chromium.open(page)
        found.wrong += [f"{name}: {text}" for text in chromium.complaints(page)]
        found.wrong += [f"{name}: {text}" for text in chromium.ask(f"({LOOK})({json.dumps(list(plots))})")]
        # What a person reads: not what is hidden.
        found.text = chromium.ask("document.body.innerText.replace(/\\s+/g, ' ')")
        if screenshots is not None:
            chromium.screenshot(screenshots / f"{page.stem}-{name}.png")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--text", action="append", default=[], help="what the page has to say")
    parser.add_argument("--plot", action="append", default=[], help="a plot that has to have data")
    parser.add_argument("--screenshots", type=Path, help="a directory for pictures")
    given = parser.parse_args(arguments)
    try:
        with browser() as chromium:
            found = look(chromium, given.page, given.plot, given.screenshots)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    wrong = found.wrong + [f"the page does not say: {text}" for text in given.text if text not in found.text]
    for text in wrong:
        print(text, file=sys.stderr)
    if wrong:
        print(found.text, file=sys.stderr)
    else:
        print(f"{len(VIEWS)} windows, nothing wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
