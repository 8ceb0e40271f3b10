# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The role `report`, run as a person runs it, on clusters in every state, and its pages opened in a browser."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.appgate.platform.plugins.module_utils.report import page

from tests.unit.report import browser, support
from tests.unit.report.support import PROMETHEUS, Recorded, items, pod, status, workload

PLAY = """
- name: Report
  hosts: all
  gather_facts: false
  roles:
    - role: appgate.platform.report
"""
PLOTS = ["requests", "duration", "errors", "busy"]
REFUSED = 'Get "http://10.200.128.9:8404/metrics": dial tcp 10.200.128.9:8404: connect: connection refused'


@dataclass
class Fleet:
    """Clusters from tables, each a host of one inventory."""

    folder: Path
    environment: dict[str, str]
    stack: contextlib.ExitStack
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, recorded: Recorded | None, **variables: Any) -> None:
        """A host with its cluster, or one whose cluster does not answer."""
        folder = self.folder / "clusters" / name
        folder.mkdir(parents=True)
        if recorded is None:
            kubeconfig = support.write_kubeconfig(folder, "http://127.0.0.1:1")
        else:
            kubeconfig = self.stack.enter_context(support.serve(recorded, folder))
        self.hosts[name] = {"appgate_kubeconfig": str(kubeconfig), "appgate_context": support.CONTEXT, **variables}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the role on all hosts."""
        (self.folder / "play.yml").write_text(PLAY)
        shared = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "report_dir": str(self.pages),
        }
        (self.folder / "inventory.yml").write_text(json.dumps({"all": {"hosts": self.hosts, "vars": shared}}))
        return subprocess.run(
            ["ansible-playbook", "-i", "inventory.yml", "play.yml", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    @property
    def pages(self) -> Path:
        return self.folder / "reports" / "here"

    def page(self, name: str) -> Path:
        return self.pages / f"{name}.html"

    def text(self, name: str) -> str:
        """A page's words, without its markup."""
        page = self.page(name).read_text(encoding="utf-8")
        body = re.sub(r"<svg.*?</svg>", " ", page[page.index("<body>") :], flags=re.DOTALL)
        plain = re.sub(r"<[^>]+>", " ", body)
        for escaped, character in (("&#39;", "'"), ("&#34;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            plain = plain.replace(escaped, character)
        return re.sub(r" (?=[,.;])", "", " ".join(plain.split()))


def recap(result: subprocess.CompletedProcess[str], host: str) -> dict[str, int]:
    """The counters of a host."""
    line = re.search(rf"(?m)^{re.escape(host)} +: (.*)$", result.stdout)
    assert line, result.stdout + result.stderr
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line[1])}


def said(result: subprocess.CompletedProcess[str]) -> str:
    return " ".join((result.stdout + result.stderr).split())


def troubled() -> Recorded:
    """One of everything that can be wrong."""
    recorded = Recorded()
    answers = recorded.answers
    own = {"appgate.platform/release": "appgate"}
    answers["/apis/apps/v1/namespaces/appgate/deployments"] = items(workload("appgate", 2, 1, own))
    answers["/api/v1/namespaces/appgate/pods"] = items(
        pod("appgate-x", "appgate", support.APP_IMAGE, restarts=3),
        pod("appgate-y", "appgate", support.APP_IMAGE, waiting="ImagePullBackOff"),
    )
    answers["/api/v1/nodes"] = items(support.node("one-control-plane"), support.node("two-worker", ready=False))
    answers[f"{PROMETHEUS}/targets"] = support.prometheus(
        {"activeTargets": [support.target("appgate-app"), support.target("appgate-haproxy", error=REFUSED)]}
    )
    answers[f"{PROMETHEUS}/rules"] = support.alert_rules(
        support.rule("AppgateDown", "firing", "critical"),
        support.rule("AppgateThreadsBusy", "pending"),
        support.rule("KubePodCrashLooping"),
    )
    answers[f"{PROMETHEUS}/query_range"] = support.outage
    answers[f"{PROMETHEUS}/alertmanagers"] = support.prometheus({"activeAlertmanagers": []})
    record = support.helm_secret("prometheus", 1, support.chart_record("failed"))
    answers["/api/v1/namespaces/prometheus/secrets"] = items(record)
    answers[f"/api/v1/namespaces/prometheus/secrets/{record['metadata']['name']}"] = record
    answers["/api/v1/namespaces/appgate/secrets"] = items(
        support.revision(1, "deployed"), support.revision(2, "failed")
    )
    return recorded


def changed(**answers: Any) -> Recorded:
    """The well cluster with other answers of Prometheus."""
    recorded = Recorded()
    recorded.answers.update({f"{PROMETHEUS}/{name}": answer for name, answer in answers.items()})
    return recorded


def forbidden() -> Recorded:
    """A user who may not do what only administrators may."""
    recorded = Recorded()
    for path in (
        "/api/v1/nodes",
        "/api/v1/namespaces/appgate/secrets",
        "/api/v1/namespaces/prometheus/secrets",
        f"{PROMETHEUS}/status/buildinfo",
    ):
        recorded.answers[path] = status(403, f"{path} is forbidden")
    return recorded


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, root: Path, clean_environment: dict[str, str]) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "ansible.cfg").write_text(
        f"[defaults]\ncollections_path = {root / 'collections'}\nforks = 20\n"
        "callbacks_enabled = appgate.platform.closing_table\n"
    )
    with contextlib.ExitStack() as stack:
        yield Fleet(folder, clean_environment, stack)


@pytest.fixture(scope="module")
def clusters() -> dict[str, Recorded | None]:
    """Clusters by what is the matter with them."""
    bare, empty, upstream, revealed = Recorded(), Recorded(), Recorded(), Recorded()
    bare.without_monitoring()
    empty.remove("/namespaces/appgate")
    upstream.answers["/apis"] = {"groups": [{"name": "cilium.io"}]}
    grafana = workload("prometheus-grafana", labels={"app.kubernetes.io/name": "grafana"})
    upstream.answers["/apis/apps/v1/namespaces/prometheus/deployments"] = items(grafana)
    revealed.answers["/apis/apps/v1/namespaces/shop/deployments"] = items(workload("till", 1))
    targets = support.prometheus({"activeTargets": [support.target("kubelet")]})
    gone = status(503, 'no endpoints available for service "prometheus-kube-prometheus-prometheus"')
    return {
        "well": Recorded(),
        "troubled": troubled(),
        "bare": bare,
        "empty": empty,
        "quiet": changed(query_range=support.silence),
        "unwatched": changed(
            query_range=support.nothing, targets=targets, rules=support.alert_rules(support.rule("Other"))
        ),
        "deaf": changed(**{"status/buildinfo": gone}),
        "strange": changed(
            **{"status/buildinfo": support.prometheus({}), "targets": {"status": "error", "error": "not now"}}
        ),
        "forbidden": forbidden(),
        "enforced": upstream,
        "shop": revealed,
        "gone": None,
    }


@pytest.fixture(scope="module")
def first(fleet: Fleet, clusters: dict[str, Recorded | None]) -> subprocess.CompletedProcess[str]:
    """A first run over all clusters."""
    for name, recorded in clusters.items():
        fleet.add(name, recorded)
    fleet.hosts["shop"]["report_namespaces"] = ["shop"]
    fleet.hosts["well"]["app_network_policy_enforced"] = False
    checked = fleet.run("--check")
    assert recap(checked, "well")["changed"] == 1, checked.stdout + checked.stderr
    assert "(check mode: not written)" in checked.stdout
    assert not fleet.pages.exists()
    return fleet.run()


def test_each_cluster_gets_a_page_and_one_that_is_gone_fails_alone(
    fleet: Fleet, first: subprocess.CompletedProcess[str], clusters: dict[str, Recorded | None]
) -> None:
    assert sorted(path.name for path in fleet.pages.iterdir()) == sorted(f"{name}.html" for name in clusters)
    for name in clusters:
        assert recap(first, name)["failed"] == (name == "gone"), first.stdout
    assert f"Report {fleet.page('well')}" in said(first)
    assert "State All that is installed is well; missing: Grafana, Policy enforcement" in said(first)
    assert "can't be reached: connection refused. Is the cluster up?" in said(first)
    assert "can't be reached: connection refused. Is the cluster up?" in fleet.text("gone")
    assert "This cluster can't be reached" in fleet.text("gone")


@pytest.mark.parametrize(
    ("cluster", "sentences"),
    [
        (
            "well",
            [
                "1 of 1 node ready, Kubernetes v1.37.2",
                "2 of 2 replicas, revision 2, http://10.200.1.1:4000/",
                "all of 4 workloads ready",
                "release prometheus, chart monitoring 0.1.0, revision 1",
                "v3.15.0 answers",
                "all of 3 up, in 3 jobs",
                "0 firing, 0 pending, 2 armed and quiet. Watchdog fires, as it always should.",
                "takes alerts from Prometheus",
                "Grafana not installed: monitoring_grafana is disabled, or no published image of it was in reach",
                "Set monitoring_grafana=enabled",
                "NetworkPolicy: 1 in namespace appgate, but this cluster has no engine that enforces it",
                "0.412 of 2 cores (21 %)",
                "2 of 16 GiB (12 %)",
                "monitoring 0.1.0 prometheus in prometheus, revision 1 deployed",
                "appgate 10.200.0.2:5000/appgate@sha256:abababababab…",
                "monitoring/node-exporter 10.200.0.2:5000/monitoring/node-exporter@sha256:cdcdcdcdcdcd… 1.12.1 prometheus/",
                "1a2b3c appgate/appgate",
            ],
        ),
        (
            "troubled",
            [
                "Needs a look: Nodes, App, Workloads, Monitoring, Targets and 2 more; missing: Grafana, Policy enforcement",
                "1 of 2 nodes ready, Kubernetes v1.37.2; two-worker: Kubelet stopped posting node status.",
                "1 of 2 replicas (container appgate of pod appgate-y: ImagePullBackOff",
                "revision 1, revision 2 failed and was put back",
                "container appgate of pod appgate-y: ImagePullBackOff",
                "1 of 2 up; down: appgate-haproxy",
                REFUSED,
                "as users see it 100 % 24.6 % 100 %",
                "1 firing, 1 pending, 1 armed and quiet.",
                "AppgateDown appgate firing critical",
                "AppgateDown: a pod <b>fails</b> kubectl -n appgate get pods names it",
                "AppgateThreadsBusy appgate pending warning",
                "chart monitoring 0.1.0 is failed ansible-playbook playbooks/monitoring.yml repairs it",
                "Prometheus knows none, so an alert reaches nobody",
            ],
        ),
        (
            "bare",
            [
                "All that is installed is well; missing: Monitoring",
                "not installed: there is no namespace prometheus ansible-playbook playbooks/monitoring.yml",
                "No traffic and no durations are shown: no Prometheus was found in namespace prometheus.",
            ],
        ),
        ("empty", ["missing: App", "not deployed: there is no namespace appgate ansible-playbook site.yml"]),
        ("quiet", ["Nobody asked for a page in the last hour, probes apart."]),
        (
            "unwatched",
            [
                "Prometheus has no requests of the app from the last hour",
                "App's metrics Prometheus has no target of the app ansible-playbook playbooks/observability.yml",
                "App's alerts none of those in docs/metrics.md is armed ansible-playbook playbooks/observability.yml",
            ],
        ),
        (
            "deaf",
            [
                "Needs a look: Prometheus; missing: Grafana",
                "does not answer: Service prometheus/prometheus-kube-prometheus-prometheus, port 9090 has no pod that is ready",
                "kubectl -n prometheus get pods; ansible-playbook playbooks/monitoring.yml repairs the release",
                "No traffic and no durations are shown: Prometheus can't be asked",
            ],
        ),
        ("strange", ["does not answer: Service prometheus/prometheus-kube-prometheus-prometheus, port 9090: not now"]),
        (
            "forbidden",
            [
                "user 'reader' may not list nodes of the cluster",
                "revision not shown: user 'reader' may not list secrets in namespace appgate",
                "Not all charts are shown: user 'reader' may not list secrets in namespace appgate, user 'reader' may not list",
                "Needs a look: Nodes, Prometheus; missing: Grafana",
                "nothing of it runs in namespace prometheus",
                "user 'reader' may not reach it through the API server (get services/proxy in namespace prometheus)",
            ],
        ),
        (
            "enforced",
            ["All is well", "Grafana ✓ well ready", "NetworkPolicy: 1 in namespace appgate, enforced by Cilium"],
        ),
        ("shop", ["till shop Deployment 1 of 1"]),
    ],
)
def test_a_page_says_the_state_in_words(
    fleet: Fleet, first: subprocess.CompletedProcess[str], cluster: str, sentences: list[str]
) -> None:
    text = fleet.text(cluster)
    missing = [sentence for sentence in sentences if sentence not in text]
    assert not missing, f"{missing}\n{text}"


def test_no_page_holds_a_secret_or_asks_for_anything(fleet: Fleet, first: subprocess.CompletedProcess[str]) -> None:
    for path in fleet.pages.iterdir():
        page = path.read_text(encoding="utf-8")
        assert "not-for-a-page" not in page
        assert "<b>fails" not in page
        assert "<script" not in page
        # A link is followed by a person; anything else with an address would be loaded.
        assert not re.search(r"(src|action|(?<!<a )href)=[\"']?(https?:)?//", page), path.name
        assert not re.search(r"url\(|@import", page), path.name
        assert "default-src 'none'" in page
    assert "not-for-a-page" not in first.stdout + first.stderr


def test_an_address_is_a_link_and_nothing_else_is(fleet: Fleet, first: subprocess.CompletedProcess[str]) -> None:
    assert (
        '<a href="http://10.200.1.1:4000/" rel="noreferrer">http://10.200.1.1:4000/</a>'
        in fleet.page("well").read_text()
    )
    for text, marked in (
        ("see `make up`, <b>", "see <code>make up</code>, &lt;b&gt;"),
        ("javascript:alert(1) `open", "javascript:alert(1) `open"),
        ('(https://runbooks.example.com/a?b="c").', '(<a href="https://runbooks.example.com/a?b=" rel="noreferrer">'),
        ("at http://192.0.2.1:80/x.", '">http://192.0.2.1:80/x</a>.'),
    ):
        assert marked in page.marked_up(text)


def test_nothing_is_asked_that_would_change_a_cluster(
    clusters: dict[str, Recorded | None], first: subprocess.CompletedProcess[str]
) -> None:
    well = clusters["well"]
    assert well is not None
    # The server of these tests knows no other request than GET.
    assert f"{PROMETHEUS}/targets" in well.asked
    assert not [path for path in well.asked if path.endswith(("/revision-1", "/revision-2"))]


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    """One browser for all pages."""
    if browser.program() is None:
        pytest.skip("no Chromium here to open a page in; sudo apt-get install chromium")
    with browser.browser() as found:
        yield found


@pytest.mark.parametrize(
    ("cluster", "plots"), [("well", PLOTS), ("troubled", PLOTS), ("bare", []), ("quiet", []), ("gone", [])]
)
def test_a_page_looks_right_in_a_browser(
    fleet: Fleet,
    first: subprocess.CompletedProcess[str],
    chromium: browser.Browser,
    cluster: str,
    plots: list[str],
) -> None:
    found = browser.look(chromium, fleet.page(cluster), plots)
    assert not found.wrong, "\n".join(found.wrong)
    assert cluster in found.text


def test_a_look_finds_what_is_wrong(chromium: browser.Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><h1>One</h1><h3>Three</h3><div style='width:2000px'>wide</div>"
        "<p style='color:#ccc'>faint</p><figure id='plot-requests'><svg width='100'></svg></figure>"
        "<img src='http://192.0.2.1/picture.png'><script>console.log('hello')</script>"
    )
    wrong = "\n".join(browser.look(chromium, page, ["requests"]).wrong)
    for text in (
        "phone: div reaches from",
        "heading 2 skips a level",
        "p has a contrast of 1.6: faint",
        "the plot requests shows fewer than two values",
        "a plot has no words",
        "the page asks for http://192.0.2.1/picture.png",
        "the console has",
    ):
        assert text in wrong


def test_only_another_state_is_a_change(
    fleet: Fleet, first: subprocess.CompletedProcess[str], clusters: dict[str, Recorded | None]
) -> None:
    before = fleet.page("well").read_text()
    assert recap(first, "well")["changed"] == 1
    again = fleet.run("--limit", "well")
    assert recap(again, "well")["changed"] == 0, again.stdout
    # It is written all the same: a page is as of its time.
    assert fleet.page("well").read_text() != before
    well = clusters["well"]
    assert well is not None
    own = {"appgate.platform/release": "appgate"}
    well.answers["/apis/apps/v1/namespaces/appgate/deployments"] = items(workload("appgate", 2, 1, own))
    checked = fleet.run("--limit", "well", "--check")
    assert recap(checked, "well")["changed"] == 1, checked.stdout
    assert "2 of 2 replicas" in fleet.text("well")
    assert recap(fleet.run("--limit", "well"), "well")["changed"] == 1
    assert "1 of 2 replicas" in fleet.text("well")


def test_wrong_input_is_named_before_anything_is_written(fleet: Fleet) -> None:
    (fleet.folder / "file").write_text("")
    wrong: dict[str, tuple[dict[str, Any], list[str]]] = {
        "no-hours": (
            {"report_hours": 0},
            ["report_hours (set in inventory.yml", "0 is not between 0.25 and 720 hours"],
        ),
        "many-hours": ({"report_hours": 9000}, ["9000 is not between 0.25 and 720 hours"]),
        "word-hours": ({"report_hours": "many"}, ["report_hours", "many"]),
        "file-dir": (
            {"report_dir": str(fleet.folder / "file" / "below")},
            ["report_dir (set in inventory.yml", "file is not a directory. Name another directory."],
        ),
        "no-dir": ({"report_dir": ""}, ["report_dir (set in inventory.yml", "it is empty; name a directory"]),
        "slash": ({"report_cluster_name": "../well"}, ["report_cluster_name (set in", "'../well' names a file"]),
        "policy": ({"report_network_policy_enforced": "maybe"}, ["'maybe' is none of auto, true, false"]),
        "namespace": (
            {"report_namespaces": ["shop", "shpo"]},
            ["report_namespaces (set in", "shpo is not in the cluster (known: appgate, kube-system, prometheus, shop)"],
        ),
        "bad-name": ({"report_app_namespace": "a/b"}, ["report_app_namespace (set in", "'a/b' can't be the name"]),
        "service": (
            {"report_prometheus_service": "prom"},
            [
                "report_prometheus_service (set in",
                "'prom' isn't a Service of namespace prometheus (known: prometheus-kube-prometheus-prometheus)",
            ],
        ),
        "odd-service": ({"report_prometheus_service": "a b"}, ["'a b' isn't a Service: give its name, or name:port"]),
        "far-service": (
            {"report_prometheus_service": "prom", "report_monitoring_namespace": "nowhere"},
            ["there is no namespace 'nowhere'. Correct report_monitoring_namespace"],
        ),
        "typo": (
            {"report_hour": 2},
            ["report_hour is not a variable of the role report", "Did you mean report_hours?"],
        ),
        "context": (
            {"report_context": "other"},
            ["report_context (or appgate_context in the inventory): 'other' isn't"],
        ),
    }
    for name, (variables, _sentences) in wrong.items():
        fleet.add(name, Recorded(), **variables)
    try:
        result = fleet.run("--limit", ",".join(wrong))
    finally:
        for name in wrong:
            del fleet.hosts[name]
    text = said(result)
    for name, (_variables, sentences) in wrong.items():
        assert recap(result, name)["failed"] == 1, name
        assert not fleet.page(name).exists()
        missing = [sentence for sentence in sentences if sentence not in text]
        assert not missing, f"{name}: {missing}\n{result.stdout}"
