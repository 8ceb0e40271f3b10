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
import json
import re
import shutil
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "collections")]

import yaml  # noqa: E402
from ansible_collections.appgate.platform.plugins.module_utils import kube_objects  # noqa: E402
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (  # noqa: E402
    Cluster,
    Response,
    read_kubeconfig,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_probe import Probe  # noqa: E402
from ansible_collections.appgate.platform.plugins.module_utils.kube_transaction import (  # noqa: E402
    Settings,
    Transaction,
)

from benchmarks.common import NAMESPACE, TEXT, Bench, BenchmarkError, Work, measure, results  # noqa: E402

GROUPS = ("floor", "cluster", "image", "app", "hand")

WORKS = (
    Work("floor", "floor", "Empty playbook (the floor)", "`ansible-playbook`, no task", by_hand=True),
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
        by_hand=True,
    ),
    Work("kubectl-unchanged", "hand", "kubectl: unchanged", "the same", by_hand=True),
    Work(
        "helm-first",
        "hand",
        "Helm: first deploy, the node has the image",
        "`helm upgrade --install --wait`, a request",
        by_hand=True,
    ),
    Work("helm-unchanged", "hand", "Helm: unchanged", "the same", by_hand=True),
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


class Converge(Bench):
    """The app from its source to its page, and the same by hand."""

    works = WORKS
    cluster = "bench"
    block = "10.216.0.0/16"

    def __init__(self, folder: Path, chosen: argparse.Namespace) -> None:
        self.profile = Profile()
        self.manifests = folder / "manifests.yaml"
        self.chart = folder / "chart"
        self.image_cache = folder / "image-cache"
        super().__init__(folder, chosen)

    def variables(self) -> dict[str, Any]:
        # The app's part alone; benchmarks/monitoring.py measures the whole.
        cache = {"image_cache_dir": str(self.image_cache)} if "image" in self.groups else {}
        return {"appgate_monitoring_enabled": False, **cache}

    def prepare(self) -> None:
        """Fill the cache of programs, and run once what is measured later: nobody's first import counts."""
        print("Preparing: programs into the cache, one cluster made and removed", flush=True)
        self.take_programs()
        self.play("playbooks/cluster.yml")
        if "cluster" in self.groups:
            self.remove()

    def round(self) -> None:
        """Each thing once."""
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

    def report(self) -> list[str]:
        return [*results(self.works, self.seconds), "", *spent(self.profile)]

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
        cluster = CountingCluster(str(self.kubeconfig), f"appgate-{self.cluster}")
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


if __name__ == "__main__":
    sys.exit(measure("converge", GROUPS, Converge, __doc__))
