"""Learning n-grams from documents: what is held out, quantiles against simulation, and the threshold that follows."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from lmworks.corpus.taggers.config import NgramConfig
from lmworks.corpus.taggers.ngram_model import load_ngram_model
from lmworks.corpus.taggers.ngram_trainer import learn_ngrams, ngram_section, train_ngrams
from lmworks.records import Scored, Unscored

BOOKS = Path(__file__).parents[4] / "shared" / "data" / "classic-books"
needs_books = pytest.mark.skipif(not BOOKS.exists(), reason="the folder shared/data is not there")


def texts(number: int, seed: int = 0) -> list[str]:
    """Of twenty words, each of which is mostly followed by the next one."""
    generator = np.random.default_rng(seed)
    made = []
    for place in range(number):
        word, words = 0, []
        for _ in range(30):
            word = (word + 1) % 20 if generator.random() < 0.9 else int(generator.integers(20))
            words.append(f"word{word}")
        made.append(" ".join([*words, f"end{place}"]))
    return made


def in_order_of_hashes(given_texts: list[str]) -> list[str]:
    return sorted(set(given_texts), key=lambda text: hashlib.sha256(text.encode()).digest())


def test_the_model_is_that_of_the_documents_that_are_not_held_out(tmp_path):
    different = texts(300)
    given_texts = [*different, *different[:20]]
    learned = learn_ngrams(iter([*given_texts, " \n"]))
    learned.model.save(tmp_path / "m.npz")
    model = load_ngram_model(tmp_path / "m.npz")
    held_out = in_order_of_hashes(given_texts)[:60]  # a fifth of 300, and their copies
    learning = [text for text in given_texts if text not in held_out]
    assert learned.documents == len(learning) and learned.held_out == 320 - len(learning)
    assert model.score(different[:5]) == train_ngrams(learning, NgramConfig()).score(different[:5])
    costs = model.score([text for text in given_texts if text in held_out])
    assert isinstance(learned.nats, Scored)
    assert learned.nats.value == pytest.approx(sum(nats for nats, _ in costs) / sum(count for _, count in costs))


def test_the_suggested_threshold_keeps_such_documents_and_drops_others():
    learned = learn_ngrams(texts(800))
    assert isinstance(learned.suggested, Scored)
    generator = np.random.default_rng(1)
    others = [" ".join(f"word{word}" for word in generator.integers(0, 20, 30)) for _ in range(200)]
    threshold = learned.suggested.value

    def kept(given_texts):
        return np.mean([np.exp(nats / n) <= threshold for nats, n in learned.model.score(given_texts)])

    assert kept(texts(200, seed=2)) > 0.85 and kept(others) < 0.05
    assert f"at_most = {threshold:.4g}" in ngram_section(learned).text


def test_too_few_documents_are_told():
    for given_texts in ([], ["one"], ["one", "one", " "]):
        with pytest.raises(ValueError, match="give more documents"):
            learn_ngrams(given_texts)
    few = learn_ngrams(texts(20))
    assert few.held_out == 4 and isinstance(few.suggested, Unscored)
    assert "No threshold is suggested" in ngram_section(few).text


@needs_books
def test_a_book_is_more_likely_under_other_books_than_shuffled():
    text = gzip.decompress((BOOKS / "Alice's Adventures in Wonderland.md.gz").read_bytes()).decode()
    pieces = [text[start : start + 1500] for start in range(0, len(text), 1500)]
    learned = learn_ngrams(pieces)
    held_out = in_order_of_hashes(pieces)[: learned.held_out]
    generator = np.random.default_rng(0)
    shuffled = [" ".join(generator.permutation(piece.split())) for piece in held_out]
    costs = [learned.model.score([piece, other]) for piece, other in zip(held_out, shuffled, strict=True)]
    assert all(one[0] / one[1] < other[0] / other[1] for one, other in costs)
