# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Name the parts and the images that the embedded chart takes, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.appgate.platform.plugins.module_utils import monitoring_images as images

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
        tags = {image: images.tag(GO, image) for image in images.IMAGES}
        result.update(
            changed=False,
            parts=sorted({"helm", *(image.part for image in tags)}),
            images=[
                {"name": image.name, "part": image.part, "program": image.program, "tag": tag}
                for image, tag in tags.items()
            ],
            stock={
                "paths": {f"monitoring/images/{tag}": str(cache / "images" / tag) for tag in tags.values()},
                "packages": {name: name for name in ("buildah", "skopeo")},
            },
        )
        return result
