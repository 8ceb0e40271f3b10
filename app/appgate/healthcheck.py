# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Is the whole container well? Exits with 0 if HAProxy and the application both answer.

HAProxy is asked at its monitor address and the application at its own socket: neither logs that.
The image has no curl. Only small modules are imported: this runs every few seconds.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT_SECONDS = 2.0


def ask(address: str, path: str) -> int:
    """The status of GET path at host:port or unix:/path; 0 when there is no answer."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        if address.startswith("unix:"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS)
        with connection:
            connection.sendall(request.encode())
            answer = connection.recv(64)
    except OSError:
        return 0
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def main() -> int:
    """``healthcheck.py [operations port of HAProxy]``"""
    port = sys.argv[1] if len(sys.argv) > 1 else "8404"
    bind = os.environ.get("APPGATE_BIND", "unix:/run/appgate/gunicorn.sock")
    ill = 0
    for name, address, path in (
        ("haproxy", f"127.0.0.1:{port}", "/healthz"),
        ("gunicorn", bind, "/readyz"),
    ):
        status = ask(address, path)
        if status != 200:
            ill = 1
            print(f"{name}: GET {path} at {address}: {status or 'no answer'}", file=sys.stderr)
    return ill


if __name__ == "__main__":
    sys.exit(main())
