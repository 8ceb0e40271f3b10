# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What ansible-doc says about the modules' options, fragments included, is what the modules take."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

PACKAGE = "ansible_collections.appgate.platform.plugins.modules"
FOLDER = Path(__file__).parents[1] / "plugins" / "modules"
#: The others are documentation alone: their action plugin does all the work.
MODULES = sorted(path.stem for path in FOLDER.glob("[!_]*.py") if "def main(" in path.read_text(encoding="utf-8"))
ACTIONS = sorted(
    path.stem for path in FOLDER.with_name("action").glob("[!_]*.py") if "ControllerAction)" in path.read_text("utf-8")
)
KEYS = ("type", "elements", "required", "default", "choices")


class Caught(Exception):
    """The arguments that a module would have been started with."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__("caught")
        self.spec = spec


def catch(*_arguments: Any, argument_spec: dict[str, Any], **_options: Any) -> NoReturn:
    raise Caught(argument_spec)


@pytest.fixture(scope="module")
def documented(root: Path, run_ansible: Any) -> dict[str, Any]:
    """The options of all modules, as ansible-doc merges them."""
    names = [f"appgate.platform.{name}" for name in (*MODULES, *ACTIONS)]
    done = run_ansible(root, "ansible-doc", "--type", "module", "--json", *names)
    assert done.returncode == 0, done.stderr
    return {name.rpartition(".")[2]: value["doc"]["options"] for name, value in json.loads(done.stdout).items()}


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options without words, and with what is the same whether it is said or not."""
    found: dict[str, Any] = {}
    for name, option in options.items():
        kept = {key: option[key] for key in KEYS if option.get(key) not in (None, False)}
        kept.setdefault("type", "str")
        if kept.get("type") == "float" and "default" in kept:
            kept["default"] = float(kept["default"])
        inner = option.get("options") or option.get("suboptions")
        found[name] = {**kept, "options": plain(inner)} if inner else kept
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_documentation_is_what_it_takes(
    name: str, documented: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"{PACKAGE}.{name}")
    monkeypatch.setattr(module, "AnsibleModule", catch)
    with pytest.raises(Caught) as caught:
        module.main()
    assert plain(documented[name]) == plain(caught.value.spec)


@pytest.mark.parametrize("name", ACTIONS)
def test_an_actions_documentation_is_what_it_takes(name: str, documented: dict[str, Any]) -> None:
    action = importlib.import_module(f"{PACKAGE.rpartition('.')[0]}.action.{name}").ActionModule
    assert plain(documented[name]) == plain(action.arguments)
