#!/usr/bin/python
# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: monitoring_plan
short_description: Check the variables of the role monitoring, and compare what is wanted with what is there
description:
  - Runs on the controller and changes nothing, but for a note on the release's record that a revision is ready, if it came up after
    its run was killed; none in check mode. It reads the role's variables (C(monitoring_*)) itself, because messages
    name the place where each was set.
  - Compares the release's own record (a Secret, read through the API), the CRDs, the images and the readiness of what
    runs with what is wanted. No helm is started.
  - Refuses what could not work (a missing Secret or StorageClass, CRDs that belong to another release, missing
    permissions, values that the chart's schema refuses) before anything is changed.
version_added: 0.1.0
author: The Appgate platform authors
options:
  operation:
    description:
      - V(check) refuses what is wrong in any case, and asks nobody.
      - V(converge) compares what is there with what is wanted, present or absent.
      - V(rollback) finds the earlier revision of the release that C(monitoring_revision) names.
    type: str
    choices: [check, converge, rollback]
    default: converge
attributes:
  check_mode:
    description: Reports a change when something would be done.
    support: full
  diff_mode:
    description: In check mode, shows the release's values before and after.
    support: full
"""

EXAMPLES = r"""
- name: Compare monitoring with what is wanted
  appgate.platform.monitoring_plan:
  register: __monitoring_plan
"""

RETURN = r"""
pending:
  description: What has to be done, each as a sentence. Empty when all is as wanted.
  returned: success
  type: list
  elements: str
  sample: ["release prometheus is installed (chart monitoring 0.1.0)"]
parts:
  description: Parts that have to be taken by the role sources for it.
  returned: success
  type: list
  elements: str
  sample: [helm, prometheus]
chart:
  description: Which chart, from where.
  returned: when monitoring_state is present
  type: dict
  sample: {source: embedded, name: monitoring, version: 0.1.0, path: charts/monitoring}
values:
  description: All values of the release. They hold no secrets.
  returned: when monitoring_state is present
  type: dict
recover:
  description: What must be done to a failed or interrupted release first; V(rollback), V(uninstall) or empty.
  returned: when monitoring_state is present
  type: str
  sample: rollback
revision:
  description: The revision to go to.
  returned: with O(operation=rollback)
  type: int
  sample: 3
undo_revision:
  description:
    - Where to go when the new revision does not become ready. 0 takes a first install away again, -1 leaves all as it is.
  returned: when monitoring_state is present, or with O(operation=rollback)
  type: int
  sample: 4
rows:
  description: Rows of the closing table.
  returned: when monitoring_state is present
  type: dict
"""
