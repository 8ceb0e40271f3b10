# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects as plain data: where they live, how they compare, how a person sees the difference."""

from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Manifest = dict[str, Any]

#: Never another one: every field of earlier releases would stay with the old name, so that none could be removed.
FIELD_MANAGER = "appgate"

#: What a deploy is known by: every object that it makes has this label, and only such objects are ever removed.
RELEASE_LABEL = "appgate.platform/release"
#: On an object whose name ends in a hash of its content: the name without it, so that a diff pairs old and new.
BASE_NAME_ANNOTATION = "appgate.platform/base-name"
#: On a namespace that a deploy made itself, as opposed to one that it found.
CREATED_BY_ANNOTATION = "appgate.platform/created-by"

#: (group, kind) -> (plural, namespaced). Saves the discovery requests for what roles usually make.
KINDS: dict[tuple[str, str], tuple[str, bool]] = {
    ("", "Namespace"): ("namespaces", False),
    ("", "ConfigMap"): ("configmaps", True),
    ("", "Secret"): ("secrets", True),
    ("", "Service"): ("services", True),
    ("", "ServiceAccount"): ("serviceaccounts", True),
    ("", "PersistentVolumeClaim"): ("persistentvolumeclaims", True),
    ("apps", "Deployment"): ("deployments", True),
    ("apps", "StatefulSet"): ("statefulsets", True),
    ("apps", "DaemonSet"): ("daemonsets", True),
    ("batch", "Job"): ("jobs", True),
    ("batch", "CronJob"): ("cronjobs", True),
    ("autoscaling", "HorizontalPodAutoscaler"): ("horizontalpodautoscalers", True),
    ("coordination.k8s.io", "Lease"): ("leases", True),
    ("networking.k8s.io", "Ingress"): ("ingresses", True),
    ("networking.k8s.io", "NetworkPolicy"): ("networkpolicies", True),
    ("policy", "PodDisruptionBudget"): ("poddisruptionbudgets", True),
    ("rbac.authorization.k8s.io", "Role"): ("roles", True),
    ("rbac.authorization.k8s.io", "RoleBinding"): ("rolebindings", True),
    ("rbac.authorization.k8s.io", "ClusterRole"): ("clusterroles", False),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): ("clusterrolebindings", False),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): ("customresourcedefinitions", False),
    ("monitoring.coreos.com", "ServiceMonitor"): ("servicemonitors", True),
    ("monitoring.coreos.com", "PodMonitor"): ("podmonitors", True),
    ("monitoring.coreos.com", "PrometheusRule"): ("prometheusrules", True),
}

#: What others stand on comes first; what runs comes last.
FIRST_KINDS = ("Namespace", "CustomResourceDefinition")
WORKLOAD_KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "HorizontalPodAutoscaler")

#: The server's own bookkeeping: no part of what a person asked for.
_BOOKKEEPING = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_HIDDEN = "(hidden)"
_HIDDEN_CHANGED = "(hidden, changed)"

_DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_SUFFIXES = {
    "": 1.0,
    "m": 1e-3,
    **{suffix: 1000.0 ** (power + 1) for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"))},
    **{suffix: 1024.0 ** (power + 1) for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))},
}


class ManifestError(Exception):
    """A manifest that no API server could take, or that a transaction refuses."""


@dataclass(frozen=True, order=True)
class ObjectId:
    """What an object is called, whatever is in it."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def group(self) -> str:
        """The API group, empty for the core one."""
        return self.api_version.rpartition("/")[0]

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def object_id(manifest: Mapping[str, Any]) -> ObjectId:
    """The identity of a manifest that `check_manifests` has accepted."""
    metadata = manifest["metadata"]
    return ObjectId(
        str(manifest["apiVersion"]), str(manifest["kind"]), str(metadata.get("namespace") or ""), str(metadata["name"])
    )


def resource_path(api_version: str, plural: str, namespace: str = "", name: str = "") -> str:
    """The path of a resource under the API server's URL."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{middle}/{plural}" + (f"/{name}" if name else "")


def check_manifests(manifests: Sequence[Any], namespace: str) -> list[Manifest]:
    """Refuse what is no object, comes twice or reaches outside the namespace; give back copies with a namespace."""
    checked: list[Manifest] = []
    seen: set[ObjectId] = set()
    for number, manifest in enumerate(manifests, start=1):
        if not isinstance(manifest, dict):
            raise ManifestError(f"manifest {number} is {type(manifest).__name__}, it must be an object")
        metadata = manifest.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        for key, value in (("apiVersion", manifest.get("apiVersion")), ("kind", manifest.get("kind"))):
            if not isinstance(value, str) or not value:
                raise ManifestError(f"manifest {number} ({name or 'without a name'}) has no {key}")
        if not isinstance(name, str) or not name:
            raise ManifestError(f"manifest {number}, a {manifest['kind']}, has no metadata.name")
        copied: Manifest = copy.deepcopy(manifest)
        group = copied["apiVersion"].rpartition("/")[0]
        # A kind that isn't in the table gets its namespace when the cluster has been asked about it.
        if KINDS.get((group, copied["kind"]), ("", False))[1]:
            own = copied["metadata"].setdefault("namespace", namespace)
            if own != namespace:
                raise ManifestError(
                    f"{copied['kind']} {name} is for namespace {own!r}, but this deploy is for {namespace!r}"
                )
        identity = object_id(copied)
        if identity in seen:
            raise ManifestError(f"{identity} is given twice")
        seen.add(identity)
        checked.append(copied)
    return checked


def with_release(manifest: Manifest, release: str) -> Manifest:
    """Mark an object as one of this release."""
    marked = copy.deepcopy(manifest)
    metadata = marked["metadata"]
    metadata["labels"] = {**(metadata.get("labels") or {}), RELEASE_LABEL: release}
    return marked


def in_batches(manifests: Iterable[Manifest]) -> list[list[Manifest]]:
    """Groups in the order of applying; the objects of a group don't wait for each other."""
    first: list[Manifest] = []
    middle: list[Manifest] = []
    workloads: list[Manifest] = []
    for manifest in manifests:
        kind = manifest["kind"]
        (first if kind in FIRST_KINDS else workloads if kind in WORKLOAD_KINDS else middle).append(manifest)
    return [group for group in (first, middle, workloads) if group]


def checksum(manifests: Iterable[Mapping[str, Any]]) -> str:
    """The same for the same objects, in whatever order they are given."""
    texts = sorted(json.dumps(manifest, sort_keys=True, separators=(",", ":")) for manifest in manifests)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def pack(manifests: Sequence[Manifest]) -> str:
    """Manifests as the data of a Secret: base64 of gzip of JSON, the same bytes for the same input."""
    text = json.dumps(list(manifests), sort_keys=True, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(text, mtime=0)).decode()


def unpack(data: str) -> list[Manifest]:
    """The reverse of `pack`."""
    parsed = json.loads(gzip.decompress(base64.b64decode(data)))
    return list(parsed)


def essence(live: Mapping[str, Any] | None) -> Manifest:
    """An object without its status and the server's bookkeeping."""
    if live is None:
        return {}
    kept = {key: copy.deepcopy(value) for key, value in live.items() if key != "status"}
    metadata = kept.get("metadata")
    if isinstance(metadata, dict):
        for key in _BOOKKEEPING:
            metadata.pop(key, None)
    return kept


def hide_secrets(before: Manifest, after: Manifest) -> tuple[Manifest, Manifest]:
    """A Secret's values never leave the module; that one has changed may be seen."""
    if "Secret" not in (before.get("kind"), after.get("kind")):
        return before, after
    hidden_before, hidden_after = copy.deepcopy(before), copy.deepcopy(after)
    for key in ("data", "stringData"):
        old, new = before.get(key) or {}, after.get(key) or {}
        if key in hidden_before:
            hidden_before[key] = dict.fromkeys(old, _HIDDEN)
        if key in hidden_after:
            hidden_after[key] = {
                name: _HIDDEN if name not in old or old[name] == value else _HIDDEN_CHANGED
                for name, value in new.items()
            }
    return hidden_before, hidden_after


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Texts of several lines as blocks, as a person would write them."""


def _represent_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def as_yaml(manifest: Mapping[str, Any]) -> str:
    """An object as readable YAML; nothing for no object."""
    return str(yaml.dump(dict(manifest), Dumper=_Dumper, sort_keys=True, width=120)) if manifest else ""


def base_name(manifest: Mapping[str, Any]) -> str:
    """The name without the hash of the content."""
    metadata = manifest.get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(BASE_NAME_ANNOTATION) or metadata.get("name") or "")


def secret_manifest(name: str, namespace: str, values: Mapping[str, str], labels: Mapping[str, str]) -> Manifest:
    """A Secret from plain values."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "type": "Opaque",
        "data": {key: base64.b64encode(str(value).encode()).decode() for key, value in sorted(values.items())},
    }


def quantity(text: object) -> float:
    """A Kubernetes quantity (`250m`, `64Mi`) as a number; ValueError where it is none."""
    match = _QUANTITY.match(str(text).strip())
    if not match:
        raise ValueError(f"{text!r} isn't a quantity such as 250m, 1.5, 64Mi or 1Gi")
    return float(match.group(1)) * _SUFFIXES[match.group(2) or ""]


def is_dns_label(text: object) -> bool:
    """RFC 1123: at most 63 of a-z, 0-9 and '-', with a letter or digit at both ends."""
    return isinstance(text, str) and len(text) <= 63 and bool(_DNS_LABEL.match(text))
