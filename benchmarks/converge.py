# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""How long the main job takes, next to the same work by hand: one table, one machine, one run.

    python benchmarks/converge.py --runs 5

Makes a cluster of its own, `bench`, and removes it at the end, also after a failure or Ctrl-C. Every round does each
thing once, so that a machine that slows down slows all of them. A complete run writes its table and its plot into docs/.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import json
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "collections"))

import yaml  # noqa: E402
from ansible_collections.appgate.platform.plugins.module_utils import kube_objects  # noqa: E402
from ansible_collections.appgate.platform.plugins.module_utils.image_build import unmount_below  # noqa: E402
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (  # noqa: E402
    Cluster,
    Response,
    read_kubeconfig,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_transaction import (  # noqa: E402
    Probe,
    Settings,
    Transaction,
)

DOCUMENT = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "images" / "converge.svg"
BEGIN, END = "<!-- converge: begin -->", "<!-- converge: end -->"
CLUSTER = "bench"
NAMESPACE = "appgate"
TEXT = "Hello! This is Appgate world!"
COMMAND_TIMEOUT_SECONDS = 1200
PAGE_TIMEOUT_SECONDS = 60
GROUPS = ("floor", "cluster", "image", "app", "hand")


@dataclass(frozen=True)
class Work:
    """One line of the table."""

    key: str
    group: str
    title: str
    how: str
    goal_seconds: float | None = None


WORKS = (
    Work("floor", "floor", "Empty playbook (the floor)", "`ansible-playbook`, no task"),
    Work("boot", "cluster", "Cluster from nothing to Ready, DNS answers", "`playbooks/cluster.yml`", 25),
    Work("same", "cluster", "Cluster unchanged", "`playbooks/cluster.yml`"),
    Work("gone", "cluster", "Cluster removed", "`playbooks/destroy.yml`"),
    Work("cold", "image", "Image, cache empty: packages, wheels, build, push", "`playbooks/image.yml`"),
    Work("warm", "image", "Image, one input changed: build, push", "`playbooks/image.yml`"),
    Work("kept", "image", "Image unchanged", "`playbooks/image.yml`"),
    Work("first", "app", "First deploy, the node pulls the image", "`site.yml`"),
    Work("again", "app", "First deploy, the node has the image", "`site.yml`"),
    Work("unchanged", "app", "Unchanged", "`site.yml`", 5),
    Work("check", "app", "Unchanged, check mode", "`site.yml --check --diff`"),
    Work(
        "kubectl-first",
        "hand",
        "kubectl: first deploy, the node has the image",
        "`kubectl apply --server-side`, `rollout status`, a request",
    ),
    Work("kubectl-unchanged", "hand", "kubectl: unchanged", "the same"),
    Work(
        "helm-first", "hand", "Helm: first deploy, the node has the image", "`helm upgrade --install --wait`, a request"
    ),
    Work("helm-unchanged", "hand", "Helm: unchanged", "the same"),
)


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


class CountingCluster(Cluster):
    """Notes how long each request takes."""

    def __init__(self, kubeconfig: str, context: str) -> None:
        super().__init__(read_kubeconfig(kubeconfig, context))
        self.seconds: list[float] = []

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Response:
        began = time.monotonic()
        try:
            return super().call(method, path, body, **options)
        finally:
            self.seconds.append(time.monotonic() - began)


@dataclass
class Profile:
    """Where unchanged runs of site.yml spend their time, in seconds, one value for each run."""

    whole: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    reading: list[float] = field(default_factory=list)
    tasks: dict[str, list[float]] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)
    request_seconds: list[float] = field(default_factory=list)
    transaction: list[float] = field(default_factory=list)
    imports: list[float] = field(default_factory=list)


class Bench:
    """The cluster, the commands and what they took."""

    def __init__(self, folder: Path, groups: Sequence[str]) -> None:
        self.folder = folder
        self.groups = groups
        self.seconds: dict[str, list[float]] = {}
        self.profile = Profile()
        self.round_name = ""
        self.bins: dict[str, str] = {}
        self.kubeconfig = folder / "kubeconfig.yaml"
        self.manifests = folder / "manifests.yaml"
        self.chart = folder / "chart"
        self.image_cache = folder / "image-cache"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "HELM_CACHE_HOME": str(folder / "helm"),
            "HELM_CONFIG_HOME": str(folder / "helm"),
            "HELM_DATA_HOME": str(folder / "helm"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self._lay_out()

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
        return self.run(program, "--kubeconfig", str(self.kubeconfig), "--context", f"appgate-{CLUSTER}", *arguments)

    def helm(self, *arguments: str) -> str:
        program = f"{self.bins['helm']}/helm"
        return self.run(
            *(program, "--kubeconfig", str(self.kubeconfig), "--kube-context", f"appgate-{CLUSTER}"), *arguments
        )

    @contextlib.contextmanager
    def timed(self, key: str) -> Iterator[None]:
        """Note how long the block takes, where its group was asked for."""
        work = next(work for work in WORKS if work.key == key)
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        if work.group in self.groups:
            self.seconds.setdefault(key, []).append(took)
            print(f"{self.round_name}  {took:7.2f} s  {work.title}, {work.how}".replace("`", ""), flush=True)

    # -- files -----------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        inventory = self.folder / "inventory"
        inventory.mkdir()
        (inventory / "group_vars").symlink_to(ROOT / "inventory" / "local" / "group_vars")
        values: dict[str, Any] = {
            "cluster_address_block": "10.216.0.0/16",
            "cluster_kubeconfig": str(self.kubeconfig),
            "appgate_kubeconfig": str(self.kubeconfig),
            # The app's part alone; benchmarks/monitoring.py measures the whole.
            "appgate_monitoring_enabled": False,
        }
        if "image" in self.groups:
            values["image_cache_dir"] = str(self.image_cache)
        hosts = {"embedded": {"hosts": {CLUSTER: values}}, "existing": {"hosts": {}}}
        (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
        plays: dict[str, dict[str, Any]] = {
            "empty": {"hosts": "all", "gather_facts": False, "tasks": []},
            "programs": {
                "hosts": "all",
                "gather_facts": False,
                "tasks": [
                    {
                        "ansible.builtin.import_role": {"name": "appgate.platform.sources"},
                        "vars": {"sources_parts": ["kubernetes", "helm"]},
                    },
                    {
                        "ansible.builtin.copy": {
                            "content": "{{ sources_bin | to_json }}",
                            "dest": str(self.folder / "programs.json"),
                            "mode": "0644",
                        }
                    },
                ],
            },
        }
        for name, play in plays.items():
            (self.folder / f"{name}.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")

    def take_manifests(self) -> None:
        """What the role app applied, for kubectl as a file and for Helm as a chart."""
        secret = json.loads(self.kubectl("-n", NAMESPACE, "get", "secret", "appgate-revision-1", "-o", "json"))
        packed = base64.b64decode(secret["data"]["manifests"]).decode()
        text = yaml.safe_dump_all(kube_objects.unpack(packed))
        self.manifests.write_text(text, encoding="utf-8")
        (self.chart / "templates").mkdir(parents=True, exist_ok=True)
        (self.chart / "files").mkdir(exist_ok=True)
        head = {"apiVersion": "v2", "name": "appgate", "version": "0.1.0"}
        (self.chart / "Chart.yaml").write_text(yaml.safe_dump(head), encoding="utf-8")
        (self.chart / "files" / "manifests.yaml").write_text(text, encoding="utf-8")
        # Not a template of its own: what looks like one in haproxy.cfg must stay as it is.
        (self.chart / "templates" / "all.yaml").write_text(
            '{{ .Files.Get "files/manifests.yaml" }}\n', encoding="utf-8"
        )

    # -- the work --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Fill the cache of programs, and run once what is measured later: nobody's first import counts."""
        print("Preparing: programs into the cache, one cluster made and removed", flush=True)
        self.play(str(self.folder / "programs.yml"))
        self.bins = json.loads((self.folder / "programs.json").read_text(encoding="utf-8"))
        self.play("playbooks/cluster.yml")
        if "cluster" in self.groups:
            self.remove()

    def remove(self) -> None:
        self.play("playbooks/destroy.yml")

    def wait_for_page(self) -> None:
        """Ask from outside until the app answers, as the role does."""
        service = json.loads(self.kubectl("-n", NAMESPACE, "get", "service", "appgate-service", "-o", "json"))
        url = f"http://{service['status']['loadBalancer']['ingress'][0]['ip']}:4000/"
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

    def round(self, name: str) -> None:
        """Each thing once."""
        self.round_name = name
        with self.timed("floor"):
            self.play(str(self.folder / "empty.yml"))
        if "cluster" in self.groups:
            with self.timed("boot"):
                self.play("playbooks/cluster.yml")
            with self.timed("same"):
                self.play("playbooks/cluster.yml")
        if "image" in self.groups:
            self._image()
        if {"app", "hand"} & set(self.groups):
            self._app()
        if "hand" in self.groups:
            self._by_hand()
        if "cluster" in self.groups:
            with self.timed("gone"):
                self.remove()

    def _image(self) -> None:
        if self.image_cache.exists():
            shutil.rmtree(self.image_cache)
        with self.timed("cold"):
            self.play("playbooks/image.yml")
        with self.timed("warm"):
            self.play("playbooks/image.yml", "-e", json.dumps({"image_build_args": {"VERSION": "2.0.0"}}))
        with self.timed("kept"):
            self.play("playbooks/image.yml")

    def _app(self) -> None:
        self.play("playbooks/image.yml")
        with self.timed("first"):
            self.play("site.yml")
        if "app" in self.groups:
            self.play("playbooks/app.yml", "-e", "app_state=absent")
            with self.timed("again"):
                self.play("site.yml")
            with self.timed("unchanged"):
                self.play("site.yml")
            with self.timed("check"):
                self.play("site.yml", "--check", "--diff")
            self._profile()
        self.take_manifests()
        self.play("playbooks/app.yml", "-e", "app_state=absent")

    def _by_hand(self) -> None:
        for key in ("kubectl-first", "kubectl-unchanged"):
            with self.timed(key):
                self.kubectl("apply", "--server-side", "-f", str(self.manifests))
                self.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/appgate", "--timeout=180s")
                self.wait_for_page()
        self.kubectl("delete", "namespace", NAMESPACE, "--wait", "--timeout=180s")
        for key in ("helm-first", "helm-unchanged"):
            with self.timed(key):
                self.helm("upgrade", "--install", "appgate", str(self.chart), "-n", "default", "--wait")
                self.wait_for_page()
        self.helm("uninstall", "appgate", "-n", "default", "--wait")
        self.kubectl("wait", "--for=delete", f"namespace/{NAMESPACE}", "--timeout=180s")

    # -- where the time goes ---------------------------------------------------------------------

    def _profile(self) -> None:
        """One more unchanged run, with the time of each task; then its parts alone."""
        profile = self.profile
        began = time.monotonic()
        self.run("ansible-playbook", "--version")
        profile.start.append(time.monotonic() - began)
        began = time.monotonic()
        self.play("site.yml", "--list-tasks")
        profile.reading.append(time.monotonic() - began - profile.start[-1])
        began = time.monotonic()
        output = self.play(
            "site.yml",
            environment={
                "ANSIBLE_CALLBACKS_ENABLED": "appgate.platform.closing_table,ansible.posix.profile_tasks",
                "PROFILE_TASKS_SORT_ORDER": "none",
                "PROFILE_TASKS_TASK_OUTPUT_LIMIT": "all",
            },
        )
        profile.whole.append(time.monotonic() - began)
        # The last part: the callback also writes a line with the time before each task.
        found = re.findall(r"^(\S.*?) -{2,} ([0-9.]+)s$", output, re.MULTILINE)
        if not found:
            raise BenchmarkError("ansible.posix.profile_tasks told nothing: install the collection ansible.posix.")
        sums: dict[str, float] = {}
        for task, seconds in found:
            name = task.removeprefix("appgate.platform.")
            # Ansible appends the spec's whole description.
            name = re.sub(
                r"^(\w+) : Validating arguments against arg spec '(\w+)'.*", r"\1 : validate arguments (\2)", name
            )
            sums[name] = sums.get(name, 0.0) + float(seconds)
        for name, value in sums.items():
            profile.tasks.setdefault(name, []).append(value)
        self._profile_transaction()

    def _profile_transaction(self) -> None:
        """The deploy's own part, in this process: what it costs without Ansible around it."""
        profile = self.profile
        cluster = CountingCluster(str(self.kubeconfig), f"appgate-{CLUSTER}")
        secret = json.loads(self.kubectl("-n", NAMESPACE, "get", "secret", "appgate-revision-1", "-o", "json"))
        manifests = kube_objects.unpack(base64.b64decode(secret["data"]["manifests"]).decode())
        probe = Probe(service="appgate-service", port="http", path="/", text=TEXT)
        began = time.monotonic()
        outcome = Transaction(cluster, Settings("appgate", NAMESPACE, probes=(probe,))).deploy(manifests)
        profile.transaction.append(time.monotonic() - began)
        if outcome.changed:
            raise BenchmarkError("The deploy was to find nothing to do, but found: " + str(outcome.changes))
        profile.requests.append(len(cluster.seconds))
        profile.request_seconds.append(sum(cluster.seconds))
        module = "ansible_collections.appgate.platform.plugins.modules.k8s_transaction"
        code = f"import sys; sys.path.insert(0, {str(ROOT / 'collections')!r}); import {module}"
        began = time.monotonic()
        self.run(sys.executable, "-c", code)
        profile.imports.append(time.monotonic() - began)

    def clean(self) -> None:
        """Remove the cluster and all files, whatever happened before."""
        print("Removing the cluster and the files", flush=True)
        try:
            self.remove()
        finally:
            unmount_below(self.folder)


# -- what is printed -----------------------------------------------------------------------------


def middle(values: Sequence[float]) -> str:
    """A median in seconds, with as many digits as it deserves."""
    return f"{statistics.median(values):.2f}"


def goal_of(work: Work, values: Sequence[float]) -> str:
    if work.goal_seconds is None:
        return ""
    met = "met" if statistics.median(values) <= work.goal_seconds else "missed"
    return f"{work.goal_seconds:g}: {met}"


def results(seconds: Mapping[str, Sequence[float]]) -> list[str]:
    """The table, in Markdown."""
    lines = [
        "| What | How | Median (s) | Min | Max | Runs | Goal (s) |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for work in WORKS:
        values = seconds.get(work.key)
        if values:
            spread = f"{min(values):.2f} | {max(values):.2f} | {len(values)}"
            lines.append(f"| {work.title} | {work.how} | {middle(values)} | {spread} | {goal_of(work, values)} |")
    return lines


def spent(profile: Profile) -> list[str]:
    """Where an unchanged site.yml spends its time, in Markdown; a line for each task above 20 ms."""
    if not profile.whole:
        return []

    def row(name: str, seconds: float) -> str:
        return f"| {name} | {seconds * 1000:.0f} |"

    tasks = {name: statistics.median(values) for name, values in profile.tasks.items()}
    whole, start, reading = (statistics.median(values) for values in (profile.whole, profile.start, profile.reading))
    shown = {name: value for name, value in tasks.items() if value >= 0.02}
    small = {name: value for name, value in tasks.items() if name not in shown}
    lines = [
        "| Part of an unchanged `site.yml` | Median (ms) |",
        "| --- | ---: |",
        row("Python starts, Ansible is imported (`ansible-playbook --version`)", start),
        row("Inventory, playbooks and roles are read (`--list-tasks`, less the line above)", reading),
        *(row(f"Task: {name}", value) for name, value in sorted(shown.items(), key=lambda item: -item[1])),
        row(f"Tasks below 20 ms each, together: {len(small)}", sum(small.values())),
        # The parts are measured one after the other, so a noisy machine can make their sum more than the whole.
        row("The rest: between the plays, and the end", max(0.0, whole - start - reading - sum(tasks.values()))),
        row("**The whole run**, with the timing callback", whole),
    ]
    requests = statistics.median(profile.requests)
    lines += [
        "",
        f"The deploy alone, in a process that has everything imported, takes "
        f"{statistics.median(profile.transaction) * 1000:.0f} ms: {requests:.0f} requests to the API server, up to eight",
        f"at a time ({statistics.median(profile.request_seconds) * 1000:.0f} ms if they came one after the other), and one "
        "request to the page. Python's start and the",
        f"imports of its module take {statistics.median(profile.imports) * 1000:.0f} ms more; what is left of its task is "
        "Ansible's: variables, templates, packing the module.",
    ]
    return lines


def versions(bench: Bench) -> str:
    """The versions that the figures depend on."""
    core = re.search(r"core ([0-9.]+)", bench.run("ansible-playbook", "--version"))
    kubernetes = json.loads(bench.run(f"{bench.bins['kubernetes']}/kubectl", "version", "--client", "-o", "json"))
    helm = bench.run(f"{bench.bins['helm']}/helm", "version", "--template", "{{.Version}}")
    return (
        f"ansible-core {core[1] if core else 'unknown'}, Python {platform.python_version()}, "
        f"Kubernetes {kubernetes['clientVersion']['gitVersion']}, Helm {helm.strip()}"
    )


def plot(seconds: Mapping[str, Sequence[float]]) -> str:
    """Bars of the medians, with a line from the shortest to the longest run; SVG by hand, so that nothing is needed."""
    works = [work for work in WORKS if seconds.get(work.key)]
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
        colour = "#9aa5b1" if work.group in ("hand", "floor") else "#2f6fb0"
        parts += [
            f'<text x="{label - 8}" y="{top + 11}" text-anchor="end">{escape(work.title)}</text>',
            f'<rect x="{label}" y="{top}" width="{length:.1f}" height="{bar}" fill="{colour}"/>',
            f'<line x1="{label + min(values) * scale:.1f}" x2="{label + max(values) * scale:.1f}" '
            f'y1="{top + bar / 2}" y2="{top + bar / 2}" stroke="black"/>',
            f'<text x="{label + max(length, max(values) * scale) + 6:.1f}" y="{top + 11}">{middle(values)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def write(section: Sequence[str], seconds: Mapping[str, Sequence[float]]) -> None:
    """Put the section between its marks in the document, and the plot beside it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchmarkError(f"{DOCUMENT} lacks the marks {BEGIN} and {END}: put them where the table belongs.")
    DOCUMENT.write_text("\n".join([before + begin, "", *section, "", end + after]), encoding="utf-8")
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(plot(seconds), encoding="utf-8")
    print(f"Wrote {DOCUMENT.relative_to(ROOT)} and {PLOT.relative_to(ROOT)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="how many rounds (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30, help="begin no further round after this (%(default)s)")
    parser.add_argument("--only", default=",".join(GROUPS), help="a part, of %(default)s; then nothing is written")
    parser.add_argument("--no-write", action="store_true", help="leave docs/ as it is")
    chosen = parser.parse_args()
    chosen.groups = chosen.only.split(",")
    unknown = sorted(set(chosen.groups) - set(GROUPS))
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} is not known; give some of {', '.join(GROUPS)}")
    if chosen.runs < 1:
        parser.error(f"--runs is {chosen.runs}: give 1 or more")
    return chosen


def main() -> int:
    chosen = arguments()
    if os.geteuid() != 0:
        print("The embedded cluster needs root: run this as root.", file=sys.stderr)
        return 2
    # A plain `kill` ends as Ctrl-C does: the cluster is removed.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    load_before = os.getloadavg()[0]
    began = time.monotonic()
    done = 0
    with tempfile.TemporaryDirectory(prefix="appgate-bench-") as name:
        bench = Bench(Path(name), chosen.groups)
        try:
            bench.prepare()
            for number in range(1, chosen.runs + 1):
                if (time.monotonic() - began) / 60 > chosen.minutes:
                    print(f"Stopped before round {number}: --minutes is {chosen.minutes:g}")
                    break
                bench.round(f"{number}/{chosen.runs}")
                done = number
            stated = versions(bench)
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
    # The benchmark's own work is one command after the other, so more than that before it began is somebody else's.
    others = load_before > (os.cpu_count() or 1) / 2
    busy = "\n  Others were at work on it: hold the lines against each other, not against the goals." if others else ""
    section = [
        f"Measured on {datetime.date.today().isoformat()} by `python benchmarks/converge.py {shlex.join(sys.argv[1:])}`: "
        f"{done} rounds in {minutes:.0f} minutes.",
        "",
        f"- Machine: {machine()}; load {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.{busy}",
        f"- Versions: {stated}.",
        "",
        *results(bench.seconds),
        "",
        *spent(bench.profile),
    ]
    print("\n" + "\n".join(section))
    if not chosen.no_write and set(chosen.groups) == set(GROUPS):
        write(section, bench.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
