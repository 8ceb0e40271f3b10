# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The Flask application: the page, the probes and the metrics."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

from appgate import metrics, multiproc
from appgate.config import Settings
from appgate.middleware import ROUTE_KEY, Observe

PAGE = "<h1 style='color:blue'>Hello! This is Appgate world!</h1>"


def create_app(settings: Settings) -> Flask:
    """Build the application; nothing is read from outside but the settings."""
    app = Flask("appgate", static_folder=None)

    @app.before_request
    def _name_route() -> None:
        # The rule, never the path: a path is chosen by the client, a rule by this file.
        if request.url_rule is not None:
            request.environ[ROUTE_KEY] = request.url_rule.rule

    @app.get("/")
    def hello() -> str:
        return PAGE

    @app.get("/healthz")
    def healthz() -> Response:
        """Alive: this process answers. Nothing else is asked, or a slow disk would kill pods."""
        return Response("ok\n", mimetype="text/plain")

    @app.get("/readyz")
    def readyz() -> Response:
        """Ready: everything that a request needs is there."""
        directory = os.environ.get(multiproc.VARIABLE)
        if directory is not None and not os.access(Path(directory), os.W_OK | os.X_OK):
            return Response(f"not ready: {directory} is not writable\n", status=503, mimetype="text/plain")
        return Response("ok\n", mimetype="text/plain")

    @app.get("/metrics")
    def metrics_page() -> Response:
        body, content_type = metrics.exposition()
        return Response(body, content_type=content_type)

    hops = settings.trusted_proxy_hops
    if hops:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops
        )
    app.wsgi_app = Observe(app.wsgi_app, settings)  # type: ignore[method-assign]
    return app
