"""A plot as plain inline SVG: a line with a band. Colours are those of the page; a text says what is shown."""

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 200, 56, 24
_AXIS = 'stroke="currentColor" stroke-opacity="0.25"'
Numbers = Sequence[float]


def line_plot(
    x: Numbers, y: Numbers, low: Numbers = (), high: Numbers = (), *, label: str, rule: float | None = None,
    x_text: Callable[[float], str] = str,
) -> Markup:  # fmt: skip
    """A line over x with a band from `low` to `high`; `rule` is a level that is drawn across, such as 0.

    All numbers are finite. Nothing at all for fewer than two points."""
    if len(x) < 2:
        return Markup("")
    values = [*y, *low, *high, *(() if rule is None else (rule,))]
    (left, right), (bottom, top), base = (min(x), max(x)), (min(values), max(values)), HEIGHT - BOTTOM
    to_x, to_y = _scale(left, right, LEFT, WIDTH - 8), _scale(bottom, top, base, 8)
    shapes = [f'<path d="M{LEFT} 8V{base}H{WIDTH - 8}" fill="none" {_AXIS}/>']
    shapes += [_text(LEFT - 6, baseline, "end", f"{value:.3g}") for value, baseline in ((bottom, base), (top, 16))]
    shapes += [_text(LEFT, HEIGHT - 6, "start", x_text(left)), _text(WIDTH - 8, HEIGHT - 6, "end", x_text(right))]
    if len(low):
        ends = [*zip(x, high, strict=True), *reversed([*zip(x, low, strict=True)])]
        band = " ".join(f"{to_x(a):.1f},{to_y(b):.1f}" for a, b in ends)
        shapes.append(f'<polygon class="band" points="{band}" fill="currentColor" fill-opacity="0.15"/>')
    if rule is not None:
        shapes.append(f'<path d="M{LEFT} {to_y(rule):.1f}H{WIDTH - 8}" {_AXIS} stroke-dasharray="4 3"/>')
    line = " ".join(f"{to_x(a):.1f},{to_y(b):.1f}" for a, b in zip(x, y, strict=True))
    shapes.append(f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/>')
    head = f'<svg class="plot" role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">'
    return Markup(f"{head}{''.join(shapes)}</svg>")


def _scale(least: float, most: float, start: float, end: float) -> Callable[[float], float]:
    extent = (most - least) or 1.0
    return lambda value: start + (value - least) / extent * (end - start)


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="currentColor" font-size="11">{escape(text)}</text>'
