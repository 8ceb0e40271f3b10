"""A role's documentation can't drift: options, defaults, README and what the tasks use say the same."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("role_docs", ROOT / "scripts" / "role_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


role_docs = load_script()
ROLES = role_docs.roles(ROOT)
each_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: str(path.name))


def options_of(role: Path) -> dict[str, dict[str, Any]]:
    """Every option of every entry point; one that several entry points share must say the same in each."""
    specs = role_docs.load(role / "meta" / "argument_specs.yml")["argument_specs"]
    found: dict[str, dict[str, Any]] = {}
    for entry, spec in specs.items():
        for name, option in (spec.get("options") or {}).items():
            # A required option of one entry point may have a default in another: the values are what must agree.
            if name in found and "default" in found[name] and "default" in option:
                assert found[name]["default"] == option["default"], f"{role.name}: {name} differs in {entry}"
            if name not in found or "default" in option:
                found[name] = option
    return found


def differences(present: Any, wanted: Any, path: str) -> list[str]:
    """Where two values differ, as deep as can be named."""
    if isinstance(present, dict) and isinstance(wanted, dict) and present.keys() == wanted.keys():
        return [text for key in wanted for text in differences(present[key], wanted[key], f"{path}.{key}")]
    if isinstance(present, list) and isinstance(wanted, list) and len(present) == len(wanted):
        return [text for at, item in enumerate(wanted) for text in differences(present[at], item, f"{path}[{at}]")]
    if present == wanted and type(present) is type(wanted):
        return []
    return [f"{path}: {present!r} in defaults, {wanted!r} in argument_specs"]


def defaults_of(role: Path) -> dict[str, Any]:
    path = role / "defaults" / "main.yml"
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def test_there_are_roles() -> None:
    assert ROLES, "roles/ holds no role"


@each_role
def test_entry_points_have_tasks(role: Path) -> None:
    entries = role_docs.load(role / "meta" / "argument_specs.yml")["argument_specs"]
    missing = [entry for entry in entries if not (role / "tasks" / f"{entry}.yml").is_file()]
    assert not missing, f"roles/{role.name}: no tasks/ file for the entry points {missing}"


@each_role
def test_defaults_are_those_of_the_specs(role: Path) -> None:
    options = options_of(role)
    wanted = {name: option["default"] for name, option in options.items() if "default" in option}
    present = defaults_of(role)
    problems = [
        f"{name}: has a default in argument_specs, none in defaults" for name in sorted(wanted.keys() - present)
    ]
    problems += [
        f"{name}: is in defaults, without that default in argument_specs" for name in sorted(present.keys() - wanted)
    ]
    for name in sorted(wanted.keys() & present):
        problems += differences(present[name], wanted[name], name)
    problems += [
        f"{name}: is required and has a default"
        for name, option in options.items()
        if option.get("required") and "default" in option
    ]
    assert not problems, f"roles/{role.name}:\n" + "\n".join(problems)


@each_role
def test_every_option_is_described_and_prefixed(role: Path) -> None:
    specs = role_docs.load(role / "meta" / "argument_specs.yml")["argument_specs"]
    problems = [
        f"entry point {entry} has no short_description"
        for entry, spec in specs.items()
        if not spec.get("short_description")
    ]
    for spec in specs.values():
        for path, option in role_docs.walk(spec.get("options") or {}):
            if not option.get("description"):
                problems.append(f"{path} has no description")
            if "type" not in option:
                problems.append(f"{path} has no type")
            if option.get("type") == "list" and "elements" not in option:
                problems.append(f"{path} is a list without elements")
        problems += [
            f"{name} doesn't start with {role.name}_"
            for name in spec.get("options") or {}
            if not name.startswith(f"{role.name}_")
        ]
    problems += [
        f"output {name} has no description"
        for name, output in role_docs.outputs(role).items()
        if not output.get("description")
    ]
    assert not problems, f"roles/{role.name}:\n" + "\n".join(problems)


# Jinja expressions and statements; the text between them is not code.
JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# What holds a bare expression in a task.
EXPRESSIONS = {"when", "changed_when", "failed_when", "until", "that", "var", "loop", "with_items"}


def expressions(node: Any, bare: bool = False) -> list[str]:
    """The parts of a task file in which a name is a variable."""
    if isinstance(node, dict):
        found = []
        for key, value in node.items():
            if key == "vars" and isinstance(value, dict):
                found += expressions(value)
                continue
            found += expressions(value, bare=key in EXPRESSIONS)
        return found
    if isinstance(node, list):
        return [text for item in node for text in expressions(item, bare)]
    if isinstance(node, str):
        return [node] if bare else JINJA.findall(node)
    return []


def without_strings(expression: str) -> str:
    """An expression without its quoted parts and attribute names."""
    expression = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "''", expression)
    expression = re.sub(r"\.\s*[A-Za-z_]\w*", "", expression)
    # A keyword argument is a name of the callee's.
    return re.sub(r"\b\w+\s*=(?!=)", "", expression)


@each_role
def test_every_variable_in_use_is_declared(role: Path) -> None:
    known = {*options_of(role), *role_docs.outputs(role)}
    pattern = re.compile(rf"(?<![\w.]){role.name}_\w+")
    longer = tuple(f"{other.name}_" for other in ROLES if other.name.startswith(f"{role.name}_"))
    problems: dict[str, set[str]] = {}
    files = [
        *role.glob("tasks/**/*.yml"),
        *role.glob("handlers/**/*.yml"),
        *role.glob("vars/**/*.yml"),
        role / "defaults" / "main.yml",
    ]
    for path in files:
        if not path.is_file():
            continue
        for text in expressions(yaml.safe_load(path.read_text(encoding="utf-8"))):
            for name in pattern.findall(without_strings(text)):
                problems.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    for path in role.glob("templates/**/*"):
        if path.is_file():
            for text in JINJA.findall(path.read_text(encoding="utf-8")):
                for name in pattern.findall(without_strings(text)):
                    problems.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    unknown = {
        name: where
        for name, where in problems.items()
        if name not in known and not (longer and name.startswith(longer))
    }
    assert not unknown, (
        f"roles/{role.name}: used but not declared in meta/ (a name of the role's own starts with __{role.name}_):\n"
        + "\n".join(f"{name} in {', '.join(sorted(where))}" for name, where in sorted(unknown.items()))
    )


@each_role
def test_readme_is_generated(role: Path) -> None:
    readme = role / "README.md"
    assert readme.is_file(), f"roles/{role.name}/README.md is missing. Write it: make docs"
    assert readme.read_text(encoding="utf-8") == role_docs.render(role), (
        f"roles/{role.name}/README.md is not current. Write it: make docs"
    )


# --- the generator itself


def make_role(root: Path, specs: str | None) -> Path:
    role = root / "roles" / "shop"
    (role / "tasks").mkdir(parents=True)
    (role / "meta").mkdir()
    if specs is not None:
        (role / "meta" / "argument_specs.yml").write_text(specs)
    return role


SPECS = """
argument_specs:
  main:
    short_description: Sells things.
    description: [Uses C(cash) or O(shop_card)., Second.]
    options:
      shop_name: {type: str, required: true, description: "Name, a|b."}
      shop_mode: {type: str, default: "0644", choices: ["0644", "0600"], description: Mode.}
      shop_shelves:
        type: list
        elements: dict
        default: []
        description: Shelves.
        options:
          width_cm: {type: int, default: 80, description: Width.}
"""


def test_generator_writes_tables(tmp_path: Path) -> None:
    role = make_role(tmp_path, SPECS)
    (role / "meta" / "outputs.yml").write_text("shop_url: {type: str, description: Where.}\n")
    (role / "meta" / "example.yml").write_text("---\n- hosts: all\n")
    text = role_docs.render(role)
    assert "Uses `cash` or `shop_card`." in text
    assert "| `shop_name` | str | **required** | Name, a\\|b. |" in text
    assert "| `shop_mode` | str | `'0644'` | Mode. One of `'0644'`, `'0600'`. |" in text
    assert "### Inside `shop_shelves`" in text
    assert "| `shop_shelves[].width_cm` | int | `80` | Width. |" in text
    assert "| `shop_url` | str | Where. |" in text
    assert text.endswith("```yaml\n- hosts: all\n```\n")


def test_generator_checks_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_role(tmp_path, SPECS)
    arguments = ["--root", str(tmp_path)]
    assert role_docs.main([*arguments, "--check"]) == 1
    assert "make docs" in capsys.readouterr().err
    assert role_docs.main(arguments) == 0
    assert role_docs.main([*arguments, "--check", "shop"]) == 0
    assert role_docs.main([*arguments, "shpo"]) == 2
    assert "No such role: shpo. There are: shop." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (None, "there is no such file"),
        ("a: [", "not YAML"),
        ("- x", "must hold a mapping"),
        ("a: 1", "argument_specs is"),
    ],
)
def test_generator_names_the_file_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], specs: str | None, message: str
) -> None:
    make_role(tmp_path, specs)
    assert role_docs.main(["--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "roles/shop/meta/argument_specs.yml" in error
    assert message in error


# --- a typo of the role's own prefix


def first_task(path: Path) -> dict[str, Any]:
    """The first task of a file, or of the file that it imports."""
    tasks = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert tasks, f"{path.relative_to(ROOT)} is empty"
    imported = tasks[0].get("ansible.builtin.import_tasks")
    return first_task(path.parent / imported) if isinstance(imported, str) else dict(tasks[0])


@each_role
def test_every_entry_point_starts_with_the_check_for_typos(role: Path) -> None:
    action = "appgate.platform.refuse_unknown_variables"
    for entry in role_docs.load(role / "meta" / "argument_specs.yml")["argument_specs"]:
        task = first_task(role / "tasks" / f"{entry}.yml")
        assert action in task, f"roles/{role.name}/tasks/{entry}.yml: the first task must be {action}"


def play_of(role: Path) -> str:
    """A play of the role alone, in which it speaks for itself."""
    return f"""
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: appgate.platform.{role.name}
        rolespec_validate: false
"""


@each_role
def test_every_role_refuses_a_typo_before_it_changes_anything(
    role: Path, ansible_playbook: Callable[..., CompletedProcess[str]]
) -> None:
    known = sorted(options_of(role))[0]
    typo = f"{known}x"
    result = ansible_playbook(play_of(role), "-e", f"{typo}=1")
    assert result.returncode == 2, result.stdout + result.stderr
    assert f"{typo} is not a variable of the role {role.name}" in result.stdout
    assert f"Did you mean {known}?" in result.stdout
    assert "changed=0" in result.stdout


@each_role
def test_every_role_refuses_a_wrong_type_by_name_value_place_and_remedy(
    role: Path, ansible_playbook: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    remedies = {
        "int": "Write a whole number",
        "bool": "Write true or false",
        "list": "Write a list",
        "dict": "Write keys and values",
    }
    options = role_docs.load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    name, remedy = next(
        (name, remedies[spec["type"]]) for name, spec in sorted(options.items()) if spec["type"] in remedies
    )
    (tmp_path / "mine.yml").write_text(f"---\n{name}: quite wrong\n")
    result = ansible_playbook(play_of(role), "-e", "@mine.yml")
    said = " ".join(result.stdout.split())
    assert result.returncode == 2, result.stdout + result.stderr
    for words in (f'{name} is "quite wrong", which must be', "mine.yml:2", remedy, "changed=0"):
        assert words in said, said
