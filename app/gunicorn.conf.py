# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""How gunicorn runs the app. Everything that may differ comes from APPGATE_ variables.

Names in this file without an underscore are gunicorn settings or hooks.
"""

from __future__ import annotations

import os as _os
import signal as _signal
import sys as _sys
from pathlib import Path as _Path
from typing import TYPE_CHECKING

# The package lies beside this file, wherever that is: the image, a checkout.
_sys.path.insert(0, str(_Path(__file__).resolve().parent))

from appgate import logs as _logs
from appgate import multiproc as _multiproc
from appgate.config import EXIT_CONFIG as _EXIT_CONFIG
from appgate.config import ConfigError as _ConfigError
from appgate.config import Settings as _Settings

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter as _Arbiter
    from gunicorn.workers.base import Worker as _Worker

try:
    _settings = _Settings.from_environ(_os.environ)
    _os.environ.setdefault(_multiproc.VARIABLE, _multiproc.DEFAULT_DIRECTORY)
    _multiproc.prepare(_Path(_os.environ[_multiproc.VARIABLE]))
except (_ConfigError, _multiproc.DirectoryError) as _error:
    print(f"appgate does not start:\n{_error}", file=_sys.stderr)
    raise SystemExit(_EXIT_CONFIG) from None

bind = _settings.bind
# HAProxy runs in a container of its own with the same group.
umask = 0o007
backlog = _settings.backlog

# Measured with this app: two processes of four threads beat 32 threads and sync workers.
worker_class = "gthread"
workers = _settings.workers
threads = _settings.threads

# The app is loaded once: a mistake in it stops the start instead of a loop of dying workers, the
# memory is shared, and a worker that died is replaced in milliseconds.
preload_app = True

timeout = _settings.timeout_seconds
graceful_timeout = _settings.graceful_timeout_seconds
keepalive = _settings.keepalive_seconds
max_requests = _settings.max_requests
# All workers would reach the number at the same time.
max_requests_jitter = _settings.max_requests // 10

# The heartbeat is a file: on a disk, a slow write looks like a hung worker.
worker_tmp_dir = "/dev/shm" if _os.access("/dev/shm", _os.W_OK) else None

# It wants a directory to write to, and nobody talks to it in a container.
control_socket_disable = True

# The C parser (gunicorn-h1c) where it is installed, else the one in Python.
http_parser = "auto"

# A peer on a unix socket is trusted by gunicorn; the app itself counts the proxies (ProxyFix).
# Headers with an underscore could pose as ones that HAProxy has set.
header_map = "drop"

accesslog = None
logconfig_dict = _logs.dict_config(_settings.log_level)


def pre_fork(server: _Arbiter, worker: _Worker) -> None:
    """Choose the metric files that the new worker writes to."""
    _multiproc.SLOTS.acquire(worker.age)


def post_fork(server: _Arbiter, worker: _Worker) -> None:
    """Take over the slot."""
    for number in (_signal.SIGTERM, _signal.SIGQUIT, _signal.SIGINT):
        # Until the worker has handlers of its own, the arbiter's would swallow a stop, and the
        # whole server would wait for this worker until its time is over. It has no request yet.
        _signal.signal(number, _signal.SIG_DFL)
    _multiproc.release()
    _multiproc.take(_multiproc.SLOTS.held_by(worker.age))


def post_worker_init(worker: _Worker) -> None:
    """Announce the worker: it is able to work now."""
    from appgate import metrics

    metrics.worker_started(_settings.threads, _os.environ.get("IMAGE_REVISION", "unknown"))


def child_exit(server: _Arbiter, worker: _Worker) -> None:
    """Forget the requests in flight of a worker that is gone; keep its counters."""
    from appgate import metrics

    slot = _multiproc.SLOTS.give_back(worker.age)
    if slot is not None:
        metrics.worker_died(slot)
