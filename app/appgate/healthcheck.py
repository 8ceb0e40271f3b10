# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Asks once over HTTP and exits with 0 for a 200: the image has no curl, and needs none.

Only ``socket`` is imported: this runs every few seconds in every container.
"""

from __future__ import annotations

import socket
import sys


def ask(port: int, path: str, timeout_seconds: float = 2.0) -> int:
    """The status of GET path on this host; 0 when there is no answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            answer = connection.recv(64)
    except OSError:
        return 0
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def main() -> int:
    """``healthcheck.py [port [path]]``"""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    path = sys.argv[2] if len(sys.argv) > 2 else "/healthz"
    status = ask(port, path)
    if status != 200:
        print(f"GET {path} on port {port}: {status or 'no answer'}", file=sys.stderr)
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
