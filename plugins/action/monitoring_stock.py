# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Name the parts and the images that monitoring takes, without a cluster; fetch the published chart where it is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_images as images
from ansible_collections.appgate.platform.plugins.module_utils.helm_chart import Chart, ChartError, Source

GO = Path(__file__).resolve().parents[2] / "roles" / "sources" / "files" / "go"


class ActionModule(ActionBase):
    """See plugins/modules/monitoring_stock.py for what it takes and gives."""

    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(argument_spec={"cache_dir": {"type": "path", "required": True}})
        cache = Path(given["cache_dir"])
        charts = {}
        if self._of(task_vars, "monitoring_chart_source") == "upstream":
            try:
                chart = self._chart(task_vars, cache / "charts")
            except ChartError as error:
                raise AnsibleActionFail(str(error)) from None
            if chart.path is not None and chart.path.parent == cache / "charts":
                charts[f"monitoring/charts/{chart.path.name}"] = str(chart.path)
        tags = {image: images.tag(GO, image) for image in images.IMAGES}
        result.update(
            changed=False,
            parts=sorted({"helm", *(image.part for image in tags)}),
            images=[
                {"name": image.name, "part": image.part, "program": image.program, "tag": tag}
                for image, tag in tags.items()
            ],
            stock={
                "paths": {
                    **{f"monitoring/images/{tag}": str(cache / "images" / tag) for tag in tags.values()},
                    **charts,
                },
                "packages": {name: name for name in ("buildah", "skopeo")},
            },
        )
        return result

    def _of(self, variables: dict[str, Any] | None, name: str) -> Any:
        return self._templar.template((variables or {}).get(name, ""))

    def _chart(self, variables: dict[str, Any] | None, cache: Path) -> Chart:
        """The published chart. Its credentials are read here, where no argument of a task shows them."""
        source = Source(
            ref=str(self._of(variables, "monitoring_chart_ref")),
            version=str(self._of(variables, "monitoring_chart_version")),
            cache=cache,
            username=str(self._of(variables, "monitoring_chart_username") or ""),
            password=str(self._of(variables, "monitoring_chart_password") or ""),
            plain_http=bool(self._of(variables, "monitoring_chart_plain_http")),
        )
        chart = Chart.of(source)
        return chart if self._task.check_mode else chart.fetched()
