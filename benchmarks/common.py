# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a cluster of their own, timed commands, tables, plots, and where both are written."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import escape

import yaml
from ansible_collections.appgate.platform.plugins.module_utils.image_work import unmount_below

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
NAMESPACE = "appgate"
TEXT = "Hello! This is Appgate world!"
COMMAND_TIMEOUT_SECONDS = 1200
PAGE_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Work:
    """One line of the table."""

    key: str
    group: str
    title: str
    how: str
    goal_seconds: float | None = None
    by_hand: bool = False


class BenchmarkError(Exception):
    """A step failed: what, and the end of what it printed."""


def stop(process: subprocess.Popen[str]) -> None:
    """End a command in good order, and by force when it does not."""
    for number, patience_seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.communicate(timeout=patience_seconds)
            return
        except subprocess.TimeoutExpired:
            continue


def machine() -> str:
    """Cores, memory and system; no names."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))
    release = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    gibibytes = int(memory[1]) / 1024**2 if memory else 0
    return (
        f"{os.cpu_count()} cores, {gibibytes:.0f} GiB of memory, {release}, kernel {platform.release().split('-')[0]}"
    )


class Bench:
    """The cluster, the commands and what they took."""

    works: ClassVar[Sequence[Work]]
    #: Each benchmark has a cluster of its own name and block.
    cluster: ClassVar[str]
    block: ClassVar[str]
    #: Parts whose programs are used.
    parts: ClassVar[Sequence[str]] = ("kubernetes", "helm")

    def __init__(self, folder: Path, chosen: argparse.Namespace) -> None:
        self.folder = folder
        self.groups: Sequence[str] = chosen.groups
        self.seconds: dict[str, list[float]] = {}
        self.round_name = ""
        self.bins: dict[str, str] = {}
        self.kubeconfig = folder / "kubeconfig.yaml"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "HELM_CACHE_HOME": str(folder / "helm"),
            "HELM_CONFIG_HOME": str(folder / "helm"),
            "HELM_DATA_HOME": str(folder / "helm"),
            "KUBECACHEDIR": str(folder / "kubectl"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self._lay_out()

    # -- what a benchmark says ------------------------------------------------------------------

    def variables(self) -> dict[str, Any]:
        """Variables of the inventory, besides those that make the cluster one's own."""
        return {}

    def prepare(self) -> None:
        """What is there before the first round."""
        raise NotImplementedError

    def round(self) -> None:
        """Each thing once."""
        raise NotImplementedError

    def finish(self) -> None:
        """What is measured once, after the last round."""

    def report(self) -> list[str]:
        """The tables, in Markdown."""
        return results(self.works, self.seconds)

    # -- commands --------------------------------------------------------------------------------

    def run(self, *argv: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a command; its output, or the end of it as an error."""
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C is ours to handle: the command is ended in good order, then the cluster goes.
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT_SECONDS)
        except BaseException:
            stop(process)
            raise
        if process.returncode != 0:
            end = "\n".join(output.strip().splitlines()[-40:])
            raise BenchmarkError(f"{shlex.join(argv)} ended with {process.returncode}:\n{end}")
        return output

    def play(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run ansible-playbook against the cluster of this benchmark."""
        return self.run("ansible-playbook", "-i", str(self.folder / "inventory"), *arguments, environment=environment)

    def kubectl(self, *arguments: str) -> str:
        program = f"{self.bins['kubernetes']}/kubectl"
        return self.run(
            program, "--kubeconfig", str(self.kubeconfig), "--context", f"appgate-{self.cluster}", *arguments
        )

    def helm(self, *arguments: str) -> str:
        program = f"{self.bins['helm']}/helm"
        return self.run(
            *(program, "--kubeconfig", str(self.kubeconfig), "--kube-context", f"appgate-{self.cluster}"), *arguments
        )

    @contextlib.contextmanager
    def timed(self, key: str) -> Iterator[None]:
        """Note how long the block takes, where its group was asked for."""
        work = next(work for work in self.works if work.key == key)
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        if work.group in self.groups:
            self.seconds.setdefault(key, []).append(took)
            print(f"{self.round_name}  {took:7.2f} s  {work.title}, {work.how}".replace("`", ""), flush=True)

    # -- the cluster -----------------------------------------------------------------------------

    def _lay_out(self) -> None:
        inventory = self.folder / "inventory"
        inventory.mkdir()
        (inventory / "group_vars").symlink_to(ROOT / "inventory" / "local" / "group_vars")
        values = {
            "cluster_address_block": self.block,
            "cluster_kubeconfig": str(self.kubeconfig),
            "appgate_kubeconfig": str(self.kubeconfig),
            **self.variables(),
        }
        hosts = {"embedded": {"hosts": {self.cluster: values}}, "existing": {"hosts": {}}}
        (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
        plays: dict[str, dict[str, Any]] = {
            "empty": {"hosts": "all", "gather_facts": False, "tasks": []},
            "programs": {
                "hosts": "all",
                "gather_facts": False,
                "tasks": [
                    {
                        "ansible.builtin.import_role": {"name": "appgate.platform.sources"},
                        "vars": {"sources_parts": list(self.parts)},
                    },
                    {
                        "ansible.builtin.copy": {
                            "content": "{{ {'bin': sources_bin, 'files': sources_files} | to_json }}",
                            "dest": str(self.folder / "programs.json"),
                            "mode": "0644",
                        }
                    },
                ],
            },
        }
        for name, play in plays.items():
            (self.folder / f"{name}.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")

    def take_programs(self) -> dict[str, str]:
        """Have the programs in the cache; where the files of parts are."""
        self.play(str(self.folder / "programs.yml"))
        found = json.loads((self.folder / "programs.json").read_text(encoding="utf-8"))
        self.bins = found["bin"]
        return dict(found["files"])

    def remove(self) -> None:
        self.play("playbooks/destroy.yml")

    def page_url(self, namespace: str = NAMESPACE) -> str:
        """Where the app answers."""
        service = json.loads(self.kubectl("-n", namespace, "get", "service", "appgate-service", "-o", "json"))
        return f"http://{service['status']['loadBalancer']['ingress'][0]['ip']}:4000/"

    def wait_for_page(self) -> None:
        """Ask from outside until the app answers, as the role does."""
        url = self.page_url()
        deadline = time.monotonic() + PAGE_TIMEOUT_SECONDS
        while True:
            with (
                contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
                urllib.request.urlopen(url, timeout=3) as answer,
            ):
                if TEXT in answer.read().decode():
                    return
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{url} did not answer with {TEXT!r} within {PAGE_TIMEOUT_SECONDS} s")
            time.sleep(0.1)

    def versions(self) -> str:
        """The versions that the figures depend on."""
        core = re.search(r"core ([0-9.]+)", self.run("ansible-playbook", "--version"))
        kubernetes = json.loads(self.run(f"{self.bins['kubernetes']}/kubectl", "version", "--client", "-o", "json"))
        helm = self.run(f"{self.bins['helm']}/helm", "version", "--template", "{{.Version}}")
        return (
            f"ansible-core {core[1] if core else 'unknown'}, Python {platform.python_version()}, "
            f"Kubernetes {kubernetes['clientVersion']['gitVersion']}, Helm {helm.strip()}"
        )

    def clean(self) -> None:
        """Remove the cluster and all files, whatever happened before."""
        print("Removing the cluster and the files", flush=True)
        try:
            self.remove()
        finally:
            unmount_below(self.folder)


# -- what is printed and written -----------------------------------------------------------------


def middle(values: Sequence[float]) -> str:
    """A median in seconds, with as many digits as it deserves."""
    return f"{statistics.median(values):.2f}"


def goal_of(work: Work, values: Sequence[float]) -> str:
    if work.goal_seconds is None:
        return ""
    met = "met" if statistics.median(values) <= work.goal_seconds else "missed"
    return f"{work.goal_seconds:g}: {met}"


def results(works: Sequence[Work], seconds: Mapping[str, Sequence[float]]) -> list[str]:
    """The table, in Markdown."""
    lines = [
        "| What | How | Median (s) | Min | Max | Runs | Goal (s) |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for work in works:
        values = seconds.get(work.key)
        if values:
            spread = f"{min(values):.2f} | {max(values):.2f} | {len(values)}"
            lines.append(f"| {work.title} | {work.how} | {middle(values)} | {spread} | {goal_of(work, values)} |")
    return lines


def plot(works: Sequence[Work], seconds: Mapping[str, Sequence[float]]) -> str:
    """Bars of the medians, with a line from the shortest to the longest run; SVG by hand, so that nothing is needed."""
    works = [work for work in works if seconds.get(work.key)]
    label, width, step, bar = 340, 420, 26, 14
    longest = max(max(seconds[work.key]) for work in works)
    height = step * len(works) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{label + width + 80}" height="{height}" '
        f'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="20" font-size="14">Seconds, median; the line goes from the shortest to the longest run</text>',
    ]
    for index, work in enumerate(works):
        values = seconds[work.key]
        top = 38 + index * step
        scale = width / longest
        length = max(1.0, statistics.median(values) * scale)
        colour = "#9aa5b1" if work.by_hand else "#2f6fb0"
        parts += [
            f'<text x="{label - 8}" y="{top + 11}" text-anchor="end">{escape(work.title)}</text>',
            f'<rect x="{label}" y="{top}" width="{length:.1f}" height="{bar}" fill="{colour}"/>',
            f'<line x1="{label + min(values) * scale:.1f}" x2="{label + max(values) * scale:.1f}" '
            f'y1="{top + bar / 2}" y2="{top + bar / 2}" stroke="black"/>',
            f'<text x="{label + max(length, max(values) * scale) + 6:.1f}" y="{top + 11}">{middle(values)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def write(name: str, section: Sequence[str], picture: str) -> None:
    """Put the section between its marks in the document, and the plot beside it."""
    begin_mark, end_mark = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = DOCUMENT.read_text(encoding="utf-8")
    before, begin, rest = text.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not (begin and end):
        raise BenchmarkError(
            f"{DOCUMENT} lacks the marks {begin_mark} and {end_mark}: put them where the table belongs."
        )
    DOCUMENT.write_text("\n".join([before + begin, "", *section, "", end + after]), encoding="utf-8")
    path = DOCUMENT.parent / "images" / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture, encoding="utf-8")
    print(f"Wrote {DOCUMENT.relative_to(ROOT)} and {path.relative_to(ROOT)}")


# -- the command line ----------------------------------------------------------------------------


def arguments(
    description: str | None, groups: Sequence[str], runs: int, numbers: Mapping[str, tuple[int, str]]
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs, help="how many rounds (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30, help="begin no further round after this (%(default)s)")
    parser.add_argument("--only", default=",".join(groups), help="a part, of %(default)s; then nothing is written")
    parser.add_argument("--no-write", action="store_true", help="leave docs/ as it is")
    for name, (default, text) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: %(default)s)")
    chosen = parser.parse_args()
    chosen.groups = chosen.only.split(",")
    unknown = sorted(set(chosen.groups) - set(groups))
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} is not known; give some of {', '.join(groups)}")
    for option in ("runs", *numbers):
        if getattr(chosen, option) < 1:
            parser.error(f"--{option} is {getattr(chosen, option)}: give 1 or more")
    return chosen


def measure(
    name: str,
    groups: Sequence[str],
    make: Callable[[Path, argparse.Namespace], Bench],
    description: str | None,
    runs: int = 5,
    numbers: Mapping[str, tuple[int, str]] | None = None,
) -> int:
    """Run a benchmark as its command line asks, and print and write what came of it; the exit code.

    numbers are options of this benchmark, each with its default and what it says.
    """
    chosen = arguments(description, groups, runs, numbers or {})
    if os.geteuid() != 0:
        print("The embedded cluster needs root: run this as root.", file=sys.stderr)
        return 2
    # A plain `kill` ends as Ctrl-C does: the cluster is removed.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    load_before = os.getloadavg()[0]
    began = time.monotonic()
    done = 0
    with tempfile.TemporaryDirectory(prefix="appgate-bench-") as folder:
        bench = make(Path(folder), chosen)
        failure = ""
        try:
            bench.prepare()
            try:
                for number in range(1, chosen.runs + 1):
                    if (time.monotonic() - began) / 60 > chosen.minutes:
                        print(f"Stopped before round {number}: --minutes is {chosen.minutes:g}")
                        break
                    bench.round_name = f"{number}/{chosen.runs}"
                    bench.round()
                    done = number
                bench.finish()
            except BenchmarkError as error:
                # What was measured until then is worth keeping.
                failure = str(error)
                print(failure, file=sys.stderr)
            stated = bench.versions()
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("Interrupted", file=sys.stderr)
            return 130
        finally:
            bench.clean()
    if not done:
        print("No round was finished.", file=sys.stderr)
        return 1
    minutes = (time.monotonic() - began) / 60
    # What has ended just before is still in the load; with more than that, the benchmark has shared the cores.
    others = load_before > (os.cpu_count() or 1)
    busy = (
        "\n  Others were at work when it began: hold the lines against each other, not against the goals."
        if others
        else ""
    )
    command = shlex.join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])
    section = [
        f"Measured on {datetime.date.today().isoformat()} by `{command}`: {done} rounds in {minutes:.0f} minutes.",
        "",
        f"- Machine: {machine()}; load {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.{busy}",
        f"- Versions: {stated}.",
        *(["- Not complete: a step failed, and this is what was measured until then."] if failure else []),
        "",
        *bench.report(),
    ]
    print("\n" + "\n".join(section))
    if not chosen.no_write and set(chosen.groups) == set(groups):
        write(name, section, plot(bench.works, bench.seconds))
    return 1 if failure else 0
