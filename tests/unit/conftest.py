# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""A real API server, once for all unit tests that ask for one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The helpers beside this file go by their full names, as type checkers know them.
sys.path.insert(0, str(Path(__file__).parents[2]))

from ansible_collections.appgate.platform.plugins.module_utils.kube_access import Cluster, connect

from tests import parts
from tests.conftest import COMPLETE
from tests.unit.control_plane import ControlPlane, find_programs


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager."""
    programs = find_programs(build=COMPLETE)
    if programs is None:
        pytest.skip(f"no Kubernetes in {parts.CACHE}, and building it takes minutes (make up puts it there)")
    plane = ControlPlane(tmp_path_factory.mktemp("control-plane"), programs)
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="module")
def builder() -> None:
    """Skip without root and a builder. Asked when tests begin: a scenario beside them may have installed it by then."""
    lacking = [name for name in ("buildah", "skopeo", "mmdebstrap") if shutil.which(name) is None]
    if os.geteuid() != 0 or lacking:
        pytest.skip(
            f"needs root and a builder (missing: {', '.join(lacking) or 'root'}); make up installs the programs"
        )


@pytest.fixture(scope="session")
def cluster(control_plane: ControlPlane) -> Cluster:
    """An administrator's client."""
    return connect(str(control_plane.kubeconfig), control_plane.context)
