# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A chart from a registry (oci://), a chart repository (https://) or a file, kept in a cache.

Helm could fetch it, but not say in one sentence what is wrong, and a password would be in the process list.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.parsing.convert_bool import boolean

AGENT = "appgate-platform"
ACCEPT = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
READ_SECONDS = 30.0
LARGEST_BYTES = 64 << 20


class ChartError(Exception):
    """A chart that can't be had; the text names the variable."""


@dataclass(frozen=True)
class Source:
    """Where a chart comes from, as the role's variables say."""

    ref: str
    version: str
    cache: Path
    username: str = ""
    password: str = ""
    probe_seconds: float = 3.0
    plain_http: bool = False

    @classmethod
    def from_inputs(cls, given: Mapping[str, Any], cache: Path) -> Source:
        """The source that the role's variables name. One that isn't set is as its default."""
        return cls(
            ref=str(given["monitoring_chart_ref"]),
            version=str(given["monitoring_chart_version"]),
            cache=cache,
            username=str(given.get("monitoring_chart_username") or ""),
            password=str(given.get("monitoring_chart_password") or ""),
            probe_seconds=float(given.get("monitoring_chart_probe_timeout_seconds", cls.probe_seconds)),
            # On the command line, a switch is a text.
            plain_http=boolean(given.get("monitoring_chart_plain_http", cls.plain_http), strict=False),
        )

    @property
    def scheme(self) -> str:
        """How a registry is spoken to; other addresses say it themselves."""
        return "http" if self.plain_http else "https"

    @property
    def local(self) -> bool:
        """A file or a directory of this machine."""
        return "://" not in self.ref

    @property
    def name(self) -> str:
        """The chart's name: the last part of its address."""
        return self.ref.rstrip("/").rpartition("/")[2]

    def cached(self) -> Path:
        """Where a fetched chart is kept."""
        key = hashlib.sha256(f"{self.ref}\n{self.version}".encode()).hexdigest()[:12]
        return self.cache / f"{self.name}-{self.version}-{key}.tgz"

    def answers(self) -> bool:
        """One question, for `auto`: is there somebody at the address?"""
        if self.local:
            return Path(self.ref).expanduser().exists()
        host = urllib.parse.urlsplit(self.ref).netloc
        if self.ref.startswith("oci://"):
            return _somebody(f"{self.scheme}://{host}/v2/", self.probe_seconds)
        return _somebody(f"{self.ref.rpartition('/')[0]}/index.yaml", self.probe_seconds)

    @staticmethod
    def registry_answers(host: str, timeout_seconds: float) -> bool:
        """Whether an image registry is in reach of this machine."""
        return _somebody(f"https://{'registry-1.docker.io' if host == 'docker.io' else host}/v2/", timeout_seconds)


@dataclass(frozen=True)
class Chart:
    """A chart by name and version, and where it is on this machine once it has been fetched."""

    name: str
    version: str
    path: Path | None = None
    source: Source | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def of(cls, source: Source) -> Chart:
        """The chart that a source names, without asking anybody."""
        if source.local:
            path = Path(source.ref).expanduser()
            metadata = read_metadata(path) if path.exists() else {}
            name = str(metadata.get("name") or source.name)
            return cls(name, str(metadata.get("version") or source.version), path if path.exists() else None, source)
        cached = source.cached()
        return cls(source.name, source.version, cached if cached.is_file() else None, source)

    def fetched(self) -> Chart:
        """The same on this machine."""
        if self.path is not None or self.source is None:
            return self
        if self.source.local:
            raise ChartError(
                f"monitoring_chart_ref: {self.source.ref!r} is no file or directory of this machine. Give the path of a chart, "
                "or an address that begins with oci:// or https://."
            )
        return dataclasses.replace(self, path=fetch(self.source))


def local(directory: Path, cache: Path) -> Chart:
    """A chart of this tree, with a hash of its content in its version: Helm and its module compare nothing else of it."""
    digest = hashlib.sha256()
    for name in contents(directory):
        digest.update(f"{name}\0".encode() + (directory / name).read_bytes() + b"\0")
    metadata = read_metadata(directory)
    version = f"{metadata['version']}+{digest.hexdigest()[:12]}"
    return Chart(str(metadata["name"]), version, cache / f"{metadata['name']}-{version}")


def contents(directory: Path) -> list[str]:
    """The files that decide what a chart installs."""
    files = [path for folder in ("templates", "files") for path in (directory / folder).rglob("*") if path.is_file()]
    files += [
        path for name in ("Chart.yaml", "values.yaml", "values.schema.json") if (path := directory / name).is_file()
    ]
    return sorted(path.relative_to(directory).as_posix() for path in files)


def stage(directory: Path, chart: Chart) -> None:
    """Put a chart of this tree where `local` says, under the version that it says."""
    target = chart.path
    if target is None or target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        copy = Path(scratch) / "chart"
        for name in contents(directory):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / name, copy / name)
        text = (copy / "Chart.yaml").read_text(encoding="utf-8")
        text = re.sub(r"(?m)^version: .*$", f"version: {chart.version}", text)
        (copy / "Chart.yaml").write_text(text, encoding="utf-8")
        with contextlib.suppress(OSError):
            # Another host of the same run may have been faster.
            copy.rename(target)


def read_metadata(path: Path) -> dict[str, Any]:
    """Chart.yaml of a chart."""
    try:
        if path.is_dir():
            text = (path / "Chart.yaml").read_text(encoding="utf-8")
        else:
            text = _member(path, "Chart.yaml").decode("utf-8")
        parsed = yaml.safe_load(text)
    except (OSError, KeyError, ValueError, tarfile.TarError, yaml.YAMLError):
        raise ChartError(
            f"monitoring_chart_ref: {path} isn't a chart: it has no Chart.yaml. Give a directory with one, or a .tgz "
            "that `helm package` or `helm pull` made."
        ) from None
    return parsed if isinstance(parsed, dict) else {}


def _member(path: Path, name: str) -> bytes:
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.isreg() and member.name.partition("/")[2] == name:
                stream = archive.extractfile(member)
                return stream.read() if stream else b""
    raise KeyError(name)


def crds(path: Path) -> list[str]:
    """The texts of a chart's CRDs, those of its subcharts included."""
    if path.is_dir():
        return [file.read_text(encoding="utf-8") for file in sorted(path.glob("**/crds/*.yaml"))]
    texts = []
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.isreg() and re.search(r"/crds/[^/]+\.ya?ml$", member.name):
                stream = archive.extractfile(member)
                if stream:
                    texts.append(stream.read().decode("utf-8"))
    return texts


def fetch(source: Source) -> Path:
    """Bring a chart into the cache."""
    data = _from_registry(source) if source.ref.startswith("oci://") else _from_repository(source)
    target = source.cached()
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    try:
        read_metadata(Path(temporary))
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


def _from_registry(source: Source) -> bytes:
    parts = urllib.parse.urlsplit(source.ref)
    base = f"{source.scheme}://{parts.netloc}/v2{parts.path}"
    client = _Client(source)
    manifest = json.loads(client.get(f"{base}/manifests/{source.version.replace('+', '_')}", ACCEPT))
    digest = next((str(layer["digest"]) for layer in manifest.get("layers", []) if layer.get("mediaType") == LAYER), "")
    if not digest:
        raise ChartError(f"monitoring_chart_ref: {source.ref} isn't a Helm chart but another kind of image.")
    data = client.get(f"{base}/blobs/{digest}", "*/*")
    _check(data, digest.removeprefix("sha256:"), source)
    return data


def _from_repository(source: Source) -> bytes:
    base = source.ref.rpartition("/")[0]
    client = _Client(source)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    index = yaml.load(client.get(f"{base}/index.yaml", "*/*"), Loader=loader)  # noqa: S506 (both are safe loaders)
    entries = (index.get("entries") or {}).get(source.name) if isinstance(index, dict) else None
    if not entries:
        raise ChartError(
            f"monitoring_chart_ref: the repository {base} has no chart {source.name!r}. Write <repository>/<chart>."
        )
    for entry in entries:
        if str(entry.get("version")) == source.version:
            data = client.get(urllib.parse.urljoin(f"{base}/", str(entry["urls"][0])), "*/*")
            if entry.get("digest"):
                _check(data, str(entry["digest"]), source)
            return data
    newest = ", ".join(str(entry.get("version")) for entry in entries[:5])
    raise ChartError(
        f"monitoring_chart_version: {source.ref} has no version {source.version} (the latest are {newest})."
    )


def _check(data: bytes, wanted: str, source: Source) -> None:
    if hashlib.sha256(data).hexdigest() != wanted:
        raise ChartError(
            f"monitoring_chart_ref: {source.ref} {source.version} doesn't have the checksum that it is listed with."
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Registries send blobs from a store elsewhere, which must not see the password, and often refuses what carries one."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        credentials = req.unredirected_hdrs.get("Authorization")
        if request is not None and credentials and _origin(newurl) == _origin(req.full_url):
            request.add_unredirected_header("Authorization", credentials)
        return request


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc


class _Client:
    """Requests with the person's credentials, or with the token that a registry hands out for them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._host = urllib.parse.urlsplit(source.ref).netloc
        self._token = ""
        self._opener = urllib.request.build_opener(_Redirects)
        pair = f"{source.username}:{source.password}".encode()
        self._basic = f"Basic {base64.b64encode(pair).decode()}" if source.username else ""

    def get(self, url: str, accept: str) -> bytes:
        for attempt in (1, 2):
            request = urllib.request.Request(url, headers={"User-Agent": AGENT, "Accept": accept})
            same_host = urllib.parse.urlsplit(url).netloc == self._host
            if same_host and (self._token or self._basic):
                request.add_unredirected_header("Authorization", self._token or self._basic)
            try:
                with self._opener.open(request, timeout=READ_SECONDS) as answer:
                    data: bytes = answer.read(LARGEST_BYTES)
                return data
            except urllib.error.HTTPError as error:
                challenge = error.headers.get("WWW-Authenticate", "")
                if error.code == 401 and attempt == 1 and challenge.lower().startswith("bearer "):
                    self._token = f"Bearer {self._ask(challenge)}"
                    continue
                raise self._complaint(error.code, url) from None
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                raise ChartError(
                    f"monitoring_chart_ref: {self._source.ref} doesn't answer ({_in_words(reason)}). Give an "
                    "address that is in reach, a file, or monitoring_chart_source=embedded, which needs none."
                ) from None
        raise AssertionError("the second attempt returns or raises")

    def _ask(self, challenge: str) -> str:
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = fields.pop("realm", "")
        if not realm.startswith((f"{self._source.scheme}://", "https://")):
            raise ChartError(f"monitoring_chart_ref: {self._host} names no token service.")
        request = urllib.request.Request(f"{realm}?{urllib.parse.urlencode(fields)}", headers={"User-Agent": AGENT})
        if self._basic:
            request.add_unredirected_header("Authorization", self._basic)
        try:
            with self._opener.open(request, timeout=READ_SECONDS) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            raise self._complaint(error.code, realm) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ChartError(
                f"monitoring_chart_ref: {self._host} sends its users to {realm} for a token, which doesn't answer ({reason})."
            ) from None
        return str(body.get("token") or body.get("access_token") or "")

    def _complaint(self, status: int, url: str) -> ChartError:
        source = self._source
        if status in (401, 403):
            given = (
                "does not accept monitoring_chart_username and monitoring_chart_password"
                if source.username
                else ("wants credentials: set monitoring_chart_username and monitoring_chart_password")
            )
            return ChartError(f"monitoring_chart_ref: {source.ref} {given} ({status}).")
        if url.endswith("/index.yaml"):
            base = source.ref.rpartition("/")[0]
            return ChartError(
                f"monitoring_chart_ref: {base} is no chart repository: its index.yaml answers {status}. Write "
                "<repository>/<chart>."
            )
        if status == 404:
            return ChartError(
                f"monitoring_chart_version: there is no {source.ref} {source.version} (404). Look at the publisher's releases "
                "for a version that exists, and check monitoring_chart_ref."
            )
        return ChartError(f"monitoring_chart_ref: {source.ref} answers {status} ({urllib.parse.urlsplit(url).path}).")


def _in_words(reason: object) -> str:
    """A TLS client that is answered in plain text only says so in its own way."""
    text = str(reason)
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "record layer failure" in text:
        return "it speaks HTTP without TLS: set monitoring_chart_plain_http, if that is meant"
    return text


def _somebody(url: str, timeout_seconds: float) -> bool:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"User-Agent": AGENT}), timeout=timeout_seconds
        ):
            return True
    except urllib.error.HTTPError as error:
        # A registry asks for a token first; a proxy that lets nobody through says 403 or 5xx.
        return error.code in (401, 404)
    except (OSError, ValueError):
        return False
