# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""How a built image gets to where a cluster takes it from, and whether it is there already."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import shutil
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError, run

#: Arguments of a module that pushes to a registry, as plugins/doc_fragments/registry.py describes them.
REGISTRY: dict[str, Any] = {
    "registry": {"type": "str", "default": ""},
    "plain_http": {"type": "bool", "default": False},
    "authfile": {"type": "path", "default": ""},
    "username": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
}

_MANIFESTS = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        # One name for several architectures.
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.index.v1+json",
    )
)
_REGISTRY = re.compile(
    r"(?P<host>(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?)"
    r"(?P<prefix>(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
)
_PROBE_SECONDS = 5.0

# Names of one registry. Only the last one is the address at which it answers.
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
# What `docker login` calls it in the auth file.
_DOCKER_HUB_LOGIN = "https://index.docker.io/v1/"


def names_registry(value: str) -> bool:
    """Whether this is host[:port][/prefix]. Without a dot, a port or localhost, a first part means a folder of Docker Hub."""
    match = _REGISTRY.fullmatch(value)
    return bool(match and (set(match["host"]) & {".", ":"} or match["host"] == "localhost"))


@dataclass(frozen=True)
class Delivery:
    """Where an image goes."""

    kind: str
    name: str
    tag: str
    registry: str = ""
    registry_pull: str = ""
    plain_http: bool = False
    authfile: str = ""
    username: str = ""
    password: str = ""
    containerd_command: tuple[str, ...] = ("ctr",)
    containerd_address: str = "/run/containerd/containerd.sock"
    containerd_namespace: str = "k8s.io"
    kind_cluster: str = "kind"

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Delivery:
        """The delivery as it came through Ansible."""
        known = {item.name for item in dataclasses.fields(cls)}
        chosen = {key: item for key, item in value.items() if key in known}
        chosen["containerd_command"] = tuple(chosen.get("containerd_command") or ("ctr",))
        return cls(**chosen)

    def check(self) -> None:
        """Refuse what could not be delivered, before anything is built."""
        if self.kind == "registry":
            for variable, value in (
                ("image_registry", self.registry),
                ("image_registry_pull", self.registry_pull),
            ):
                if not names_registry(value):
                    raise ImageError(
                        f"{variable}={value!r} names no registry, and "
                        "image_delivery=registry needs one: give host[:port][/prefix], for example "
                        "registry.example.com/team, or choose another image_delivery."
                    )
            if bool(self.username) != bool(self.password):
                raise ImageError(
                    "Only one of image_registry_username and image_registry_password is set: give both or neither."
                )
            if self.authfile and not Path(self.authfile).is_file():
                raise ImageError(
                    f"image_registry_authfile={self.authfile!r} is no file: give the file that "
                    "`skopeo login --authfile` wrote, or leave it empty."
                )

    @property
    def push_name(self) -> str:
        """The name with its tag, as it is pushed."""
        return f"{self.registry}/{self.name}:{self.tag}"

    @property
    def local_name(self) -> str:
        """The name in a container runtime that the image was loaded into."""
        return f"localhost/{self.name}:{self.tag}"

    def reference(self, digest: str | None) -> str:
        """What a pod's image field says."""
        if self.kind == "registry":
            return f"{self.registry_pull}/{self.name}@{digest}" if digest else ""
        # Loaded images have no registry digest. The tag is made from the content, so it is as exact.
        return self.local_name

    # --- is it there?

    def find(self) -> str | None:
        """The digest in the registry, the name in a runtime; None when it is not there."""
        if self.kind == "registry":
            return self._head()
        if self.kind in ("containerd", "kind"):
            return self.local_name if all(self._listed()) else None
        return self.local_name

    def _head(self) -> str | None:
        host, _, prefix = self.registry.partition("/")
        address = host
        if host in _DOCKER_HUB:
            # skopeo pushes a name without a folder to this one.
            address, prefix = _DOCKER_HUB[-1], prefix or "library"
        name = f"{prefix}/{self.name}" if prefix else self.name
        scheme = "http" if self.plain_http else "https"
        url = f"{scheme}://{address}/v2/{name}/manifests/{self.tag}"
        headers = {"Accept": _MANIFESTS}
        credentials = self._credentials(host)
        if credentials:
            headers["Authorization"] = f"Basic {credentials}"
        try:
            try:
                return _ask(url, headers)
            except urllib.error.HTTPError as error:
                challenge = error.headers.get("WWW-Authenticate", "")
                if error.code != 401 or not challenge.lower().startswith("bearer "):
                    raise
                token = _token(challenge, credentials)
                return _ask(url, {"Accept": _MANIFESTS, "Authorization": f"Bearer {token}"})
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code in (401, 403):
                raise ImageError(
                    f"The registry {self.registry} refuses access ({error.code}): set "
                    "image_registry_authfile, or image_registry_username and "
                    "image_registry_password, to what may push there."
                ) from None
            raise ImageError(f"The registry {self.registry} answers {error.code}.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            hint = ""
            if isinstance(reason, ssl.SSLError):
                hint = " If it speaks plain HTTP, set image_registry_plain_http=true."
            raise ImageError(
                f"image_registry={self.registry!r} cannot be reached ({reason}): "
                f"is it running, and is the address right?{hint}"
            ) from None

    def _credentials(self, host: str) -> str:
        """user:password in base64, from the variables or the auth file."""
        if self.username:
            return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        keys = [self.registry, host, f"https://{host}"]
        if host in _DOCKER_HUB:
            keys += [*_DOCKER_HUB, _DOCKER_HUB_LOGIN]
        candidates = [self.authfile] if self.authfile else default_authfiles()
        for candidate in candidates:
            try:
                auths = json.loads(Path(candidate).read_text(encoding="utf-8")).get("auths", {})
            except (OSError, ValueError, AttributeError):
                continue
            for key in keys:
                auth = auths.get(key, {}).get("auth")
                if auth:
                    return str(auth)
        return ""

    def _containerd(self, node: Sequence[str] = ()) -> list[str]:
        if self.kind == "kind":
            return [*node, "ctr", f"--namespace={self.containerd_namespace}"]
        return [
            *self.containerd_command,
            f"--address={self.containerd_address}",
            f"--namespace={self.containerd_namespace}",
        ]

    def _nodes(self) -> list[list[str]]:
        """How to run a program on each node."""
        if self.kind != "kind":
            return [[]]
        runtime = next((name for name in ("docker", "podman", "nerdctl") if shutil.which(name)), "")
        if not runtime or not shutil.which("kind"):
            raise ImageError(
                "image_delivery=kind needs the programs kind and docker (or podman) on PATH: "
                "install them, or choose another image_delivery."
            )
        output = run(
            ["kind", "get", "nodes", f"--name={self.kind_cluster}"],
            timeout_seconds=60,
            what="Asking kind for its nodes",
        )
        nodes = [line for line in output.split() if line.startswith(f"{self.kind_cluster}-")]
        if not nodes:
            raise ImageError(
                f"image_kind_cluster={self.kind_cluster!r} has no nodes: create it "
                f"(kind create cluster --name {self.kind_cluster}) or give the right name."
            )
        return [[runtime, "exec", node] for node in nodes]

    def _listed(self) -> Iterator[bool]:
        for node in self._nodes():
            output = run(
                [*self._containerd(node), "images", "list", "--quiet", f"name=={self.local_name}"],
                timeout_seconds=60,
                what="Asking containerd for its images",
            )
            yield self.local_name in output.split()

    # --- bring it there

    def deliver(self, artifact: Path, timeout_seconds: float) -> str:
        """Bring the image to its place; the reference to use."""
        if self.kind == "registry":
            pushed = self._push(f"dir:{artifact}", timeout_seconds, f"Pushing {self.push_name}")
            return self.reference(pushed)
        if self.kind in ("containerd", "kind"):
            self._load(artifact, timeout_seconds)
        return self.reference(None)

    def copy(self, published: str, timeout_seconds: float) -> str:
        """Bring somebody's published image (`registry/path:tag` or `@digest`) to the registry; the reference to use."""
        what = f"Copying {published} to {self.push_name}"
        return self.reference(self._push(f"docker://{published}", timeout_seconds, what))

    def _push(self, source: str, timeout_seconds: float, what: str) -> str:
        with tempfile.TemporaryDirectory() as scratch, self._login() as login:
            digest = Path(scratch) / "digest"
            run(
                [
                    "skopeo",
                    "copy",
                    "--quiet",
                    "--preserve-digests",
                    f"--digestfile={digest}",
                    f"--dest-tls-verify={'false' if self.plain_http else 'true'}",
                    *login,
                    source,
                    f"docker://{self.push_name}",
                ],
                timeout_seconds=timeout_seconds,
                what=what,
            )
            return digest.read_text(encoding="ascii").strip()

    @contextmanager
    def _login(self) -> Iterator[list[str]]:
        """The option with the credentials: in a file, never on a command line."""
        if self.authfile:
            yield [f"--dest-authfile={self.authfile}"]
        elif self.username:
            host = self.registry.partition("/")[0]
            with tempfile.NamedTemporaryFile("w", prefix="image-auth-", suffix=".json") as file:
                # NamedTemporaryFile is made with mode 0600.
                json.dump({"auths": {host: {"auth": self._credentials(host)}}}, file)
                file.flush()
                yield [f"--dest-authfile={file.name}"]
        else:
            yield []

    def _load(self, artifact: Path, timeout_seconds: float) -> None:
        with tempfile.TemporaryDirectory(dir=artifact.parent, prefix=".archive-") as scratch:
            archive = Path(scratch) / "image.tar"
            run(
                [
                    "skopeo",
                    "copy",
                    "--quiet",
                    f"dir:{artifact}",
                    f"docker-archive:{archive}:{self.local_name}",
                ],
                timeout_seconds=timeout_seconds,
                what="Writing the image as an archive",
            )
            if self.kind == "kind":
                command = ["kind", "load", "image-archive", str(archive)]
                command.append(f"--name={self.kind_cluster}")
            else:
                command = [*self._containerd(), "images", "import", str(archive)]
            run(command, timeout_seconds=timeout_seconds, what=f"Loading the image ({self.kind})")


def default_authfiles() -> list[str]:
    """Where skopeo, podman and docker keep what `login` wrote (containers-auth.json(5))."""
    home = os.path.expanduser("~")
    return [
        os.environ.get("REGISTRY_AUTH_FILE", ""),
        f"{os.environ.get('XDG_RUNTIME_DIR', '/run')}/containers/auth.json",
        f"{home}/.config/containers/auth.json",
        f"{home}/.docker/config.json",
    ]


def _ask(url: str, headers: dict[str, str]) -> str | None:
    request = urllib.request.Request(url, headers=headers, method="HEAD")
    with urllib.request.urlopen(request, timeout=_PROBE_SECONDS) as answer:
        digest: str | None = answer.headers.get("Docker-Content-Digest")
        return digest


def _token(challenge: str, credentials: str) -> str:
    """A token from the service that the registry has named (the registry's token protocol)."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if not realm.startswith("https://") and not realm.startswith("http://"):
        raise ValueError(f"the registry names no token service: {challenge!r}")
    request = urllib.request.Request(f"{realm}?{urllib.parse.urlencode(fields)}")
    if credentials:
        request.add_header("Authorization", f"Basic {credentials}")
    with urllib.request.urlopen(request, timeout=_PROBE_SECONDS) as answer:
        body: dict[str, Any] = json.load(answer)
    return str(body.get("token") or body.get("access_token") or "")
