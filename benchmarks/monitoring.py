# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""How long monitoring takes next to `helm upgrade --install --wait` of the same chart and values, and what it costs.

    python benchmarks/monitoring.py

Makes a cluster of its own, `bench-watch`, and removes it at the end, also after a failure or Ctrl-C. Every round does
each thing once, what is quick three times, so that a machine that slows down slows all of them. A complete run writes
its tables and its plot into docs/.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "collections")]

import yaml  # noqa: E402

from benchmarks.common import NAMESPACE, Bench, BenchmarkError, Work, measure, results  # noqa: E402
from benchmarks.scrape import LoadError, Request, Scrape, Scraping, requests  # noqa: E402

GROUPS = ("install", "unchanged", "changed", "scrape", "memory")
MONITORING = "prometheus"
RELEASE = "prometheus"
SERVICE = "prometheus-kube-prometheus-prometheus"
MEMORY_GOAL_MIB = 400
QUICK_TIMES = 3
READY_TIMEOUT = "--timeout=180s"
#: A label that the benchmark puts on pods, so that scraping begins and ends without a restart of anything.
MARK = "appgate.example/scraped"
NUMBERS = {"pairs": (8, "so many segments of load with scraping, and as many without")}
SEGMENT_SECONDS = 10
RATE = 200
SWITCH_TIMEOUT_SECONDS = 150

WORKS = (
    Work("role-first", "install", "Role: install from nothing, all ready", "`playbooks/monitoring.yml`"),
    Work(
        "hand-first",
        "install",
        "By hand: install from nothing",
        "`kubectl apply` of the CRDs, `helm upgrade --install --wait`",
        by_hand=True,
    ),
    Work(
        "hand-ready",
        "install",
        "By hand: install from nothing, all ready",
        "the same, and `kubectl wait` for Prometheus and Alertmanager",
        by_hand=True,
    ),
    Work("role-same", "unchanged", "Role: unchanged", "`playbooks/monitoring.yml`"),
    Work("hand-same", "unchanged", "By hand: unchanged", "`helm upgrade --install --wait`", by_hand=True),
    Work("role-check", "unchanged", "Role: unchanged, check mode", "`playbooks/monitoring.yml --check --diff`"),
    Work("site-same", "unchanged", "Everything unchanged", "`site.yml`", 5),
    Work("role-changed", "changed", "Role: one value changed, all ready", "`playbooks/monitoring.yml`"),
    Work("hand-changed", "changed", "By hand: one value changed", "`helm upgrade --install --wait`", by_hand=True),
)


class Monitoring(Bench):
    """Monitoring by the role and by hand, on a cluster that serves the app."""

    works = WORKS
    cluster = "bench-watch"
    block = "10.217.0.0/16"
    parts = ("kubernetes", "helm", "prometheus-operator", "vegeta")

    def __init__(self, folder: Path, chosen: argparse.Namespace) -> None:
        super().__init__(folder, chosen)
        self.pairs: int = chosen.pairs
        self.values = folder / "values.yaml"
        self.other_values = folder / "other-values.yaml"
        self.chart = ""
        self.crds = ""
        self.memory: dict[str, float] = {}
        self.scraping = Scraping()

    def prepare(self) -> None:
        """A cluster with everything; then the chart and the values that the role has used, for helm by hand."""
        print("Preparing: programs and images into the cache, a cluster with everything", flush=True)
        self.crds = self.take_programs()["prometheus-operator"]
        self.play("site.yml")
        self._take_release()

    def _take_release(self) -> None:
        release = json.loads(self.helm("list", "-n", MONITORING, "-o", "json"))[0]
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        chart = home / "appgate" / "monitoring" / "charts" / release["chart"]
        if not chart.is_dir():
            raise BenchmarkError(f"The chart of the release, {release['chart']}, is not in {chart.parent}.")
        self.chart = str(chart)
        values = json.loads(self.helm("get", "values", RELEASE, "-n", MONITORING, "-o", "json"))
        self.values.write_text(yaml.safe_dump(values), encoding="utf-8")
        values["prometheus"]["prometheusSpec"]["retention"] = "7d"
        self.other_values.write_text(yaml.safe_dump(values), encoding="utf-8")

    # -- the work --------------------------------------------------------------------------------

    def round(self) -> None:
        """Each thing once, what is quick several times."""
        if "install" in self.groups:
            self._install()
        if "unchanged" in self.groups:
            for _ in range(QUICK_TIMES):
                self._unchanged()
        if "changed" in self.groups:
            with self.timed("role-changed"):
                self.play("playbooks/monitoring.yml", "-e", "monitoring_retention=7d")
            with self.timed("hand-changed"):
                self._upgrade(self.values)
            self._settle()

    def _install(self) -> None:
        self._uninstall()
        with self.timed("hand-ready"):
            with self.timed("hand-first"):
                self.kubectl("create", "namespace", MONITORING)
                self.kubectl("apply", "--server-side", "-f", self.crds)
                self._upgrade(self.values)
            self._wait()
        self._uninstall()
        with self.timed("role-first"):
            self.play("playbooks/monitoring.yml")
        self._settle()

    def _unchanged(self) -> None:
        with self.timed("role-same"):
            self._play_unchanged("playbooks/monitoring.yml")
        with self.timed("hand-same"):
            self._upgrade(self.values)
        with self.timed("role-check"):
            self._play_unchanged("playbooks/monitoring.yml", "--check", "--diff")
        with self.timed("site-same"):
            self._play_unchanged("site.yml")

    def _play_unchanged(self, *arguments: str) -> None:
        output = self.play(*arguments)
        if not re.search(rf"^{self.cluster} +: ok=\d+ +changed=0 ", output, re.MULTILINE):
            raise BenchmarkError(f"{' '.join(arguments)} was to change nothing, but did:\n{output[-3000:]}")

    def _upgrade(self, values: Path) -> None:
        self.helm(
            "upgrade", "--install", RELEASE, self.chart, "-n", MONITORING, "-f", str(values), "--wait", "--skip-crds"
        )

    def _wait(self) -> None:
        for kind in ("prometheus", "alertmanager"):
            self.kubectl("-n", MONITORING, "wait", "--for=condition=Available", kind, "--all", READY_TIMEOUT)

    def _settle(self) -> None:
        """As site.yml leaves it."""
        self.play("playbooks/monitoring.yml")
        self.play("playbooks/observability.yml")

    def _uninstall(self) -> None:
        gone = {"monitoring_state": "absent", "monitoring_remove_data": True, "monitoring_remove_crds": True}
        self.play("playbooks/observability.yml", "-e", "observability_state=absent")
        self.play("playbooks/monitoring.yml", "-e", json.dumps(gone))
        # By hand there is none before, so by the role neither.
        self.kubectl("delete", "namespace", MONITORING, "--ignore-not-found", "--wait", READY_TIMEOUT)

    def finish(self) -> None:
        if "scrape" in self.groups:
            self._scrape()
        if "memory" in self.groups:
            self.memory = self._working_sets()

    # -- what being scraped costs ----------------------------------------------------------------

    def _scrape(self) -> None:
        settings = {
            "observability_scrape_interval_seconds": 5,
            "observability_scrape_timeout_seconds": 5,
            "observability_app_selector": {MARK: "yes"},
        }
        self.play("playbooks/observability.yml", "-e", json.dumps(settings))
        # Else the kubelet brings the new configuration at its next round, up to a minute later.
        self.kubectl("-n", MONITORING, "annotate", "pods", "--all", "--overwrite", f"{MARK}={time.time():.0f}")
        # Caches and connections are warm from here on.
        self._load()
        self.scraping.run(self.pairs, self._switch, self._load, self._scrapes)
        self._switch(False)
        self.play("playbooks/observability.yml")

    def _switch(self, scraped: bool) -> None:
        """Have all pods of the app scraped or none, and wait until Prometheus does so."""
        label = f"{MARK}=yes" if scraped else f"{MARK}-"
        self.kubectl("-n", NAMESPACE, "label", "pods", "--all", "--overwrite", label)
        deadline = time.monotonic() + SWITCH_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                targets = self._ask_prometheus("targets?state=active")["activeTargets"]
                ours = [target["health"] for target in targets if target["labels"]["job"].startswith("appgate-")]
                # Both pages of both pods.
                if (ours == ["up"] * 4) if scraped else not ours:
                    return
            time.sleep(0.5)
        raise BenchmarkError(
            f"Prometheus did not {'begin' if scraped else 'end'} to scrape the app within {SWITCH_TIMEOUT_SECONDS} s"
        )

    def _ask_prometheus(self, question: str) -> Any:
        """What Prometheus' API answers."""
        service = json.loads(self.kubectl("-n", MONITORING, "get", "service", SERVICE, "-o", "json"))
        with urllib.request.urlopen(
            f"http://{service['spec']['clusterIP']}:9090/api/v1/{question}", timeout=5
        ) as answer:
            return json.load(answer)["data"]

    def _scrapes(self) -> list[Scrape]:
        """The scrapes of the app during the last segment and a little before."""
        query = urllib.parse.urlencode(
            {"query": f'scrape_duration_seconds{{job=~"appgate-.*"}}[{SEGMENT_SECONDS + 10}s]'}
        )
        series = self._ask_prometheus(f"query?{query}")["result"]
        return [Scrape(float(start), float(seconds)) for one in series for start, seconds in one["values"]]

    def _load(self) -> list[Request]:
        """Ask for the page at a fixed rate."""
        vegeta = f"{self.bins['vegeta']}/vegeta"
        found = self.folder / "load.bin"
        targets = self.folder / "targets"
        targets.write_text(f"GET {self.page_url()}\n", encoding="utf-8")
        self.run(
            *(vegeta, "attack", f"-rate={RATE}", f"-duration={SEGMENT_SECONDS}s", "-workers=4", "-max-workers=256"),
            *(f"-targets={targets}", f"-output={found}"),
        )
        encoded = subprocess.run(
            [vegeta, "encode", "--to", "json", str(found)], capture_output=True, text=True, check=True
        )
        try:
            return requests(encoded.stdout)
        except LoadError as error:
            raise BenchmarkError(str(error)) from None

    # -- memory ----------------------------------------------------------------------------------

    def _working_sets(self) -> dict[str, float]:
        """MiB of each pod of monitoring, as the kubelet counts them."""
        node = self.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
        summary = json.loads(self.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
        return {
            pod["podRef"]["name"]: sum(item["memory"]["workingSetBytes"] for item in pod["containers"]) / 2**20
            for pod in summary["pods"]
            if pod["podRef"]["namespace"] == MONITORING
        }

    # -- what is printed -------------------------------------------------------------------------

    def report(self) -> list[str]:
        lines = results(self.works, self.seconds)
        if self.scraping.scraped:
            lines += [
                "",
                f"What being scraped costs, at {RATE} requests a second in segments of {SEGMENT_SECONDS} s, by turns:",
            ]
            lines += ["", *self.scraping.report()]
        if self.memory:
            lines += ["", *memory_table(self.memory)]
        return lines


def memory_table(pods: dict[str, float]) -> list[str]:
    """Largest first, with the sum and what is to be said of it."""
    whole = sum(pods.values())
    met = "met" if whole < MEMORY_GOAL_MIB else "missed"
    # Names without what Kubernetes makes up.
    short = {re.sub(r"(-[0-9a-f]{8,10})?-[0-9a-z]{5}$|-0$", "", name): value for name, value in pods.items()}
    return [
        "| Pod of monitoring | Working set (MiB) |",
        "| --- | ---: |",
        *(f"| {name} | {value:.0f} |" for name, value in sorted(short.items(), key=lambda item: -item[1])),
        f"| **Together** (goal: under {MEMORY_GOAL_MIB}: {met}) | **{whole:.0f}** |",
    ]


if __name__ == "__main__":
    sys.exit(measure("monitoring", GROUPS, Monitoring, __doc__, runs=3, numbers=NUMBERS))
