# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Request id, access log and metrics around the whole application, its errors included."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from appgate import logs, metrics
from appgate.config import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROUTE_KEY = "appgate.route"
_UNMATCHED = "unmatched"
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_log = logging.getLogger("appgate")


class Observe:
    """WSGI middleware that sees every request from its first to its last byte."""

    def __init__(self, app: WSGIApplication, settings: Settings) -> None:
        self._app = app
        self._access_log = settings.access_log
        self._probes = settings.access_log_probes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = _Request(environ, self._done)
        logs.request_id.set(request.id)
        environ["HTTP_X_REQUEST_ID"] = request.id
        metrics.IN_FLIGHT.inc()

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            request.status = status[:3]
            headers = [h for h in headers if h[0].lower() != "x-request-id"]
            headers.append(("X-Request-ID", request.id))
            return start_response(status, headers, exc_info)

        try:
            body = self._app(environ, start)
        except BaseException:
            _log.exception("The request failed before it had an answer")
            request.status = "500"
            request.close()
            raise
        return _Body(body, request)

    def _done(self, request: _Request) -> None:
        environ = request.environ
        route = environ.get(ROUTE_KEY, _UNMATCHED)
        method = environ.get("REQUEST_METHOD", "")
        seconds = time.perf_counter() - request.began
        metrics.IN_FLIGHT.dec()
        metrics.observe(method, route, request.status, seconds)
        if self._access_log and (self._probes or route not in _PROBES or not request.status.startswith("2")):
            logs.write_access(
                {
                    "request_id": request.id,
                    "client": environ.get("REMOTE_ADDR", ""),
                    "method": method,
                    "path": environ.get("PATH_INFO", ""),
                    "route": route,
                    "status": int(request.status),
                    "bytes": request.sent,
                    "duration_ms": round(seconds * 1000, 3),
                    "user_agent": environ.get("HTTP_USER_AGENT", ""),
                }
            )
        logs.request_id.set("")


class _Request:
    """What is known of one request while it is being answered."""

    def __init__(self, environ: WSGIEnvironment, done: Callable[[_Request], None]) -> None:
        self.environ = environ
        self.began = time.perf_counter()
        self.id = logs.accept_request_id(environ.get("HTTP_X_REQUEST_ID"))
        self.status = "500"
        self.sent = 0
        self._done: Callable[[_Request], None] | None = done

    def close(self) -> None:
        """Count the request, once."""
        done, self._done = self._done, None
        if done is not None:
            done(self)


class _Body:
    """The response body: counted, and the request ends when it is closed."""

    def __init__(self, body: Iterable[bytes], request: _Request) -> None:
        self._body = body
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        for block in self._body:
            self._request.sent += len(block)
            yield block

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._request.close()
