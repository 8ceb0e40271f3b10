# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded chart's images: one static program each, named by what it is made from, built only when it is missing.

The name is known without the program: it is a hash of the part's go.mod and go.sum and of what is put around it. So an
unchanged run asks the registry for six names and is done. Grafana can't be built: where the nodes pull from that registry
alone, its published images are copied there.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.image_build import Buildah, normalize
from ansible_collections.appgate.platform.plugins.module_utils.image_delivery import Delivery
from ansible_collections.appgate.platform.plugins.module_utils.image_work import (
    EPOCH,
    ImageError,
    forget_old,
    fresh_directory,
    locked,
    machine,
    require_space,
    short_hash,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import in_parallel
from ansible_collections.appgate.platform.plugins.module_utils.role_variables import load

#: Part of every tag. Raise it when this file builds something else from the same parts.
RECIPE = "1"
#: Built images that stay in the cache: two versions of each.
KEPT = 12
#: Certificates of Debian's ca-certificates, as an image needs them, else what the machine has.
AUTHORITIES = Path("/usr/share/ca-certificates/mozilla")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


#: Where the role `sources` has a directory with go.mod and go.sum for each part.
GO_MODULES = Path("files") / "go"
#: What the catalog says of a part that its programs don't depend on.
NO_INPUTS = ("license", "build_mib", "upstream_mib")


@dataclass(frozen=True)
class Image:
    """One program, and the part (role `sources`) that it comes from."""

    name: str
    part: str
    program: str


@dataclass(frozen=True)
class Copy:
    """A published image, and where the nodes have it from."""

    source: str
    delivery: Delivery


IMAGES = (
    Image("prometheus-operator", "prometheus-operator", "prometheus-operator"),
    Image("prometheus-config-reloader", "prometheus-operator", "prometheus-config-reloader"),
    Image("prometheus", "prometheus", "prometheus"),
    Image("alertmanager", "alertmanager", "alertmanager"),
    Image("kube-state-metrics", "kube-state-metrics", "kube-state-metrics"),
    Image("node-exporter", "node-exporter", "node_exporter"),
)


@functools.cache
def _catalog(sources: Path) -> dict[str, dict[str, Any]]:
    """What the role `sources` knows of each part."""
    known: dict[str, dict[str, Any]] = load(sources / "vars" / "catalog.yml")["sources_catalog"]["parts"]
    return known


def fingerprint(sources: Path, part: str, *, pages: bool = True) -> str:
    """A part's identity: what decides its version, all that it is compiled from, and how. `sources` is the role's directory.

    :param pages: whether web pages are compiled in, where the part has some
    """
    texts = [(sources / GO_MODULES / part / name).read_text(encoding="utf-8") for name in ("go.mod", "go.sum")]
    without = {*NO_INPUTS, *(() if pages else ("pages",))}
    recipe = {key: value for key, value in _catalog(sources)[part].items() if key not in without}
    return short_hash([*texts, recipe])


def version(sources: Path, part: str) -> str:
    """The release of a part, such as v3.15.0; Prometheus' Go module has a numbering of its own."""
    path = sources / GO_MODULES / part / "go.mod"
    text = path.read_text(encoding="utf-8")
    modules = {"prometheus": "github.com/prometheus/prometheus", "alertmanager": "github.com/prometheus/alertmanager"}
    match = re.search(rf"(?m)^\s*(?:require )?{re.escape(modules[part])} (v\S+)", text)
    if not match:
        raise ImageError(f"{path} requires no {modules[part]}: restore it from the repository.")
    own = re.fullmatch(r"v0\.(\d)(\d\d)\.(\d+)", match.group(1)) if part == "prometheus" else None
    return f"v{own.group(1)}.{int(own.group(2))}.{own.group(3)}" if own else match.group(1)


def tag(sources: Path, image: Image, *, pages: bool = True) -> str:
    """The name of an image's content."""
    part = fingerprint(sources, image.part, pages=pages)
    return short_hash({"recipe": RECIPE, "part": part, "program": image.program, "machine": machine()})


def deliveries(sources: Path, given: Mapping[str, Any], *, pages: bool = True) -> dict[str, Delivery]:
    """Where each image belongs. A mirror takes the registry's place, under one name for this machine and the nodes."""
    return {
        image.name: _delivery(given, f"monitoring/{image.name}", tag(sources, image, pages=pages)) for image in IMAGES
    }


def _delivery(given: Mapping[str, Any], name: str, image_tag: str) -> Delivery:
    mirror = str(given["monitoring_image_mirror"])
    registry = mirror or str(given["monitoring_image_registry"])
    return Delivery(
        kind="registry",
        name=name,
        tag=image_tag,
        registry=registry,
        registry_pull=mirror or str(given["monitoring_image_registry_pull"] or registry),
        plain_http=bool(given["monitoring_image_registry_plain_http"]),
        authfile=str(given["monitoring_image_registry_authfile"] or ""),
        username=str(given["monitoring_image_registry_username"] or ""),
        password=str(given["monitoring_image_registry_password"] or ""),
    )


def mirrored(given: Mapping[str, Any], published: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the mirror has these images of others, given as a chart's values have them."""
    wanted = {
        str(image["repository"]): _delivery(given, str(image["repository"]), str(image["tag"])) for image in published
    }
    return all(find(wanted, mirror=True).values())


def copies(given: Mapping[str, Any], published: Mapping[str, Mapping[str, Any]]) -> dict[str, Copy]:
    """Which of these images of others, given by name as a chart's values have them, belong in the nodes' registry."""
    pulled = str(given["monitoring_image_registry_pull"] or given["monitoring_image_registry"]).partition("/")[0]
    found = {}
    for name, image in published.items():
        if image["registry"] == pulled:
            continue
        digest = str(image.get("digest") or "")
        version = f"@{digest}" if digest else f":{image['tag']}"
        found[name] = Copy(
            source=f"{image['registry']}/{image['repository']}{version}",
            delivery=_delivery(given, f"monitoring/{name}", str(image["tag"] or digest.replace(":", "-"))),
        )
    return found


def find(wanted: Mapping[str, Delivery], *, mirror: bool = False) -> dict[str, str | None]:
    """The digest of each image in the registry, None where it is not there."""
    try:
        for delivery in wanted.values():
            delivery.check()
        return dict(zip(wanted, in_parallel(Delivery.find, list(wanted.values())), strict=True))
    except ImageError as error:
        raise named(error, mirror=mirror) from None


def named(error: ImageError, *, mirror: bool = False) -> ImageError:
    """The same with this role's variables: the machinery is the image role's."""
    text = str(error)
    if mirror:
        text = re.sub(r"\bimage_registry(_pull)?=", "monitoring_image_mirror=", text)
    return ImageError(re.sub(r"(?<!_)\bimage_(?=registry|timeout|min_free|cache_dir)", "monitoring_image_", text))


def as_values(
    wanted: Mapping[str, Delivery], found: Mapping[str, str | None], *, mirror: bool = False
) -> dict[str, dict[str, str]]:
    """The images as both the chart's values and a person in check mode want them: by digest, before that by tag."""
    values = {}
    for name, delivery in wanted.items():
        # The chart puts a mirror in front by itself.
        host, _, prefix = ("", "", "") if mirror else delivery.registry_pull.partition("/")
        digest = found.get(name) or ""
        values[name] = {
            "registry": host,
            "repository": f"{prefix}/{delivery.name}" if prefix else delivery.name,
            "tag": "" if digest else delivery.tag,
            "digest": digest,
        }
    return values


def there(cache: Path, image_tag: str) -> bool:
    """Whether the cache has an image."""
    return (cache / "images" / image_tag / "manifest.json").is_file()


def build(
    cache: Path, image: Image, program: Path, image_tag: str, *, timeout_seconds: float, min_free_mib: int
) -> Path:
    """Build an image into the cache, or find it there; gives its directory (skopeo's `dir:` form)."""
    target = cache / "images" / image_tag
    with locked(cache, timeout_seconds):
        if there(cache, image_tag):
            return target
        require_space(cache, min_free_mib)
        name = f"localhost/monitoring-build:{image_tag}"
        with (
            Buildah(cache, timeout_seconds) as buildah,
            tempfile.TemporaryDirectory(dir=cache, prefix="context-") as scratch,
        ):
            lay_out(Path(scratch), image, program)
            buildah.call(
                f"Building the image {image.name}",
                "bud",
                "--format=docker",
                "--isolation=chroot",
                f"--timestamp={EPOCH}",
                "--identity-label=false",
                f"--file={scratch}/Containerfile",
                f"--tag={name}",
                scratch,
            )
            with fresh_directory(target) as directory:
                buildah.call(f"Writing the image {image.name}", "push", "--quiet", name, f"dir:{directory}")
                normalize(directory)
            buildah.call("Tidying up", "rmi", "--force", name)
        forget_old(cache / "images", target, KEPT)
    return target


def lay_out(context: Path, image: Image, program: Path) -> None:
    """Exactly what goes into an image: the program, who runs it, whom it trusts, a place for temporary files."""
    if not program.is_file():
        raise ImageError(f"{program} is missing: run again, so that the role sources takes it anew.")
    root = context / "rootfs"
    for folder in ("bin", "etc/ssl/certs", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copyfile(program, root / "bin" / image.program)
    (root / "bin" / image.program).chmod(0o755)
    certificates = sorted(AUTHORITIES.glob("*.crt"))
    bundle = b"".join(path.read_bytes() for path in certificates)
    if not bundle and BUNDLE.is_file():
        bundle = BUNDLE.read_bytes()
    texts = {
        "etc/ssl/certs/ca-certificates.crt": bundle,
        "etc/passwd": b"root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
        "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        "etc/nsswitch.conf": b"hosts: files dns\n",
    }
    for name, data in texts.items():
        (root / name).write_bytes(data)
        (root / name).chmod(0o644)
    entry = json.dumps([f"/bin/{image.program}"])
    (context / "Containerfile").write_text(
        f"FROM scratch\nCOPY rootfs/ /\nUSER 65534:65534\nWORKDIR /tmp\nENTRYPOINT {entry}\n", encoding="utf-8"
    )
