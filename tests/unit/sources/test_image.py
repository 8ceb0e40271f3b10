# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Programs out of published images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.sources import oci
from ansible_collections.appgate.platform.plugins.module_utils.sources.catalog import Binary, Upstream
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import SourceError, Unreachable

from .support import Publisher, TakerMaker, archive, make_part, sha256

BASE = "/v2/team/tool"
PART = make_part(
    upstream=Upstream("docker://registry.test/team/tool:{release}", "", {}),
    binaries=(Binary("tool", "tool", "bin/tool"),),
)


def publish_image(publisher: Publisher, content: bytes = b"program", **how: Any) -> str:
    """Publish an image of two layers for two architectures behind a token; return the tag's digest."""
    challenge = f'Bearer realm="{publisher.url}/token",service="registry",scope="repository:team/tool:pull"'
    publisher.publish("/token", b'{"token": "sesame"}')
    how = {"challenge": challenge, **how}
    layers = []
    for layer in (archive(etc__passwd=b"root"), archive(**{".__bin__tool": content})):
        publisher.publish(f"{BASE}/blobs/sha256:{sha256(layer)}", layer, **how)
        layers.append({"digest": f"sha256:{sha256(layer)}"})
    manifest = json.dumps({"layers": layers}).encode()
    publisher.publish(f"{BASE}/manifests/sha256:{sha256(manifest)}", manifest, **how)
    index = {
        "manifests": [
            {"digest": "sha256:0", "platform": {"os": "linux", "architecture": "arm64"}},
            {"digest": f"sha256:{sha256(manifest)}", "platform": {"os": "linux", "architecture": "amd64"}},
        ]
    }
    body = json.dumps(index).encode()
    publisher.publish(f"{BASE}/manifests/v1.2.3", body, **how)
    return sha256(body)


def test_a_program_comes_out_of_an_image_behind_an_anonymous_token(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    digest = publish_image(publisher)
    result = taker().take([PART])
    assert Path(result.bin["tool"], "tool").read_bytes() == b"program"
    assert result.taken["tool"]["source"] == "upstream"
    lock = json.loads((tmp_path / "cache" / "sources.lock").read_text())
    assert lock == {"docker://registry.test/team/tool:v1.2.3": digest}
    # Only the last layer holds the program, so the first is not fetched.
    assert sum("/blobs/" in path for _method, path, _range in publisher.seen if _method == "GET") == 1
    assert not list((tmp_path / "cache" / "downloads").iterdir())


def test_a_tag_that_moves_is_refused(publisher: Publisher, taker: TakerMaker) -> None:
    publish_image(publisher)
    first = taker().take([PART])
    Path(first.bin["tool"], "tool").unlink()
    publish_image(publisher, b"replaced")
    with pytest.raises(SourceError, match=r"registry\.test now says .* A release must not change"):
        taker().take([PART])


def test_a_pinned_digest(publisher: Publisher, taker: TakerMaker) -> None:
    digest = publish_image(publisher)
    url = "docker://registry.test/team/tool:{release}"
    right = make_part(upstream=Upstream(url, "", {"tool:v1.2.3": digest}))
    assert taker().take([right]).changed
    wrong = make_part(upstream=Upstream(url, "", {"tool:v1.2.3": "0" * 64}))
    with pytest.raises(SourceError, match=f"has the digest {digest}, but the catalog says 0000"):
        taker().take([wrong])


def test_a_layer_with_other_content_is_refused(publisher: Publisher, taker: TakerMaker) -> None:
    publish_image(publisher)
    for path, answer in publisher.answers.items():
        if "/blobs/" in path:
            answer.body = b"something else"
    with pytest.raises(SourceError, match=r"Checksum mismatch: .*/blobs/.* but its manifest says"):
        taker().take([PART])


def test_a_manifest_with_other_content_is_refused(publisher: Publisher, taker: TakerMaker) -> None:
    publish_image(publisher)
    for path, answer in publisher.answers.items():
        if "/manifests/sha256" in path:
            answer.body = b'{"layers": []}'
    with pytest.raises(SourceError, match=r"Checksum mismatch: .*/manifests/sha256"):
        taker().take([PART])


def test_an_image_without_the_program_or_the_architecture(publisher: Publisher, taker: TakerMaker) -> None:
    publish_image(publisher)
    other = make_part(upstream=PART.upstream, binaries=(Binary("other", "other", "bin/other"),))
    with pytest.raises(Unreachable, match="holds no file 'bin/other'"):
        taker().take([other])
    with pytest.raises(SourceError, match=r"team/tool:v1\.2\.3 has no image for linux/riscv64"):
        taker(arch="riscv64").take([PART])


def test_a_tag_that_is_not_there(taker: TakerMaker) -> None:
    with pytest.raises(SourceError, match=r"/manifests/v1\.2\.3 answered 404"):
        taker().take([PART])


def test_a_token_is_asked_for_over_https_only(publisher: Publisher, taker: TakerMaker) -> None:
    publish_image(publisher, challenge='Bearer realm="http://elsewhere.test/token"')
    with pytest.raises(SourceError, match="which is no https address"):
        taker().take([PART])


def test_a_name_of_docker_hub(taker: TakerMaker) -> None:
    image = oci.Image.parse(taker().publisher, "docker://docker.io/rancher/local-path-provisioner:v0.0.30")
    assert image.url("manifests", image.tag) == (
        "https://registry-1.docker.io/v2/rancher/local-path-provisioner/manifests/v0.0.30"
    )
