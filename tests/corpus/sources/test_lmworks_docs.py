"""The pages of lmworks as documents: where they lie, what is left of them, and the gold questions about them."""

from functools import partial
from pathlib import Path

import pytest

from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import outside_digest, read_documents
from lmworks.corpus.sources import packaged_docs
from lmworks.evaluate.question_set import read_gold, resolve_gold
from lmworks.recipe import load, packaged
from lmworks.records import Document

CONFIG = ReadConfig(sources=("lmworks-docs",))


def test_pages_are_documents_without_their_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "lmworks" / "docs" / "grounding.md"  # as an installed wheel has them
    page.parent.mkdir(parents=True)
    page.write_text("# Grounding\n\n![A picture](a.svg)\n\nSee [here](b.md), ![that](c.svg).\n")
    monkeypatch.setattr(packaged_docs, "lmworks_docs", partial(packaged_docs.lmworks_docs, tmp_path / "lmworks"))
    (document,) = read_documents(CONFIG)
    assert isinstance(document, Document)
    assert document.text == "# Grounding\n\nSee [here](b.md), ![that](c.svg).\n"
    assert (document.uri, document.title, document.extractor) == ("lmworks:grounding.md", "Grounding", "markdown")
    assert (document.source, document.licence) == ("lmworks-docs", "Apache-2.0")
    before = outside_digest(CONFIG, tmp_path)
    page.write_text("# Other")
    assert outside_digest(CONFIG, tmp_path) != before


def test_the_gold_questions_of_the_default_system_stand_in_its_documents() -> None:
    source = "lmworks-docs"
    recipe = load(packaged()["assistant"])
    configs = {stage.name: stage.config for stage in recipe.stages}
    assert source in configs["documents"].sources
    documents = {each.uri: each for each in read_documents(ReadConfig(sources=(source,))) if isinstance(each, Document)}
    asked = [
        question
        for question in read_gold(*(recipe.base / name for name in configs["questions"].gold))
        if question.gold and question.gold[0].uri.startswith("lmworks:")
    ]
    resolved, rejected = resolve_gold(asked, lambda uri: [documents[uri]] if uri in documents else [])
    assert len(resolved) >= 60 and not rejected
