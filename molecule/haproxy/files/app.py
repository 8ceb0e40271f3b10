"""A stand-in for the application: `app.py unix PATH` or `app.py tcp PORT`."""

import http.server
import os
import socketserver
import sys
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"stand-in"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "-"  # the peer of a unix socket has no address

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


kind, place = sys.argv[1:]
if kind == "unix":
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    server: socketserver.BaseServer = UnixServer(place, Handler)
    Path(place).chmod(0o666)
else:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(place)), Handler)
Path(f"/run/app-{kind}.pid").write_text(str(os.getpid()))
server.serve_forever()
