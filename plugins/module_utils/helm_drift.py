# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What somebody has changed by hand in the objects of a release. Helm neither looks for it nor, for custom kinds, mends it."""

from __future__ import annotations

import base64
import collections
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from ansible_collections.appgate.platform.plugins.module_utils.helm_release import Release
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import Cluster, in_parallel
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import KINDS, quantity, resource_path

_MORE_KINDS = {
    ("monitoring.coreos.com", "Prometheus"): ("prometheuses", True),
    ("monitoring.coreos.com", "Alertmanager"): ("alertmanagers", True),
    ("monitoring.coreos.com", "ScrapeConfig"): ("scrapeconfigs", True),
}
MISSING = "(missing)"
_MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Drift:
    """One object that isn't as the release has it."""

    name: str
    collection: str
    path: str
    wanted: dict[str, Any] = field(repr=False)
    missing: bool
    #: Path, value in the cluster, value in the release.
    differences: tuple[tuple[str, Any, Any], ...] = ()

    def sentence(self) -> str:
        """For the list of what has to be done."""
        if self.missing:
            return f"{self.name} is missing and is made again"
        return (
            f"{self.name} was changed by hand and is put back ({', '.join(item[0] for item in self.differences[:4])})"
        )

    def diff(self) -> dict[str, str]:
        """For --diff. A Secret's values stay out of it."""
        hide = self.wanted.get("kind") == "Secret"

        def text(at: int) -> str:
            lines = {item[0]: "(hidden)" if hide else item[at] for item in self.differences}
            return str(yaml.safe_dump(lines, sort_keys=True)) if lines else ""

        after = text(2) or f"{self.name}\n"
        return {"before_header": self.name, "after_header": self.name, "before": text(1), "after": after}


def objects(release: Release) -> list[dict[str, Any]]:
    """The manifest's objects."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    parsed = yaml.load_all(release.manifest, Loader=loader)
    return [item for item in parsed if isinstance(item, dict) and item.get("kind")]


def find(cluster: Cluster, release: Release) -> list[Drift]:
    """Compare each object of the release with the live one."""
    located = [found for found in (_locate(item, release) for item in objects(release)) if found]
    seen = _listed(cluster, release, located)

    def look(entry: tuple[str, str, dict[str, Any]]) -> Drift | None:
        collection, name, item = entry
        path = f"{collection}/{item['metadata']['name']}"
        live = seen.get(path) or cluster.get(path)
        if live is None:
            return Drift(name, collection, path, item, True)
        found = tuple(differences(_plain(item), {**live, "apiVersion": item["apiVersion"], "kind": item["kind"]}))
        return Drift(name, collection, path, item, False, found) if found else None

    # What a list has shown needs no request, so threads are for the rest.
    known = [entry for entry in located if f"{entry[0]}/{entry[2]['metadata']['name']}" in seen]
    rest = [entry for entry in located if f"{entry[0]}/{entry[2]['metadata']['name']}" not in seen]
    return [drift for drift in [*map(look, known), *in_parallel(look, rest)] if drift]


def _locate(item: dict[str, Any], release: Release) -> tuple[str, str, dict[str, Any]] | None:
    """An object's collection, and its name for a person; None for kinds that nobody looks at."""
    version, kind, metadata = str(item["apiVersion"]), str(item["kind"]), item["metadata"]
    group = version.rpartition("/")[0]
    known = KINDS.get((group, kind)) or _MORE_KINDS.get((group, kind))
    if not known:
        return None
    plural, namespaced = known
    namespace = str(metadata.get("namespace") or release.namespace) if namespaced else ""
    where = f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
    return resource_path(version, plural, namespace), f"{kind} {where}", item


def _listed(
    cluster: Cluster, release: Release, located: Sequence[tuple[str, str, dict[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """The live objects by path, of collections that hold several: one request for each and not for every object."""
    counts = collections.Counter(collection for collection, _, _ in located)
    several = [collection for collection, count in counts.items() if count > 1]

    def ask(collection: str) -> list[tuple[str, dict[str, Any]]]:
        answer = cluster.call("GET", collection, query={"labelSelector": f"release={release.name}"}).json()
        return [(f"{collection}/{item['metadata']['name']}", item) for item in answer.get("items") or []]

    return {path: item for found in in_parallel(ask, several) for path, item in found}


def repair(cluster: Cluster, release: Release, drifts: Sequence[Drift]) -> None:
    """Put back what the release says; what it doesn't speak of stays."""
    for drift in drifts:
        if drift.missing:
            cluster.call("POST", drift.collection, _owned(drift.wanted, release))
        else:
            cluster.call("PATCH", drift.path, _plain(drift.wanted), content_type=_MERGE)


def _owned(item: Mapping[str, Any], release: Release) -> dict[str, Any]:
    """With Helm's mark, or the next upgrade would refuse the object as somebody else's."""
    made = _plain(item)
    metadata = dict(made["metadata"])
    mark = {"meta.helm.sh/release-name": release.name, "meta.helm.sh/release-namespace": release.namespace}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **mark}
    metadata["labels"] = {**(metadata.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
    return {**made, "metadata": metadata}


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """stringData as the data that the API server makes of it, and nothing of which nothing is said."""
    plain: dict[str, Any] = _said(item)
    texts = plain.pop("stringData", None)
    if texts:
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in texts.items()}
        plain["data"] = {**(plain.get("data") or {}), **encoded}
    return plain


def _said(node: Any) -> Any:
    """Without keys that a template has left empty: in a merge patch, null removes all that is under it."""
    if isinstance(node, Mapping):
        return {key: _said(value) for key, value in node.items() if value is not None}
    return [_said(item) for item in node] if isinstance(node, list) else node


def differences(wanted: Any, live: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Where the live value isn't what is wanted. What the server has added to it doesn't count."""
    if wanted is None:
        return []
    if isinstance(wanted, Mapping) and (isinstance(live, Mapping) or live is None):
        found = []
        for key, value in wanted.items():
            at = f"{path}.{key}" if path else str(key)
            found += differences(value, (live or {}).get(key), at)
        return found
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        found = []
        for number, (left, right) in enumerate(zip(wanted, live, strict=True)):
            found += differences(left, right, f"{path}[{number}]")
        return found
    if _same(wanted, live):
        return []
    return [(path, MISSING if live is None else live, wanted)]


def _same(wanted: Any, live: Any) -> bool:
    # The server leaves out what is empty.
    if live is None:
        return wanted in ("", False, 0) or wanted in ({}, [])
    if type(wanted) is type(live) and wanted == live:
        return True
    if isinstance(wanted, bool) or isinstance(live, bool):
        return False
    texts = str(wanted), str(live)
    if texts[0] == texts[1]:
        return True
    if all(re.match(r"^\d", text) for text in texts):
        try:
            return quantity(texts[0]) == quantity(texts[1])
        except ValueError:
            return False
    return False
