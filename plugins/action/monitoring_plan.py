# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Check the inputs of monitoring, and compare what is wanted with the release, the CRDs, the images and what runs.

An action, not a module: it runs on the controller, where variables still know their place, and an unchanged run is over
after a dozen requests, without a process and without helm.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.appgate.platform.plugins.module_utils import helm_drift
from ansible_collections.appgate.platform.plugins.module_utils import helm_release as helm
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_cluster as live
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_images as images
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_inputs as inputs
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_values as values
from ansible_collections.appgate.platform.plugins.module_utils.helm_chart import Chart, ChartError, Source, local, stage
from ansible_collections.appgate.platform.plugins.module_utils.image_work import ImageError
from ansible_collections.appgate.platform.plugins.module_utils.kube_access import (
    AccessError,
    ApiError,
    Cluster,
    Names,
    Permission,
    connect,
    preflight,
)
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import resource_path
from ansible_collections.appgate.platform.plugins.module_utils.role_variables import load
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "charts" / "monitoring"
SOURCES = ROOT / "roles" / "sources"
#: Why Grafana is not there: where nothing is installed yet, and where a release is, of which nobody knows what it was told.
NO_GRAFANA = "no published image of it is in reach, and it can't be built from source here."
STILL_NO_GRAFANA = (
    "monitoring was installed without it (no published image was in reach, or monitoring_grafana was 'disabled'), and 'auto' "
    "keeps to that."
)
GIVE_GRAFANA = (
    "To have it, set monitoring_grafana=enabled, and where Docker Hub is out of reach an image that {who} can pull, for "
    "example monitoring_grafana_image=registry.example.com/grafana/grafana:13.2.0, and run again"
)
Found = dict[str, Any]


class Refused(Exception):
    """An input is wrong; the text is for a person."""


class ActionModule(ControllerAction):
    """See plugins/modules/monitoring_plan.py for what it takes and gives."""

    _supports_diff = True

    arguments: ClassVar[dict[str, Any]] = {
        "operation": {"type": "str", "choices": ["check", "converge", "rollback"], "default": "converge"}
    }
    refusals: ClassVar[tuple[type[Exception], ...]] = (
        Refused,
        AccessError,
        ApiError,
        ImageError,
        ChartError,
        helm.ReleaseError,
    )

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        rolling_back = given["operation"] == "rollback"
        self._given = self.inputs("monitoring_")
        for name in inputs.SWITCHES:
            # On the command line, a switch is a text.
            self._given[name] = boolean(self._given[name], strict=False)
        removing = self._given["monitoring_state"] == "absent"
        small = removing or rolling_back
        found = inputs.names_problems(self._given) if small else inputs.problems(self._given)
        if found:
            raise Refused("\n".join(self.sentence(item.variable, item.text) for item in found))
        if given["operation"] == "check":
            return {}
        plan = self._plan_rollback() if rolling_back else self._plan_removal() if removing else self._plan()
        diff = plan.pop("diff", None)
        if self._task.check_mode:
            plan["changed"] = bool(plan["pending"])
        if self._task.diff and diff and self._task.check_mode:
            plan["diff"] = diff
        return plan

    # -- small things ----------------------------------------------------------------------------------------------

    def _refuse(self, variable: str, text: str) -> None:
        raise Refused(self.sentence(variable, text))

    def _connect(self) -> Cluster:
        given = self._given
        return connect(
            str(given["monitoring_kubeconfig"]),
            str(given["monitoring_context"]),
            Names(
                kubeconfig="monitoring_kubeconfig (or appgate_kubeconfig in the inventory)",
                context="monitoring_context (or appgate_context in the inventory)",
            ),
            float(given["monitoring_connect_timeout_seconds"]),
        )

    def _permissions(self, namespace: str) -> list[Permission]:
        given = self._given
        sizes = [given[f"monitoring_{part}storage_size"] for part in ("", "alertmanager_", "grafana_")]
        return live.permissions(
            namespace,
            ingress=any(given[f"monitoring_{part}_host"] for part in ("prometheus", "alertmanager", "grafana")),
            storage=any(sizes),
            grafana_storage=bool(sizes[-1]),
        )

    def _history(self, cluster: Cluster) -> helm.History:
        """The release's records. One that somebody may be writing right now is waited for."""
        given = self._given
        while True:
            history = helm.read_history(cluster, given["monitoring_namespace"], given["monitoring_release"])
            newest = history.newest
            if newest is None or newest.status not in helm.PENDING:
                return history
            age = newest.age_seconds(datetime.datetime.now(datetime.UTC))
            if age >= float(given["monitoring_pending_wait_seconds"]) or self._task.check_mode:
                return history
            time.sleep(1)

    def _note_ready(self, cluster: Cluster, recorded: helm.History, history: helm.History) -> None:
        """Note on a revision that it came up after its run was killed, or a later one that fails would lead to one before it.

        Last of all: input that is refused leaves no trace.
        """
        if history != recorded and history.newest is not None and not self._task.check_mode:
            live.mark_ready(cluster, history.newest)

    # -- removal ---------------------------------------------------------------------------------------------------

    def _plan_removal(self) -> Found:
        given = self._given
        cluster = self._connect()
        namespace, release = given["monitoring_namespace"], given["monitoring_release"]
        preflight(
            cluster,
            live.removal_permissions(
                namespace, data=given["monitoring_remove_data"], crds=given["monitoring_remove_crds"]
            ),
        )
        history = helm.read_history(cluster, namespace, release)
        pending = []
        if history.newest is not None and history.newest.status != "uninstalled":
            pending.append(f"release {release} is uninstalled")
        kubelet = f"{values.fullname(release)}-kubelet"
        if cluster.get(resource_path("v1", "services", "kube-system", kubelet)):
            pending.append(f"Service kube-system/{kubelet}, which Helm leaves behind, is removed")
        if given["monitoring_remove_data"] and live.claims(cluster, namespace, release):
            pending.append("the stored data is removed")
        if given["monitoring_remove_crds"]:
            own = f"{live.CRD_OWNER_LABEL}={namespace}.{release}"
            if live.names(cluster, live.CRD_PATH, {"labelSelector": own}) & live.CRD_NAMES:
                pending.append("the CRDs are removed, with all objects of their kinds in the cluster")
        kept = live.claims(cluster, namespace, release) and not given["monitoring_remove_data"]
        if live.own_namespace(cluster, namespace) and not kept and not live.others(cluster, namespace, release):
            pending.append(f"namespace {namespace} is removed")
        return {
            "pending": pending,
            "helm_needed": history.newest is not None,
            "parts": ["helm"] if history.newest is not None else [],
        }

    # -- an earlier revision ---------------------------------------------------------------------------------------

    def _plan_rollback(self) -> Found:
        given = self._given
        namespace, release = given["monitoring_namespace"], given["monitoring_release"]
        cluster = self._connect()
        preflight(cluster, self._permissions(namespace))
        recorded = self._history(cluster)
        history = live.with_ready(cluster, recorded)
        newest = history.newest
        if newest is None or newest.status == "uninstalled":
            raise Refused(f"There is no release {release} in namespace {namespace}: nothing to go back to.")
        target = self._target(history, newest)
        settled = newest.status == "deployed" and helm.same_content(newest, target)
        pending = []
        if not settled:
            pending.append(
                f"release {release} goes from revision {newest.revision} ({newest.status}) back to revision {target.revision} "
                f"(chart {target.chart_name} {target.chart_version})"
            )
        else:
            drifts = helm_drift.find(cluster, newest)
            pending += [item.sentence() for item in drifts]
            pending += [
                item.progress.text for item in live.states(cluster, newest.workloads()) if not item.progress.done
            ]
        undo = history.undo(changing=not settled)
        chart = Chart(target.chart_name, target.chart_version)
        self._note_ready(cluster, recorded, history)
        return {
            "pending": pending,
            "parts": ["helm"] if not settled else [],
            "helm_needed": not settled,
            "revision": target.revision,
            # Never an uninstallation, and never the same revision again.
            "undo_revision": undo if undo not in (0, target.revision) else -1,
            "rows": {
                "31 Monitoring": f"{chart.name} {chart.version}, as in revision {target.revision}",
                "99 Next": f"write what revision {target.revision} had into the inventory, or the next run of "
                "playbooks/monitoring.yml installs what the inventory says again",
            },
            "diff": _diff(newest, target.values, chart, pending if not settled else []),
        }

    def _target(self, history: helm.History, newest: helm.Release) -> helm.Release:
        """The revision that was asked for, or the one before the newest."""
        number = int(self._given["monitoring_revision"])
        known = [*history.earlier, helm.Past(newest.revision, newest.status, newest.ready)]
        lines = "\n".join(f"  {item.revision}: {item.describe()}" for item in known)
        there = f"Revisions of {newest.name} in namespace {newest.namespace}:\n{lines}"
        if not number:
            target = history.previous()
            if target is None:
                raise Refused(f"There is no earlier revision to go back to. {there}")
            return target
        if number == newest.revision:
            return newest
        found = next((item for item in history.earlier if item.revision == number), None)
        if found is None:
            self._refuse("monitoring_revision", f"there is no revision {number} to go back to. {there}")
        elif not found.good:
            self._refuse("monitoring_revision", f"revision {number} never came up ({found.status}). {there}")
        assert found is not None
        return found.release()

    # -- presence --------------------------------------------------------------------------------------------------

    def _plan(self) -> Found:
        given = self._given
        namespace, release = given["monitoring_namespace"], given["monitoring_release"]
        cluster = self._connect()
        access = preflight(cluster, self._permissions(namespace))
        recorded = self._history(cluster)
        history = live.with_ready(cluster, recorded)
        chart, source = self._choose(history)
        embedded = source == "embedded"
        mirror = bool(given["monitoring_image_mirror"])
        if embedded and not (mirror or given["monitoring_image_registry"]):
            self._refuse(
                "monitoring_image_registry",
                "the embedded chart's images need a registry that the nodes pull from: set it or appgate_registry",
            )
        grafana, grafana_missing = self._grafana(history, embedded)
        pending: list[str] = []

        wanted = images.deliveries(SOURCES, given, pages=self.switch("sources_pages_enabled", True)) if embedded else {}
        copied = self._copied() if embedded and grafana else {}
        wanted.update({name: item.delivery for name, item in copied.items()})
        digests = images.find(wanted, mirror=mirror)
        missing = sorted(name for name, digest in digests.items() if digest is None)
        for names, what in (
            ([name for name in missing if name not in copied], "built and pushed"),
            ([name for name in missing if name in copied], "copied to the nodes' registry"),
        ):
            if names:
                pending.append(f"images are {what}: {', '.join(names)}")

        scraped = self._scraped(cluster, history)
        merged = values.build(
            given,
            embedded=embedded,
            images=images.as_values(wanted, digests, mirror=mirror),
            versions={part: images.version(SOURCES, part) for part in ("prometheus", "alertmanager")}
            if embedded
            else {},
            scraped=scraped,
            grafana=grafana,
            kube_proxy_by_node=scraped["kube-proxy"] and not embedded and live.kube_proxy_is_a_process(cluster),
        )
        merged = json.loads(json.dumps(merged))
        content = self._crd_content(embedded, chart)
        crds = live.crds(cluster, namespace, release, content)
        if crds.owner:
            raise Refused(
                f"The cluster's CRDs of monitoring.coreos.com belong to {crds.owner}: two operators would fight. Remove that "
                "one, or manage it by giving its name and namespace as monitoring_release and monitoring_namespace."
            )
        if not crds.current:
            pending.append(f"{len(live.CRD_NAMES)} CRDs are {'brought up to date' if crds.present else 'made'}")

        why = self._why(history, chart, merged)
        recover, recover_to = history.recovery()
        newest = history.newest
        if recover:
            assert newest is not None
            step = f"rolled back to revision {recover_to}" if recover == "rollback" else "uninstalled first"
            pending.append(f"the release is {newest.status} at revision {newest.revision} and is {step}")
        pending.extend(why)
        self._check_cluster(cluster, grafana)
        if why or not newest:
            self._check_schema(embedded, merged)
        drifts: list[helm_drift.Drift] = []
        if newest is not None and newest.status == "deployed" and not why and not pending:
            drifts = helm_drift.find(cluster, newest)
            pending.extend(item.sentence() for item in drifts)
            states = live.states(cluster, newest.workloads()) if not drifts else []
            pending.extend(item.progress.text for item in states if not item.progress.done)
        parts = []
        if pending:
            wanted_parts = {"helm", *(image.part for image in images.IMAGES if image.name in missing)}
            if embedded and not crds.current:
                wanted_parts.add("prometheus-operator")
            parts = sorted(wanted_parts)
            if embedded:
                stage(EMBEDDED, chart)
            elif why or recover or not crds.current:
                chart = chart.fetched()
        rows, awaited = self._rows(cluster, source, chart, grafana, grafana_missing, scraped)
        self._note_ready(cluster, recorded, history)
        return {
            "pending": pending,
            "parts": parts,
            "chart": {"source": source, "name": chart.name, "version": chart.version, "path": str(chart.path or "")},
            "values": merged,
            "images_missing": [
                {"name": image.name, "part": image.part, "program": image.program, "tag": wanted[image.name].tag}
                for image in images.IMAGES
                if image.name in missing
            ]
            + [
                {"name": name, "source": item.source, "tag": item.delivery.tag}
                for name, item in copied.items()
                if name in missing
            ],
            "crds_needed": not crds.current,
            "crds_content": content,
            "helm_needed": bool(why or recover or newest is None),
            "recover": recover,
            "recover_revision": recover_to,
            "undo_revision": history.undo(changing=bool(why or recover)),
            "grafana_secret": values.grafana_secret(given) if grafana else "",
            "grafana_secret_made": bool(grafana and not given["monitoring_grafana_admin_secret"]),
            "server_version": access.version,
            "rows": rows,
            "services_awaited": awaited,
            "diff": [item.diff() for item in drifts] or _diff(newest, merged, chart, why),
        }

    def _choose(self, history: helm.History) -> tuple[Chart, str]:
        """The chart, and which of both it is. `auto` asks once, for the first install, and then keeps what is there."""
        given = self._given
        cache = Path(str(given["monitoring_cache_dir"])) / "charts"
        embedded = local(EMBEDDED, cache)
        source = Source.from_inputs(given, cache)
        upstream = Chart.of(source)
        choice = given["monitoring_chart_source"]
        if choice == "auto":
            newest = history.newest
            if newest is not None:
                choice = "embedded" if newest.chart_name == embedded.name else "upstream"
            else:
                pulled = given["monitoring_nodes_pull_published"] or given["monitoring_image_mirror"]
                choice = "upstream" if pulled and (upstream.path or source.answers()) else "embedded"
        return (embedded, "embedded") if choice == "embedded" else (upstream, "upstream")

    def _grafana(self, history: helm.History, embedded: bool) -> tuple[bool, str]:
        """Whether Grafana is installed, and if not by a person's choice, why not."""
        given = self._given
        choice = given["monitoring_grafana"]
        required = bool(given["monitoring_grafana_required"])
        if required and choice == "disabled":
            self._refuse("monitoring_grafana_required", "it is true, but monitoring_grafana is 'disabled'")
        if choice != "auto":
            return choice == "enabled", ""
        if not embedded or given["monitoring_grafana_image"]:
            return True, ""
        newest = history.newest
        if newest is not None:
            there = bool((newest.values.get("grafana") or {}).get("enabled"))
        else:
            there = self._grafana_in_reach()
        if there:
            return True, ""
        who = "the nodes" if given["monitoring_nodes_pull_published"] else "this machine"
        why = f"{NO_GRAFANA if newest is None else STILL_NO_GRAFANA} {GIVE_GRAFANA.format(who=who)}"
        if required:
            self._refuse("monitoring_grafana_required", f"it is true, but Grafana can't be installed: {why}")
        return False, why

    def _grafana_in_reach(self) -> bool:
        """Whether its images are where the nodes pull from, or can be brought there."""
        given = self._given
        published = self._published()
        if given["monitoring_image_mirror"]:
            return images.mirrored(given, list(published.values()))
        copied = {name: item.delivery for name, item in self._copied().items()}
        if copied and all(images.find(copied).values()):
            return True
        seconds = float(given["monitoring_chart_probe_timeout_seconds"])
        return all(Source.registry_answers(image["registry"], seconds) for image in published.values())

    def _published(self) -> dict[str, dict[str, str]]:
        """Grafana's images for the embedded chart, as its values have them, without those that monitoring_values names."""
        grafana = load(EMBEDDED / "values.yaml")["grafana"]
        given = str(self._given["monitoring_grafana_image"])
        found = {
            "grafana": values.grafana_image(given, embedded=True) if given else grafana["image"],
            "grafana-sidecar": grafana["sidecar"]["image"],
        }
        paths = {"grafana": ("grafana", "image"), "grafana-sidecar": ("grafana", "sidecar", "image")}
        own = self._given["monitoring_values"]
        return {name: image for name, image in found.items() if not _says(own, *paths[name])}

    def _copied(self) -> dict[str, images.Copy]:
        """Those of them that the nodes can't pull from where they are published."""
        if self._given["monitoring_nodes_pull_published"] or self._given["monitoring_image_mirror"]:
            return {}
        return images.copies(self._given, self._published())

    def _scraped(self, cluster: Cluster, history: helm.History) -> dict[str, bool]:
        choice = str(self._given["monitoring_control_plane"])
        if choice != "auto":
            return dict.fromkeys(values.CONTROL_PLANE, choice == "scraped")
        # What was once scraped stays a target: one that is down for a moment is a case for an alert, not for an upgrade.
        before = history.newest.values if history.newest is not None else {}
        known = {name: (before.get(key) or {}).get("enabled") is True for name, key in values.CONTROL_PLANE.items()}
        if all(known.values()):
            return known
        return {name: known[name] or found for name, found in live.listening(cluster).items()}

    def _crd_content(self, embedded: bool, chart: Chart) -> str:
        text = images.fingerprint(SOURCES, "prometheus-operator") if embedded else f"{chart.name}-{chart.version}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _why(self, history: helm.History, chart: Chart, merged: Mapping[str, Any]) -> list[str]:
        """Why helm has something to do."""
        newest = history.newest
        release = self._given["monitoring_release"]
        if newest is None or newest.status == "uninstalled":
            return [f"release {release} is installed (chart {chart.name} {chart.version})"]
        why = []
        if (newest.chart_name, newest.chart_version) != (chart.name, chart.version):
            why.append(
                f"release {release} is upgraded: chart {newest.chart_name} {newest.chart_version} becomes "
                f"{chart.name} {chart.version}"
            )
        if not helm.same_values(newest.values, merged):
            changed = ", ".join(_paths(newest.values, merged)[:8])
            why.append(f"release {release} is upgraded: values have changed ({changed})")
        return why

    def _check_cluster(self, cluster: Cluster, grafana: bool) -> None:
        """What the values refer to must be there. All that is missing is said at once."""
        given = self._given
        found = []
        volumes = [
            name
            for name in (
                "monitoring_storage_size",
                "monitoring_alertmanager_storage_size",
                "monitoring_grafana_storage_size",
            )
            if given[name]
        ]
        if volumes:
            problem = live.storage_class_problem(cluster, str(given["monitoring_storage_class"]))
            if problem:
                found.append(self.sentence("monitoring_storage_class", problem))
        wanted = [
            ("monitoring_receivers", str(item["secret"]), str(item.get("key") or ""))
            for item in given["monitoring_receivers"]
            if item.get("secret")
        ]
        if grafana and given["monitoring_grafana_admin_secret"]:
            name = str(given["monitoring_grafana_admin_secret"])
            wanted += [("monitoring_grafana_admin_secret", name, key) for key in ("admin-user", "admin-password")]
        wanted += [("monitoring_image_pull_secrets", str(name), "") for name in given["monitoring_image_pull_secrets"]]
        for variable, text in live.missing_secrets(cluster, given["monitoring_namespace"], wanted):
            found.append(self.sentence(variable, text))
        if found:
            raise Refused("\n".join(dict.fromkeys(found)))

    def _check_schema(self, embedded: bool, merged: Mapping[str, Any]) -> None:
        """The embedded chart's schema, before anything is changed; Helm checks any other chart's own."""
        if not embedded:
            return
        schema = json.loads((EMBEDDED / "values.schema.json").read_bytes())
        found = inputs.refused_by_schema(schema, merged, self._given["monitoring_values"])
        if found:
            raise Refused("\n".join(self.sentence(item.variable, item.text) for item in found))

    def _rows(
        self,
        cluster: Cluster,
        source: str,
        chart: Chart,
        grafana: bool,
        grafana_missing: str,
        scraped: Mapping[str, bool],
    ) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """Rows of the closing table, and by their names the Services that a load balancer has yet to give an address."""
        given = self._given
        namespace, release = given["monitoring_namespace"], given["monitoring_release"]
        forward = (
            f"kubectl --kubeconfig {given['monitoring_kubeconfig']} --context {given['monitoring_context']} "
            f"-n {namespace} port-forward service/"
        )
        rows = {}
        awaited: dict[str, dict[str, Any]] = {}
        for number, (name, (service, port, forwarded)) in enumerate(values.services(release).items(), start=12):
            if name == "Grafana" and not grafana:
                continue
            host = given[f"monitoring_{name.lower()}_host"]
            address = f"{'https' if given['monitoring_ingress_tls_secret'] else 'http'}://{host}/" if host else ""
            if not address and given["monitoring_service_type"] == "LoadBalancer":
                address = live.load_balancer(cluster, namespace, service, port)
                if not address:
                    awaited[f"{number} {name}"] = {"service": service, "port": port}
            ports = str(forwarded) if forwarded == port else f"{forwarded}:{port}"
            rows[f"{number} {name}"] = address or f"http://localhost:{forwarded}/ after: {forward}{service} {ports}"
        if grafana:
            rows["15 Grafana password"] = (
                f"kubectl --kubeconfig {given['monitoring_kubeconfig']} --context {given['monitoring_context']} -n {namespace} "
                f"get secret {values.grafana_secret(given)} -o jsonpath='{{.data.admin-password}}' | base64 -d"
            )
        elif grafana_missing:
            rows["90 Grafana: not installed"] = grafana_missing
        where = "the embedded chart" if source == "embedded" else given["monitoring_chart_ref"]
        rows["31 Monitoring"] = f"{chart.name} {chart.version} from {where}"
        silent = [name for name, wanted in scraped.items() if not wanted]
        if silent and given["monitoring_control_plane"] == "auto":
            rows["91 Not scraped"] = (
                f"{', '.join(silent)}: not listening where Prometheus could reach them (on a managed cluster that can't be "
                "changed; with kubeadm, set their bind-address)"
            )
        return rows, awaited


def _says(given: Any, *path: str) -> bool:
    """Whether a person's values have anything there, whatever shape they are in."""
    for key in path:
        given = given.get(key) if isinstance(given, Mapping) else None
    return bool(given)


def _paths(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two values differ."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        keys = list(dict.fromkeys([*left, *right]))
        return [
            text
            for key in keys
            if key not in left or key not in right or not helm.same_values(left[key], right[key])
            for text in _paths(left.get(key), right.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [path]


def _diff(newest: helm.Release | None, merged: Mapping[str, Any], chart: Chart, why: list[str]) -> dict[str, str]:
    """The values before and after. They hold no secrets."""
    if not why:
        return {}

    def text(name: str, version: str, content: Mapping[str, Any]) -> str:
        return f"# chart {name} {version}\n" + str(yaml.safe_dump(dict(content), sort_keys=True, width=120))

    return {
        "before_header": "values of the release",
        "after_header": "values of the release",
        "before": text(newest.chart_name, newest.chart_version, newest.values) if newest else "",
        "after": text(chart.name, chart.version, merged),
    }
