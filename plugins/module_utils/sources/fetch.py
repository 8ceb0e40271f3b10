# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Downloads: one probe for a run, mirrors, resuming, checksums."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from types import MappingProxyType

from .cache import read_json, sha256_of, write_json
from .errors import SourceError, Unreachable, explain_os_error

ATTEMPTS = 3
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
AGENT = {"User-Agent": "appgate-sources"}
FAILURES = (OSError, http.client.HTTPException)


@dataclasses.dataclass(frozen=True)
class Publisher:
    """How publishers are reached."""

    mirror: str
    probe_url: str
    probe_timeout_seconds: float
    download_timeout_seconds: float

    def address(self, url: str) -> str:
        """Put the mirror in the place of the publisher's host; the path stays."""
        if not self.mirror:
            return url
        return self.mirror.rstrip("/") + urllib.parse.urlsplit(url).path

    def probe(self) -> str:
        """Return why publishers cannot be reached, or nothing."""
        url = self.address(self.probe_url)
        request = urllib.request.Request(url, method="HEAD", headers=AGENT)
        try:
            with urllib.request.urlopen(request, timeout=self.probe_timeout_seconds):
                return ""
        except urllib.error.HTTPError as error:
            # A publisher that lacks this one file is still there; a gate that forbids is not.
            return "" if error.code == 404 else f"{url} answered {error.code}"
        except FAILURES as error:
            return f"{url}: {reason(error)}"


def reason(error: BaseException) -> str:
    """Give a network error in few words."""
    inner = getattr(error, "reason", error)
    return str(inner) or type(inner).__name__


def probe_once(publisher: Publisher, path: str, run: str) -> str:
    """Probe once in a run; later askers of the same run read the answer."""
    url = publisher.address(publisher.probe_url)
    known = read_json(path)
    if run and isinstance(known, dict) and (known.get("run"), known.get("url")) == (run, url):
        return str(known["why_not"])
    why_not = publisher.probe()
    write_json(path, {"run": run, "url": url, "why_not": why_not})
    return why_not


def download(
    publisher: Publisher,
    url: str,
    target: str,
    note: Callable[[int, int | None], None],
    headers: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Download to a file; a partial one beside it is continued."""
    address = publisher.address(url)
    partial = target + ".part"
    last: BaseException = SourceError("not tried")
    vain = 0
    while vain < ATTEMPTS:
        had = _size(partial)
        try:
            _fetch(address, partial, publisher.download_timeout_seconds, note, headers)
            os.replace(partial, target)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and had:
                # The partial file is longer than the real one: start again.
                os.remove(partial)
                continue
            if error.code < 500 and error.code not in (408, 429):
                raise not_there(address, error) from error
            last = error
        except http.client.HTTPException as error:
            last = error
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise explain_os_error(error, target) from error
            last = error
        if _size(partial) > had:
            vain = 0  # a bad line that brings something each time is a way as well
        else:
            vain += 1
            if vain < ATTEMPTS:
                time.sleep(vain)  # a publisher in trouble gets a pause before the next attempt
    raise Unreachable(
        f"{address} could not be downloaded in {ATTEMPTS} attempts: {reason(last)}. Run again to"
        " continue where it stopped, set sources_mirror, or set sources_mode to build."
    ) from last


def not_there(address: str, error: urllib.error.HTTPError) -> Unreachable:
    """Explain an answer that another attempt will not change."""
    return Unreachable(
        f"{address} answered {error.code} {error.reason}. Check that this version is released there,"
        " or set sources_mode to build."
    )


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _fetch(
    address: str,
    partial: str,
    timeout: float,
    note: Callable[[int, int | None], None],
    headers: Mapping[str, str],
) -> None:
    have = _size(partial)
    request = urllib.request.Request(address, headers=AGENT)
    for name, value in headers.items():
        # A registry redirects to a store that refuses the registry's own token.
        request.add_unredirected_header(name, value)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=timeout) as response:
        resumed = response.status == 206
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        done = start
        with open(partial, "ab" if resumed else "wb") as handle:
            while True:
                block = response.read(1 << 18)
                if not block:
                    break
                handle.write(block)
                done += len(block)
                note(done, total)
        if total is not None and done != total:
            raise http.client.IncompleteRead(b"", total - done)


def published_checksum(text: str, file_name: str) -> str | None:
    """Find a file's SHA-256 in a publisher's list, or in a file that holds nothing else."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for fields in lines:
        named = len(fields) >= 2 and os.path.basename(fields[-1].lstrip("*")) == file_name
        alone = len(lines) == 1 and len(fields) == 1
        if (named or alone) and re.fullmatch("[0-9a-fA-F]{64}", fields[0]):
            return fields[0].lower()
    return None


def text_of(publisher: Publisher, url: str) -> str:
    """Read a small text file of a publisher."""
    address = publisher.address(url)
    try:
        request = urllib.request.Request(address, headers=AGENT)
        with urllib.request.urlopen(request, timeout=publisher.download_timeout_seconds) as response:
            content: bytes = response.read(1 << 20)
            return content.decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        raise not_there(address, error) from error
    except FAILURES as error:
        raise Unreachable(
            f"The checksum list {address} cannot be read: {reason(error)}. Pin the checksum in the"
            " catalog, or set sources_mode to build."
        ) from error


def check_sha256(path: str, expected: str, where_expected: str, url: str) -> None:
    """Refuse a file with another checksum, and remove it."""
    got = sha256_of(path)
    if got == expected:
        return
    os.remove(path)
    raise SourceError(
        f"Checksum mismatch: {url} has SHA-256 {got}, but {where_expected} says {expected}."
        " The download is removed. Run again; if it stays, the file was changed at its publisher"
        " or mirror: do not use it before you know why."
    )


class Lockfile:
    """Checksums that were seen at the first download, for files the catalog does not pin."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, url: str) -> str | None:
        known = read_json(self.path)
        return str(known[url]) if isinstance(known, dict) and url in known else None

    def put(self, url: str, sha256: str) -> None:
        known = read_json(self.path)
        write_json(self.path, {**(known if isinstance(known, dict) else {}), url: sha256})


def partial_name(url: str) -> str:
    """Name a download so that another version's partial file is never continued."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    return f"{digest}-{url.rsplit('/', 1)[1]}"
