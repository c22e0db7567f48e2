"""Documents to word vectors, as a user runs the stages."""

import json

import pytest

from kit.tables import for_each
from lmworks.build import run_alone
from lmworks.embeddings.vector_files import load_word_vectors


@pytest.fixture
def documents(tmp_path, sentences):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(2):
        (texts / f"{number}.txt").write_text("\n\n".join(" ".join(s) for s in sentences[number::2]))
    return run_alone("corpus.read", tmp_path / "documents", [], [], [f'sources=["{texts}"]']).folder


@for_each(
    ("use", "settings"),
    [
        ("embeddings.words", ["epochs=1", "subwords.buckets=500"]),
        ("embeddings.words", ["epochs=1", 'objective="cbow"', "phrases=[1.5]"]),
        ("embeddings.glove", ["epochs=2"]),
    ],
)
def test_the_same_documents_give_the_same_vectors(documents, tmp_path, use, settings):
    made = [run_alone(use, tmp_path / n, [documents], [], ["dimensions=8", *settings]) for n in ("one", "two")]
    first, second = (outcome.manifest for outcome in made)
    assert first.content_hash == second.content_hash and first.parents
    vectors = load_word_vectors(made[0].folder)
    assert first.metrics["vocabulary"] == len(vectors) >= 60 and vectors.dimensions == 8
    assert vectors.counts is not None and first.metrics["words"] == vectors.counts.sum()
    sections = json.loads((made[0].folder / "sections.json").read_text("utf-8"))
    assert "its neighbours" in json.dumps(sections)


def test_too_little_text_leaves_nothing(documents, tmp_path):
    with pytest.raises(ValueError, match="lower min_count"):
        run_alone("embeddings.words", tmp_path / "out", [documents], [], ["min_count=100000"])
    assert not (tmp_path / "out").exists()
