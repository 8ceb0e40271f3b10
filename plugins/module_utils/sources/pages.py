# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Web pages that a Go module has as source only, built as its publisher builds them.

Node comes from PyPI and pnpm from the npm registry, both by checksum. The packages are those of the module's own
pnpm-lock.yaml, which has a checksum for each, and the module itself is pinned by go.sum.
"""

from __future__ import annotations

import dataclasses
import os
import tarfile

from . import build, toolchain, unpack
from .cache import Cache
from .catalog import Pages, Part
from .errors import SourceError, Unreachable
from .fetch import Publisher, check_sha256, download, partial_name, reason
from .progress import Progress

# The last line of versions that is a program for Node; the next one is a program for each machine.
PNPM_VERSION = "11.28.10"
PNPM_SHA256 = "4cc170b9f8b28abc79e1473af97cbe9dc44854aa3fc192ec56239f66921609a2"
REGISTRY = "https://registry.npmjs.org"
REGISTRY_VARIABLES = ("npm_config_registry", "NPM_CONFIG_REGISTRY")
REMEDY = "or set sources_pages_enabled to false to do without its web pages, and run again"


def make(
    cache: Cache, part: Part, pages: Pages, publisher: Publisher, staged: str, progress: Progress, python: str
) -> None:
    """Build a part's pages into a copy of its module, from which build.build compiles it.

    `python` is the one whose pip installs Node. Raises SourceError if something can't be had or a script fails.
    """
    module = os.path.join(staged, "src", build.MODULE)
    unpack.unpack_module(unpack.module_zip(cache, part, publisher, progress), part, module)
    progress.say("building its pages")
    try:
        tools = _tools(cache, publisher, staged, python)
    except SourceError as error:
        raise SourceError(
            f"The pages of {part.name} {part.version} can't be built: {str(error).rstrip('.')}, {REMEDY}."
        ) from error
    variables = {**os.environ, "PATH": os.pathsep.join([*tools, os.environ.get("PATH", "")]), "NO_COLOR": "1"}
    # Nobody answers its questions, and an outside Node's settings are not for this one.
    variables = {**variables, "npm_config_yes": "true", "NODE_OPTIONS": ""}
    # Node brings its own list of authorities, which lacks that of a company's proxy.
    variables["NODE_USE_SYSTEM_CA"] = "1"
    store = os.path.join(cache.go, "pnpm")
    install = [
        "pnpm",
        "install",
        "--frozen-lockfile",
        "--ignore-scripts",
        f"--store-dir={store}",
        f"--filter={pages.package}...",
    ]
    lines = [(pages.directory, install)]
    lines += [(directory, ["bash", *words]) for directory, *words in pages.scripts]

    def seen(text: str) -> bool:
        progress.note(text[:60])
        return False

    with build.open_log(cache, part, "w") as log:
        for directory, command in lines:
            code, kept = build.run(command, os.path.join(module, directory), variables, log, seen)
            if code != 0:
                said = "\n".join(kept)
                raise SourceError(
                    f"Building the pages of {part.name} {part.version} failed with code {code}: {' '.join(command[:2])}."
                    f" Log: {log.name}. If a package could not be fetched, make the npm registry reachable"
                    f" (npm_config_registry), {REMEDY}. Its last lines:\n{said or '(none)'}"
                )


def _tools(cache: Cache, publisher: Publisher, staged: str, python: str) -> list[str]:
    """Have Node and pnpm, and return the directories for PATH."""
    node = toolchain.node(cache, python)
    # npm reads it in either spelling.
    registry = next((os.environ[name] for name in REGISTRY_VARIABLES if os.environ.get(name)), REGISTRY)
    url = f"{registry.rstrip('/')}/pnpm/-/pnpm-{PNPM_VERSION}.tgz"
    archive = os.path.join(cache.make_directory(cache.downloads), partial_name(url))
    if not os.path.exists(archive):
        try:
            # A mirror of releases is no registry of packages.
            download(dataclasses.replace(publisher, mirror=""), url, archive, lambda done, total: None)
        except Unreachable as error:
            why = reason(error.__cause__ or error)
            raise SourceError(
                f"{url} could not be downloaded: {why}. Make the npm registry reachable (npm_config_registry)"
            ) from error
    check_sha256(archive, PNPM_SHA256, "the role sources", url)
    home = os.path.join(staged, "src", "pnpm")
    with tarfile.open(archive, "r:gz") as packed:
        packed.extractall(home)  # noqa: S202 - it is the one that the checksum names
    os.remove(archive)
    programs = cache.make_directory(os.path.join(home, "bin"))
    script = os.path.join(home, "package", "bin", "pnpm.mjs")
    os.chmod(script, 0o755)
    os.symlink(script, os.path.join(programs, "pnpm"))
    return [programs, os.path.dirname(node)]
