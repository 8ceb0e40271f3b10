# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""People at the app. Runs in the app's own image, which has Python, until its pod is removed.

visit    ask for the page, one after the other
upload   send half an upload and wait: each keeps one of the eight places at Gunicorn, and with enough of them the
         rest stands in HAProxy's queue, with hardly any work for the machine
flood    ask for the page as fast as it comes, so that a few errors are soon a small share
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import urllib.parse

PATIENCE_SECONDS = 40.0
#: As long as HAProxy lets a request stand in its queue. Who came at the same time would be turned away at the same
#: time, and leave the queue empty for a moment.
SPREAD_SECONDS = 5.0


async def visit(url: str, times: int) -> None:
    """Ask for the page so many times over one connection."""
    where = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        for _ in range(times):
            writer.write(f"GET {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
    finally:
        writer.close()


async def upload(url: str) -> None:
    """Begin an upload, and never end it."""
    where = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        head = f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: 1000000\r\n\r\n"
        # More than a proxy's buffer holds, so that it can't wait for the rest before it takes a place.
        writer.write(head.encode() + b"x" * 65536)
        # Whoever has been turned away stands in the queue again; whoever has a place keeps it.
        if b" 503 " not in await reader.readline():
            await reader.read()
    finally:
        writer.close()


async def person(manner: str, url: str, pause_seconds: float, late_seconds: float) -> None:
    """One who comes late and doesn't give up."""
    await asyncio.sleep(late_seconds)
    while True:
        # One who is hung up on comes back; what was answered is counted by others.
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, StopIteration):
            if manner == "upload":
                await asyncio.wait_for(upload(url), PATIENCE_SECONDS)
            else:
                await asyncio.wait_for(visit(url, 1000 if manner == "flood" else 1), PATIENCE_SECONDS)
        await asyncio.sleep(pause_seconds)


async def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("manner", choices=("visit", "upload", "flood"))
    parser.add_argument("--people", type=int, default=1)
    parser.add_argument("--pause-seconds", type=float, default=0.3)
    parser.add_argument("urls", nargs="+")
    given = parser.parse_args()
    await asyncio.gather(
        *(
            person(given.manner, url, given.pause_seconds, SPREAD_SECONDS * number / given.people)
            for url in given.urls
            for number in range(given.people)
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
