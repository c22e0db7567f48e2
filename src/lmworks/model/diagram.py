"""A picture of an architecture from its config alone, as SVG: the residual stream runs from the bottom to the top.

`layout` computes boxes and lines, `draw` writes them down. A box is as high as its lines of text need, which are broken
to its width by an upper estimate of a letter's width.
"""

from dataclasses import dataclass, field, replace
from html import escape
from textwrap import wrap
from typing import Literal

from lmworks.model import config as configs
from lmworks.model import description

WIDTH, EDGE, GAP = 236, 5, 14  # of a part's box; around its text; between boxes
LINE, FONT, LETTER = 15, 11, 6.4  # of the text, in pixels: a line's height, size, the most that a letter takes
PAD, LABEL = 18, 46  # between a frame and what is in it, at the right and, with the frame's label, at the left
Kind = Literal["embedding", "attention", "feed-forward", "norm", "head", "plus", "frame", "group"]


@dataclass(frozen=True)
class Box:
    """A rectangle with centred lines of text; a frame or a group has one label, at its left side."""

    kind: Kind
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """Through `points`, ending in an arrow if `arrow`."""

    points: tuple[tuple[float, float], ...]
    arrow: bool = True


@dataclass
class Drawing:
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def moved(self, x: float, y: float) -> "Drawing":
        boxes = [replace(box, x=box.x + x, y=box.y + y) for box in self.boxes]
        return Drawing(boxes, [Line(tuple((a + x, b + y) for a, b in line.points), line.arrow) for line in self.lines])

    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return (
            min(box.x for box in self.boxes),
            min(box.y for box in self.boxes),
            max(box.x + box.width for box in self.boxes),
            max(box.y + box.height for box in self.boxes),
        )

    def add(self, drawing: "Drawing") -> None:
        self.boxes += drawing.boxes
        self.lines += drawing.lines


class _Column:
    """Boxes one upon the other around the vertical x = 0, joined by arrows; `top` is the height reached."""

    def __init__(self, top: float = 0.0) -> None:
        self.drawing, self.top = Drawing(), top

    def put(self, kind: Kind, *lines: str) -> Box:
        texts = tuple(
            text for line in lines for text in wrap(line, int((WIDTH - 2 * EDGE) / LETTER), break_on_hyphens=False)
        )
        width, height = (16, 16) if kind == "plus" else (WIDTH, LINE * len(texts) + 2 * EDGE)
        if self.drawing.boxes:
            self.drawing.lines.append(Line(((0, self.top), (0, self.top - GAP))))
        self.top -= GAP + height
        self.drawing.boxes.append(Box(kind, -width / 2, self.top, width, height, texts))
        return self.drawing.boxes[-1]

    def rise(self, length: float) -> None:
        self.drawing.lines.append(Line(((0, self.top), (0, self.top - length)), arrow=False))
        self.top -= length

    def enclose(self, kind: Kind, first: int, bottom: float, times: int) -> None:
        """A frame around all boxes from number `first` on, which are drawn `times` times in the model."""
        left, _, right, _ = Drawing(self.drawing.boxes[first:]).edges()
        label = (f"{times} ×",) if times > 1 else ()
        frame = Box(kind, left - LABEL, self.top, right - left + LABEL + PAD, bottom - self.top, label)
        self.drawing.boxes.append(frame)


def layout(config: configs.ModelConfig) -> Drawing:
    """Boxes and lines of the whole model; an encoder stands at the left of its decoder."""
    if config.encoder is None or config.decoder is None:
        return _stack(config.stacks[0], config.embedding, config.head)
    whole = _stack(config.encoder, config.embedding, None)
    _, top, right, _ = whole.edges()
    embedding = config.decoder_embedding or config.embedding
    decoder = _stack(config.decoder, embedding, config.head, "the same token embedding")
    decoder = decoder.moved(right + 2 * PAD - decoder.edges()[0], 0)
    between = right + PAD
    for box in decoder.boxes:
        if box.lines[:1] == (description.CROSS,):
            level = box.y + box.height / 2
            route = ((0, top), (0, top - GAP), (between, top - GAP), (between, level), (box.x, level))
            whole.lines.append(Line(route))
    return Drawing(whole.boxes + decoder.boxes, whole.lines + decoder.lines)


def _stack(
    stack: configs.Stack, embedding: configs.Embedding, head: configs.Head | None, tokens: str = "token embedding"
) -> Drawing:
    column = _Column()
    column.put("embedding", tokens, *description.embedding_words(embedding))
    if embedding.positions is not None:
        column.put("embedding", f"+ {description.position_words(embedding.positions)}")
    if embedding.norm is not None:
        column.put("norm", description.norm_words(embedding.norm))
    for repeats, runs in description.fold(stack.blocks):
        column.rise(GAP)
        first, bottom = len(column.drawing.boxes), column.top
        for times, block in runs:
            column.rise(GAP)
            _block(column, block, stack, embedding.width, times)
        if repeats > 1:
            column.rise(GAP)
            column.enclose("group", first, bottom, repeats)
    if stack.final_norm is not None:
        column.put("norm", description.norm_words(stack.final_norm))
    if head is not None:
        column.put("head", *description.head_words(head))
    return column.drawing


def _block(column: _Column, block: configs.Block, stack: configs.Stack, width: int, times: int) -> None:
    first, bottom, norm = len(column.drawing.boxes), column.top, description.norm_words(block.norm)
    sublayers = description.block_parts(block, stack, width)
    if block.norm_at == "parallel":
        _parallel(column, sublayers, norm)
    else:
        for kind, lines in sublayers:
            column.rise(GAP)
            start = column.top
            if block.norm_at != "post":
                column.put("norm", norm)
            column.put(kind, *lines)
            if block.norm_at == "sandwich":
                column.put("norm", norm)
            level = column.put("plus", "+").y + 8
            side = WIDTH / 2 + GAP / 2
            column.drawing.lines.append(Line(((0, start), (side, start), (side, level), (8, level))))
            if block.norm_at == "post":
                column.put("norm", norm)
    column.rise(GAP)
    column.enclose("frame", first, bottom, times)


def _parallel(column: _Column, sublayers: list[tuple[description.Part, list[str]]], norm: str) -> None:
    """The parts side by side, each after its norm, and the stream between them."""
    column.rise(GAP)
    start, shift = column.top, WIDTH / 2 + GAP
    sides = []
    for sign, (kind, lines) in zip((-1, 1), sublayers, strict=True):
        branch = _Column(start)
        branch.put("norm", norm)
        branch.put(kind, *lines)
        sides.append((sign * shift, branch))
    column.rise(start - min(branch.top for _, branch in sides))
    level = column.put("plus", "+").y + 8
    for x, branch in sides:
        column.drawing.add(branch.drawing.moved(x, 0))
        column.drawing.lines.append(Line(((0, start), (x, start), (x, start - GAP))))
        column.drawing.lines.append(Line(((x, branch.top), (x, level), (8 if x > 0 else -8, level))))


# ---------------------------------------------------------------------------------------------------------------------

_STYLE = """
text { font: 11px system-ui, sans-serif; text-anchor: middle; fill: #1b1f24; stroke: none }
.bold { font-weight: 600 } .label { font-size: 13px; text-anchor: start }
rect { stroke: #57606a; stroke-width: 1 } .line { fill: none; stroke: #57606a; stroke-width: 1.2 }
.arrow { fill: #57606a; stroke: none }
.embedding { fill: #f6c9d0 } .attention { fill: #fbd9a5 } .feed-forward { fill: #bfe0f2 } .norm { fill: #f3efb0 }
.head { fill: #d5c9ec } .plus { fill: #fff } .frame { fill: #8882 } .group { fill: none; stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } rect { stroke: #9aa4af } .line { stroke: #9aa4af } .arrow { fill: #9aa4af }
  .embedding { fill: #6d3540 } .attention { fill: #6b4a1a } .feed-forward { fill: #1f4c66 } .norm { fill: #55521c }
  .head { fill: #483a6b } .plus { fill: #0d1117 }
}"""
_ARROW = (
    '<marker id="arrow" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto" '
    'markerUnits="userSpaceOnUse"><polygon class="arrow" points="0,0 6,3 0,6"/></marker>'
)


def draw(config: configs.ModelConfig, title: str) -> str:
    """The SVG document; readable on light and on dark ground."""
    drawing = layout(config)
    left, top, right, bottom = drawing.edges()
    drawing = drawing.moved(PAD - left, 2 * PAD + GAP - top)
    width = max(right - left, 8 * len(title)) + 2 * PAD
    height = bottom - top + 3 * PAD + GAP
    frames = [box for box in drawing.boxes if box.kind in ("group", "frame")]
    order = sorted(frames, key=lambda box: box.kind, reverse=True)  # a group lies under its frames
    boxes = [box for box in drawing.boxes if box not in frames]
    lines = []
    for line in drawing.lines:
        points = " L".join(f"{x:g} {y:g}" for x, y in line.points)
        lines.append(f'<path class="line" d="M{points}"' + (' marker-end="url(#arrow)"/>' if line.arrow else "/>"))
    body = [*map(_box, order), *lines, *map(_box, boxes)]
    name = escape(title)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img" aria-label="{name}">',
            f"<title>{name}</title><style>{_STYLE}</style>{_ARROW}",
            f'<text x="{PAD}" y="{PAD + 4}" class="bold label">{name}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _box(box: Box) -> str:
    size = f'width="{box.width:g}" height="{box.height:g}"'
    shape = f'<rect x="{box.x:g}" y="{box.y:g}" {size} rx="6" class="{box.kind}"/>'
    if box.kind in ("frame", "group"):
        return shape + "".join(
            f'<text x="{box.x + 6:g}" y="{box.y + 18:g}" class="label">{t}</text>' for t in box.lines
        )
    centre, first = box.x + box.width / 2, box.y + box.height / 2 - LINE * (len(box.lines) - 1) / 2 + FONT * 0.36
    for index, text in enumerate(box.lines):
        bold = ' class="bold"' if not index and len(box.lines) > 1 else ""
        shape += f'<text x="{centre:g}" y="{first + LINE * index:g}"{bold}>{escape(text)}</text>'
    return shape
