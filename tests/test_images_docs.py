# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The list of all that comes from outside is as it would be generated, and nothing is missing from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.parts import program

ROOT = Path(__file__).resolve().parents[1]


def script(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "images_docs.py"), *arguments],
        env={**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_list_is_current() -> None:
    done = script("--check")
    assert done.returncode == 0, done.stderr


def test_it_names_every_part_and_every_image_of_the_chart() -> None:
    page = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    catalog = yaml.safe_load((ROOT / "roles/sources/vars/catalog.yml").read_text(encoding="utf-8"))["sources_catalog"]
    missing = [name for name in catalog["parts"] if f"| `{name}` |" not in page]
    values = (ROOT / "charts/monitoring/values.yaml").read_text(encoding="utf-8")
    for repository in re.findall(r"(?m)^\s+repository: (\S+)$", values):
        if repository.rpartition("/")[2] not in page:
            missing.append(repository)
    assert not missing


def test_the_images_of_a_chart_are_printed() -> None:
    helm = str(Path(program("helm", "helm")).parent)
    done = script("--chart", str(ROOT / "charts/monitoring"), path=helm)
    assert done.returncode == 0, done.stderr
    names = done.stdout.splitlines()
    # One of them is named by a flag of the operator only.
    assert "quay.io/prometheus-operator/prometheus-config-reloader:v0.93.1" in names
    assert "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.15.0" in names
    assert len(names) == len(set(names)) == 6
    wrong = script("--chart", str(ROOT / "roles"), path=helm)
    assert wrong.returncode == 1
    assert "helm can't render it" in wrong.stderr
