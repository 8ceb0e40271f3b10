# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Published images travel in a bundle from one real registry to another, and keep their names and digests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import bundle
from ansible_collections.appgate.platform.plugins.module_utils import bundle_sources as sources
from ansible_collections.appgate.platform.plugins.module_utils.bundle import BundleError

from tests.unit.bundle.test_bundle import about, quiet, stock
from tests.unit.bundle.test_play import PLAY, refused
from tests.unit.registry import digest, publish, serve


@pytest.fixture(autouse=True)
def skopeo() -> None:
    """What carries the images."""
    if not shutil.which("skopeo"):
        pytest.skip("no skopeo: `make up` installs it")


def test_an_image_keeps_its_path_its_tag_and_its_digest(
    tmp_path: Path, ansible_playbook: Callable[..., CompletedProcess[str]]
) -> None:
    options = sources.Fetching(60, plain_http=True)
    with serve(tmp_path / "publisher") as publisher:
        name = f"{publisher}/grafana/grafana:13.2.0"
        publish(name, tmp_path / "image")
        wanted = digest(name)
        carried = sources.image(name, tmp_path / "cache", options)
        with pytest.raises(
            BundleError, match=r"(?s)^bundle_images: Fetching .*/none:1\.0.*that the name and the tag are right"
        ):
            sources.image(f"{publisher}/none:1.0", tmp_path / "cache", options)
    # The publisher is gone, and the image is there.
    assert sources.image(name, tmp_path / "cache", options) == carried
    items = stock(tmp_path / "stock") + bundle.files_below(carried, f"images/{carried.name}")
    bundle.make(tmp_path / "bundle", items, about(images={name: f"images/{carried.name}"}), quiet)
    play = PLAY.format(path=tmp_path / "bundle", cache=tmp_path / "new", entry="install")
    with serve(tmp_path / "mirror") as mirror:
        arguments = ["-e", f"bundle_registry={mirror}/all", "-e", '{"bundle_registry_plain_http": true}']
        checked = ansible_playbook(play, *arguments, "--check")
        assert f"images would be pushed: {mirror}/all/grafana/grafana:13.2.0" in " ".join(checked.stdout.split())
        first = ansible_playbook(play, *arguments)
        assert first.returncode == 0, first.stdout + first.stderr
        assert digest(f"{mirror}/all/grafana/grafana:13.2.0") == wanted
        assert "changed=0" in ansible_playbook(play, *arguments).stdout
    gone = ansible_playbook(play, *arguments)
    refused(gone, f"bundle_registry='{mirror}/all' cannot be reached", "(set in <CLI option '-e'>)")
    left = ansible_playbook(play)
    assert "Images of the bundle: not pushed" in left.stdout, left.stdout


@pytest.mark.parametrize(
    "name", ["grafana", "grafana/grafana:1", "quay.io/a/b", "quay.io/a@sha256:0", "quay.io:443/a", ""]
)
def test_names_that_are_not_whole(name: str) -> None:
    with pytest.raises(
        BundleError, match=r"^bundle_images: '.*' is no whole name of an image\. Write registry/path:tag"
    ):
        sources.split(name)
