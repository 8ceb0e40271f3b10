# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Builds: one 'go build' for each part, with its output kept and its end explained."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import IO

from .cache import Cache
from .catalog import Part
from .errors import SourceError
from .progress import Progress
from .toolchain import Go

LINES_SHOWN = 20
#: Where beside go.mod a module lies that is not taken from Go's cache.
MODULE = "module"
_PR_SET_PDEATHSIG = 1
# With -v the compiler names each package that it has compiled, one a line.
_PACKAGE = re.compile(r"^[\w.!~/@+-]+$")


def _die_with_parent() -> None:
    """Let the kernel end the compiler when this process is killed, so that none goes on unseen."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def environment(cache: Cache, arch: str) -> dict[str, str]:
    """Return the environment of a build; the same for everybody, so that the cache is shared."""
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOARCH": arch,
        "GOOS": "linux",
        "GOCACHE": os.path.join(cache.go, "build"),
        "GOMODCACHE": os.path.join(cache.go, "mod"),
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def build(cache: Cache, part: Part, go: Go, arch: str, staged: str, progress: Progress) -> None:
    """Compile a part into the staging directory's 'bin'; one with pages from the module that has them already."""
    source = cache.make_directory(os.path.join(staged, "src"))
    out = cache.make_directory(os.path.join(staged, "bin"))
    go_mod = part.go_mod
    command = [go.path, "build", "-v", "-trimpath", "-ldflags", part.ldflags, "-o", out + "/"]
    if part.pages is not None:
        # Go lets nobody add files to a module of its cache.
        go_mod += f"\nreplace {part.module} => ./{MODULE}\n"
        command += ["-tags", part.pages.tag]
    for name, text in (("go.mod", go_mod), ("go.sum", part.go_sum)):
        with open(os.path.join(source, name), "w", encoding="utf-8") as handle:
            handle.write(text)
    packages = 0

    def seen(text: str) -> bool:
        nonlocal packages
        if text.startswith("go: downloading "):
            progress.note("fetching " + " ".join(text.split()[2:]))
        elif _PACKAGE.match(text):
            packages += 1
            progress.note(f"{packages} packages compiled")
        else:
            return False
        return True

    with open_log(cache, part, "a" if part.pages else "w") as log:
        code, kept = run([*command, "tool"], source, environment(cache, arch), log, seen)
    if code != 0:
        raise _explain(part, cache, code, kept, log.name)
    _rename(part, out, log.name)


def open_log(cache: Cache, part: Part, mode: str) -> IO[str]:
    """Open the file that a part's build is written down in."""
    name = f"{part.name}-{part.version}.log"
    return open(os.path.join(cache.make_directory(cache.logs), name), mode, encoding="utf-8")


def run(
    command: list[str], directory: str, variables: dict[str, str], log: IO[str], seen: Callable[[str], bool]
) -> tuple[int, list[str]]:
    """Run a builder; write what it says down.

    Returns its code, and of the last lines those that `seen` does not take for mere signs of life.
    """
    log.write(f"$ {' '.join(command)}\n")
    log.flush()
    kept: list[str] = []
    with subprocess.Popen(
        command,
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=_die_with_parent if threading.active_count() == 1 else None,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                log.flush()
                text = line.rstrip()
                if text and not seen(text):
                    kept = [*kept[-(LINES_SHOWN - 1) :], text]
        except BaseException:
            process.terminate()
            raise
    return process.returncode, kept


def _explain(part: Part, cache: Cache, code: int, kept: list[str], log_path: str) -> SourceError:
    said = "\n".join(kept)
    if "no space left on device" in said:
        return SourceError(
            f"The disk that holds {cache.root} filled up while {part.name} {part.version} was"
            f" built, which takes about {part.build_mib} MiB. Free some space there, or set"
            " sources_cache_dir to a directory on a larger disk, and run again: what is compiled"
            f" is kept. Log: {log_path}"
        )
    how = f"was ended by signal {-code}" if code < 0 else f"failed with code {code}"
    return SourceError(
        f"Building {part.name} {part.version} {how}. Log: {log_path}. If a module could not be"
        " fetched, make the Go module proxy reachable (GOPROXY) and run again. The compiler's"
        f" last lines:\n{said or '(none)'}"
    )


def _rename(part: Part, out: str, log_path: str) -> None:
    """Give each binary the name that the catalog promises."""
    for binary in part.binaries:
        built = os.path.join(out, binary.built)
        if not os.path.isfile(built):
            raise SourceError(
                f"Building {part.name} {part.version} made no '{binary.built}'. Correct"
                f" 'binaries' in the catalog or the tool lines of its go.mod. Log: {log_path}"
            )
        os.rename(built, os.path.join(out, binary.name))
