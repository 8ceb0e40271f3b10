# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Parts from their publishers: right, wrong, broken and missing files."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.sources import fetch
from ansible_collections.appgate.platform.plugins.module_utils.sources.catalog import Binary, Upstream
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import SourceError, Unreachable
from ansible_collections.appgate.platform.plugins.module_utils.sources.progress import Progress

from .support import ARCHIVE, TOOL, Publisher, TakerMaker, archive, make_part, publish_tool, sha256


def test_a_release_is_downloaded_checked_and_taken_from_the_cache_afterwards(
    publisher: Publisher, taker: TakerMaker
) -> None:
    publish_tool(publisher)
    result = taker().take([make_part()])
    program = Path(result.bin["tool"], "tool")
    assert result.changed
    assert program.read_bytes() == TOOL
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "tool\n"
    assert result.taken["tool"]["source"] == "upstream"
    assert result.taken["tool"]["sha256s"] == {"tool": sha256(TOOL)}

    asked = len(publisher.seen)
    again = taker().from_cache([make_part()])
    assert again is not None
    assert again.bin == result.bin
    assert not again.changed
    assert again.taken["tool"]["source"] == "cache"
    assert again.taken["tool"]["origin"] == "upstream"
    assert len(publisher.seen) == asked


def test_one_file_for_each_program(publisher: Publisher, taker: TakerMaker) -> None:
    for name in ("one", "two"):
        publisher.publish(f"/release/v1.2.3/bin/linux/amd64/{name}", name.encode())
        publisher.publish(f"/release/v1.2.3/bin/linux/amd64/{name}.sha256", sha256(name.encode()).encode())
    url = "https://releases.test/release/{release}/bin/linux/{arch}/{binary}"
    part = make_part(
        binaries=(Binary("one", "one", "one"), Binary("two", "two", "two")), upstream=Upstream(url, "{url}.sha256", {})
    )
    folder = Path(taker().take([part]).bin["tool"])
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"one": "one", "two": "two"}
    assert all(os.access(path, os.X_OK) for path in folder.iterdir())


def test_a_pinned_checksum_needs_no_list(publisher: Publisher, taker: TakerMaker) -> None:
    body = publish_tool(publisher)
    del publisher.answers[ARCHIVE + ".sha256"]
    upstream = Upstream(
        "https://releases.test/tool/{release}/tool-{arch}.tar.gz", "{url}.sha256", {"tool-amd64.tar.gz": sha256(body)}
    )
    assert taker().take([make_part(upstream=upstream)]).changed


def test_a_file_with_another_checksum_is_refused_and_removed(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    publish_tool(publisher)
    wrong = archive(bin__tool=b"something else")
    publisher.publish(ARCHIVE, wrong)
    with pytest.raises(SourceError) as caught:
        taker().take([make_part()])
    said = str(caught.value)
    assert "Checksum mismatch" in said
    assert sha256(wrong) in said
    assert ARCHIVE in said
    assert not list((tmp_path / "cache" / "parts" / "tool").iterdir())
    assert not list((tmp_path / "cache" / "downloads").iterdir())

    publish_tool(publisher)
    assert taker().take([make_part()]).changed


def test_a_wrong_checksum_is_never_answered_by_building(publisher: Publisher, taker: TakerMaker) -> None:
    publish_tool(publisher)
    publisher.publish(ARCHIVE, b"something else")
    with pytest.raises(SourceError, match="Checksum mismatch"):
        taker(mode="auto").take([make_part()])


def test_a_release_that_changes_after_the_first_download_is_refused(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    publish_tool(publisher)
    first = taker().take([make_part()])
    lock = json.loads((tmp_path / "cache" / "sources.lock").read_text())
    assert list(lock) == ["https://releases.test" + ARCHIVE]

    Path(first.bin["tool"], "tool").unlink()
    publish_tool(publisher, b"replaced, and its checksum too")
    with pytest.raises(SourceError, match=r"A release must not change.*remove that line"):
        taker().take([make_part()])


def test_a_list_without_the_file_is_refused(publisher: Publisher, taker: TakerMaker) -> None:
    publish_tool(publisher)
    publisher.publish(ARCHIVE + ".sha256", b"0000  other.tar.gz\n")
    with pytest.raises(SourceError, match=r"names no SHA-256 for tool-amd64\.tar\.gz"):
        taker().take([make_part()])


def test_a_cut_download_is_continued_where_it_stopped(publisher: Publisher, taker: TakerMaker) -> None:
    content = os.urandom(300_000)
    publish_tool(publisher, content, cut_at=100_000)
    result = taker().take([make_part()])
    assert Path(result.bin["tool"], "tool").read_bytes() == content
    assert publisher.gets(ARCHIVE) == ["", "bytes=100000-"]


def test_a_cut_download_starts_again_where_the_publisher_knows_no_ranges(
    publisher: Publisher, taker: TakerMaker
) -> None:
    content = os.urandom(300_000)
    publish_tool(publisher, content, cut_at=100_000, ranges=False)
    result = taker().take([make_part()])
    assert Path(result.bin["tool"], "tool").read_bytes() == content


def test_a_killed_run_leaves_a_partial_file_that_the_next_run_continues(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    body = publish_tool(publisher, os.urandom(300_000))
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    name = fetch.partial_name("https://releases.test" + ARCHIVE) + ".part"
    (downloads / name).write_bytes(body[:200_000])
    taker().take([make_part()])
    assert publisher.gets(ARCHIVE) == ["bytes=200000-"]


def test_a_partial_file_that_is_too_long_is_dropped(publisher: Publisher, taker: TakerMaker, tmp_path: Path) -> None:
    body = publish_tool(publisher)
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    name = fetch.partial_name("https://releases.test" + ARCHIVE) + ".part"
    (downloads / name).write_bytes(body + b"more")
    assert taker().take([make_part()]).changed


def test_a_version_that_is_not_released(publisher: Publisher, taker: TakerMaker) -> None:
    publish_tool(publisher)
    del publisher.answers[ARCHIVE]
    with pytest.raises(SourceError, match=r"answered 404 .*Check that this version is released"):
        taker().take([make_part()])
    assert len(publisher.gets(ARCHIVE)) == 1


def test_a_publisher_in_trouble_is_asked_again_and_then_named(
    publisher: Publisher, taker: TakerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    publish_tool(publisher)
    publisher.answers[ARCHIVE].status = 503
    with pytest.raises(SourceError, match="could not be downloaded in 3 attempts"):
        taker().take([make_part()])
    assert len(publisher.gets(ARCHIVE)) == 3


def test_an_archive_without_the_program(publisher: Publisher, taker: TakerMaker) -> None:
    body = archive(other=b"")
    publisher.publish(ARCHIVE, body)
    publisher.publish(ARCHIVE + ".sha256", sha256(body).encode())
    # Where both ways are open, the part is built: the publisher does not have the program.
    with pytest.raises(Unreachable, match=r"holds no file 'bin/tool'"):
        taker().take([make_part()])


def test_a_file_that_is_no_archive(publisher: Publisher, taker: TakerMaker) -> None:
    publisher.publish(ARCHIVE, b"<html>")
    publisher.publish(ARCHIVE + ".sha256", sha256(b"<html>").encode())
    with pytest.raises(SourceError, match="is not a readable archive"):
        taker().take([make_part()])


def test_the_probe_is_made_once_in_a_run(publisher: Publisher, taker: TakerMaker) -> None:
    publish_tool(publisher)
    second = make_part(name="second")
    taker(mode="auto").take([make_part(), second])
    taker(mode="auto", verify=True).take([make_part(name="third")])
    assert [path for method, path, _range in publisher.seen if method == "HEAD"] == ["/probe"]
    taker(mode="auto", run="another run").take([make_part(name="fourth")])
    assert [path for method, path, _range in publisher.seen if method == "HEAD"] == ["/probe", "/probe"]


def test_a_gate_that_forbids_counts_as_out_of_reach(publisher: Publisher, taker: TakerMaker) -> None:
    publisher.publish("/probe", b"", status=403)
    assert "answered 403" in taker().publisher.probe()
    del publisher.answers["/probe"]
    assert taker().publisher.probe() == ""


def test_nobody_listens() -> None:
    silent = fetch.Publisher("http://127.0.0.1:1", "https://releases.test/probe", 1.0, 1.0)
    assert "refused" in silent.probe()


def test_two_hosts_take_a_part_once_and_the_second_says_for_whom_it_waits(
    publisher: Publisher, taker: TakerMaker, tmp_path: Path
) -> None:
    gate = threading.Event()
    publish_tool(publisher, gate=gate)
    first = threading.Thread(target=lambda: taker(owner="host one").take([make_part()]))
    first.start()
    while not publisher.gets(ARCHIVE):
        first.join(0.02)
    said = tmp_path / "progress"
    results = []
    second = threading.Thread(
        target=lambda: results.append(taker(Progress(str(said)), owner="host two").take([make_part()]))
    )
    second.start()
    while not said.exists():
        second.join(0.02)
    gate.set()
    first.join(20)
    second.join(20)
    assert "waiting for host one" in said.read_text()
    assert not results[0].changed
    assert len(publisher.gets(ARCHIVE)) == 1


def test_a_mirror_replaces_the_host_and_keeps_the_path() -> None:
    mirror = fetch.Publisher("https://mirror.test/all/", "", 1.0, 1.0)
    assert mirror.address("https://dl.k8s.io/release/v1/kubelet") == "https://mirror.test/all/release/v1/kubelet"


@pytest.mark.parametrize(
    "text",
    [
        f"{'a' * 64}  file.tgz\n",
        f"{'a' * 64} *file.tgz\n",
        f"{'A' * 64}\n",
        f"{'b' * 64}  other.tgz\n{'a' * 64}  ./dist/file.tgz\n",
    ],
)
def test_checksum_lists_as_publishers_write_them(text: str) -> None:
    assert fetch.published_checksum(text, "file.tgz") == "a" * 64


@pytest.mark.parametrize("text", ["", "<html>not found</html>", f"{'b' * 64}  other.tgz\n", "abc  file.tgz"])
def test_what_is_no_checksum_list(text: str) -> None:
    assert fetch.published_checksum(text, "file.tgz") is None
