# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A real API server without a node: etcd, kube-apiserver and kube-controller-manager on 127.0.0.1.

It answers every question that a role asks the API (validation, server-side apply, access reviews, admission), starts in
a few seconds and needs no root. Pods are made by the controllers but never run: a test plays the kubelet.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests import parts
from tests.machine import free_port

#: What an authority's key is for. Python 3.13 and newer refuse one that does not say so, or has no key identifier.
SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)

#: Program: the part that it belongs to.
PROGRAMS = {"etcd": "etcd", "kube-apiserver": "kubernetes", "kube-controller-manager": "kubernetes"}
START_SECONDS = 60


def find_programs(*, build: bool) -> dict[str, Path] | None:
    """The three programs of the pinned parts; None where one would have to be built and is not to be."""
    if not build and not all(parts.is_cached(part) for part in set(PROGRAMS.values())):
        return None
    return {name: Path(parts.program(part, name)) for name, part in PROGRAMS.items()}


@dataclass
class Authority:
    """A certificate authority that signs client and server certificates."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(init=False)
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=30))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(SIGNS_CERTIFICATES, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def path(self) -> Path:
        return self.folder / "ca.crt"

    def issue(
        self, name: str, *, groups: tuple[str, ...] = (), days: float = 7, server: bool = False
    ) -> tuple[Path, Path]:
        """A certificate and its key, as files; a negative number of days is one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        subject += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=20))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if server:
            names: list[x509.GeneralName] = [
                x509.DNSName("localhost"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate, private = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        signed = builder.sign(self.key, hashes.SHA256())
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, private


class ControlPlane:
    """Start it, use `kubeconfig`, stop it."""

    context = "testing"

    def __init__(self, folder: Path, programs: dict[str, Path]) -> None:
        self.folder = folder
        self.programs = programs
        self.processes: list[subprocess.Popen[bytes]] = []
        self.port = free_port()
        self.server = f"https://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(folder)
        self.kubeconfig = self.write_kubeconfig("admin", groups=("system:masters",))

    def write_kubeconfig(
        self, user: str, *, groups: tuple[str, ...] = (), days: float = 7, server: str | None = None
    ) -> Path:
        """A kubeconfig for a user, with one context that is not its current context."""
        certificate, key = self.authority.issue(user, groups=groups, days=days)
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "testing",
                    "cluster": {"server": server or self.server, "certificate-authority": str(self.authority.path)},
                }
            ],
            "users": [{"name": user, "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
            "contexts": [{"name": self.context, "context": {"cluster": "testing", "user": user}}],
        }
        path = self.folder / f"{user}.kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def _spawn(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen([str(self.programs[name]), *arguments], stdout=log, stderr=log, cwd=self.folder)
            )

    def start(self) -> None:
        """Return when the API server and its built-in roles are ready."""
        etcd, peer = free_port(), free_port()
        service_key = self.folder / "sa.key"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        service_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        certificate, private = self.authority.issue("apiserver", server=True)
        self._spawn(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={private}",
            f"--client-ca-file={self.authority.path}",
            f"--service-account-key-file={service_key}",
            f"--service-account-signing-key-file={service_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.97.0.0/24",
            "--endpoint-reconciler-type=none",
        )
        self._await_ready()
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={self.manager_kubeconfig()}",
            f"--service-account-private-key-file={service_key}",
            "--use-service-account-credentials=false",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
        )

    def manager_kubeconfig(self) -> Path:
        """The controllers' own file, which must have a current context."""
        config = yaml.safe_load(self.kubeconfig.read_text(encoding="utf-8"))
        config["current-context"] = self.context
        path = self.folder / "manager.kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def _await_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self.authority.path))
        context.load_cert_chain(self.folder / "admin.crt", self.folder / "admin.key")
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.server}/readyz", context=context, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                died = [process for process in self.processes if process.poll() is not None]
                if died or time.monotonic() > end:
                    log = (self.folder / "kube-apiserver.log").read_text(errors="replace")[-2000:]
                    self.stop()
                    raise RuntimeError(f"the API server did not get ready:\n{log}") from None
                time.sleep(0.1)

    def stop(self) -> None:
        """End the processes one after the other, the last started first: each still needs those before it."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
