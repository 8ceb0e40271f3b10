# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Name the parts and the images that monitoring takes, without a cluster; fetch the published chart where it is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.appgate.platform.plugins.module_utils import monitoring_images as images
from ansible_collections.appgate.platform.plugins.module_utils.helm_chart import Chart, ChartError, Source
from ansible_collections.appgate.platform.plugins.module_utils.image_work import builder_packages
from ansible_collections.appgate.platform.plugins.plugin_utils.controller import ControllerAction

SOURCES = Path(__file__).resolve().parents[2] / "roles" / "sources"


class ActionModule(ControllerAction):
    """See plugins/modules/monitoring_stock.py for what it takes and gives."""

    arguments: ClassVar[dict[str, Any]] = {"cache_dir": {"type": "path", "required": True}}
    refusals: ClassVar[tuple[type[Exception], ...]] = (ChartError,)

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        cache = Path(given["cache_dir"])
        pages = self.switch("sources_pages_enabled", True)
        tags = {image: images.tag(SOURCES, image, pages=pages) for image in images.IMAGES}
        paths = {f"monitoring/images/{tag}": str(cache / "images" / tag) for tag in tags.values()}
        inputs = self.inputs("monitoring_chart_")
        if inputs.get("monitoring_chart_source") == "upstream":
            # The credentials are read here, where no argument of a task shows them.
            chart = Chart.of(Source.from_inputs(inputs, cache / "charts"))
            chart = chart if self._task.check_mode else chart.fetched()
            if chart.path is not None and chart.path.parent == cache / "charts":
                paths[f"monitoring/charts/{chart.path.name}"] = str(chart.path)
        return {
            "parts": sorted({"helm", *(image.part for image in tags)}),
            "images": [
                {"name": image.name, "part": image.part, "program": image.program, "tag": tag}
                for image, tag in tags.items()
            ],
            "stock": {"paths": paths, "packages": builder_packages()},
        }
