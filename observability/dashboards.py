# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Grafana dashboards from the catalog, by Grafana's own typed builder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from ansible_collections.appgate.platform.plugins.module_utils.observability.catalog import (
    Catalog,
    Dashboard,
    Metric,
    Panel,
)
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PREFIX = "appgate"
GREEN, RED = "green", "red"
DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

#: ReplicaSets that have pods, by the pods' owners that kube-state-metrics reports.
_REPLICA_SETS = (
    "group by (cluster, namespace, owner_name) (kube_pod_owner"
    '{job="kube-state-metrics", owner_kind="ReplicaSet", cluster=~"$cluster", namespace=~"$namespace"}%s)'
)
_NOW, _BEFORE = _REPLICA_SETS % "", _REPLICA_SETS % " offset $__rate_interval"
#: What a rollout changes and an autoscaler doesn't: the ReplicaSet. One is new if it has pods and had none a window
#: before, while its namespace had some: else nothing was watched then. The others are 0.
DEPLOYS = (
    f"sum by (namespace, owner_name) ({_NOW} unless {_BEFORE} and on (cluster, namespace) {_BEFORE} or 0 * {_NOW}) > 0"
)
#: Where the namespaces to choose from come from: those of the app, or all.
NAMESPACES = {
    "app": 'label_values(up{job="appgate-haproxy", cluster=~"$cluster"}, namespace)',
    "all": 'label_values(kube_namespace_status_phase{job="kube-state-metrics", cluster=~"$cluster"}, namespace)',
}
APP_SYSTEMS = ("app", "haproxy", "gunicorn")

STAT_HEIGHT, GRAPH_HEIGHT, GRID_WIDTH = 4, 8, 24
STATS_IN_A_LINE, GRAPHS_IN_A_LINE = 6, 3

Variable: TypeAlias = Builder[dashboard.VariableModel]
AnyPanel: TypeAlias = "stat.Panel | timeseries.Panel | heatmap.Panel"


def uid(name: str) -> str:
    """A dashboard's address, which never changes."""
    return f"{PREFIX}-{name}"


def build(catalog: Catalog, given: Dashboard) -> dashboard.Dashboard:
    """One dashboard."""
    builder = (
        builders.Dashboard(f"Appgate / {given.title}")
        .uid(uid(given.name))
        .description(given.text)
        .tags([PREFIX, given.system])
        .readonly()
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .variables(variables(given))
        .annotation(deploys())
        .links([others()])
    )
    metrics = {metric.name: metric for metric in catalog.metrics}
    number = 0
    for row in given.rows:
        number += 1
        builder.with_row(builders.Row(row.title).id(number))
        for panel, width in layout(row.panels):
            number += 1
            builder.with_panel(build_panel(catalog, panel, metrics.get(panel.metric), width).id(number))
    return builder.build()


def encode(built: dashboard.Dashboard) -> str:
    """The text of a dashboard's file, the same for the same catalog."""
    return JSONEncoder(sort_keys=True, indent=1).encode(built) + "\n"


def variables(given: Dashboard) -> list[Variable]:
    """Datasource, cluster and namespace, each found by asking. A store of one cluster may have no label cluster."""
    every = dashboard.VariableOption(selected=True, text="All", value="$__all")

    def query(name: str, label: str, text: str, all_value: str) -> builders.QueryVariable:
        return (
            builders.QueryVariable(name)
            .label(label)
            .datasource(DATASOURCE)
            .query(text)
            .definition(text)
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(all_value)
            .current(every)
        )

    source = "app" if given.system in APP_SYSTEMS else "all"
    return [
        builders.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        query("cluster", "Cluster", "label_values(up, cluster)", ".*"),
        query("namespace", "Namespace", NAMESPACES[source], ".+"),
    ]


def deploys() -> builders.AnnotationQuery:
    """A line for each rollout."""
    return (
        builders.AnnotationQuery()
        .name("Deploys")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("blue")
        .expr(DEPLOYS)
        .step("60s")
        .title_format("Deploy")
        .text_format("{{namespace}}/{{owner_name}}")
        .tag_keys("namespace,owner_name")
    )


def others() -> builders.DashboardLink:
    """The way to the other dashboards, with the same time and variables."""
    return (
        builders.DashboardLink("Appgate")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([PREFIX])
        .as_dropdown(False)
        .include_vars(True)
        .keep_time(True)
    )


def layout(panels: Sequence[Panel]) -> Iterator[tuple[Panel, int]]:
    """Panels with their widths, so that each line is full. Numbers come before graphs."""
    numbers = [panel for panel in panels if panel.kind == "stat"]
    graphs = [panel for panel in panels if panel.kind != "stat"]
    for group, most in ((numbers, STATS_IN_A_LINE), (graphs, GRAPHS_IN_A_LINE)):
        count = -(-len(group) // most)
        for index in range(count):
            line = group[index * len(group) // count : (index + 1) * len(group) // count]
            for position, panel in enumerate(line):
                width = GRID_WIDTH // len(line)
                yield panel, width if position < len(line) - 1 else GRID_WIDTH - width * (len(line) - 1)


def build_panel(catalog: Catalog, panel: Panel, metric: Metric | None, width: int) -> AnyPanel:
    """One panel, with the threshold of its metric."""
    builder: AnyPanel
    if panel.kind == "stat":
        builder = _stat(metric)
    elif panel.kind == "heatmap":
        builder = _heatmap(panel.unit)
    else:
        builder = _timeseries(panel, metric)
    text = (
        panel.text
        if metric is None or not metric.threshold
        else f"{panel.text}\n\nThreshold {metric.threshold}: {metric.reason}"
    )
    (
        builder.title(panel.title)
        .description(text)
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .span(width)
        .height(STAT_HEIGHT if panel.kind == "stat" else GRAPH_HEIGHT)
    )
    for index, target in enumerate(panel.targets):
        query = (
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + index))
            .datasource(DATASOURCE)
            .expr(catalog.for_dashboard(target.expr))
            .legend_format(target.legend)
        )
        if panel.kind == "heatmap":
            query.format(PromQueryFormat.HEATMAP)
        if panel.kind == "stat":
            query.instant()
        else:
            query.range()
        builder.with_target(query)
    return builder


def thresholds(metric: Metric | None) -> builders.ThresholdsConfig:
    """Red where the alert would fire."""
    steps = [dashboard.Threshold(value=None, color=GREEN)]
    if metric and metric.above is not None:
        steps.append(dashboard.Threshold(value=metric.above, color=RED))
    elif metric and metric.below is not None:
        steps = [dashboard.Threshold(value=None, color=RED), dashboard.Threshold(value=metric.below, color=GREEN)]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _stat(metric: Metric | None) -> stat.Panel:
    return (
        stat.Panel()
        .thresholds(thresholds(metric))
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE if metric else common.BigValueColorMode.NONE)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("no data")
    )


def _timeseries(panel: Panel, metric: Metric | None) -> timeseries.Panel:
    builder = (
        timeseries.Panel()
        .fill_opacity(5)
        .line_width(1)
        .axis_soft_min(0)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
    )
    if panel.unit == "percentunit":
        builder.axis_soft_max(1)
    if metric and metric.threshold:
        builder.thresholds(thresholds(metric)).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    return builder


def _heatmap(unit: str) -> heatmap.Panel:
    axis = heatmap_models.YAxisConfig(unit=unit)
    builder = heatmap.Panel().calculate(False).hide_legend()
    options = builder.build().options
    assert isinstance(options, heatmap_models.Options)
    options.y_axis = axis
    return builder
