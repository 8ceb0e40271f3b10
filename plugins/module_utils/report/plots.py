# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG that belongs to the page: no script, no style of its own, its colours are the page's in light and dark."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from ansible_collections.appgate.platform.plugins.module_utils.report.model import NOTHING, Marker, Plot, Series

#: Two drawings of each plot, as text in a scaled one would be too small on a phone or too large on a desk: for each its
#: width, its height, and how many times stand below it.
WIDE = ("wide", 560, 220, 6)
NARROW = ("narrow", 304, 180, 3)
LABEL_STEPS = (60, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 259200, 604800, 864000)
TICKS = 4
HEADROOM = 1.05
FULL = 0.75


class NoLibrary(Exception):
    """The plotting library is not installed."""


@dataclass(frozen=True)
class Scale:
    """How the values of a plot are written: what they are multiplied by, and the unit behind them."""

    factor: float
    unit: str

    def text(self, value: float | None) -> str:
        """A value for a person; three digits are enough."""
        if value is None:
            return NOTHING
        return f"{digits(value * self.factor)}{self.unit}"


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    places = max(0, min(6, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def scale(unit: str, highest: float) -> Scale:
    """The scale at which the highest value reads well."""
    if unit == "seconds":
        return Scale(1.0, " s") if highest >= 1 else Scale(1000.0, " ms")
    if unit == "share":
        return Scale(100.0, " %")
    return Scale(1.0, "/s")


def ticks(highest: float, unit: str) -> list[float]:
    """Round values from 0 to at least the highest; nothing is more than 100 %."""
    if highest <= 0:
        return [0.0, 1.0]
    if unit == "share" and FULL < highest <= 1:
        return [0.0, 0.25, 0.5, 0.75, 1.0]
    rough = highest * HEADROOM / TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(size * magnitude for size in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if size * magnitude >= rough)
    return [step * number for number in range(math.ceil(highest * HEADROOM / step - 1e-9) + 1)]


def peak(plot: Plot) -> float:
    """The highest value that is drawn."""
    columns = zip(*(line.values for line in plot.series), strict=True)
    heights = [[value for value in column if value is not None] for column in columns]
    return max((sum(values) if plot.stacked else max(values) for values in heights if values), default=0.0)


def summary(line: Series, unit: str) -> dict[str, str]:
    """What a table below the plot says of a line. Each value has the unit that suits it, whatever the axis has."""
    known = [value for value in line.values if value is not None]

    def text(value: float | None) -> str:
        return scale(unit, value or 0.0).text(value)

    return {
        "name": line.name,
        "tone": line.tone,
        "now": text(line.values[-1]),
        "mean": text(sum(known) / len(known) if known else None),
        "highest": text(max(known, default=None)),
    }


def clock(moment: int, span: int) -> str:
    """A time below a plot, in UTC."""
    known = datetime.datetime.fromtimestamp(moment, datetime.UTC)
    if span > 5 * 86400:
        return f"{known.day} {known:%b}"
    return f"{known:%H:%M}" if span <= 86400 else f"{known:%a %H:%M}"


def labelled(times: Sequence[int], most: int) -> dict[int, int]:
    """The round times that are written below the plot, each with the number of the first point that is not before it."""
    span, step = times[-1] - times[0], times[1] - times[0]
    every = next((size for size in LABEL_STEPS if span / size <= most), LABEL_STEPS[-1])
    first = -(-times[0] // every) * every
    return {-(-(moment - times[0]) // step): moment for moment in range(first, times[-1] + 1, every)}


def svg(plot: Plot, size: tuple[str, int, int, int], markers: Sequence[Marker] = ()) -> str:
    """A plot as an inline SVG element."""
    try:
        import pygal
    except ImportError:
        raise NoLibrary from None
    name, width, height, labels = size
    marks = ticks(peak(plot), plot.unit)
    scaled = scale(plot.unit, marks[-1])
    kind = pygal.StackedBar if plot.stacked else pygal.Line
    chart = kind(
        width=width,
        height=height,
        classes=["plot", name],
        css=[],
        js=[],
        disable_xml_declaration=True,
        explicit_size=False,
        show_legend=False,
        show_dots=False,
        show_x_guides=False,
        show_minor_x_labels=False,
        allow_interruptions=True,
        margin=2,
        margin_left=8,
        margin_right=14,
        spacing=6,
        truncate_label=-1,
        range=(marks[0], marks[-1]),
        y_labels=[{"value": mark, "label": scaled.text(mark)} for mark in marks],
    )
    # By number, as each needs a name of its own; how they are written comes last.
    chart.x_labels = [str(moment) for moment in plot.times]
    shown = labelled(plot.times, labels)
    chart.x_labels_major = [str(plot.times[at]) for at in sorted(shown)]
    for line in plot.series:
        chart.add(line.name, list(line.values))
    chart.add_xml_filter(_Finish(plot, marks, shown, markers if name == "wide" else (), hints=name == "wide"))
    return str(chart.render(is_unicode=True))


class _Finish:
    """Takes out what a page does not need, and puts in what a person does."""

    def __init__(
        self, plot: Plot, marks: Sequence[float], shown: Mapping[int, int], markers: Sequence[Marker], *, hints: bool
    ) -> None:
        self.plot = plot
        self.marks = marks
        self.shown = shown
        self.markers = markers
        self.hints = hints

    def __call__(self, root: Any) -> Any:
        element: Callable[..., Any] = getattr(root, "makeelement", ElementTree.Element)
        for parent in list(root.iter()):
            for child in list(parent):
                if _superfluous(child):
                    parent.remove(child)
        root.attrib.pop("id", None)
        root.set("role", "img")
        root.set("aria-label", self._spoken())
        root.set("class", root.get("class", "").replace("pygal-chart ", ""))
        for node in root.iter():
            match = re.search(r"\bserie-(\d+)\b", node.get("class", ""))
            if match:
                node.set("class", f"series tone-{self.plot.series[int(match[1])].tone}")
        ground = next(node for node in root.iter() if node.get("class") == "plot" and _tag(node) == "g")
        first, distance = self._write_times(ground)
        if distance and not self.plot.stacked:
            self._mark_lone_values(ground, element, first, distance)
        if self.hints and distance:
            self._point_at(ground, element, first, distance)
        return root

    def _spoken(self) -> str:
        """The plot in words, for those who don't see it."""
        lines = [summary(line, self.plot.unit) for line in self.plot.series]
        parts = [
            f"{line['name']}: {line['now']} now, {line['mean']} on average, {line['highest']} at most" for line in lines
        ]
        return f"{self.plot.title}, {self.plot.text}. {'; '.join(parts)}."

    def _write_times(self, ground: Any) -> tuple[float, float]:
        """Write round times below the plot, where they belong between its points; gives the first point and the distance."""
        times = self.plot.times
        span, step = times[-1] - times[0], times[1] - times[0]
        axis = next(node for node in ground if node.get("class", "").startswith("axis x"))
        guides = [node for node in axis if node.get("class") == "guides"]
        texts = [next(node for node in guide if _tag(node) == "text") for guide in guides]
        points = [times.index(int(text.text)) for text in texts]
        places = [float(text.get("x")) for text in texts]
        distance = (places[-1] - places[0]) / (points[-1] - points[0]) if len(points) > 1 else 0.0
        for guide, text, point, place in zip(guides, texts, points, places, strict=True):
            moment = self.shown[point]
            exact = f"{place - (times[point] - moment) / step * distance:.1f}"
            text.text = clock(moment, span)
            text.set("x", exact)
            for line in guide:
                if line.get("d"):
                    line.set("d", re.sub(r"^M[0-9.]+", f"M{exact}", line.get("d")))
        return places[0] - points[0] * distance if places else 0.0, distance

    def _mark_lone_values(self, ground: Any, element: Callable[..., Any], first: float, distance: float) -> None:
        """A value between gaps makes no line: it becomes a dot, which is a line without a length with round ends."""
        axis = next(node for node in ground if node.get("class", "").startswith("axis y"))
        lines = [re.match(r"M[0-9.]+ ([0-9.]+) h", node.get("d", "")) for node in axis.iter()]
        heights = [float(line[1]) for line in lines if line]
        groups = [node for node in ground if node.get("class", "").startswith("series")]
        for line, group in zip(self.plot.series, groups, strict=True):
            around = [None, *line.values, None]
            for at, value in enumerate(line.values):
                if value is not None and around[at] is None and around[at + 2] is None:
                    height = heights[0] + (heights[-1] - heights[0]) * value / self.marks[-1]
                    place = f"{first + at * distance:.1f} {height:.1f}"
                    self._add(group, element, "path", {"d": f"M{place} L{place}", "class": "line alone"})

    def _point_at(self, ground: Any, element: Callable[..., Any], first: float, distance: float) -> None:
        """A column for each moment, that shows its values when a pointer rests on it, and a line for each marker."""
        area = next(node for node in ground if "background" in node.get("class", ""))
        height, width = area.get("height"), float(area.get("width"))
        times = self.plot.times
        for marker in self.markers:
            at = first + (marker.time - times[0]) / (times[1] - times[0]) * distance
            if 0 <= at <= width:
                group = self._add(ground, element, "g", {"class": "marker"})
                self._add(group, element, "path", {"d": f"M{at:.1f} 0 v{height}"})
                self._add(group, element, "title", {}).text = marker.text
        span = times[-1] - times[0]
        for at, moment in enumerate(times):
            group = self._add(ground, element, "g", {"class": "moment"})
            middle = first + at * distance
            left, right = max(0.0, middle - distance / 2), min(width, middle + distance / 2)
            box = {"x": f"{left:.1f}", "y": "0", "width": f"{right - left:.1f}", "height": str(height)}
            self._add(group, element, "rect", box)
            values = [
                f"{line.name} {scale(self.plot.unit, line.values[at] or 0.0).text(line.values[at])}"
                for line in self.plot.series
            ]
            self._add(group, element, "title", {}).text = "\n".join([f"{clock(moment, span)} UTC", *values])

    @staticmethod
    def _add(parent: Any, element: Callable[..., Any], tag: str, attributes: dict[str, str]) -> Any:
        child = element(tag, attributes)
        parent.append(child)
        return child


def _superfluous(node: Any) -> bool:
    """Scripts, styles, comments, what waits for a script, and bars without a height."""
    if not isinstance(node.tag, str) or _tag(node) in ("script", "style", "defs", "desc", "title"):
        return True
    kind = node.get("class", "")
    if _tag(node) == "g":
        return "overlay" in kind or kind == "titles"
    return _tag(node) == "rect" and "reactive" in kind and float(node.get("height")) <= 0


def _tag(node: Any) -> str:
    return str(node.tag).rpartition("}")[2]
