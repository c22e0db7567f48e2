"""Pairs of texts for metrics: real ones of the documentation, and cases at the edge."""

from pathlib import Path

from hypothesis import strategies as st

from lmworks.evaluate.metric import Item, Response

DOCS = Path(__file__).parents[1] / "docs"
WORDS = "the The cat cats sat, car automobiles quickly running ran geese 1990s it's über 猫 … - organisation".split()
EDGES = [
    ("", ["a reference"]),
    ("!?", ["a reference"]),
    ("word", ["word"]),
    ("one word", ["Word"]),
    ("Größe, naïve — 東京タワー 😀", ["Grösse, naive - 東京 タワー 😀", "Größe"]),
    ("the cat sat\non the mat .", ["on the mat\nthe cats were sitting .", "a cat sat on a mat\n\n", "x"]),
]
sentences = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
references = st.lists(sentences.filter(str.strip), min_size=1, max_size=3)


def text_pairs() -> list[tuple[Item, Response]]:
    """The first two lines of neighbouring paragraphs of the documentation, the edges behind them."""
    paragraphs = [one.splitlines()[:2] for one in (DOCS / "engine.md").read_text("utf-8").split("\n\n")]
    texts = ["\n".join(lines) for lines in paragraphs if len(lines) > 1][:15]
    found = [(first, [second, third]) for first, second, third in zip(texts, texts[1:], texts[2:], strict=False)]
    return [(Item(str(i), references=tuple(b)), Response(a)) for i, (a, b) in enumerate([*found, *EDGES])]
