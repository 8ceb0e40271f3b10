# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of an action plugin: plugins/action/observability_plan.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: observability_plan
short_description: Makes manifests for Prometheus and Grafana from catalogs of critical metrics
version_added: 0.1.0
author: The Appgate platform authors
description:
  - Reads the catalogs, checks them as a whole, and makes a PodMonitor, PrometheusRules and ConfigMaps with dashboards.
  - All mistakes are told at once, each with its file and entry. Expressions of catalogs other than the project's own are
    parsed by promtool; what was found right is not parsed again.
  - Runs on the controller, changes nothing, and does the same in check mode.
options:
  release:
    description: Start of the objects' names.
    type: str
    required: true
  namespace:
    description: Namespace of the objects.
    type: str
    required: true
  labels:
    description: Labels of all objects.
    type: dict
    default: {}
  app_namespaces:
    description: Namespaces in which the app runs.
    type: list
    elements: str
    required: true
  app_selector:
    description: Labels of the app's pods.
    type: dict
    required: true
  app_port:
    description: Name of the port with the metrics.
    type: str
    default: operations
  scrape_interval_seconds:
    description: How often the app is scraped, in seconds; at most 60, beyond which the rules would have no samples to count with.
    type: int
    default: 15
  scrape_timeout_seconds:
    description: How long a scrape may take.
    type: int
    default: 10
  systems:
    description: Systems of the first catalog to keep; empty for all.
    type: list
    elements: str
    default: []
  own_catalog:
    description: The project's own catalog.
    type: path
    required: true
  own_dashboards:
    description: Directory with the dashboards that were made of it.
    type: path
    required: true
  catalog:
    description: A catalog in the place of the project's own.
    type: str
    default: ""
  extra_catalogs:
    description: Catalogs that add to the first one.
    type: list
    elements: str
    default: []
  slo_availability_percent:
    description: Objective for answers without an error.
    type: float
    default: 99.9
  slo_latency_percent:
    description: Objective for requests that are fast enough.
    type: float
    default: 99.0
  slo_latency_seconds:
    description: What is fast enough.
    type: float
    default: 0.25
  alert_labels:
    description: More labels for all alerts.
    type: dict
    default: {}
  runbook_url:
    description: Address of the page with the alerts' sections.
    type: str
    default: ""
  promtool:
    description: Path of promtool.
    type: str
    default: ""
  dashboards_enabled:
    description: Make dashboards.
    type: bool
    default: true
  dashboard_dirs:
    description: Directories with more dashboards.
    type: list
    elements: str
    default: []
  dashboard_labels:
    description: Labels by which dashboards are found.
    type: dict
    default: {grafana_dashboard: "1"}
  dashboard_folder:
    description: Folder in Grafana.
    type: str
    default: Appgate
  dashboard_folder_annotation:
    description: Annotation that names the folder.
    type: str
    default: grafana_folder
"""

EXAMPLES = r"""
- name: Read and check the catalog and the dashboards
  appgate.platform.observability_plan:
    release: shop
    namespace: monitoring
    app_namespaces: [shop]
    app_selector: {app: shop}
    own_catalog: catalog.yml
    own_dashboards: dashboards
  register: plan
"""

RETURN = r"""
manifests:
  description: All objects, to be applied together.
  returned: success
  type: list
  elements: dict
alerts:
  description: Names of the alerts.
  returned: success
  type: list
  elements: str
  sample: [AppgateDown]
dashboards:
  description: Names of the dashboards' ConfigMaps.
  returned: success
  type: list
  elements: str
  sample: [appgate-observability-dashboard-app]
summary:
  description: What there is, in one line.
  returned: success
  type: str
  sample: 37 alerts, 5 dashboards
"""
