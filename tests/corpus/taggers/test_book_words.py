"""Misread words that the other books of a corpus correct, and what these may not say."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from lmworks.build import run_alone
from lmworks.corpus.attributes import attribute_paths, read_attributes
from lmworks.corpus.modifiers import book_words
from lmworks.corpus.modifiers.book_words import without
from lmworks.corpus.modifiers.hyphenation import unbroken_counts
from lmworks.corpus.modifiers.ocr import OcrModel, ocr_corrections, ocr_model

FREQUENT = "the of and that which with from this have been their would there could should every other".split()
RARE = "mariner harbour lantern captain weather morning whisper candle winter garden shoulder silence".split()


def prose(words: int, seed: int, rare: Sequence[str] = RARE) -> str:
    draw = random.Random(seed)
    found = [draw.choice(rare) if draw.random() < 0.3 else draw.choice(FREQUENT) for _ in range(words)]
    return "\n\n".join(" ".join(found[at : at + 60]) for at in range(0, words, 60))


def corpus_model(*texts: str) -> OcrModel:
    return ocr_model(sum(map(unbroken_counts, texts), Counter()))


def test_a_book_does_not_speak_for_its_own_errors() -> None:
    read = prose(1000, 1) + " harhour"
    model = corpus_model(read, *(prose(60_000, seed) for seed in (2, 3)))
    others = without(model, read)
    assert others is not None and (model.count("harhour"), others.count("harhour")) == (1, 0)
    assert others.total == 120_000 and others.log_known("harbour") is not None
    assert ocr_corrections(read) == {} and ocr_corrections(read, others) == {"harhour": "harbour"}
    assert ocr_corrections(read, model) == {}


def test_a_word_of_other_books_is_no_error() -> None:
    read = prose(1000, 1) + " harhour"
    others = without(corpus_model(read, *(prose(60_000, seed) + " harhour" * 3 for seed in (2, 3))), read)
    assert others is not None and ocr_corrections(read, others) == {}


def test_too_few_words_and_another_language_say_nothing() -> None:
    book = prose(1000, 1)
    few = [prose(book_words._LEAST // 2, seed) for seed in (2, 3)]
    assert without(corpus_model(book, *few), book) is not None
    assert without(corpus_model(book, few[0]), book) is None
    foreign = prose(1000, 4, ["umbra", "navis", "portus", "ventus"]).replace("the", "illa").replace("wh", "qu")
    foreign = foreign.replace("of", "de").replace("and", "atque").replace("th", "z")
    assert without(corpus_model(foreign, *few), foreign) is None


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
        run_alone("data.read", folder / f"{name}-documents", [], [], settings)
    return folder


def annotated(corpus: Path, inputs: list[str], out: Path, workers: int) -> dict[str, bytes]:
    settings = [f"execution.workers={workers}", "personal=false", "spam=false", "heuristics=false", "language=false"]
    run_alone("data.annotate", out, [corpus / f"{name}-documents" for name in inputs], [], settings)
    return {path.name: path.read_bytes() for path in attribute_paths(out)}


def test_the_stage_corrects_by_the_other_books(corpus: Path, tmp_path: Path) -> None:
    one = annotated(corpus, ["books", "notes"], tmp_path / "one", workers=1)
    two = annotated(corpus, ["books", "notes"], tmp_path / "two", workers=2)
    assert one == two
    edits = {
        uri: [edit.replacement for edit in found if edit.rule == "ocr.word"]
        for path in attribute_paths(tmp_path / "one")
        for table in [read_attributes(path)]
        for uri, found in zip(table.uris, table.edits, strict=True)
    }
    assert {uri: sorted(found) for uri, found in edits.items() if found} == {
        "books/misread.txt": ["harbour", "whisper"]
    }
