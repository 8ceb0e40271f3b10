"""House rules that no linter knows."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

# Files that hold other people's text or none.
GENERATED = re.compile(r"(^LICENSE$|^requirements/|go\.(mod|sum)$|^app/requirements.*\.txt$|\.(png|svg|gz)$)")
CODE = re.compile(r"\.(ya?ml|py|sh|j2|cfg|toml)$|(^|/)(Dockerfile|Makefile|Containerfile)$|^\.ci/run$")
SELF = "tests/test_house.py"


@pytest.fixture(scope="module")
def files(root: Path) -> list[Path]:
    """Every file of the project that a person wrote, committed or about to be."""
    output = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = [name for name in output.splitlines() if not GENERATED.search(name) and name != SELF]
    return [root / name for name in names if (root / name).is_file() and not (root / name).is_symlink()]


def lines(root: Path, files: list[Path], kind: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """`file:line` and the line without its comment, for the files of a kind."""
    for path in files:
        name = str(path.relative_to(root))
        if not kind.search(name):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            yield f"{name}:{number}", re.sub(r"(^|\s)#.*$", "", line)


def refuse(root: Path, files: list[Path], kind: re.Pattern[str], pattern: str, why: str) -> None:
    found = [f"{place}: {line.strip()}" for place, line in lines(root, files, kind) if re.search(pattern, line)]
    assert not found, f"{why}\n" + "\n".join(found)


NOT_TESTS = re.compile(r"^(?!(.*/)?tests/)(?!docs/).*(" + CODE.pattern + ")")


def test_no_image_is_named_latest(root: Path, files: list[Path]) -> None:
    refuse(root, files, NOT_TESTS, r"[\w/-]:latest\b", "An image is named by a version or a digest.")


def test_no_pull_policy_that_hides_or_repeats(root: Path, files: list[Path]) -> None:
    pattern = r"imagePullPolicy['\"]?\s*:\s*['\"]?(Never|Always)\b"
    refuse(root, files, NOT_TESTS, pattern, "An image that is named by its digest needs no pull policy.")


def test_no_fixed_sleep(root: Path, files: list[Path]) -> None:
    shell = re.compile(r"\.(ya?ml|sh|j2)$|(^|/)(Dockerfile|Makefile)$|^\.ci/run$")
    # `sleep infinity` waits for a signal; a sleep inside a loop that asks for the thing itself carries a comment.
    pattern = r"(^|[\s;&|\"'\[])sleep\s+[0-9.]+[smh]?\s*($|[;&|\"'\]])(?!.*\bdone\b)"
    refuse(root, files, shell, pattern, "Wait for the thing itself, not for a time.")
    refuse(
        root,
        files,
        re.compile(r"\.ya?ml$"),
        r"ansible\.builtin\.pause:|^\s*-?\s*pause:",
        "Wait for the thing itself, not for a time.",
    )


def test_no_error_is_ignored(root: Path, files: list[Path]) -> None:
    tasks = re.compile(r"^(site\.yml|(roles|playbooks|molecule)/.*\.ya?ml)$")
    refuse(
        root,
        files,
        tasks,
        r"\bignore_errors\s*:|\bignore_unreachable\s*:\s*(true|yes)",
        "Handle an error, or let it stop the run.",
    )


def test_no_path_of_one_machine(root: Path, files: list[Path]) -> None:
    everything = re.compile(r".")
    refuse(
        root,
        files,
        everything,
        r"(?<![\w.~}-])/(home/(?!USER\b|<)\w+|root/(?!\.)\w+|work|Users/\w+)/\w",
        "A path that exists on one machine.",
    )


def test_requirements_are_pinned_with_hashes(root: Path) -> None:
    locks = [*sorted((root / "requirements").glob("*.txt")), *sorted((root / "app").glob("requirements*.txt"))]
    assert locks
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert not re.search(r"^--(index-url|extra-index-url|find-links)|https?://", text, re.MULTILINE), (
            f"{lock.name} names an index"
        )
        for entry in re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n?", "", text).strip()):
            assert re.match(r"[A-Za-z0-9._\[\]-]+==[^\s;]+", entry), f"{lock.name}: not pinned: {entry.splitlines()[0]}"
            assert "--hash=sha256:" in entry, f"{lock.name}: no hash: {entry.splitlines()[0]}"


def test_a_pin_stands_in_one_place(root: Path) -> None:
    pinned = [
        re.findall(r"(?m)^([A-Za-z0-9._-]+)==", (root / "requirements" / name).read_text())
        for name in ("runtime.txt", "test.txt")
    ]
    assert not set(pinned[0]) & set(pinned[1])


def test_collections_in_use_are_those_required(root: Path, files: list[Path]) -> None:
    requirements = yaml.safe_load((root / "requirements.yml").read_text())["collections"]
    for entry in requirements:
        assert re.fullmatch(r"\d+\.\d+\.\d+", str(entry.get("version"))), (
            f"requirements.yml: {entry['name']} has no exact version"
        )
    known = {entry["name"] for entry in requirements} | {"ansible.builtin", "appgate.platform"}
    key = re.compile(r"^\s*(?:- )?([a-z_0-9]+\.[a-z_0-9]+)\.[a-z_0-9]+:(?:\s|$)")
    used: dict[str, str] = {}
    for place, line in lines(
        root, files, re.compile(r"^(site\.yml|(roles/[^/]+/(tasks|handlers)|playbooks)/.*\.ya?ml)$")
    ):
        if match := key.match(line):
            used.setdefault(match[1], place)
    missing = {name: place for name, place in used.items() if name not in known}
    assert not missing, f"Collections in use that requirements.yml doesn't name: {missing}"


def test_actions_are_pinned_by_commit(root: Path) -> None:
    for path in sorted((root / ".github" / "workflows").glob("*.yml")):
        for line in path.read_text().splitlines():
            if "uses:" in line and "./" not in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d", line), f"{path.name}: {line.strip()}"


def test_version_is_the_same_everywhere(root: Path) -> None:
    galaxy = yaml.safe_load((root / "galaxy.yml").read_text())["version"]
    project = re.search(r'(?m)^version = "(.+)"', (root / "pyproject.toml").read_text())
    assert project
    assert project[1] == galaxy
