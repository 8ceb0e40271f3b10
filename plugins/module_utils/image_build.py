# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""How an image is named by its inputs, built from them and kept.

The modules image_plan, image_build and image_deliver are thin doors to this file, image_base and image_delivery. They
know nothing of Ansible, so that they can be tested without it.

Layout of the cache directory::

    base/<key>/{base.tar,base.json,rootfs/}   a bootstrapped Debian, key = what was asked for
    wheels/<key>/*.whl                        key = the lock file and the platform
    images/<tag>/                             a built image (skopeo's `dir:` form), tag = all inputs
    storage/, run/                            buildah's own storage: never the user's
    lock                                      one builder at a time
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.image_work import (
    EPOCH,
    RECIPE,
    ImageError,
    forget_old,
    fresh_directory,
    locked,
    machine,
    read_json,
    remove_tree,
    require_space,
    run,
    sha256_file,
    short_hash,
    unmount_below,
    write_json,
)

#: What buildah wants to set for a RUN step unless told otherwise (define.RLimitDefaultValue). Root may not raise a limit everywhere.
BUILDAH_LIMIT = 1048576
LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
#: An older buildah (Debian 12's) lowers its own limit of processes to this one, and can't raise it again.
PID_MAX = Path("/proc/sys/kernel/pid_max")


# --- the context --------------------------------------------------------------------------------


def _ignore_rules(text: str) -> list[tuple[bool, re.Pattern[str]]]:
    """The lines of a .dockerignore as (keep, pattern), to be applied in order."""
    rules = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        keep = line.startswith("!")
        line = line.removeprefix("!").strip().strip("/")
        pattern = ""
        while line:
            if line.startswith("**/"):
                pattern, line = pattern + "(?:.*/)?", line[3:]
            elif line.startswith("**"):
                pattern, line = pattern + ".*", line[2:]
            elif line[0] == "*":
                pattern, line = pattern + "[^/]*", line[1:]
            elif line[0] == "?":
                pattern, line = pattern + "[^/]", line[1:]
            else:
                pattern, line = pattern + re.escape(line[0]), line[1:]
        # A pattern that names a directory covers what is in it.
        rules.append((keep, re.compile(f"{pattern}(?:/.*)?")))
    return rules


def context_files(context: Path) -> list[Path]:
    """The files that a build sees, relative to the context, in order."""
    ignore = context / ".dockerignore"
    rules = _ignore_rules(ignore.read_text(encoding="utf-8")) if ignore.is_file() else []
    found = []
    for directory, names, files in os.walk(context):
        names[:] = sorted(name for name in names if name not in (".git", "__pycache__"))
        for name in sorted(files):
            relative = (Path(directory) / name).relative_to(context)
            kept = True
            for keep, pattern in rules:
                if pattern.fullmatch(relative.as_posix()):
                    kept = keep
            if kept:
                found.append(relative)
    return sorted(found)


def describe_context(context: Path, dockerfile: Path, haproxy_config: str) -> dict[str, str]:
    """Every file of the build and its checksum; a leading '+' marks an executable."""
    described = {}
    for relative in context_files(context):
        path = context / relative
        mark = "+" if os.access(path, os.X_OK) else ""
        described[relative.as_posix()] = mark + sha256_file(path)
    described["Dockerfile"] = sha256_file(dockerfile)
    if haproxy_config:
        described["haproxy.cfg"] = hashlib.sha256(haproxy_config.encode()).hexdigest()
    return described


@dataclass(frozen=True)
class Revision:
    """The commit that an image is labelled with, and when it was made."""

    name: str
    epoch: int


#: For a tree that is no git checkout (an installed collection).
NO_REVISION = Revision("unknown", EPOCH)


def find_revision(context: Path) -> Revision:
    """The last commit that touched the context; marked when there are changes since."""
    if shutil.which("git") is None:
        return NO_REVISION
    try:
        commit = subprocess.run(
            ["git", "log", "-1", "--format=%H %ct", "--", "."],
            cwd=context,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.split()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=normal", "--", "."],
            cwd=context,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return NO_REVISION
    if len(commit) != 2:
        return NO_REVISION
    return Revision(commit[0] + ("-modified" if changed.strip() else ""), int(commit[1]))


# --- the plan -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """All inputs of one image, checked, and the name that follows from them."""

    context: str
    dockerfile: str
    name: str
    base: str
    base_id: str
    haproxy_config: str
    build_args: dict[str, str]
    revision: str
    epoch: int
    python_version: str
    cache_dir: str
    # Whether it is loaded straight onto nodes. Such an image has a label, so that its ID is not that of the same one in a registry:
    # from 1.35 on, a kubelet that has pulled an ID under another name insists on pulling it (KEP-2535).
    onto_nodes: bool = False
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Plan:
        """The plan as it came through Ansible."""
        return cls(**{item.name: value[item.name] for item in dataclasses.fields(cls)})

    @property
    def tag(self) -> str:
        """The hash of everything that decides what the image is."""
        return short_hash(
            {
                "recipe": RECIPE,
                "files": self.files,
                "base": [self.base, self.base_id],
                "build_args": self.build_args,
                "revision": self.revision,
                "epoch": self.epoch,
                "python": self.python_version,
                "machine": machine(),
                "onto_nodes": self.onto_nodes,
            }
        )

    @property
    def labels(self) -> dict[str, str]:
        """What the image's own labels do not say."""
        return {"appgate.platform.delivery": "nodes"} if self.onto_nodes else {}

    @property
    def artifact(self) -> Path:
        """Where the built image is kept."""
        return Path(self.cache_dir) / "images" / self.tag

    def digest(self) -> str | None:
        """The built image's digest, or None when it is not built."""
        try:
            manifest = (self.artifact / "manifest.json").read_bytes()
        except OSError:
            return None
        return "sha256:" + hashlib.sha256(manifest).hexdigest()


def check_inputs(name: str, context: Path, dockerfile: Path) -> None:
    """Refuse what no image can be made of."""
    if not re.fullmatch(r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*", name):
        raise ImageError(
            f"image_name={name!r} is no image name: use lower-case letters, digits and - . _ / "
            "(no registry, no tag), for example appgate."
        )
    if not context.is_dir():
        raise ImageError(f"image_context={str(context)!r} is no directory: give the directory to build from.")
    if not dockerfile.is_file():
        raise ImageError(
            f"image_dockerfile={str(dockerfile)!r} is no file: give the path of the Dockerfile "
            "(the default is Dockerfile in image_context)."
        )


def make_plan(
    *,
    context: Path,
    dockerfile: Path,
    name: str,
    base: str,
    base_id: str,
    haproxy_config: str,
    build_args: Mapping[str, str],
    python_version: str,
    cache_dir: Path,
    onto_nodes: bool = False,
) -> Plan:
    """Name the image by its inputs; nothing is changed."""
    check_inputs(name, context, dockerfile)
    revision = find_revision(context)
    return Plan(
        context=str(context),
        dockerfile=str(dockerfile),
        name=name,
        base=base,
        base_id=base_id,
        haproxy_config=haproxy_config,
        build_args=dict(build_args),
        revision=revision.name,
        epoch=revision.epoch,
        python_version=python_version,
        cache_dir=str(cache_dir),
        onto_nodes=onto_nodes,
        files=describe_context(context, dockerfile, haproxy_config),
    )


# --- the build ----------------------------------------------------------------------------------


def wheels_directory(plan: Plan) -> Path | None:
    """Where the wheels of this plan's lock file belong; None without a lock file."""
    lock = plan.files.get("requirements.txt")
    if lock is None:
        return None
    return Path(plan.cache_dir) / "wheels" / short_hash([lock, plan.python_version, machine()])


def fetch_wheels(plan: Plan, timeout_seconds: float) -> Path | None:
    """Download the wheels of the lock file, checked by hash; the caller holds the lock."""
    final = wheels_directory(plan)
    if final is None or final.is_dir():
        return final
    with fresh_directory(final) as directory:
        command = [
            *_pip(),
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--only-binary=:all:",
            "--no-deps",
            f"--python-version={plan.python_version}",
            f"--platform=manylinux2014_{machine()}",
            "--dest",
            str(directory),
            "--requirement",
            str(Path(plan.context) / "requirements.txt"),
        ]
        run(command, timeout_seconds=timeout_seconds, what="Fetching the wheels")
    return final


def _pip() -> list[str]:
    """pip, of this interpreter or of the machine."""
    for python in (sys.executable, shutil.which("python3")):
        if python and (
            subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
        ):
            return [python, "-m", "pip"]
    raise ImageError(
        "Fetching the wheels: no pip on this machine. Install it (apt install python3-pip, or "
        "python -m ensurepip in the virtual environment)."
    )


class Buildah:
    """buildah with a storage of its own."""

    def __init__(self, cache: Path, timeout_seconds: float) -> None:
        self._cache = cache
        self._timeout = timeout_seconds
        self._storage = cache / "storage"
        self._run = cache / "run"
        self._dirty = cache / "storage.dirty"
        self._made_by = cache / "storage.json"
        self._driver = "overlay"

    def __enter__(self) -> Buildah:
        program = run(["buildah", "--version"], timeout_seconds=60, what="Asking for buildah's version").strip()
        known = read_json(self._made_by) or {}
        if self._dirty.exists() or known.get("program") != program:
            # A build was killed in the middle, or another buildah was here: an older one fails on what a newer one has
            # noted. The storage is only a cache of the base: making it anew takes seconds, trusting it does not pay.
            unmount_below(self._storage)
            for directory in (self._storage, self._run, *self._cache.glob("context-*")):
                if directory.exists():
                    remove_tree(directory)
        self._storage.mkdir(parents=True, exist_ok=True)
        self._run.mkdir(parents=True, exist_ok=True)
        self._dirty.touch()
        self._driver = str(known.get("driver", "")) if any(self._storage.iterdir()) else ""
        if not self._driver:
            self._driver = self._probe_driver()
            write_json(self._made_by, {"program": program, "driver": self._driver})
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A refused Dockerfile leaves the storage whole; only an interruption does not.
        if kind is None or issubclass(kind, ImageError):
            self._dirty.unlink(missing_ok=True)

    def _probe_driver(self) -> str:
        """overlay where the kernel and the file system can, else vfs, which always works."""
        with tempfile.TemporaryDirectory(dir=self._cache) as scratch:
            command = ["buildah", "--storage-driver=overlay", "--storage-opt=overlay.skip_mount_home=true"]
            command.append(f"--root={scratch}/root")
            command += [f"--runroot={scratch}/run", "images", "--quiet"]
            try:
                run(command, timeout_seconds=60, what="Trying the overlay storage driver")
            except ImageError:
                return "vfs"
        return "overlay"

    def call(self, what: str, *arguments: str) -> str:
        """One buildah command."""
        # Without this option a mount over its own directory is left behind.
        options = ["--storage-opt=overlay.skip_mount_home=true"] if self._driver == "overlay" else []
        return run(
            [
                "buildah",
                f"--storage-driver={self._driver}",
                *options,
                f"--root={self._storage}",
                f"--runroot={self._run}",
                *arguments,
            ],
            timeout_seconds=self._timeout,
            what=what,
            environ={"BUILDAH_ISOLATION": "chroot"},
        )

    def has(self, name: str) -> bool:
        """Whether an image of this name is in the storage."""
        return bool(self.call("Listing images", "images", "--quiet", "--filter", f"reference={name}"))

    def import_base(self, name: str, archive: Path, epoch: int) -> None:
        """Make an image of one layer from a tar file."""
        container = self.call("Importing the base", "from", "scratch").strip().splitlines()[-1]
        try:
            self.call("Importing the base", "add", "--quiet", container, str(archive), "/")
            self.call(
                "Importing the base",
                "commit",
                "--quiet",
                f"--timestamp={epoch}",
                "--identity-label=false",
                container,
                name,
            )
        finally:
            self.call("Importing the base", "rm", container)


def stage(plan: Plan, wheels: Path | None, target: Path) -> None:
    """Lay out exactly the files that the plan has hashed."""
    context = Path(plan.context)
    for name in plan.files:
        source = Path(plan.dockerfile) if name == "Dockerfile" else context / name
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        if name == "haproxy.cfg" and plan.haproxy_config:
            destination.write_text(plan.haproxy_config, encoding="utf-8")
            destination.chmod(0o644)
            continue
        data = source.read_bytes()
        if hashlib.sha256(data).hexdigest() != plan.files[name].lstrip("+"):
            raise ImageError(f"{source} has changed while the image was being built: run again.")
        destination.write_bytes(data)
        # Not the checkout's modes: they depend on a person's umask.
        destination.chmod(0o755 if plan.files[name].startswith("+") else 0o644)
    if wheels is not None:
        (target / "wheels").mkdir(exist_ok=True)
        for wheel in sorted(wheels.glob("*.whl")):
            shutil.copyfile(wheel, target / "wheels" / wheel.name)
    for directory in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        directory.chmod(0o755)


def build(
    plan: Plan, base_archive: Path | None, *, timeout_seconds: float, min_free_mib: int, keep: int
) -> dict[str, Any]:
    """Build the planned image into the cache, or find it there; returns what was done."""
    cache = Path(plan.cache_dir)
    with locked(cache, timeout_seconds):
        digest = plan.digest()
        if digest is not None:
            return {"changed": False, "digest": digest}
        require_space(cache, min_free_mib)
        began = time.monotonic()
        wheels = fetch_wheels(plan, timeout_seconds)
        fetched = time.monotonic()
        local_name = f"localhost/appgate-build:{plan.tag}"
        with (
            Buildah(cache, timeout_seconds) as buildah,
            tempfile.TemporaryDirectory(dir=cache, prefix="context-") as staged,
        ):
            stage(plan, wheels, Path(staged))
            arguments = [*_label_arguments(plan)]
            if wheels is not None:
                arguments += ["--build-arg", "WHEELS=context"]
            if base_archive is not None:
                base_name = f"localhost/appgate-base:{plan.base_id[:16]}"
                if not buildah.has(base_name):
                    if sha256_file(base_archive) != plan.base_id:
                        raise ImageError(
                            f"{base_archive} is damaged (its checksum has changed): run again "
                            "with image_base_refresh=true."
                        )
                    buildah.import_base(base_name, base_archive, EPOCH)
                arguments += ["--build-arg", f"BASE={base_name}", "--pull-never"]
            elif plan.base != "pull":
                arguments += ["--build-arg", f"BASE={plan.base}"]
            for name, value in sorted(plan.build_args.items()):
                arguments += ["--build-arg", f"{name}={value}"]
            buildah.call(
                "Building the image",
                "bud",
                # Docker's format, because OCI's has no HEALTHCHECK.
                "--format=docker",
                "--isolation=chroot",
                f"--timestamp={plan.epoch}",
                "--identity-label=false",
                *ulimits(),
                *arguments,
                f"--file={staged}/Dockerfile",
                f"--tag={local_name}",
                staged,
            )
            with fresh_directory(plan.artifact) as directory:
                buildah.call("Writing the image", "push", "--quiet", local_name, f"dir:{directory}")
                digest = normalize(directory, plan.labels)
            # The built image lives in the cache's own form; only the base is kept here.
            buildah.call("Tidying up", "rmi", "--force", local_name)
            buildah.call("Tidying up", "rmi", "--prune", "--force")
        forget_old(cache / "images", plan.artifact, keep)
        return {
            "changed": True,
            "digest": digest,
            "seconds": {
                "wheels": round(fetched - began, 2),
                "build": round(time.monotonic() - fetched, 2),
            },
        }


def ulimits() -> list[str]:
    """The limits of which this process may have less than what buildah would set."""
    options = []
    for name, limit in LIMITS.items():
        soft, hard = resource.getrlimit(limit)
        if hard == resource.RLIM_INFINITY or hard >= BUILDAH_LIMIT:
            continue
        if name == "nproc":
            hard = min(hard, int(PID_MAX.read_text(encoding="ascii")))
        options.append(f"--ulimit={name}={min(soft, hard)}:{hard}")
    return options


def _label_arguments(plan: Plan) -> Iterator[str]:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(plan.epoch))
    for name, value in (("REVISION", plan.revision), ("CREATED", created)):
        if name not in plan.build_args:
            yield from ("--build-arg", f"{name}={value}")


def normalize(directory: Path, labels: Mapping[str, str] | None = None) -> str:
    """Take what is different in every build out of an image in `dir:` form, and add labels; its digest.

    buildah writes the id and the random host name of the build container into the configuration.
    Nothing reads them, but they would give the same inputs another digest each time.
    """
    manifest = json.loads((directory / "manifest.json").read_bytes())
    old = directory / manifest["config"]["digest"].removeprefix("sha256:")
    config = json.loads(old.read_bytes())
    config.pop("container", None)
    for key in ("config", "container_config"):
        if isinstance(config.get(key), dict):
            config[key].pop("Hostname", None)
    if labels:
        settings = config.setdefault("config", {})
        settings["Labels"] = {**(settings.get("Labels") or {}), **labels}
    data = json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    old.unlink()
    (directory / digest).write_bytes(data)
    manifest["config"].update(digest=f"sha256:{digest}", size=len(data))
    text = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
    (directory / "manifest.json").write_bytes(text)
    return "sha256:" + hashlib.sha256(text).hexdigest()


def compressed_bytes(artifact: Path) -> int:
    """What a node has to download."""
    manifest = read_json(artifact / "manifest.json") or {}
    return sum(int(layer["size"]) for layer in manifest.get("layers", []))
