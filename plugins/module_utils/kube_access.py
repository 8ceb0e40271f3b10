# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""One way to a cluster, and one clear sentence when there is none.

A kubeconfig and a context are always both named: nothing here ever looks at a current context. Certificates, tokens and
exec plugins are handled here, because importing the whole kubernetes client costs 0.3 s in every task; what is rarer
(auth-provider, OIDC) is left to that client's own loader.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import email.utils
import json
import os
import re
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import urllib3
import yaml

#: Arguments of a module that acts on a cluster, as plugins/doc_fragments/connection.py describes them.
CONNECTION: dict[str, Any] = {
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str", "required": True},
    "connect_timeout_seconds": {"type": "float", "default": 5},
}
#: The argument that `Names` is made of.
NAMES: dict[str, Any] = {"variables": {"type": "dict", "default": {}}}

#: Reviews and dry runs are sent side by side: enough for one role's objects, few enough for any API server's limits.
PARALLEL_REQUESTS = 8

#: An API group that only exists where an engine enforces NetworkPolicy objects.
NETWORK_POLICY_ENGINES = {
    "crd.projectcalico.org": "Calico",
    "cilium.io": "Cilium",
    "crd.antrea.io": "Antrea",
    "k8s.ovn.org": "OVN-Kubernetes",
    "kubeovn.io": "Kube-OVN",
    "networking.k8s.aws": "Amazon VPC CNI",
}


class AccessError(Exception):
    """The cluster can't be used; the text is one sentence for a person."""


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details = dict(details or {})


@dataclass(frozen=True)
class Names:
    """What the caller's variables are called, so that an error names the one to change."""

    kubeconfig: str = "kubeconfig"
    context: str = "context"
    lock_wait_seconds: str = "lock_wait_seconds"
    namespace: str = "namespace"
    namespace_wait_seconds: str = "namespace_wait_seconds"
    revision: str = "revision"


@dataclass(frozen=True)
class Permission:
    """One thing that a run is going to do, as a SelfSubjectAccessReview asks for it."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    subresource: str = ""
    name: str = ""

    def attributes(self) -> dict[str, str]:
        """The resourceAttributes of the review."""
        wanted = {
            "verb": self.verb,
            "group": self.group,
            "resource": self.resource,
            "namespace": self.namespace,
            "subresource": self.subresource,
            "name": self.name,
        }
        return {key: value for key, value in wanted.items() if value}

    def target(self) -> str:
        """The resource as `kubectl auth can-i` writes it."""
        resource = f"{self.resource}.{self.group}" if self.group not in ("", "*") else self.resource
        return f"{resource}/{self.subresource}" if self.subresource else resource


@dataclass(frozen=True)
class Response:
    """An answer of the API server."""

    status: int
    body: bytes
    warnings: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """The answer as an object."""
        parsed = json.loads(self.body or b"{}")
        return parsed if isinstance(parsed, dict) else {}


@dataclass
class Entry:
    """What a kubeconfig says about one context."""

    path: str
    context: str
    server: str
    cluster: dict[str, Any]
    user: dict[str, Any]
    user_name: str
    raw: dict[str, Any] = field(repr=False)


def read_kubeconfig(path: str, context: str, names: Names | None = None) -> Entry:
    """Find a context in a kubeconfig, or say in one sentence why it isn't there."""
    names = names or Names()
    if not path:
        raise AccessError(f"{names.kubeconfig} is empty: give the path of the kubeconfig of the cluster to act on.")
    full = os.path.abspath(os.path.expanduser(path))
    try:
        with open(full, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        raise AccessError(
            f"{names.kubeconfig}: {full} does not exist. Give the path of the cluster's kubeconfig."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't text"
        raise AccessError(f"{names.kubeconfig}: {full} can't be read ({reason}).") from None
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        parsed = yaml.load(text, Loader=loader)  # noqa: S506 (both are safe loaders)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise AccessError(f"{names.kubeconfig}: {full} isn't YAML{place}. It must be a kubeconfig.") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("contexts"), list):
        raise AccessError(f"{names.kubeconfig}: {full} isn't a kubeconfig: it has no list named contexts.")

    contexts = _by_name(parsed, "contexts", "context")
    known = ", ".join(sorted(contexts)) or "none"
    if not context:
        raise AccessError(
            f"{names.context} is empty: name the context of {full} to act on (known: {known}). "
            "The current context is never used."
        )
    if context not in contexts:
        raise AccessError(f"{names.context}: {context!r} isn't a context of {full} (known: {known}).")
    chosen = contexts[context]
    clusters = _by_name(parsed, "clusters", "cluster")
    users = _by_name(parsed, "users", "user")
    cluster_name, user_name = str(chosen.get("cluster", "")), str(chosen.get("user", ""))
    for kind, name, available in (("cluster", cluster_name, clusters), ("user", user_name, users)):
        if name not in available:
            raise AccessError(
                f"{names.kubeconfig}: context {context!r} of {full} names the {kind} {name!r}, "
                "which that file doesn't define."
            )
    server = str(clusters[cluster_name].get("server", ""))
    if urllib.parse.urlsplit(server).scheme not in ("http", "https"):
        raise AccessError(
            f"{names.kubeconfig}: cluster {cluster_name!r} of {full} has the server {server!r}; "
            "it must be a URL such as https://10.0.0.1:6443."
        )
    return Entry(
        path=full,
        context=context,
        server=server.rstrip("/"),
        cluster=clusters[cluster_name],
        user=users[user_name],
        user_name=user_name,
        raw=parsed,
    )


def _by_name(config: Mapping[str, Any], plural: str, singular: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for item in config.get(plural) or []:
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            value = item.get(singular)
            found[item["name"]] = value if isinstance(value, dict) else {}
    return found


def _blob(entry: Entry, section: Mapping[str, Any], key: str, names: Names) -> bytes | None:
    """A certificate or key, given inline as base64 or as the path of a file."""
    inline = section.get(f"{key}-data")
    if inline:
        try:
            return base64.b64decode(str(inline), validate=True)
        except binascii.Error:
            raise AccessError(f"{names.kubeconfig}: {key}-data in {entry.path} isn't base64.") from None
    path = section.get(key)
    if not path:
        return None
    full = os.path.join(os.path.dirname(entry.path), str(path))
    try:
        with open(full, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise AccessError(f"{names.kubeconfig}: {key} {full} can't be read ({error.strerror}).") from None


@contextlib.contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """OpenSSL loads a key from a file only; it's readable by its owner and gone at once."""
    descriptor, path = tempfile.mkstemp(prefix="appgate-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        yield path
    finally:
        os.unlink(path)


class Cluster:
    """A thin REST client for one context: no discovery, no models, a few threads."""

    def __init__(self, entry: Entry, names: Names | None = None, timeout_seconds: float = 5.0) -> None:
        self.entry = entry
        self.names = names or Names()
        self.timeout_seconds = timeout_seconds
        self.headers: dict[str, str] = {"Accept": "application/json", "User-Agent": "appgate-platform"}
        self._client_certificate: bytes | None = None
        #: The Date header of the latest answer, and when that came.
        self._date: tuple[str, float] = ("", 0.0)
        options: dict[str, Any] = {}
        if entry.server.startswith("https:"):
            options["ssl_context"] = self._ssl_context()
            if entry.cluster.get("tls-server-name"):
                options["server_hostname"] = options["assert_hostname"] = str(entry.cluster["tls-server-name"])
        self._load_headers()
        options.update(
            maxsize=PARALLEL_REQUESTS,
            retries=False,
            timeout=urllib3.Timeout(connect=timeout_seconds, read=max(timeout_seconds, 30.0)),
        )
        proxy = self._proxy()
        self._pool: urllib3.PoolManager = (
            urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        )

    @property
    def where(self) -> str:
        """The cluster as a person knows it."""
        return f"{self.entry.server} (context {self.entry.context!r} of {self.entry.path})"

    def _proxy(self) -> str | None:
        """The proxy that kubectl would use: the kubeconfig's own, else the environment's."""
        if self.entry.cluster.get("proxy-url"):
            return str(self.entry.cluster["proxy-url"])
        parts = urllib.parse.urlsplit(self.entry.server)
        proxy = urllib.request.getproxies().get(parts.scheme)
        return proxy if proxy and not urllib.request.proxy_bypass(parts.hostname or "") else None

    def _ssl_context(self) -> ssl.SSLContext:
        entry, names = self.entry, self.names
        authority = _blob(entry, entry.cluster, "certificate-authority", names)
        try:
            # Without an authority of its own, the system's count. Loading those takes 20 ms.
            context = ssl.create_default_context(cadata=authority.decode("utf-8") if authority else None)
        except (ssl.SSLError, UnicodeDecodeError):
            raise AccessError(
                f"{names.kubeconfig}: the certificate-authority of {entry.context!r} in {entry.path} "
                "isn't a PEM certificate."
            ) from None
        # Kubernetes' own certificates lack the key identifiers that Python 3.13 asks for by default.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if entry.cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate = _blob(entry, entry.user, "client-certificate", names)
        key = _blob(entry, entry.user, "client-key", names)
        if certificate and key:
            self._load_client_certificate(context, certificate, key)
        self._context = context
        return context

    def _load_client_certificate(self, context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
        try:
            with _private_file(certificate.rstrip() + b"\n" + key) as path:
                context.load_cert_chain(path)
        except ssl.SSLError:
            raise AccessError(
                f"{self.names.kubeconfig}: the client certificate and key of user {self.entry.user_name!r} "
                f"in {self.entry.path} aren't a PEM pair."
            ) from None
        self._client_certificate = certificate

    def _load_headers(self) -> None:
        user = self.entry.user
        if user.get("token"):
            self.headers["Authorization"] = f"Bearer {user['token']}"
        elif user.get("tokenFile"):
            token = _blob(self.entry, {"tokenFile": user["tokenFile"]}, "tokenFile", self.names) or b""
            self.headers["Authorization"] = f"Bearer {token.decode('utf-8').strip()}"
        elif user.get("exec"):
            self._load_exec(user["exec"])
        elif user.get("username"):
            pair = f"{user['username']}:{user.get('password', '')}".encode()
            self.headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        elif user.get("auth-provider"):
            self._load_with_client_library()

    def _load_exec(self, plugin: Mapping[str, Any]) -> None:
        """Ask a credential plugin, as kubectl does (client.authentication.k8s.io)."""
        api_version = str(plugin.get("apiVersion", "client.authentication.k8s.io/v1"))
        info = {"apiVersion": api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
        environment = dict(os.environ, KUBERNETES_EXEC_INFO=json.dumps(info))
        environment.update({str(item["name"]): str(item["value"]) for item in plugin.get("env") or []})
        command = str(plugin.get("command", ""))
        if "/" in command:
            command = os.path.join(os.path.dirname(self.entry.path), command)
        complaint = f"{self.names.kubeconfig}: the credential plugin {command!r} of user {self.entry.user_name!r}"
        try:
            done = subprocess.run(
                [command, *(str(part) for part in plugin.get("args") or [])],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AccessError(f"{complaint} can't be run ({error}).") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise AccessError(f"{complaint} failed with exit code {done.returncode}: {last}")
        try:
            status = json.loads(done.stdout)["status"]
        except (ValueError, KeyError, TypeError):
            raise AccessError(f"{complaint} did not print an ExecCredential with a status.") from None
        if status.get("token"):
            self.headers["Authorization"] = f"Bearer {status['token']}"
        if status.get("clientCertificateData") and status.get("clientKeyData"):
            self._load_client_certificate(
                self._context, status["clientCertificateData"].encode(), status["clientKeyData"].encode()
            )

    def _load_with_client_library(self) -> None:
        """OIDC and other auth-providers: the official client knows them."""
        try:
            from kubernetes.client import Configuration
            from kubernetes.config.kube_config import KubeConfigLoader
        except ImportError:
            raise AccessError(
                f"{self.names.kubeconfig}: user {self.entry.user_name!r} of {self.entry.path} uses an auth-provider, "
                "which needs the Python package kubernetes."
            ) from None
        configuration = Configuration()
        try:
            KubeConfigLoader(
                self.entry.raw, active_context=self.entry.context, config_base_path=os.path.dirname(self.entry.path)
            ).load_and_set(configuration)
        except Exception as error:  # its loaders raise what their providers raise
            raise AccessError(
                f"{self.names.kubeconfig}: the auth-provider of user {self.entry.user_name!r} failed ({error})."
            ) from None
        token = configuration.get_api_key_with_prefix("authorization")
        if token:
            self.headers["Authorization"] = str(token)

    # -- requests ------------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout_seconds: float | None = None,
    ) -> Response:
        """Send one request; an answer of 400 or more is an ApiError, no answer an AccessError."""
        url = self.entry.server + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = dict(self.headers)
        data: bytes | None = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body).encode()
        options: dict[str, Any] = {}
        if timeout_seconds is not None:
            options["timeout"] = urllib3.Timeout(connect=self.timeout_seconds, read=timeout_seconds)
        try:
            answer = self._pool.request(method, url, body=data, headers=headers, redirect=False, **options)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise AccessError(self._explain(error)) from None
        self._date = (answer.headers.get("Date") or "", time.monotonic())
        response = Response(answer.status, answer.data, _warnings(answer.headers.getlist("Warning")))
        if answer.status >= 400:
            raise self._api_error(response)
        return response

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """An object, or None where there is none."""
        try:
            return self.call("GET", path, query=query).json()
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _api_error(self, response: Response) -> Exception:
        try:
            status = response.json()
        except ValueError:
            status = {}
        message = str(status.get("message") or response.body[:300].decode("utf-8", "replace"))
        if response.status == 401:
            return AccessError(self._explain_unauthorized())
        return ApiError(response.status, str(status.get("reason", "")), message, status.get("details"))

    def _explain_unauthorized(self) -> str:
        expired = certificate_expiry(self._client_certificate)
        who = f"user {self.entry.user_name!r} in {self.entry.path}"
        if expired and expired < datetime.datetime.now(datetime.UTC):
            return (
                f"{self.names.kubeconfig}: the client certificate of {who} expired on {expired:%Y-%m-%d %H:%M} UTC. "
                "Get a new kubeconfig from the cluster (with kubeadm: kubeadm certs renew admin.conf)."
            )
        return (
            f"{self.names.kubeconfig}: the API server at {self.entry.server} does not accept the credentials of {who} "
            "(401 Unauthorized). Get a new kubeconfig, or log in again."
        )

    def _explain(self, error: BaseException) -> str:
        text = str(error)
        server = self.entry.server
        start = f"The API server of context {self.entry.context!r} at {server}"
        if "certificate has expired" in text:
            return f"{start} shows a certificate that has expired. Renew it (with kubeadm: kubeadm certs renew all)."
        if "alert certificate expired" in text or "ALERT_CERTIFICATE_EXPIRED" in text:
            return self._explain_unauthorized()
        if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
            match = re.search(r"certificate verify failed: ([^(]+?)\s*\(", text)
            reason = match.group(1) if match else "unknown authority"
            return (
                f"{start} shows a certificate that {self.entry.path} does not trust ({reason}). "
                f"{self.names.kubeconfig} may belong to another or an older cluster."
            )
        if isinstance(error, (urllib3.exceptions.NameResolutionError, socket.gaierror)) or "resolve" in text:
            host = urllib.parse.urlsplit(server).hostname
            return f"{start} can't be reached: the name {host!r} does not resolve. See {self.names.kubeconfig}."
        if is_timeout(error):
            return (
                f"{start} did not answer within {self.timeout_seconds:g} s. Is the cluster up, and is the way to it "
                f"open? It was named by {self.names.kubeconfig} and {self.names.context}."
            )
        reason = "connection refused" if "refused" in text else _last_words(text)
        return (
            f"{start} can't be reached: {reason}. Is the cluster up? "
            f"It was named by {self.names.kubeconfig} and {self.names.context}."
        )

    def server_time(self) -> datetime.datetime:
        """The API server's clock, by its latest answer: all who ask it agree, whatever their own clocks say."""
        header, at = self._date
        parsed = email.utils.parsedate_to_datetime(header) if header else datetime.datetime.now(datetime.UTC)
        return parsed + datetime.timedelta(seconds=time.monotonic() - at if header else 0)

    # -- questions -----------------------------------------------------------------------------------------------

    def version(self) -> str:
        """The API server's version, such as v1.37.2."""
        return str(self.call("GET", "/version").json().get("gitVersion", "unknown"))

    def groups(self) -> set[str]:
        """The API groups that the cluster serves."""
        return {str(group.get("name")) for group in self.call("GET", "/apis").json().get("groups") or []}

    def may(self, permission: Permission) -> bool:
        """Ask whether this user may do one thing."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": permission.attributes()},
        }
        answer = self.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review).json()
        return bool((answer.get("status") or {}).get("allowed"))

    def missing(self, permissions: Iterable[Permission]) -> list[Permission]:
        """Those of the permissions that this user lacks; an administrator costs one question."""
        wanted = list(dict.fromkeys(permissions))
        if not wanted or self.may(Permission("*", "*", "*")):
            return []
        return [item for item, allowed in zip(wanted, in_parallel(self.may, wanted), strict=True) if not allowed]

    def require(self, permissions: Iterable[Permission]) -> None:
        """Stop with one sentence that lists every missing permission."""
        lacking = self.missing(permissions)
        if lacking:
            raise AccessError(
                f"User {self.entry.user_name!r} of context {self.entry.context!r} in {self.entry.path} may not: "
                f"{describe_permissions(lacking)}. Bind it to a role that allows this, for example the ClusterRole "
                "admin in that namespace, and cluster-admin where namespaces are made."
            )


@dataclass(frozen=True)
class Access:
    """What the preflight learned."""

    version: str
    network_policy_engine: str | None


def connect(
    kubeconfig: str,
    context: str,
    names: Names | None = None,
    timeout_seconds: float = 5.0,
) -> Cluster:
    """Read the kubeconfig and make a client; nothing is sent yet."""
    names = names or Names()
    return Cluster(read_kubeconfig(kubeconfig, context, names), names, timeout_seconds)


def preflight(cluster: Cluster, permissions: Iterable[Permission] = ()) -> Access:
    """Learn the version and the policy engine, and stop where the run could not be finished."""
    version = cluster.version()  # alone and first: where nothing answers, one request waits and not eight
    with ThreadPoolExecutor(max_workers=2) as pool:
        groups = pool.submit(cluster.groups)
        cluster.require(permissions)
        return Access(version=version, network_policy_engine=policy_engine(groups.result()))


def policy_engine(groups: Iterable[str]) -> str | None:
    """The engine that enforces NetworkPolicy objects, as far as its API groups give it away."""
    present = set(groups)
    return next((name for group, name in NETWORK_POLICY_ENGINES.items() if group in present), None)


def describe_permissions(permissions: Sequence[Permission]) -> str:
    """Group by namespace and target: `create, patch deployments.apps in namespace appgate`."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for item in permissions:
        verbs.setdefault((item.namespace, item.target()), []).append(item.verb)
    by_namespace: dict[str, list[str]] = {}
    for (namespace, target), found in verbs.items():
        by_namespace.setdefault(namespace, []).append(f"{'/'.join(found)} {target}")
    return "; ".join(
        ", ".join(parts) + (f" in namespace {namespace}" if namespace else " in the cluster")
        for namespace, parts in by_namespace.items()
    )


def certificate_expiry(certificate: bytes | None) -> datetime.datetime | None:
    """The end of a certificate's life, where it can be read."""
    if not certificate:
        return None
    try:
        from cryptography import x509
    except ImportError:
        return None
    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        return None


def in_parallel(function: Any, items: Sequence[Any]) -> list[Any]:
    """Call a function for every item, a few at a time, results in order."""
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(PARALLEL_REQUESTS, len(items))) as pool:
        return list(pool.map(function, items))


def is_timeout(error: BaseException) -> bool:
    """Whether nobody answered. For urllib3, a connection that was refused is a kind of timeout as well."""
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "timed out" in str(error)
    return isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError))


def _warnings(headers: Iterable[str]) -> tuple[str, ...]:
    """The text of `Warning: 299 - "text"` headers."""
    found = (re.match(r'^\d{3} \S+ "(.*)"\s*$', header) for header in headers)
    return tuple(match.group(1).replace('\\"', '"') for match in found if match)


def _last_words(text: str) -> str:
    """The part of a nested client error that a person understands."""
    return re.sub(r"^.*(?:>: |object at 0x[0-9a-f]+>,? ?)", "", text).strip().rstrip(".") or "no reason given"
