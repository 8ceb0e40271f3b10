# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The WSGI entry point: ``gunicorn -c gunicorn.conf.py appgate.wsgi:app``."""

from __future__ import annotations

import os

from appgate.application import create_app
from appgate.config import Settings

app = create_app(Settings.from_environ(os.environ))
