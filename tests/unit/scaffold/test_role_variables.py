"""A typo of a role's own prefix is refused, with the place and the name that was meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from ansible_collections.appgate.platform.plugins.module_utils import role_variables

Run = Callable[..., CompletedProcess[str]]

SPECS = """
argument_specs:
  main:
    options:
      shop_replicas: {type: int, default: 2}
  render:
    options:
      shop_template: {type: str}
"""


def make_role(folder: Path, name: str = "shop", specs: str | None = SPECS) -> Path:
    role = folder / "roles" / name
    (role / "meta").mkdir(parents=True)
    (role / "tasks").mkdir()
    (role / "tasks" / "main.yml").write_text("- appgate.platform.refuse_unknown_variables:\n")
    (role / "meta" / "outputs.yml").write_text(f"{name}_url: {{type: str, description: Where it answers.}}\n")
    if specs is not None:
        (role / "meta" / "argument_specs.yml").write_text(specs)
    return role


def test_options_of_all_entry_points_and_outputs_are_known(tmp_path: Path) -> None:
    role = make_role(tmp_path)
    names = ["shop_replicas", "shop_template", "shop_url", "__shop_result", "shopping", "other_x"]
    assert role_variables.unknown(role, names) == {}


def test_typo_is_found_with_a_close_match(tmp_path: Path) -> None:
    found = role_variables.unknown(make_role(tmp_path), ["shop_replcias", "shop_zzz"])
    assert found == {"shop_replcias": "shop_replicas", "shop_zzz": ""}
    text = role_variables.message("shop", found, lambda name: f"hosts.yml:{len(name)}")
    assert text.splitlines() == [
        "shop_replcias is not a variable of the role shop (set in hosts.yml:13). Did you mean shop_replicas?",
        "shop_zzz is not a variable of the role shop (set in hosts.yml:8). "
        "Remove it, or see roles/shop/README.md for those that exist.",
    ]


def test_prefix_of_a_longer_sibling_is_not_ours(tmp_path: Path) -> None:
    role = make_role(tmp_path)
    make_role(tmp_path, "shop_floor")
    assert role_variables.unknown(role, ["shop_floor_size", "shop_x"]) == {"shop_x": ""}


@pytest.mark.parametrize("specs", [None, "- a list\n", "a: [\n"])
def test_unusable_specs_say_which_file(tmp_path: Path, specs: str | None) -> None:
    role = make_role(tmp_path, specs=specs)
    with pytest.raises(role_variables.RoleError, match=r"meta/argument_specs\.yml"):
        role_variables.unknown(role, ["shop_x"])


PLAY = """
- hosts: all
  connection: local
  gather_facts: false
  roles: [shop]
"""


def test_play_names_file_line_and_match(ansible_playbook: Run, tmp_path: Path) -> None:
    make_role(tmp_path)
    (tmp_path / "hosts.yml").write_text("all:\n  hosts:\n    one:\n      shop_replicas: 1\n      shop_replica: 3\n")
    result = ansible_playbook(PLAY, inventory="hosts.yml")
    assert result.returncode == 2, result.stdout + result.stderr
    assert "shop_replica is not a variable of the role shop (set in hosts.yml:5)" in result.stdout
    assert "Did you mean shop_replicas?" in result.stdout


@pytest.mark.parametrize("mode", [(), ("--check",)])
def test_play_without_typo_changes_nothing(ansible_playbook: Run, tmp_path: Path, mode: tuple[str, ...]) -> None:
    make_role(tmp_path)
    result = ansible_playbook(PLAY, "-e", "shop_replicas=3", "-e", "shop_url=x", *mode)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok=2 " in result.stdout  # with the validation of arguments that Ansible puts first
    assert "changed=0" in result.stdout


def test_play_with_extra_variable_names_the_option(ansible_playbook: Run, tmp_path: Path) -> None:
    make_role(tmp_path)
    result = ansible_playbook(PLAY, "-e", "shop_bogus=topsecret")
    assert result.returncode == 2
    assert "shop_bogus is not a variable of the role shop" in result.stdout
    assert "topsecret" not in result.stdout
