"""Plots as plain inline SVG: a line with a band, and bars. Colours are those of the page; a text says what is shown."""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 200, 56, 24
_Ends = tuple[float, float]
_AXIS = 'stroke="currentColor" stroke-opacity="0.25"'


def line_plot(
    x: Sequence[float],
    y: Sequence[float],
    low: Sequence[float] = (),
    high: Sequence[float] = (),
    *,
    label: str,
    rule: float | None = None,
    x_text: Callable[[float], str] = "{:g}".format,
    y_text: Callable[[float], str] = "{:.3g}".format,
) -> Markup:
    """A line over x with a band from `low` to `high`; `rule` is a level that is drawn across, such as 0.

    Points that are not finite are gaps. Nothing at all for fewer than two points."""
    values = [value for value in (*y, *low, *high, *(() if rule is None else (rule,))) if math.isfinite(value)]
    if len(x) < 2 or not values:
        return Markup("")
    to_x, to_y = _scale(min(x), max(x), LEFT, WIDTH - 8), _scale(min(values), max(values), HEIGHT - BOTTOM, 8)
    parts = [_frame((min(x), max(x)), (min(values), max(values)), x_text, y_text)]
    if len(low):
        ends = [*zip(x, high, strict=True), *reversed([*zip(x, low, strict=True)])]
        band = " ".join(f"{to_x(a):.1f},{to_y(b):.1f}" for a, b in ends if math.isfinite(b))
        parts.append(f'<polygon class="band" points="{band}" fill="currentColor" fill-opacity="0.15"/>')
    if rule is not None:
        parts.append(f'<path d="M{LEFT} {to_y(rule):.1f}H{WIDTH - 8}" {_AXIS} stroke-dasharray="4 3"/>')
    path, pen = "", "M"
    for a, b in zip(x, y, strict=True):
        path, pen = (f"{path}{pen}{to_x(a):.1f} {to_y(b):.1f}", "L") if math.isfinite(b) else (path, "M")
    parts.append(f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.5"/>')
    return _svg(parts, label)


def bar_plot(
    names: Sequence[str], heights: Sequence[float], *, label: str, y_text: Callable[[float], str] = "{:.3g}".format
) -> Markup:
    """Bars from 0, with their names below."""
    if not heights:
        return Markup("")
    top, step = max(*heights, 1e-12, 0.0), (WIDTH - LEFT - 8) / len(heights)
    to_y = _scale(0.0, top, HEIGHT - BOTTOM, 8)
    parts = [_frame(None, (0.0, top), str, y_text)]
    for number, (name, height) in enumerate(zip(names, heights, strict=True)):
        place, level = LEFT + number * step, to_y(height)
        box = f'x="{place + step * 0.1:.1f}" width="{step * 0.8:.1f}" y="{level:.1f}"'
        box += f' height="{HEIGHT - BOTTOM - level:.1f}" fill="currentColor" fill-opacity="0.5"'
        parts.append(f"<rect {box}><title>{escape(name)}: {escape(y_text(height))}</title></rect>")
        if len(heights) <= 12:
            parts.append(_text(place + step / 2, HEIGHT - 6, "middle", name[:16]))
    return _svg(parts, label)


def _scale(least: float, most: float, start: float, end: float) -> Callable[[float], float]:
    extent = (most - least) or 1.0
    return lambda value: start + (value - least) / extent * (end - start)


def _frame(x: _Ends | None, y: _Ends, x_text: Callable[[float], str], y_text: Callable[[float], str]) -> str:
    base = HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT} 8V{base}H{WIDTH - 8}" fill="none" {_AXIS}/>']
    parts += [_text(LEFT - 6, place, "end", y_text(value)) for value, place in zip(y, (base, 16), strict=True)]
    if x:
        parts += [_text(LEFT, HEIGHT - 6, "start", x_text(x[0])), _text(WIDTH - 8, HEIGHT - 6, "end", x_text(x[1]))]
    return "".join(parts)


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="currentColor" font-size="11">{escape(text)}</text>'


def _svg(parts: Sequence[str], label: str) -> Markup:
    head = f'<svg class="plot" role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">'
    return Markup(f"{head}{''.join(parts)}</svg>")
