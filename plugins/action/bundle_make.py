# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Make a bundle of what the roles have put into the cache for the hosts of this play."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ansible.utils.display import Display
from ansible_collections.appgate.platform.plugins.module_utils import bundle
from ansible_collections.appgate.platform.plugins.module_utils import bundle_sources as sources
from ansible_collections.appgate.platform.plugins.module_utils.bundle import BundleError, Item
from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError
from ansible_collections.appgate.platform.plugins.module_utils.sources.cache import MANIFEST, read_json
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction, place

ROOT = Path(__file__).resolve().parents[2]
STOCKS = ("cluster_stock", "image_stock", "monitoring_stock")
#: How many folders name one thing in each part of the cache.
DEPTHS = {"parts": 3, "image": 3, "monitoring": 3, "images": 2}
display = Display()


class BundleAction(ControllerAction):
    """What a person reads names this role's variables, and where they were set."""

    refusals: ClassVar[tuple[type[Exception], ...]] = (BundleError,)

    def bundle(self, given: dict[str, Any]) -> dict[str, Any]:
        """Do what the options say."""
        raise NotImplementedError

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.bundle(given)
        except ImageError as error:
            raise BundleError(placed(named(error), self.variables)) from None
        except BundleError as error:
            raise BundleError(placed(str(error), self.variables)) from None


class ActionModule(BundleAction):
    """See plugins/modules/bundle_make.py for what it takes and gives."""

    arguments: ClassVar[dict[str, Any]] = {
        "path": {"type": "path", "required": True},
        "cache_dir": {"type": "path", "required": True},
        "debian_packages": {"type": "bool", "default": True},
        "images": {"type": "list", "elements": "str", "default": []},
        "registry_plain_http": {"type": "bool", "default": False},
        "registry_authfile": {"type": "path", "default": ""},
        "refresh": {"type": "bool", "default": False},
        "timeout_seconds": {"type": "int", "default": 900},
        "check_only": {"type": "bool", "default": False},
    }

    def bundle(self, given: dict[str, Any]) -> dict[str, Any]:
        target = directory(given["path"])
        bundle.check_target(target)
        if not self._task.check_mode:
            bundle.make_directory(target)
        for reference in given["images"]:
            sources.split(reference)
        return {} if given["check_only"] else self._make(target, given)

    def _make(self, target: Path, given: dict[str, Any]) -> dict[str, Any]:
        cache = Path(os.path.abspath(given["cache_dir"]))
        hosts = [self.variables["hostvars"][name] for name in self.variables["ansible_play_hosts"]]
        paths, packages, parts = gather(hosts)
        absent = sorted(path for path in paths.values() if not Path(path).exists())
        if self._task.check_mode:
            return {"changed": bool(absent) or outdated(target, paths), "bundle": {"path": str(target)}}
        if absent:
            raise BundleError(
                f"bundle_cache_dir={str(cache)!r}: the cache lacks {bundle.some(absent)}, though what was made of it is there. "
                f"Remove {cache / 'image' / 'images'}, so that the image is made anew, and run again."
            )
        load = self._load(paths, packages, cache, given)
        about = {
            "machine": bundle.this_machine(),
            "made_from": {"revision": load.revision, "files": bundle.deciding_files(ROOT)},
            "packages": packages,
            "images": load.images,
            "parts": parts,
            "units": sorted({"/".join(name.split("/")[: DEPTHS[name.split("/", 1)[0]]]) for name in paths}),
        }
        done = bundle.make(target, load.items, about, lambda text: display.display(f"bundle: {text}"))
        size = sum(known["size"] for known in bundle.read(target)["files"].values())
        checksum = bundle.digest(target)
        return {
            "changed": done,
            "bundle": {"path": str(target), "sha256": checksum, "bytes": size},
            "ansible_stats": {
                "data": {"closing_rows": rows(target, load, bundle.mib(size), checksum, done)},
                "per_host": True,
                "aggregate": True,
            },
        }

    def _load(self, paths: dict[str, str], packages: dict[str, list[str]], cache: Path, given: dict[str, Any]) -> Load:
        """Everything that the bundle holds, fetched where only a bundle needs it."""
        load = Load([item for name, path in paths.items() for item in bundle.files_below(Path(path), f"cache/{name}")])
        fetching = sources.Fetching(
            given["timeout_seconds"], given["refresh"], given["registry_plain_http"], given["registry_authfile"]
        )
        for reference in given["images"]:
            directory = sources.image(reference, cache, fetching)
            load.images[reference] = f"images/{directory.name}"
            load.items += bundle.files_below(directory, load.images[reference])
        wheels = sources.wheels(ROOT / "requirements" / "runtime.txt", cache, given["timeout_seconds"])
        load.items += bundle.files_below(wheels, "wheels")
        if given["debian_packages"] and not shutil.which("apt-get"):
            load.left_out.append("Debian packages, as this machine has no apt-get")
        elif given["debian_packages"]:
            release = bundle.this_machine()["release"]
            load.items += bundle.files_below(sources.packages(packages, release, cache, fetching), "debs")
        load.clone, load.revision, changed = sources.checkout(ROOT, cache)
        if load.clone is None:
            load.left_out.append("the project itself, as this is no whole git checkout")
        else:
            load.items.append(Item(load.clone, load.clone.name))
            if changed:
                load.left_out.append("changes that are not committed")
        return load


@dataclass
class Load:
    """What goes into a bundle."""

    items: list[Item]
    images: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    clone: Path | None = None
    revision: str = ""


def outdated(target: Path, paths: dict[str, str]) -> bool:
    """Whether what the roles put into the cache is in the bundle; the rest is only known once it is fetched."""
    items = [item for name, path in paths.items() for item in bundle.files_below(Path(path), f"cache/{name}")]
    before = (read_json(str(target / MANIFEST)) or {}).get("files", {})
    others = {name for name in before if not name.startswith("cache/")}
    _, missing, extra = bundle.compare(target, items)
    return bool(missing or not others or set(extra) - others)


def rows(target: Path, load: Load, size: str, checksum: str, done: bool) -> dict[str, str]:
    """Rows of the closing table."""
    machine = bundle.this_machine()
    project = load.clone.name if load.clone else "<the project>"
    found = {
        "30 Bundle": (
            f"{target}: {len(load.items)} files, {size}, for {machine['architecture']}, {machine['release']}, "
            f"Python {machine['python']}; {'made now' if done else 'unchanged'}"
        ),
        "31 Its checksum": f"sha256 of {MANIFEST}: {checksum}",
        "99 Where there is no network": f"git clone {project} appgate && cd appgate && make up BUNDLE=<the bundle's directory>",
    }
    if load.left_out:
        found["90 Not in the bundle"] = "; ".join(load.left_out)
    return found


def gather(hosts: list[Any]) -> tuple[dict[str, str], dict[str, list[str]], dict[str, str]]:
    """What the roles have handed on for all hosts: paths by their place in the cache, packages, and the parts' versions."""
    paths: dict[str, str] = {}
    packages: dict[str, list[str]] = {}
    parts: dict[str, str] = {}
    for host in hosts:
        for name, directory in dict(host.get("sources_bin") or {}).items():
            entry = Path(directory).parent
            paths[f"parts/{name}/{entry.name}"] = str(entry)
            parts[name] = str(host["sources_taken"][name]["release"])
        for stock in STOCKS:
            found = host.get(stock) or {}
            paths.update(found.get("paths") or {})
            for program, package in dict(found.get("packages") or {}).items():
                packages.setdefault(package, [])
                if program not in packages[package]:
                    packages[package].append(program)
    return paths, {name: sorted(packages[name]) for name in sorted(packages)}, dict(sorted(parts.items()))


def named(error: ImageError) -> str:
    """The same with this role's variables: the machinery is the image role's."""
    return re.sub(r"\bimage_(?=registry|timeout|cache_dir)", "bundle_", str(error))


def placed(text: str, variables: dict[str, Any]) -> str:
    """The same with the file in which the variable was set."""
    name = re.split("[=:]", text, maxsplit=1)[0]
    where = place(variables.get(name))
    return f"{text.replace(': ', f' (set in {where}): ', 1)}" if where else text


def directory(path: str) -> Path:
    """The bundle's directory; an empty text would be the current one."""
    if not path:
        raise BundleError(
            "bundle_path='': it is empty. Give the directory of the bundle, for example /media/usb/appgate."
        )
    return Path(os.path.abspath(path))
