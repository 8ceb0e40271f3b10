# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Options of every module that pushes to a registry. As arguments: REGISTRY of module_utils.image_delivery."""

from __future__ import annotations


class ModuleDocFragment:
    """What ansible-doc adds."""

    DOCUMENTATION = r"""
options:
  registry:
    description: Registry and prefix to push to. Empty pushes nothing.
    type: str
    default: ""
  plain_http:
    description: Whether the registry speaks HTTP without TLS.
    type: bool
    default: false
  authfile:
    description: File with credentials, as C(skopeo login) writes it.
    type: path
    default: ""
  username:
    description: User of the registry.
    type: str
    default: ""
  password:
    description: Password or token of that user.
    type: str
    default: ""
"""
