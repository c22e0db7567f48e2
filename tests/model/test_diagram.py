"""Pictures of architectures: their geometry, their words, and that the gallery in docs/ is up to date."""

import importlib.util
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kit.tables import for_each
from lmworks.model import config as configs
from lmworks.model.description import attention_title, attention_words, fold
from lmworks.model.diagram import FONT, LINE, draw, layout
from lmworks.model.presets import gemma3, gpt3, gpt_neox, llama, t5
from lmworks.model.presets.sizes import SIZES

DOCS = Path(__file__).parents[2] / "docs"
FRAMES = ("frame", "group")
LETTER = 0.56 * FONT  # the mean width of a letter of a wide sans-serif such as DejaVu or Verdana


@pytest.fixture(scope="module")
def gallery():
    specification = importlib.util.spec_from_file_location("architectures", DOCS / "architectures.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def overlap(a, b):
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


def inside(inner, outer):
    return (
        outer.x < inner.x
        and outer.y < inner.y
        and inner.x + inner.width < outer.x + outer.width
        and inner.y + inner.height < outer.y + outer.height
    )


@for_each("name", SIZES)
def test_labels_lie_in_their_boxes_and_boxes_do_not_overlap(name):
    boxes = layout(SIZES[name].config).boxes
    parts = [box for box in boxes if box.kind not in FRAMES]
    for box in parts:
        assert LINE * len(box.lines) <= box.height
        assert all(LETTER * len(line) <= box.width for line in box.lines), box.lines
    for a, b in combinations(parts, 2):
        assert not overlap(a, b), (a, b)
    for frame in (box for box in boxes if box.kind in FRAMES):
        for box in boxes:
            assert box is frame or inside(box, frame) or inside(frame, box) or not overlap(box, frame)
        label = LETTER * 13 / FONT * max(map(len, frame.lines), default=0) + 6  # at the left of what is framed
        assert all(frame.x + label <= box.x for box in parts if inside(box, frame))


def test_lines_of_the_stream_do_not_cross_parts():
    """Arrows end at the edge of a part or between parts; none runs through one, but for the way from an encoder."""
    for config in (SIZES["gpt2-124m"].config, SIZES["gpt-neox-20b"].config, SIZES["gemma2-2b"].config):
        drawing = layout(config)
        parts = [box for box in drawing.boxes if box.kind not in FRAMES]
        for line in drawing.lines:
            for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
                for box in parts:
                    through_x = min(x0, x1) < box.x + box.width and box.x < max(x0, x1)
                    through_y = min(y0, y1) < box.y + box.height and box.y < max(y0, y1)
                    assert not (through_x and box.y < y0 == y1 < box.y + box.height)
                    assert not (through_y and box.x < x0 == x1 < box.x + box.width)


@for_each("name", ["gpt2-124m", "t5-base", "mixtral-8x7b"])
def test_is_well_formed_and_says_what_the_model_is_made_of(name):
    root = ElementTree.fromstring(draw(SIZES[name].config, "a < b & c"))
    words = " ".join(text for element in root.iter() if (text := element.text))
    assert root.attrib["aria-label"] == "a < b & c"
    assert "prefers-color-scheme: dark" in words
    config = SIZES[name].config
    for stack in config.stacks:
        block = stack.blocks[0]
        assert f"{len(stack.blocks)} ×" in words
        assert attention_title(block.attention, stack.causal) in words
        assert attention_words(block.attention)[0] in words
    assert ("cross-attention" in words) == (name == "t5-base")
    assert ("mixture of experts" in words) == (name == "mixtral-8x7b")


def test_a_picture_has_each_part_of_each_distinct_block():
    kinds = [box.kind for box in layout(SIZES["gemma2-2b"].config).boxes]
    assert kinds.count("attention") == kinds.count("feed-forward") == 2  # a windowed block and one that sees everything
    assert kinds.count("norm") == 2 * 4 + 1
    assert kinds.count("plus") == 4
    assert kinds.count("group") == 1
    parallel = [box.kind for box in layout(gpt_neox(97, 32, 2, 4, 64)).boxes]
    assert parallel.count("plus") == 1
    both = layout(t5(97, 32, 2, 4, 64))
    assert [box.kind for box in both.boxes].count("attention") == 3


def test_folding_finds_the_shortest_period_and_keeps_the_order():
    local, whole = (b for b in dict.fromkeys(gemma3(97, 32, 6, 4, 2, 64, 64, head_dim=8).decoder.blocks))
    assert fold((local, whole) * 3) == [(3, [(1, local), (1, whole)])]
    assert fold((local,) * 5) == [(1, [(5, local)])]
    assert fold(((local,) * 5 + (whole,)) * 4 + (local,) * 2) == [(4, [(5, local), (1, whole)]), (1, [(2, local)])]
    assert fold((local, local, whole)) == [(1, [(2, local), (1, whole)])]
    assert fold((whole,)) == [(1, [(1, whole)])]
    for blocks in (gpt3(97, 32, 7, 4, 64, 64).decoder.blocks, (local, whole, whole, local)):
        unfolded = [b for repeats, runs in fold(blocks) for _ in range(repeats) for n, b in runs for _ in range(n)]
        assert tuple(unfolded) == blocks


def test_words_of_every_kind_of_attention():
    plain = configs.Attention(8, 8, 16)
    assert attention_words(plain) == ["8 heads of 16"]
    assert attention_title(replace(plain, kv_heads=1), causal=True) == "masked multi-query attention"
    assert attention_title(replace(plain, kv_heads=2), causal=False) == "grouped-query attention"
    all_of_it = replace(
        plain, position=configs.Shaw(4), pattern=configs.WindowAndGlobal(9, 2), softcap=50.0, sinks=True
    )
    assert attention_words(all_of_it)[1:] == [
        "relative keys up to 4",
        "window of 9, 2 global tokens",
        "scores capped at 50",
        "sinks",
    ]
    assert attention_words(replace(plain, bias=True, output_bias=False))[-1] == "query, key, value biases"


def test_changes_are_what_differs_and_nothing_else(gallery):
    small = llama(97, 32, 2, 4, 4, 64, 64)
    assert gallery.changes(small, llama(197, 64, 3, 8, 8, 128, 256)) == []
    assert gallery.changes(SIZES["llama-7b"].config, SIZES["llama2-70b"].config) == [
        "attention: multi-head → grouped-query"
    ]
    assert gallery.changes(SIZES["gpt1-117m"].config, SIZES["gpt2-124m"].config) == [
        "place of the norm: post → pre",
        "norm at the end: no → yes",
    ]


def test_the_gallery_is_up_to_date_and_complete(gallery):
    made = {}
    gallery.main(made.__setitem__)
    stale = [path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run: python docs/architectures.py"
    pictures = set((DOCS / "architectures").glob("*.svg"))
    assert pictures == {path for path in made if path.suffix == ".svg"}
    assert sum(path.stat().st_size for path in pictures) < 400_000
    assert {SIZES[entry.size].preset for entry in gallery.HISTORY} == {size.preset for size in SIZES.values()}
    years = [int(re.search(r"20\d\d", entry.paper)[0]) for entry in gallery.HISTORY]
    assert years == sorted(years)
