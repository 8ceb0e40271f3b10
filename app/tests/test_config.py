# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Settings come from the environment and are refused when they are wrong."""

from __future__ import annotations

import pytest
from appgate.config import ConfigError, Settings, is_service_link


def test_defaults_are_sound() -> None:
    settings = Settings.from_environ({})
    assert settings.bind == "unix:/run/appgate/gunicorn.sock"
    assert settings.workers >= 2
    assert settings.threads == 4
    # HAProxy drops an idle connection after 5 s: gunicorn must not be the first to hang up.
    assert settings.keepalive_seconds > 5


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("APPGATE_THREADS", "four", "not a whole number"),
        ("APPGATE_THREADS", "0", "from 1 to 128"),
        ("APPGATE_THREADS", "-1", "from 1 to 128"),
        ("APPGATE_THREADS", "", "not a whole number"),
        ("APPGATE_THREADS", "4.5", "not a whole number"),
        ("APPGATE_WORKERS", "many", "'auto'"),
        ("APPGATE_WORKERS", "65", "from 1 to 64"),
        ("APPGATE_KEEPALIVE_SECONDS", "5", "from 6 to 600"),
        ("APPGATE_LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("APPGATE_ACCESS_LOG", "yes", "'true' or 'false'"),
        ("APPGATE_BIND", "gunicorn.sock", "unix:/absolute/path"),
        ("APPGATE_BIND", "unix:relative.sock", "unix:/absolute/path"),
        ("APPGATE_BIND", "0.0.0.0:99999", "host:port"),
        ("APPGATE_BIND", "unix:/" + "a" * 110, "107 bytes"),
        ("APPGATE_TRUSTED_PROXY_HOPS", "9", "from 0 to 8"),
        ("APPGATE_WORKRES", "2", "not a setting of this app"),
    ],
)
def test_wrong_setting_is_named_with_its_remedy(name: str, value: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ({name: value})
    message = str(caught.value)
    assert f"{name}={value!r}" in message
    assert remedy in message
    assert len(message.splitlines()) == 1


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ({"APPGATE_THREADS": "0", "APPGATE_TYPO": "1", "APPGATE_BIND": "x"})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APPGATE_SERVICE_SERVICE_HOST", "10.96.0.7"),
        ("APPGATE_SERVICE_SERVICE_PORT", "4000"),
        ("APPGATE_SERVICE_SERVICE_PORT_HTTP", "4000"),
        ("APPGATE_SERVICE_PORT", "tcp://10.96.0.7:4000"),
        ("APPGATE_SERVICE_PORT_4000_TCP", "tcp://10.96.0.7:4000"),
        ("APPGATE_SERVICE_PORT_4000_TCP_ADDR", "10.96.0.7"),
        ("APPGATE_SERVICE_HOST", "10.96.0.7"),
        ("APPGATE_PORT", "tcp://10.96.0.7:4000"),
    ],
)
def test_what_kubernetes_adds_for_a_service_is_no_typo(name: str, value: str) -> None:
    assert is_service_link(name, value)
    Settings.from_environ({name: value})


def test_a_port_by_a_person_is_still_a_typo() -> None:
    with pytest.raises(ConfigError, match="APPGATE_PORT='8080'"):
        Settings.from_environ({"APPGATE_PORT": "8080"})
