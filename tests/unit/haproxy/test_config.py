"""Rendering, and each kind of bad input, without Ansible and without a process."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_config import explain, quote, render, to_text
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_input import (
    acls_of_condition,
    check,
    split_words,
)
from ansible_collections.appgate.platform.plugins.module_utils.role_types import Problem, show_path

from .support import HERE, directives, equivalent, minimal, specs, words

SPECS = specs()


def problems(values: dict[str, Any]) -> dict[str, Problem]:
    return {show_path(problem.path): problem for problem in check(values, SPECS)[1]}


def text(values: dict[str, Any]) -> str:
    checked, found = check(values, SPECS)
    assert not found
    return to_text(render(checked))


def seed() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((HERE / "seed_vars.yml").read_text())
    return data


def test_the_seeds_configuration_comes_out_directive_by_directive() -> None:
    written = (HERE / "seed.cfg").read_text()
    rendered = text(seed())
    assert directives(rendered) == directives(written)
    assert equivalent(rendered, written)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("timeout client 150s", "timeout client 15s"),
        ("option httpclose", "option http-server-close"),
        ("check verify none", "check"),
        ("   acl is_app path_beg -i /\n", ""),
        ("bind *:80", "bind *:80\n   bind *:81"),
    ],
)
def test_the_comparison_sees_a_difference(old: str, new: str) -> None:
    written = (HERE / "seed.cfg").read_text()
    assert old in written
    assert not equivalent(text(seed()), written.replace(old, new))


def test_the_comparison_sees_the_order_of_rules_but_not_of_options() -> None:
    base = "frontend a\n option x\n option y\n http-request deny if a\n http-request allow if b\n"
    assert equivalent(
        base, base.replace("option x", "option z").replace("option y", "option x").replace("option z", "option y")
    )
    swapped = "frontend a\n option x\n option y\n http-request allow if b\n http-request deny if a\n"
    assert not equivalent(base, swapped)


def test_every_kind_of_directive() -> None:
    values = minimal(
        haproxy_global={
            "threads": 2,
            "stats_sockets": [{"path": "/run/h.sock", "mode": "660", "level": "admin", "expose_fd_listeners": True}],
            "tls_min_version": "TLSv1.2",
            "tune": {"bufsize": 32768},
            "extra": "# a comment\nset-dumpable",
        },
        haproxy_extra="resolvers dns\n  nameserver one 127.0.0.1:53\n",
    )
    values["haproxy_frontends"] = [
        {
            "name": "web",
            "binds": [
                {
                    "address": "::1",
                    "port": 8443,
                    "accept_proxy": True,
                    "tls": {"certificates": ["/etc/a b.pem"], "alpn": ["h2", "http/1.1"]},
                },
                {"socket": "/run/web.sock", "mode": "660", "user": "www-data", "params": "name local"},
            ],
            "maxconn": 100,
            "log_format": '%ci said "it\'s" $HOME',
            "options": ["httplog", "no dontlognull"],
            "monitor_uri": "/up",
            "monitor_fail_if": ["{ stopping }"],
            "acls": [{"name": "api", "test": "path_beg /api"}],
            "rate_limit": {"requests": 5},
            "http_request": [{"action": "redirect scheme https", "unless": "{ ssl_fc } or api"}],
            "request_headers": [
                {"name": "X-A", "value": "two words", "if": "api"},
                {"name": "X-B", "operation": "delete"},
            ],
            "response_headers": [{"name": "X-C", "value": "c", "operation": "add"}],
            "prometheus_path": "/metrics",
            "stats": {"uri": "/stats", "refresh": "5s", "hide_version": True, "admin_if": "api"},
            "use_backends": [{"backend": "app", "if": "api"}],
            "default_backend": "app",
            "extra": "compression algo gzip\n",
        }
    ]
    values["haproxy_backends"] = [
        {
            "name": "app",
            "balance": "leastconn",
            "cookie": "SRV insert indirect nocache",
            "http_reuse": "safe",
            "stick_table": {"type": "ip", "size": "10k", "expire": "30s", "store": ["conn_cur", "http_req_rate(10s)"]},
            "stick": ["on src"],
            "http_check": {"uri": "/readyz", "host": "localhost", "expect": "status 200"},
            "default_server": {"check": True, "check_interval": "1s"},
            "servers": [
                {"name": "a", "socket": "/run/a.sock", "maxconn": 8, "cookie": "a"},
                {
                    "name": "b",
                    "address": "fe80::1",
                    "port": 1,
                    "tls": True,
                    "tls_verify": "required",
                    "tls_ca_file": "/ca",
                },
                {
                    "name": "c",
                    "address": "c",
                    "port": 2,
                    "check": False,
                    "backup": True,
                    "send_proxy": "v2",
                    "weight": 0,
                },
            ],
        }
    ]
    sections = directives(text(values))
    assert ("stats", "socket", "/run/h.sock", "mode", "660", "level", "admin", "expose-fd", "listeners") in sections[
        "global"
    ]
    assert ("tune.bufsize", "32768") in sections["global"]
    assert ("set-dumpable",) in sections["global"]
    assert sections["frontend web"] == [
        (
            *words("bind [::1]:8443 accept-proxy ssl crt"),
            "/etc/a b.pem",
            *words("ssl-min-ver TLSv1.2 alpn h2,http/1.1"),
        ),
        words("bind unix@/run/web.sock mode 660 user www-data name local"),
        ("log-format", '%ci said "it\'s" $HOME'),
        ("option", "httplog"),
        ("no", "option", "dontlognull"),
        ("maxconn", "100"),
        ("monitor-uri", "/up"),
        ("acl", "api", "path_beg", "/api"),
        words("monitor fail if { stopping }"),
        words("stick-table type ipv6 size 100k expire 10s store http_req_rate(10s)"),
        ("http-request", "track-sc0", "src"),
        words("http-request deny deny_status 429 if { sc_http_req_rate(0) gt 5 }"),
        words("http-request redirect scheme https unless { ssl_fc } or api"),
        ("http-request", "set-header", "X-A", "two words", "if", "api"),
        ("http-request", "del-header", "X-B"),
        words("http-request use-service prometheus-exporter if { path /metrics }"),
        ("http-after-response", "add-header", "X-C", "c"),
        ("stats", "enable"),
        ("stats", "uri", "/stats"),
        ("stats", "refresh", "5s"),
        ("stats", "hide-version"),
        ("stats", "admin", "if", "api"),
        ("compression", "algo", "gzip"),
        ("use_backend", "app", "if", "api"),
        ("default_backend", "app"),
    ]
    backend = sections["backend app"]
    assert words("stick-table type ip size 10k expire 30s store conn_cur,http_req_rate(10s)") in backend
    assert words("http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost") in backend
    assert ("default-server", "check", "inter", "1s") in backend
    assert ("server", "a", "unix@/run/a.sock", "maxconn", "8", "cookie", "a") in backend
    assert words("server b [fe80::1]:1 ssl verify required ca-file /ca") in backend
    assert words("server c c:2 no-check weight 0 send-proxy-v2 backup") in backend


@pytest.mark.parametrize("value", ["plain", "two words", 'a "b"', "it's", 'it\'s "$HOME" \\n', "#", ""])
def test_quote_is_undone_by_splitting(value: str) -> None:
    assert split_words(f"x {quote(value)} y") == ["x", value, "y"]


def test_acls_of_a_condition() -> None:
    assert acls_of_condition("a !b { path /c } || !{ hdr(x) d } or e") == ["a", "b", "e"]


def frontend(**keys: Any) -> dict[str, Any]:
    return {"haproxy_frontends": [{"name": "http", "binds": [{"port": 8080}], "default_backend": "app", **keys}]}


def server(**keys: Any) -> dict[str, Any]:
    one = {"name": "one", "address": "127.0.0.1", "port": 9000, **keys}
    return {"haproxy_backends": [{"name": "app", "servers": [{k: v for k, v in one.items() if v != "DROP"}]}]}


BAD = [
    # what changes, where it is found, what is said
    ({"haproxy_maxconn": "many"}, "haproxy_maxconn", "a whole number, not a text"),
    ({"haproxy_maxconn": True}, "haproxy_maxconn", "a whole number, not a boolean"),
    ({"haproxy_maxconn": 0}, "haproxy_maxconn", "out of range"),
    ({"haproxy_http_port": 70000}, "haproxy_http_port", "is no port"),
    ({"haproxy_http_port": 0}, "haproxy_http_port", "is no port"),
    ({"haproxy_timeout_client": 150}, "haproxy_timeout_client", "without a unit"),
    ({"haproxy_timeout_client": "-5s"}, "haproxy_timeout_client", "negative"),
    ({"haproxy_timeout_client": -5}, "haproxy_timeout_client", "negative"),
    ({"haproxy_timeout_client": "soon"}, "haproxy_timeout_client", "no time"),
    ({"haproxy_timeout_client": "0s"}, "haproxy_timeout_client", "no time at all"),
    ({"haproxy_timeout_client": "99d"}, "haproxy_timeout_client", "longer than HAProxy can count"),
    ({"haproxy_app_socket": "gunicorn.sock"}, "haproxy_app_socket", "absolute"),
    ({"haproxy_state": "presnt"}, "haproxy_state", "one of present, absent"),
    ({"haproxy_rate_limit": {"period": "1s"}}, "haproxy_rate_limit.requests", "missing"),
    ({"haproxy_defaults": {"timeouts": {"server": "10"}}}, "haproxy_defaults.timeouts.server", "without a unit"),
    ({"haproxy_defaults": {"timeouts": {"serve": "10s"}}}, "haproxy_defaults.timeouts.serve", "no option"),
    ({"haproxy_defaults": ["mode http"]}, "haproxy_defaults", "a mapping, not a list"),
    ({"haproxy_frontends": []}, "haproxy_frontends", "is empty"),
    ({"haproxy_frontends": {"name": "http"}}, "haproxy_frontends", "a list, not a mapping"),
    ({"haproxy_frontends": ["http"]}, "haproxy_frontends[0]", "a mapping, not a text"),
    (frontend(bind=[]), "haproxy_frontends[0].bind", "no option"),
    (frontend(binds=[]), "haproxy_frontends[0].binds", "serve nobody"),
    (frontend(binds=[{"port": "http"}]), "haproxy_frontends[0].binds[0].port", "a whole number"),
    (frontend(binds=[{"port": 65536}]), "haproxy_frontends[0].binds[0].port", "is no port"),
    (frontend(binds=[{"address": "::1"}]), "haproxy_frontends[0].binds[0]", "exactly one of port and socket"),
    (frontend(binds=[{"port": 1, "mode": "660"}]), "haproxy_frontends[0].binds[0].mode", "belongs to a unix socket"),
    (frontend(binds=[{"port": 1}, {"port": 1}]), "haproxy_frontends[0].binds[1].port", "taken by {other}"),
    (
        frontend(binds=[{"port": 1}, {"address": "127.0.0.1", "port": 1}]),
        "haproxy_frontends[0].binds[1].port",
        "taken by {other}",
    ),
    (frontend(binds=[{"socket": "/a"}, {"socket": "/a"}]), "haproxy_frontends[0].binds[1].socket", "taken by"),
    (frontend(default_backend="ap"), "haproxy_frontends[0].default_backend", "nobody defines"),
    (
        frontend(use_backends=[{"backend": "other", "if": "TRUE"}]),
        "haproxy_frontends[0].use_backends[0].backend",
        "nobody defines",
    ),
    (frontend(use_backends=[{"backend": "app"}]), "haproxy_frontends[0].use_backends[0]", "no condition"),
    (
        frontend(http_request=[{"action": "deny", "if": "is_bad"}]),
        "haproxy_frontends[0].http_request[0].if",
        "ACL is_bad, which nobody defines",
    ),
    (
        frontend(http_request=[{"action": "deny", "if": "if TRUE"}]),
        "haproxy_frontends[0].http_request[0].if",
        "starts with the word",
    ),
    (
        frontend(http_request=[{"action": "deny", "if": "TRUE", "unless": "FALSE"}]),
        "haproxy_frontends[0].http_request[0]",
        "both if and unless",
    ),
    (frontend(http_request=["deny"]), "haproxy_frontends[0].http_request[0]", "a mapping, not a text"),
    (frontend(monitor_fail_if=["gone"]), "haproxy_frontends[0].monitor_fail_if[0]", "ACL gone"),
    (frontend(monitor_uri="/a\n/b"), "haproxy_frontends[0].monitor_uri", "one line"),
    (frontend(name="a b"), "haproxy_frontends[0].name", "no frontend name"),
    (
        frontend(request_headers=[{"name": "X A", "value": "b"}]),
        "haproxy_frontends[0].request_headers[0].name",
        "header",
    ),
    (frontend(request_headers=[{"name": "X-A"}]), "haproxy_frontends[0].request_headers[0].value", "missing"),
    (
        frontend(stick_table={"type": "ip", "size": "big"}),
        "haproxy_frontends[0].stick_table.size",
        "no size",
    ),
    (
        frontend(stick_table={"type": "ip", "size": "1k"}, rate_limit={"requests": 1}),
        "haproxy_frontends[0].rate_limit",
        "needs the stick table",
    ),
    (frontend(binds=[{"port": 1, "tls": {}}]), "haproxy_frontends[0].binds[0].tls.certificates", "missing"),
    (server(port="DROP"), "haproxy_backends[0].servers[0].port", "missing"),
    (server(port=-1), "haproxy_backends[0].servers[0].port", "is no port"),
    (server(socket="/a"), "haproxy_backends[0].servers[0]", "exactly one of address and socket"),
    (server(adress="x"), "haproxy_backends[0].servers[0].adress", "no option"),
    (server(check="maybe"), "haproxy_backends[0].servers[0].check", "true or false"),
    (server(check_interval=2), "haproxy_backends[0].servers[0].check_interval", "without a unit"),
    (server(weight=300), "haproxy_backends[0].servers[0].weight", "out of range"),
    ({"haproxy_backends": [{"name": "app"}, {"name": "app"}]}, "haproxy_backends[1].name", "two backends"),
    (
        {
            "haproxy_backends": [
                {"name": "app", "servers": [{"name": "a", "socket": "/a"}, {"name": "a", "socket": "/b"}]}
            ]
        },
        "haproxy_backends[0].servers[1].name",
        "two servers",
    ),
]


@pytest.mark.parametrize(("changes", "place", "said"), BAD)
def test_bad_input(changes: dict[str, Any], place: str, said: str) -> None:
    found = problems(minimal(**copy.deepcopy(changes)))
    assert list(found) == [place], found
    assert said in found[place].reason
    assert found[place].remedy.rstrip().endswith((".", "?"))


def test_two_frontends_of_one_name() -> None:
    values = minimal()
    values["haproxy_frontends"].append({**values["haproxy_frontends"][0], "binds": [{"port": 8081}]})
    found = problems(values)
    assert list(found) == ["haproxy_frontends[1].name"]
    assert found["haproxy_frontends[1].name"].other == ("haproxy_frontends", 0)


def test_a_close_match_is_named() -> None:
    found = problems(minimal(**frontend(default_backend="ap", maxcon=1)))
    assert found["haproxy_frontends[0].default_backend"].remedy.endswith("Did you mean app?")
    assert found["haproxy_frontends[0].maxcon"].remedy.endswith("Did you mean maxconn?")


def test_all_problems_come_at_once() -> None:
    values = minimal(haproxy_http_port=0, haproxy_maxconn="x", **server(port=0), **frontend(default_backend="x"))
    assert set(problems(values)) == {
        "haproxy_http_port",
        "haproxy_maxconn",
        "haproxy_backends[0].servers[0].port",
        "haproxy_frontends[0].default_backend",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"haproxy_rate_limit": {}},
        {"haproxy_maxconn": "100"},
        frontend(rate_limit={}),
        frontend(binds=[{"address": "127.0.0.1", "port": 1}, {"address": "127.0.0.2", "port": 1}]),
        frontend(default_backend="raw") | {"haproxy_extra": "backend raw\n"},
        frontend(use_backends=[{"backend": "%[req.hdr(host)]", "if": "TRUE"}]),
        frontend(extra="acl late path /\n", http_request=[{"action": "deny", "if": "late METH_GET"}]),
        {"haproxy_frontends": [], "haproxy_extra": "listen all\n  bind :1\n"},
        {"haproxy_global": None},
    ],
)
def test_unusual_but_right(changes: dict[str, Any]) -> None:
    assert not problems(minimal(**changes))


def test_a_message_of_haproxy_is_traced_to_the_line_of_a_person() -> None:
    values = minimal(**frontend(extra="http-request deny if TRUE\n\nhttp-request denyy\n"))
    lines = render(check(values, SPECS)[0])
    number = next(index for index, line in enumerate(lines, start=1) if "denyy" in line.text)
    many = ", ".join(f"'w{index}'" for index in range(30))
    for position in (
        f"parsing [/tmp/x/haproxy.cfg:{number}]",
        f"parsing [/dev/stdin:{number}]",
        f"[/tmp/x.cfg:{number}]",
    ):
        output = (
            f"[NOTICE]   (1) : haproxy version is 2.6\n"
            f"[ALERT]    (1) : config : {position} : 'http-request' expects {many}, but got 'denyy'.\n"
            "[ALERT]    (1) : config : Error(s) found in configuration file : /tmp/x/haproxy.cfg\n"
            "[ALERT]    (1) : config : Fatal errors found in configuration.\n"
        )
        (finding,) = explain(output, lines)
        assert finding.line is not None
        assert show_path(finding.line.path) == "haproxy_frontends[0].extra"
        assert finding.line.extra_line == 3
        assert finding.message == "'http-request' expects ... but got 'denyy'."


def test_a_message_without_a_line_is_traced_by_the_name_of_its_section() -> None:
    lines = render(check(minimal(), SPECS)[0])
    (finding,) = explain("[WARNING]  (1) : config : missing timeouts for backend 'app'.\n", lines)
    assert finding.line is not None
    assert finding.line.path == ("haproxy_backends", 0)


def test_each_line_knows_where_it_comes_from() -> None:
    lines = render(check(minimal(), SPECS)[0])
    places = {line.text.strip(): show_path(line.path) for line in lines}
    assert places["timeout client 5s"] == "haproxy_defaults.timeouts.client"
    assert places["bind *:8080"] == "haproxy_frontends[0].binds[0]"
    assert places["server one 127.0.0.1:9000"] == "haproxy_backends[0].servers[0]"
