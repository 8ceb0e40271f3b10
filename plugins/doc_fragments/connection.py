# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Options of every module that acts on a cluster. As arguments: CONNECTION and NAMES of module_utils.kube_access."""

from __future__ import annotations


class ModuleDocFragment:
    """What ansible-doc adds."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description: Path of the kubeconfig.
    type: path
    required: true
  context:
    description: Name of the context. An empty one is refused; the current context is never used.
    type: str
    required: true
  connect_timeout_seconds:
    description: How long the API server may take to accept a connection.
    type: float
    default: 5
"""

    NAMES = r"""
options:
  variables:
    description: What the caller's variables are called, so that an error names the one to change.
    type: dict
    default: {}
"""
