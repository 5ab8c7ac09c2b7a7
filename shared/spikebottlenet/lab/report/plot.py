"""Plots drawn as SVG: accuracy over a cost on a logarithmic axis, the front marked; and bars.

Colours are those of the page by custom properties, so one drawing serves light and dark. Text is
text, and every mark says its figures when pointed at. Lengths are the drawing's own units.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from spikebottlenet.lab.report.frontier import Mark, front
from spikebottlenet.lab.report.series import Series

WIDTH, HEIGHT = 480, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 46
_ZERO_BAND = 34  # beside the axis, for costs of zero that a logarithm has no place for
_SIZE = 5
_BAR, _BAR_GAP, _LABEL = 14, 6, 130


# (kind of paint, path from its middle) by shape
_PATHS = {
    "square": ("fill", "m-5,-5h10v10h-10z"),
    "diamond": ("fill", "m0,-6.5l6.5,6.5l-6.5,6.5l-6.5,-6.5z"),
    "triangle": ("fill", "m0,-6l6,10.5h-12z"),
    "wedge": ("fill", "m0,6l6,-10.5h-12z"),
    "cross": ("stroke", "m-5,-5l10,10m0,-10l-10,10"),
    "dash": ("stroke", "m-6,0h12"),
    "plus": ("stroke", "m-6,0h12m-6,-6v12"),
}


@dataclass(frozen=True)
class Scale:
    """A cost to a place along the axis."""

    low: float
    high: float
    left: float
    logarithmic: bool = True

    def __call__(self, value: float) -> float:
        """Where a cost lies; zero lies left of a logarithmic axis."""
        if self.logarithmic and value <= 0:
            return _LEFT + _ZERO_BAND / 2
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return self.left + (at - low) / (high - low) * (WIDTH - _RIGHT - self.left)

    def ticks(self) -> list[float]:
        """Powers of ten, with 2 and 5 where they are few; or every whole number."""
        if not self.logarithmic:
            return [float(n) for n in range(math.ceil(self.low), math.floor(self.high) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if len(decades) <= 4 else (1,)
        found = [step * 10.0**decade for decade in decades for step in steps]
        return [tick for tick in found if self.low <= tick <= self.high]


def frontier_plot(
    series: Sequence[Series], *, key: str, title: str, x_title: str, logarithmic: bool = True
) -> str:
    """Accuracy over a cost; marks of the front are joined by steps and ringed."""
    spots = [spot for each in series for spot in each.spots]
    xs = [spot.x for spot in spots]
    scale = _scale(xs, logarithmic=logarithmic)
    y, y_ticks = _accuracy_axis([spot.top1 for spot in spots])
    parts = [_axes(scale, y, y_ticks, x_title, zero=logarithmic and min(xs) <= 0)]
    paid = [spot for spot in spots if spot.x > 0]  # what costs nothing would be the whole front
    best = front([Mark(spot.x, spot.top1) for spot in paid])
    if logarithmic:
        parts.append(_steps([(scale(paid[i].x), y(paid[i].top1)) for i in best]))
    for each in series:
        places = [(scale(spot.x), y(spot.top1)) for spot in each.spots]
        if each.joined:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
            parts.append(f'<polyline class="line c{each.colour}" points="{path}"/>')
        for (a, b), spot in zip(places, each.spots, strict=True):
            says = f"<title>{escape(spot.says)}</title>"
            parts.append(f'<g class="c{each.colour}">{_mark(each.shape, a, b)}{says}</g>')
    if logarithmic:
        parts += [
            f'<circle class="front" cx="{scale(paid[i].x):.1f}" cy="{y(paid[i].top1):.1f}" '
            f'r="{_SIZE + 3.5}"/>'
            for i in best
        ]
    described = f"{len(spots)} points; all are in the table of points below."
    return _svg(key, title, described, parts, HEIGHT)


def bars(
    rows: Sequence[tuple[str, float]], *, key: str, title: str, form: Callable[[float], str]
) -> str:
    """Horizontal bars from zero, each with its name and figure."""
    most = max((value for _, value in rows), default=0.0) or 1.0
    room = WIDTH - _LABEL - 60
    parts = []
    for index, (name, value) in enumerate(rows):
        top = _BAR_GAP + index * (_BAR + _BAR_GAP)
        middle = top + _BAR - 3
        length = room * value / most
        parts.append(f'<text x="{_LABEL - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="bar" x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}"/>'
        )
        parts.append(f'<text x="{_LABEL + length + 6:.1f}" y="{middle}">{form(value)}</text>')
    height = _BAR_GAP + len(rows) * (_BAR + _BAR_GAP)
    described = "; ".join(f"{name} {form(value)}" for name, value in rows)
    return _svg(key, title, described, parts, height)


def mark_svg(shape: str, colour: int) -> str:
    """A mark by itself, for a legend."""
    return (
        f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true"><g class="c{colour}">'
        f"{_mark(shape, 8, 8)}</g></svg>"
    )


def _svg(key: str, title: str, described: str, parts: Sequence[str], height: float) -> str:
    head = (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
        f'role="img" aria-labelledby="{key}-title {key}-about">'
        f'<title id="{key}-title">{escape(title)}</title>'
        f'<desc id="{key}-about">{escape(described)}</desc>'
    )
    return head + "".join(parts) + "</svg>"


def _scale(xs: Sequence[float], *, logarithmic: bool) -> Scale:
    if not logarithmic:
        return Scale(min(xs) - 0.3, max(xs) + 0.3, _LEFT, logarithmic=False)
    above = [x for x in xs if x > 0] or [1.0]
    left = _LEFT + (_ZERO_BAND if min(xs) <= 0 else 0)
    return Scale(min(above) / 1.35, max(above) * 1.35, left)


def _accuracy_axis(values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    low, high = min(values), max(values)
    step = next(s for s in (0.5, 1, 2, 5, 10, 20) if (high - low) / s <= 6)
    bottom = max(0.0, step * math.floor((low - 0.2 * step) / step))
    top = min(100.0, step * math.ceil((high + 0.2 * step) / step))
    top = max(top, bottom + step)
    ticks = [bottom + step * n for n in range(round((top - bottom) / step) + 1)]
    room = HEIGHT - _TOP - _BOTTOM
    return (lambda value: _TOP + (top - value) / (top - bottom) * room), ticks


def _axes(
    scale: Scale, y: Callable[[float], float], ticks: Sequence[float], x_title: str, *, zero: bool
) -> str:
    base = HEIGHT - _BOTTOM
    parts = []
    for tick in ticks:
        at = y(tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in scale.ticks():
        at = scale(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{base}"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{base + 15}" text-anchor="middle">{_tick(tick)}</text>'
        )
    if zero:
        at = _LEFT + _ZERO_BAND / 2
        parts.append(f'<text x="{at}" y="{base + 15}" text-anchor="middle">0</text>')
        edge = _LEFT + _ZERO_BAND
        parts.append(f'<line class="axis dashed" x1="{edge}" x2="{edge}" y1="{_TOP}" y2="{base}"/>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="name" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{escape(x_title)}</text>"
    )
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _steps(places: Sequence[tuple[float, float]]) -> str:
    """The front: no accuracy is had for less than the step to its right."""
    if not places:
        return ""
    path = f"M{places[0][0]:.1f},{places[0][1]:.1f}"
    for a, b in places[1:]:
        path += f"H{a:.1f}V{b:.1f}"
    return f'<path class="steps" d="{path}"/>'


def _mark(shape: str, x: float, y: float) -> str:
    s = _SIZE
    if shape in ("circle", "ring"):
        kind = "fill" if shape == "circle" else "stroke"
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{s}"/>'
    kind, move = _PATHS[shape]
    return f'<path class="{kind}" d="M{x:.1f},{y:.1f}{move}"/>'
