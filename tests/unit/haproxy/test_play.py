"""The entry points, run as a person runs them, with the HAProxy of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.appgate.platform.plugins.module_utils.haproxy_process import Haproxy

from tests.machine import free_port

from .support import HAPROXY, HERE, ROLE, equivalent

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed on this machine")
Run = Callable[..., subprocess.CompletedProcess[str]]

HEAD = """\
- hosts: all
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""


def play(variables: str, entry: str, tail: str = "") -> str:
    return f"""{HEAD}{variables}
  tasks:
    - name: Use the role
      ansible.builtin.include_role:
        name: appgate.platform.haproxy
        tasks_from: {entry}
{tail}"""


def places(variables: str) -> dict[str, int]:
    """Line of each `# here NAME` comment of a play."""
    text = play(variables, "render")
    return {
        line.split("# here ")[1]: number for number, line in enumerate(text.splitlines(), start=1) if "# here " in line
    }


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return f"""\
    haproxy_check_cache_dir: {tmp_path}/cache
    haproxy_file_path: {tmp_path}/haproxy.cfg
"""


def message(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0, done.stdout
    return " ".join((done.stdout + done.stderr).split())


def test_the_defaults_are_accepted_without_a_warning(ansible_playbook: Run, folder: str) -> None:
    tail = "    - ansible.builtin.debug: {msg: '{{ haproxy_config_text }}'}\n"
    done = ansible_playbook(play(folder, "render", tail))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "HAProxy warns" not in done.stdout + done.stderr
    assert "server gunicorn unix@/run/appgate/gunicorn.sock" in done.stdout
    assert "changed=0" in done.stdout


def test_the_seed_through_the_role(ansible_playbook: Run, folder: str, tmp_path: Path) -> None:
    done = ansible_playbook(play(folder, "file"), "-e", f"@{HERE / 'seed_vars.yml'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert equivalent((tmp_path / "haproxy.cfg").read_text(), (HERE / "seed.cfg").read_text())
    again = ansible_playbook(play(folder, "file"), "-e", f"@{HERE / 'seed_vars.yml'}")
    assert "changed=0" in again.stdout


def test_an_accepted_text_is_not_checked_again(ansible_playbook: Run, folder: str, tmp_path: Path) -> None:
    checker = tmp_path / "checker"
    checker.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\nexec {HAPROXY} -c -f /dev/stdin\n")
    checker.chmod(0o755)
    variables = f"{folder}    haproxy_check_command: [{checker}]\n"
    for arguments, runs in (([], 1), ([], 1), (["-e", "haproxy_maxconn=10"], 2), ([], 2)):
        done = ansible_playbook(play(variables, "render"), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / "runs").read_text().count("run") == runs
    # Another HAProxy in the same place has to accept it anew.
    checker.write_text(checker.read_text() + "# newer\n")
    ansible_playbook(play(variables, "render"))
    assert (tmp_path / "runs").read_text().count("run") == 3


def test_a_refused_text_is_never_remembered(ansible_playbook: Run, folder: str, tmp_path: Path) -> None:
    variables = f"{folder}    haproxy_extra: nonsense\n"
    for _ in range(2):
        assert "haproxy_extra line 1" in message(ansible_playbook(play(variables, "file")))
    assert not (tmp_path / "haproxy.cfg").exists()
    assert not list((tmp_path / "cache").glob("*"))


def test_problems_name_variable_value_place_and_remedy_all_at_once(
    ansible_playbook: Run, folder: str, tmp_path: Path
) -> None:
    variables = f"""{folder}\
    haproxy_timeout_client: 150  # here timeout
    haproxy_operations_port: "{{{{ haproxy_http_port }}}}"
    haproxy_backends:
      - name: flask
        servers:
          - name: one
            address: 127.0.0.1
            port: 99000  # here port
"""
    line = places(variables)
    said = message(ansible_playbook(play(variables, "file")))
    assert f"haproxy_timeout_client is 150, which is a time without a unit (play.yml:{line['timeout']}). Write" in said
    assert f"haproxy_backends[0].servers[0].port is 99000, which is no port (play.yml:{line['port']}). Write" in said
    assert "names a backend that nobody defines" in said
    assert "is taken by haproxy_http_port already" in said
    assert "nothing was changed" in said
    assert not (tmp_path / "haproxy.cfg").exists()


def test_the_place_in_an_inventory(ansible_playbook: Run, folder: str, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("all:\n  hosts:\n    one:\n      haproxy_maxconn: lots\n")
    said = message(ansible_playbook(play(folder, "render"), inventory=str(inventory)))
    assert 'haproxy_maxconn is "lots", which must be a whole number, not a text (inventory.yml:4)' in said


def test_an_unknown_variable(ansible_playbook: Run, folder: str) -> None:
    said = message(ansible_playbook(play(f"{folder}    haproxy_maxcon: 5\n", "render")))
    assert "haproxy_maxcon is not a variable of the role haproxy" in said
    assert "Did you mean haproxy_maxconn?" in said


def test_a_refused_raw_line_is_named_in_the_persons_variable(ansible_playbook: Run, folder: str) -> None:
    variables = f"""{folder}\
    haproxy_frontends:
      - name: http
        binds: [{{port: 8080}}]
        default_backend: flask
        extra: |
          http-request deny if TRUE

          http-request denyy if TRUE
"""
    text = play(variables, "render").splitlines()
    number = next(index for index, line in enumerate(text, start=1) if "denyy" in line)
    said = message(ansible_playbook(play(variables, "render")))
    assert f'haproxy_frontends[0].extra line 3 (play.yml:{number}): "http-request denyy if TRUE". HAProxy says:' in said
    assert "Did you mean 'deny'" in said


def test_a_raw_section_is_traced_too(ansible_playbook: Run, folder: str) -> None:
    variables = f"""{folder}\
    haproxy_extra: |
      backend raw
        server one 127.0.0.1:1 chek
"""
    assert "haproxy_extra line 2 (play.yml:" in message(ansible_playbook(play(variables, "render")))


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("haproxy_check_command: [no-such-program]", 'starts with "no-such-program", which is not installed here'),
        ("haproxy_check_command: []", "haproxy_check_command is empty"),
        ("haproxy_check_command: [sh, -c, 'echo broken; exit 3']", "failed (exit status 3) without naming a line"),
        ("haproxy_maxconn: '{{ nowhere }}'", "haproxy_maxconn cannot be worked out: 'nowhere' is undefined (play.yml:"),
        ("haproxy_file_path: ''", "Set haproxy_file_path"),
    ],
)
def test_what_else_can_be_wrong(ansible_playbook: Run, tmp_path: Path, variable: str, said: str) -> None:
    lines = {"haproxy_check_cache_dir": f"{tmp_path}/cache", "haproxy_file_path": f"{tmp_path}/haproxy.cfg"}
    lines.update(yaml.safe_load(variable))
    variables = "".join(
        f"    {name}: {yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}\n"
        for name, value in lines.items()
    )
    assert said in message(ansible_playbook(play(variables, "file")))
    assert not (tmp_path / "haproxy.cfg").exists()


def test_check_mode_shows_the_change_and_makes_none(ansible_playbook: Run, folder: str, tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    done = ansible_playbook(play(folder, "file"), "--check", "--diff")
    assert "changed=1" in done.stdout, done.stdout + done.stderr
    assert not file.exists()
    ansible_playbook(play(folder, "file"))
    done = ansible_playbook(play(folder, "file"), "--check", "--diff")
    assert "changed=0" in done.stdout
    file.write_text(file.read_text().replace("timeout client 30s", "timeout client 31s"))
    done = ansible_playbook(play(folder, "file"), "--check", "--diff")
    assert "-    timeout client 31s" in done.stdout.replace("  -  ", "-")
    assert "timeout client 31s" in file.read_text()


def test_the_host_keeps_its_file_when_haproxy_refuses_the_new_one(ansible_playbook: Run, tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"

    def write(extra: str) -> subprocess.CompletedProcess[str]:
        return ansible_playbook(
            f"""{HEAD}  vars_files: [{HERE.parents[2]}/roles/haproxy/defaults/main.yml]
  tasks:
    - appgate.platform.haproxy_config:
        check: host
        dest: {file}
        backup: true
        run_as_user: haproxy
        run_as_group: haproxy
""",
            "-e",
            yaml.safe_dump({"haproxy_extra": extra}, default_flow_style=True),
        )

    done = write("")
    assert done.returncode == 0, done.stdout + done.stderr
    first = file.read_text()
    assert "    user haproxy\n    group haproxy\n" in first
    assert "haproxy_extra line 2" in message(write("backend b\n  nonsense\n"))
    assert file.read_text() == first
    assert write("backend b\n").returncode == 0
    (backup,) = tmp_path.glob("haproxy.cfg.*")
    assert backup.read_text() == first


# --- A plain host whose runs end too early


@dataclass
class PlainHost:
    """The tasks of the entry point `main` behind the installation, on this machine, with files of their own."""

    folder: Path
    ansible_playbook: Run

    def __post_init__(self) -> None:
        self.haproxy = Haproxy(
            str(self.folder / "haproxy.cfg"), str(self.folder / "pid"), str(self.folder / "master.sock")
        )
        # Not as vars_files, which would come before the variables of the play.
        self.variables = {
            **yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()),
            "haproxy_config_path": self.haproxy.config,
            "haproxy_pid_file": self.haproxy.pid_file,
            "haproxy_master_socket": self.haproxy.master_socket,
            "haproxy_host_user": "root",
            "haproxy_host_group": "root",
            "haproxy_operations_port": free_port(),
            "haproxy_grace": "1ms",
            "haproxy_hard_stop_after": "1s",
            "__haproxy_systemd": {"stat": {"exists": False}},
        }

    def run(
        self, port: int, *arguments: str, last: dict[str, Any] | None = None, killed: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Serve on a port.

        :param last: one more task of the person at the end
        :param killed: be over when the file is written
        """
        install, *tasks = yaml.safe_load((ROLE / "tasks" / "present.yml").read_text())
        assert install["name"] == "Install HAProxy"
        if killed:
            write = tasks[0]["block"][0]
            assert write.pop("notify") == "Reload HAProxy"
            tasks = [write]
        return self.ansible_playbook(
            yaml.safe_dump(
                [
                    {
                        "hosts": "all",
                        "connection": "local",
                        "gather_facts": False,
                        "vars": {
                            **self.variables,
                            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                            "haproxy_http_port": port,
                            "__haproxy_install": {"changed": False},
                        },
                        "handlers": yaml.safe_load((ROLE / "handlers" / "main.yml").read_text()),
                        "tasks": [*tasks, *([last] if last else [])],
                    }
                ],
                sort_keys=False,
            ),
            *arguments,
        )


@pytest.fixture
def plain_host(tmp_path: Path, ansible_playbook: Run) -> Iterator[PlainHost]:
    if os.geteuid() != 0 or not os.access(Haproxy.binary, os.X_OK):
        pytest.skip("needs root and the package haproxy")
    host = PlainHost(tmp_path, ansible_playbook)
    yield host
    host.haproxy.stop()


def serves(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def test_a_later_failure_of_the_play_does_not_lose_the_reload(plain_host: PlainHost) -> None:
    one, two = free_port(), free_port()
    assert plain_host.run(one).returncode == 0
    assert serves(one)
    done = plain_host.run(two, last={"ansible.builtin.fail": {"msg": "a later role has failed"}})
    assert "a later role has failed" in message(done)
    assert serves(two)


def test_a_run_that_was_killed_before_the_reload_is_mended_by_the_next(plain_host: PlainHost) -> None:
    one, two = free_port(), free_port()
    first = plain_host.run(one)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "changed=1" in plain_host.run(two, killed=True).stdout
    assert not serves(two)
    assert "changed=1" in plain_host.run(two, "--check").stdout
    assert not serves(two)
    assert "changed=1" in plain_host.run(two).stdout
    assert serves(two)
    assert "changed=0" in plain_host.run(two).stdout
    # A change that this run makes itself is reloaded once, by the handler.
    assert "changed=2" in plain_host.run(one).stdout
    assert serves(one)
