"""What the tests of the role haproxy share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_input import split_words

HERE = Path(__file__).parent
ROLE = HERE.parents[2] / "roles" / "haproxy"
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/sbin")
SECTIONS = ("global", "defaults", "frontend", "backend", "listen")


def specs() -> dict[str, Any]:
    """The options of the role."""
    data: dict[str, Any] = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())
    options: dict[str, Any] = data["argument_specs"]["main"]["options"]
    return options


def minimal(**changes: Any) -> dict[str, Any]:
    """The smallest good variables, with changes."""
    values: dict[str, Any] = {
        "haproxy_global": {},
        "haproxy_defaults": {"mode": "http", "timeouts": {"connect": "5s", "client": "5s", "server": "5s"}},
        "haproxy_frontends": [{"name": "http", "binds": [{"port": 8080}], "default_backend": "app"}],
        "haproxy_backends": [{"name": "app", "servers": [{"name": "one", "address": "127.0.0.1", "port": 9000}]}],
    }
    return {**values, **changes}


def words(line: str) -> tuple[str, ...]:
    """A directive as directives() has it."""
    return tuple(split_words(line))


def directives(text: str) -> dict[str, list[tuple[str, ...]]]:
    """Section -> its directives in order, each as the words that HAProxy sees."""
    found: dict[str, list[tuple[str, ...]]] = {}
    current: list[tuple[str, ...]] = []
    for line in text.splitlines():
        parts = words(line)
        if not parts:
            continue
        if parts[0] in SECTIONS:
            current = found.setdefault(" ".join(parts), [])
        else:
            current.append(parts)
    return found


def equivalent(one: str, other: str) -> bool:
    """Same sections with the same directives, in the same order where HAProxy reads them in order.

    Rules of one kind (acl, http-request, use_backend, bind, server, log) work in order. The order between
    kinds does not matter, and neither does that of options and timeouts.
    """
    unordered = ("option", "timeout", "no")

    def normal(text: str) -> dict[str, dict[str, list[tuple[str, ...]]]]:
        sections: dict[str, dict[str, list[tuple[str, ...]]]] = {}
        for section, lines in directives(text).items():
            kinds: dict[str, list[tuple[str, ...]]] = {}
            for parts in lines:
                kinds.setdefault(parts[0], []).append(parts)
            sections[section] = {kind: sorted(all_) if kind in unordered else all_ for kind, all_ in kinds.items()}
        return sections

    return normal(one) == normal(other)
