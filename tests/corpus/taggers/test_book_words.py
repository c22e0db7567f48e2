"""Misread words that the other books of a corpus correct, and what these may not say."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from kit.tables import for_each
from lmworks.build import run_alone
from lmworks.corpus.attributes import attribute_paths, read_attributes
from lmworks.corpus.modifiers.book_words import without
from lmworks.corpus.modifiers.hyphenation import unbroken_counts
from lmworks.corpus.modifiers.ocr import OcrModel, ocr_corrections, ocr_model

FREQUENT = "the of and that which with from this have been their would there could should every other".split()
RARE = "mariner harbour lantern captain weather morning whisper candle winter garden shoulder silence".split()
FEW = 50_000  # words, half of those that others have at least to say anything


def prose(words: int, seed: int, rare: Sequence[str] = RARE) -> str:
    draw = random.Random(seed)
    found = [draw.choice(rare) if draw.random() < 0.3 else draw.choice(FREQUENT) for _ in range(words)]
    return "\n\n".join(" ".join(found[at : at + 60]) for at in range(0, words, 60))


def corpus_model(*texts: str) -> OcrModel:
    return ocr_model(sum(map(unbroken_counts, texts), Counter()))


BOOK = prose(1000, 1) + " harhour"
FOREIGN = prose(1000, 4, ["umbra", "navis", "portus"]).replace("wh", "qu").replace("of", "de").replace("th", "z")


@for_each(("book", "others", "corrected"), [
    (BOOK, [prose(2 * FEW, 2)], {"harhour": "harbour"}), (BOOK, [prose(2 * FEW, 2) + " harhour" * 3], {}),
    (BOOK, [prose(FEW, 2)], None), (FOREIGN, [prose(2 * FEW, 2)], None),
])  # fmt: skip
def test_what_other_books_say(book: str, others: list[str], corrected: dict[str, str] | None) -> None:
    model = corpus_model(book, *others)
    rest = without(model, book)
    assert (None if rest is None else ocr_corrections(book, rest)) == corrected
    assert ocr_corrections(book) == ocr_corrections(book, model) == {}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Three books, of which one is short and has misread words; texts of the same words that are no books."""
    folder = tmp_path_factory.mktemp("books")
    for name, kind in (("books", "book"), ("notes", "text")):
        (folder / name).mkdir()
        for number in range(2):
            (folder / name / f"{number}.txt").write_text(prose(55_000 if kind == "book" else 2000, number))
        misread = prose(2000, 9).replace("harbour", "harhour", 1).replace("whisper", "wbisper", 1)
        (folder / name / "misread.txt").write_text(misread)
        settings = [f'sources=["{folder / name}"]', f'kind="{kind}"']
        run_alone("corpus.read", folder / f"{name}-documents", [], [], settings)
    return folder


def test_the_stage_corrects_by_the_other_books(corpus: Path, tmp_path: Path) -> None:
    settings = [f"{name}=false" for name in ("personal", "spam", "heuristics", "language")]
    inputs = [corpus / f"{name}-documents" for name in ("books", "notes")]
    run_alone("corpus.tag", tmp_path / "tagged", inputs, [], settings)
    edits = {
        uri: sorted(words)
        for table in map(read_attributes, attribute_paths(tmp_path / "tagged"))
        for uri, found in zip(table.uris, table.edits, strict=True)
        if (words := [edit.replacement for edit in found if edit.rule == "ocr.word"])
    }
    assert edits == {"books/misread.txt": ["harbour", "whisper"]}
