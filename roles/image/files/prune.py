# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a bootstrapped Debian tree a lean base: ``prune.py <root>``.

The tree was made by unpacking packages without running their scripts. So the few things that
scripts would have done and that matter here are done now, and what HAProxy and Python never touch
goes. dpkg's status stays: scanners read the installed packages from it.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

# Kept in /usr/bin and /usr/sbin; the rest are tools to manage a Debian that is not there.
PROGRAMS = frozenset({"python3", "python3.13", "openssl", "haproxy"})

# Parts of the standard library that a server never imports.
STDLIB = ("test", "pydoc_data", "_pyrepl", "idlelib", "ensurepip", "turtledemo", "unittest", "venv")

TREES = (
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/aarch64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/security",
    "usr/lib/aarch64-linux-gnu/security",
    "usr/lib/systemd",
    "usr/lib/init",
    "usr/lib/tmpfiles.d",
    "usr/share/gcc",
    "usr/share/perl5",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/debconf",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/pam",
    "usr/share/pam-configs",
    "usr/share/vim",
    "usr/share/zsh",
    "etc/apt",
    "etc/init.d",
    "etc/logrotate.d",
    "etc/pam.d",
    "etc/rsyslog.d",
    "etc/security",
    "etc/systemd",
    "etc/skel",
    "var/cache",
    "var/log",
    "var/lib/apt",
    "var/lib/dpkg/info",
    "var/lib/pam",
)

# Libraries that only the removed programs used.
LIBRARIES = (
    "libdb-5.3",
    "libsepol",
    "libsemanage",
    "libpam",
    "libaudit",
    "libnsl",
    "libbsd",
    "libmd",
    "libc_malloc_debug",
    "libformw",
    "libmenuw",
    "libpanelw",
    "libtic",
)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def prune(root: Path) -> None:
    """Remove what is not needed."""
    for name in TREES:
        _remove(root / name)
    for directory in ("usr/bin", "usr/sbin"):
        for path in (root / directory).iterdir():
            if path.name not in PROGRAMS:
                _remove(path)
    for name in STDLIB:
        _remove(root / "usr/lib/python3.13" / name)
    for libraries in (root / "usr/lib").glob("*-linux-gnu"):
        for name in LIBRARIES:
            for path in libraries.glob(f"{name}*.so*"):
                _remove(path)
    # Licences must travel with the programs; the rest of the documentation need not.
    for path in sorted((root / "usr/share/doc").rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.name != "copyright":
            _remove(path)
    for path in (root / "etc").glob("rc?.d"):
        _remove(path)


def complete(root: Path) -> None:
    """Do what the packages' scripts would have done."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(exist_ok=True)
        if not (root / name).exists() and not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    python = root / "usr/bin/python3"
    if not python.is_symlink():
        python.symlink_to("python3.13")
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    certificates = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    bundle.write_bytes(b"".join(path.read_bytes() for path in certificates))
    users = "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    groups = "root:x:0:\nnogroup:x:65534:\n"
    (root / "etc/passwd").write_text(users, encoding="ascii")
    (root / "etc/group").write_text(groups, encoding="ascii")
    switch = "passwd: files\ngroup: files\nhosts: files dns\n"
    (root / "etc/nsswitch.conf").write_text(switch, encoding="ascii")
    for name in ("run", "proc", "sys", "dev"):
        (root / name).mkdir(exist_ok=True)
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700)):
        path = root / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    # The builder's own name and resolver are not part of an image.
    for name in ("etc/hostname", "etc/resolv.conf"):
        _remove(root / name)


def list_packages(root: Path) -> list[str]:
    """Installed packages and versions."""
    status = (root / "var/lib/dpkg/status").read_text(encoding="utf-8")
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version): (\S+)$", paragraph, re.MULTILINE))
        if fields:
            found.append(f"{fields['Package']}={fields['Version']}")
    return sorted(found)


def main() -> None:
    """The command line: prints what is installed."""
    root = Path(sys.argv[1])
    packages = list_packages(root)
    if root.resolve() == Path("/") or not packages:
        raise SystemExit(f"{root} is not a bootstrapped tree")
    prune(root)
    complete(root)
    print("\n".join(packages))


if __name__ == "__main__":
    main()
