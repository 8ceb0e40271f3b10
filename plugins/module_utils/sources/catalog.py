# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The catalog: what a part is made of and where its publisher keeps it."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from typing import Any

from . import gomod
from .errors import SourceError

MODES = ("auto", "upstream", "build")


@dataclasses.dataclass(frozen=True)
class Binary:
    """One program of a part."""

    name: str
    built: str  # the name that 'go build' gives it
    member: str  # where it lies in the publisher's archive


@dataclasses.dataclass(frozen=True)
class Upstream:
    """Where the publisher keeps the official release."""

    url: str
    checksum_url: str
    sha256: dict[str, str]  # file name -> checksum, where it is known beforehand


@dataclasses.dataclass(frozen=True)
class Pages:
    """Web pages that a module has as source only: how they are built and compiled into its program."""

    directory: str  # where its pnpm-lock.yaml lies
    package: str  # the one whose packages are needed
    scripts: tuple[tuple[str, ...], ...]  # the module's own lines: a directory, a shell script, its arguments
    tag: str  # the build tag that takes them in


@dataclasses.dataclass(frozen=True)
class Part:
    """One outside part with everything that is needed to take it."""

    name: str
    module: str
    version: str
    release: str
    binaries: tuple[Binary, ...]
    files: tuple[str, ...]
    ldflags: str
    upstream: Upstream | None
    build_mib: int
    upstream_mib: int
    go_mod: str
    go_sum: str
    pages: Pages | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Part:
        values = dict(data)
        values["binaries"] = tuple(Binary(**binary) for binary in data["binaries"])
        values["files"] = tuple(data["files"])
        values["upstream"] = Upstream(**data["upstream"]) if data["upstream"] else None
        values["pages"] = read_pages(data["pages"]) if data["pages"] else None
        return cls(**values)


def read_pages(entry: dict[str, Any]) -> Pages:
    """Read what the catalog, or a part written down, says about pages."""
    scripts = tuple(tuple(line) for line in entry["scripts"])
    return Pages(entry["directory"], entry["package"], scripts, entry["tag"])


def check_names(wanted: list[str], known: list[str], variable: str) -> None:
    """Refuse a part that the catalog does not have."""
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise SourceError(f"{variable}: unknown part '{name}'.{hint} Known parts: {', '.join(sorted(known))}.")


def check_modes(modes: dict[str, Any], known: list[str]) -> None:
    """Refuse a mode per part that nobody offers."""
    check_names(list(modes), known, "sources_mode_by_part")
    for name, mode in modes.items():
        if mode not in MODES:
            raise SourceError(
                f"sources_mode_by_part: part '{name}' has the mode '{mode}'. Use one of: {', '.join(MODES)}."
            )


def read_part(name: str, entry: dict[str, Any], go_dir: str, *, with_pages: bool = True) -> Part:
    """Build a part from its catalog entry and its go.mod, the one place of its version."""
    texts = []
    for file_name in ("go.mod", "go.sum"):
        path = os.path.join(go_dir, name, file_name)
        try:
            with open(path, encoding="utf-8") as handle:
                texts.append(handle.read())
        except FileNotFoundError:
            raise SourceError(
                f"The part '{name}' is in the catalog but {path} is missing. Check out the whole repository again."
            ) from None
    version = gomod.required_version(texts[0], entry["module"])
    release = version
    if "release" in entry:
        release, matches = re.subn(entry["release"]["from"], entry["release"]["to"], version)
        if not matches:
            raise SourceError(
                f"The version {version} of the part '{name}' does not match the catalog's pattern"
                f" {entry['release']['from']}: correct 'release' in the catalog."
            )
    numbers = ([*release.lstrip("v").split("."), "0", "0"])[:2]
    fill = {"version": version, "release": release, "number": release.lstrip("v")}
    # Helm wants to be told for which Kubernetes its client library was made: v0.37 is 1.37.
    client = re.search(r"k8s\.io/client-go v0\.(\d+)", texts[0])
    fill["client_minor"] = client.group(1) if client else "0"
    ldflags = entry.get("ldflags", "-s -w").format(major=numbers[0], minor=numbers[1], **fill)
    binaries = tuple(
        Binary(
            name=binary["name"],
            built=binary.get("built", binary["name"]),
            member=binary.get("member", binary["name"]),
        )
        for binary in entry["binaries"]
    )
    published = entry.get("upstream")
    return Part(
        name=name,
        module=entry["module"],
        version=version,
        release=release,
        binaries=binaries,
        files=tuple(entry.get("files", ())),
        ldflags=" ".join(ldflags.split()),
        upstream=(
            Upstream(published["url"], published.get("checksum_url", ""), published.get("sha256", {}))
            if published
            else None
        ),
        build_mib=int(entry.get("build_mib", 1024)),
        upstream_mib=int(entry.get("upstream_mib", 256)),
        go_mod=texts[0],
        go_sum=texts[1],
        pages=read_pages(entry["pages"]) if "pages" in entry and with_pages else None,
    )


@dataclasses.dataclass(frozen=True)
class Remote:
    """One file of the publisher, with the binaries that it holds."""

    url: str
    checksum_url: str
    file_name: str
    sha256: str | None
    binaries: tuple[Binary, ...]  # the members are filled in

    @property
    def is_image(self) -> bool:
        return self.url.startswith("docker://")

    @property
    def is_archive(self) -> bool:
        return self.file_name.endswith((".tar.gz", ".tgz"))


def remote_files(part: Part, arch: str) -> list[Remote]:
    """List what to download for a part: one archive, or one file for each binary."""
    if part.upstream is None:
        return []
    fill = {"release": part.release, "number": part.release.lstrip("v"), "arch": arch}
    each = "{binary}" in part.upstream.url
    groups = [(binary,) for binary in part.binaries] if each else [part.binaries]
    remotes = []
    for group in groups:
        url = part.upstream.url.format(binary=group[0].name, **fill)
        name = url.rsplit("/", 1)[1]
        remotes.append(
            Remote(
                url=url,
                checksum_url=part.upstream.checksum_url.format(url=url, binary=group[0].name, **fill),
                file_name=name,
                sha256=part.upstream.sha256.get(f"{arch}/{name}") or part.upstream.sha256.get(name),
                binaries=tuple(dataclasses.replace(binary, member=binary.member.format(**fill)) for binary in group),
            )
        )
    return remotes
