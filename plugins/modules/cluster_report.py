# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_report
short_description: Write one HTML page about a cluster, from live data
version_added: 0.1.0
author: The Appgate platform authors
description:
  - Asks the API server, and Prometheus through the API server, and writes one self-contained page. It loads nothing and
    runs no script.
  - What is not there, may not be read or does not answer is said on the page. Only wrong input and a cluster that can't
    be reached fail; for the latter a page that says so takes the place of the one before.
  - Changes nothing in the cluster, and keeps no secret.
extends_documentation_fragment:
  - appgate.platform.connection
requirements:
  - pygal, beside Ansible
options:
  dir:
    description: Directory of the page; it is made if it is missing.
    type: str
    required: true
  cluster_name:
    description: What the cluster is called on the page, and the page's file name.
    type: str
    required: true
  siblings:
    description: Names of all clusters that get a page in this run, for links between them.
    type: list
    elements: str
    default: []
  hours:
    description: How far the plots look back.
    type: float
    default: 1
  namespaces:
    description: More namespaces whose workloads are shown; C(*) for all.
    type: list
    elements: str
    default: []
  app_namespace:
    description: Namespace of the app.
    type: str
    default: appgate
  app_release:
    description: Release of the app.
    type: str
    default: appgate
  monitoring_namespace:
    description: Namespace of Prometheus.
    type: str
    default: prometheus
  monitoring_release:
    description: Release of monitoring.
    type: str
    default: prometheus
  prometheus_service:
    description: Service of Prometheus as C(name), C(name:port) or C(https:name:port); empty finds it.
    type: str
    default: ""
  policy_enforced:
    description: Whether the cluster enforces NetworkPolicy objects, V(true), V(false) or V(auto).
    type: str
    default: auto
attributes:
  check_mode:
    description: Asks everything, writes nothing, and reports a change if the page would say something else.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Write a page about the cluster
  appgate.platform.cluster_report:
    kubeconfig: ~/.kube/production.yaml
    context: production
    dir: build/reports
    cluster_name: production
    hours: 6
"""

RETURN = r"""
changed:
  description:
    - Whether the page says something else about the cluster than the one before. The page is written in each run; its
      time, its measured values and its plots alone are no change.
  returned: success
  type: bool
path:
  description: The page.
  returned: success
  type: str
  sample: build/reports/production.html
verdict:
  description: The whole in one line.
  returned: success
  type: str
  sample: All is well
state:
  description: The worst state of a part, V(good), V(warn) or V(bad).
  returned: success
  type: str
  sample: good
parts:
  description: Each part with name, state (V(good), V(warn), V(bad), V(off)), text and remedy.
  returned: success
  type: list
  elements: dict
rows:
  description: Rows of the closing table.
  returned: success
  type: dict
"""
