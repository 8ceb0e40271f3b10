# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""What the variables of the role `app` must be, one by one and together. All mistakes are told at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.appgate.platform.plugins.module_utils.input_problems import Problem, out_of_bounds, whole
from ansible_collections.appgate.platform.plugins.module_utils.kube_objects import is_dns_label, quantity

#: [registry[:port]/]path[:tag][@sha256:digest], as far as a typo can be told from it.
_IMAGE = re.compile(
    r"^(?P<name>[a-z0-9]+(?:[._:/-]+[a-z0-9]+)*?)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@sha256:(?P<digest>[0-9a-f]{64}))?$"
)
_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")
_LABEL_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
_HOST = re.compile(r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")

#: The role sets these itself, so that they fit the pod.
RESERVED_ENV = {
    "APPGATE_GRACEFUL_TIMEOUT_SECONDS": "app_gunicorn_stop_timeout_seconds",
    "APPGATE_STOP_TIMEOUT_SECONDS": "app_haproxy_stop_timeout_seconds",
    "APPGATE_BIND": "the socket that HAProxy knows",
    "PROMETHEUS_MULTIPROC_DIR": "the volume of the pod",
}
NAMES = ("app_namespace", "app_release", "app_service_name", "app_network_policy_monitoring_namespace")
PORTS = ("app_http_port", "app_operations_port", "app_service_port")
#: Whole numbers with the least and the greatest value.
NUMBERS: dict[str, tuple[int, int]] = {
    "app_replicas": (1, 1000),
    "app_autoscaling_max_replicas": (1, 1000),
    "app_autoscaling_cpu_percent": (1, 1000),
    "app_pdb_max_unavailable": (1, 1000),
    "app_start_timeout_seconds": (1, 3600),
    "app_rollout_timeout_seconds": (1, 86400),
    "app_lock_wait_seconds": (0, 86400),
    "app_drain_delay_seconds": (0, 600),
    "app_haproxy_stop_timeout_seconds": (1, 3600),
    "app_gunicorn_stop_timeout_seconds": (1, 3600),
    "app_probe_timeout_seconds": (1, 3600),
    "app_namespace_deletion_wait_seconds": (0, 3600),
    "app_revision_history_limit": (2, 100),
}


def problems(values: Mapping[str, Any]) -> list[Problem]:
    """Every mistake in the variables of a deploy; missing variables are somebody else's matter."""
    found: list[Problem] = []
    for check in (_names, _numbers, _ports, _resources, _image, _texts, _environment, _labels):
        found.extend(check(values))
    return found


def removal_problems(values: Mapping[str, Any]) -> list[Problem]:
    """What matters for taking it all away again."""
    return [problem for problem in _names(values) if problem.variable in ("app_namespace", "app_release")]


def _names(values: Mapping[str, Any]) -> Iterator[Problem]:
    for variable in NAMES:
        value = values.get(variable)
        if value is not None and not is_dns_label(value):
            yield Problem(
                variable,
                f"{value!r} isn't a name that Kubernetes takes (DNS-1123): at most 63 of a-z, 0-9 and '-', "
                "with a letter or digit at both ends",
            )
    release = values.get("app_release")
    if is_dns_label(release) and len(str(release)) > 40:
        yield Problem("app_release", f"{release!r} is longer than 40 characters, and other names are made from it")
    service = str(values.get("app_service_name") or "")
    if service[:1].isdigit():
        yield Problem("app_service_name", f"{service!r} must start with a letter, as all Services do")


def _numbers(values: Mapping[str, Any]) -> Iterator[Problem]:
    yield from out_of_bounds(values, NUMBERS)
    replicas, most = whole(values.get("app_replicas")), whole(values.get("app_autoscaling_max_replicas"))
    if values.get("app_autoscaling_enabled") and replicas and most and most < replicas:
        yield Problem(
            "app_autoscaling_max_replicas", f"{most} is less than app_replicas ({replicas}), the least number of pods"
        )
    stop, rollout = whole(values.get("app_start_timeout_seconds")), whole(values.get("app_rollout_timeout_seconds"))
    if stop and rollout and rollout < stop:
        yield Problem(
            "app_rollout_timeout_seconds",
            f"{rollout} is less than app_start_timeout_seconds ({stop}), so no pod's start fits",
        )


def _ports(values: Mapping[str, Any]) -> Iterator[Problem]:
    for variable in PORTS:
        number = whole(values.get(variable))
        low = 1 if variable == "app_service_port" else 1024
        if variable in values and (number is None or not low <= number <= 65535):
            why = "" if low == 1 else "; below that, a port needs a capability that the pod doesn't have"
            yield Problem(variable, f"{values[variable]!r} must be a port from {low} to 65535{why}")
    if "app_http_port" in values and values["app_http_port"] == values.get("app_operations_port"):
        yield Problem(
            "app_operations_port", f"{values['app_http_port']} is already app_http_port; each needs a port of its own"
        )
    config = values.get("app_haproxy_config")
    for variable in ("app_http_port", "app_operations_port"):
        number = whole(values.get(variable))
        if number and config and not re.search(rf"^\s*bind\s.*:{number}(?!\d)", str(config), re.MULTILINE):
            yield Problem(
                variable,
                f"{number} isn't bound by app_haproxy_config: set haproxy_{variable.removeprefix('app_')} to the same",
            )


def _resources(values: Mapping[str, Any]) -> Iterator[Problem]:
    numbers: dict[str, float] = {}
    for part in ("gunicorn", "haproxy"):
        for what in ("cpu", "memory"):
            for bound in ("request", "limit"):
                variable = f"app_{part}_{what}_{bound}"
                value = values.get(variable)
                if value is None or (value == "" and variable.endswith("cpu_limit")):
                    continue
                problem = _quantity(variable, value, numbers)
                if problem:
                    yield problem
            request, limit = (f"app_{part}_{what}_{bound}" for bound in ("request", "limit"))
            if request in numbers and limit in numbers and numbers[limit] < numbers[request]:
                yield Problem(
                    limit,
                    f"{values[limit]!r} is less than {request} ({values[request]!r}); a limit can't be below its request",
                )
    for variable in ("app_run_volume_size", "app_tmp_volume_size"):
        if variable in values:
            problem = _quantity(variable, values[variable], numbers)
            if problem:
                yield problem
    volume, memory = "app_run_volume_size", "app_gunicorn_memory_limit"
    if volume in numbers and memory in numbers and numbers[volume] > numbers[memory]:
        yield Problem(
            volume, f"{values[volume]!r} is more than {memory} ({values[memory]!r}), to which this memory is counted"
        )


def _quantity(variable: str, value: object, numbers: dict[str, float]) -> Problem | None:
    try:
        number = quantity(value)
    except ValueError as error:
        return Problem(variable, str(error))
    if number <= 0:
        return Problem(variable, f"{value!r} must be more than nothing")
    numbers[variable] = number
    return None


def _image(values: Mapping[str, Any]) -> Iterator[Problem]:
    image = values.get("app_image")
    if image is None:
        return
    if not image:
        yield Problem(
            "app_image",
            "is empty: run playbooks/image.yml in the same run, or give an image such as "
            "registry.example.com/appgate@sha256:...",
        )
        return
    match = _IMAGE.match(str(image))
    if not match:
        yield Problem(
            "app_image", f"{image!r} isn't an image reference such as registry.example.com/appgate@sha256:..."
        )
        return
    if "/" not in match["name"]:
        yield Problem(
            "app_image",
            f"{image!r} has no registry, and every node would look for it somewhere else: write it whole, such as "
            "registry.example.com/appgate@sha256:...",
        )
    if match["digest"]:
        return
    # What was put straight onto the nodes has no registry that could know its digest; its tag is its content's hash.
    on_nodes = match["name"].startswith("localhost/")
    if not values.get("app_image_allow_tag") and not on_nodes:
        yield Problem(
            "app_image", f"{image!r} has no digest: add @sha256:... (or allow tags with app_image_allow_tag: true)"
        )
    elif match["tag"] in (None, "latest"):
        yield Problem("app_image", f"{image!r} names no version: give a tag other than latest, or a digest")


def _texts(values: Mapping[str, Any]) -> Iterator[Problem]:
    if "app_haproxy_config" in values and not str(values["app_haproxy_config"] or "").strip():
        yield Problem("app_haproxy_config", "is empty: render it with the role haproxy (tasks_from: render)")
    path = values.get("app_probe_path")
    if path is not None and not str(path).startswith("/"):
        yield Problem("app_probe_path", f"{path!r} must start with '/'")
    host = values.get("app_ingress_host")
    if host and not _HOST.match(str(host)):
        yield Problem("app_ingress_host", f"{host!r} isn't a host name")
    version = values.get("app_version")
    if version and not _LABEL_VALUE.match(str(version)):
        yield Problem("app_version", f"{version!r} can't be a label: at most 63 letters, digits, '.', '_' and '-'")


def _environment(values: Mapping[str, Any]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    sources: list[tuple[str, list[Any]]] = [
        ("app_env", list(values.get("app_env") or {})),
        ("app_secret_env", list(values.get("app_secret_env") or {})),
        ("app_env_from_secrets", [item.get("name") for item in values.get("app_env_from_secrets") or []]),
    ]
    for variable, names in sources:
        for name in names:
            if not _ENV_NAME.match(str(name)):
                yield Problem(variable, f"{name!r} can't be the name of an environment variable")
            elif name in RESERVED_ENV:
                yield Problem(variable, f"{name!r} is set by the role itself ({RESERVED_ENV[name]}); leave it out")
            elif name in seen:
                yield Problem(variable, f"{name!r} is given twice; it is also in {seen[name]}")
            seen[str(name)] = variable
    for name, value in (values.get("app_env") or {}).items():
        if isinstance(value, (dict, list)) or value is None:
            yield Problem("app_env", f"the value of {name!r} must be a text, a number or a boolean")


def _labels(values: Mapping[str, Any]) -> Iterator[Problem]:
    for variable in ("app_labels", "app_node_selector"):
        for key, value in (values.get(variable) or {}).items():
            if not _LABEL_KEY.match(str(key)):
                yield Problem(variable, f"{key!r} can't be the key of a label")
            elif not isinstance(value, str) or not _LABEL_VALUE.match(value):
                yield Problem(variable, f"{key}: {value!r} can't be a label's value; it must be a text (quote numbers)")
    for variable in ("app_annotations", "app_pod_annotations", "app_service_annotations", "app_ingress_annotations"):
        for key, value in (values.get(variable) or {}).items():
            if not isinstance(value, str):
                yield Problem(variable, f"{key}: {value!r} must be a text (quote numbers and booleans)")
