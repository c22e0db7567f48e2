"""Learning n-grams from documents: what is held out, quantiles against simulation, and the threshold that follows."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.annotate.config import NgramConfig
from lmworks.data.annotate.ngram_model import load_ngram_model, train_byte_model, train_word_model
from lmworks.data.annotate.ngram_report import section_of
from lmworks.data.annotate.ngram_spool import Spool
from lmworks.data.annotate.ngram_training import SUGGESTED, learn_ngrams, quantile
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


@given(st.lists(st.text()), st.data())
def test_a_spool_gives_back_what_it_was_given(given_texts, data):
    with Spool() as spool:
        for text in given_texts:
            spool.add(text)
        kept = [text for text in given_texts if text.strip()]
        assert list(spool.where(lambda _: True)) == kept
        wanted = data.draw(st.sets(st.sampled_from(spool.hashes))) if kept else set()
        some = spool.where(lambda found: found in wanted)
        expected = [text for text, found in zip(kept, spool.hashes, strict=True) if found in wanted]
        assert list(some) == expected == list(some) and len(some) == len(expected)


@pytest.mark.parametrize(("symbols", "train"), [("words", train_word_model), ("bytes", train_byte_model)])
def test_the_model_is_that_of_the_documents_that_are_not_held_out(symbols, train, tmp_path):
    given_texts = texts(300)
    learned = learn_ngrams(iter([*given_texts, *given_texts[:20]]), NgramConfig(symbols=symbols))
    assert learned.held_out >= 60 and learned.documents + learned.held_out == 320  # a fifth of 300, and their copies
    learned.model.save(tmp_path / "m.npz")
    model = load_ngram_model(tmp_path / "m.npz")
    with Spool() as spool:
        for text in given_texts:
            spool.add(text)
        order = np.argsort(spool.hashes, kind="stable")
    held_out = {given_texts[place] for place in order[:60].tolist()}
    learning = [text for text in [*given_texts, *given_texts[:20]] if text not in held_out]
    assert model.score(given_texts[:5]) == train(learning).score(given_texts[:5])
    costs = model.score([text for text in [*given_texts, *given_texts[:20]] if text in held_out])
    assert isinstance(learned.nats, Scored)
    assert learned.nats.value == pytest.approx(sum(nats for nats, _ in costs) / sum(count for _, count in costs))


def test_the_order_of_documents_does_not_change_what_is_held_out():
    one, other = (learn_ngrams(given_texts) for given_texts in (texts(120), texts(120)[::-1]))
    assert one.nats == other.nats and one.quantiles == other.quantiles


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_the_interval_of_a_quantile_holds_it_as_often_as_it_says(share):
    generator = np.random.default_rng(0)
    true, held = -np.log(1 - share), 0  # of the exponential distribution
    for _ in range(1000):
        found = quantile(np.sort(generator.exponential(size=150)), share, "s")
        assert isinstance(found, Scored)
        held += found.interval[0] <= true <= found.interval[1]
    assert 0.94 < held / 1000 < 0.99  # at least 0.95; of 1000 draws, the error of one is 0.007


def test_a_quantile_of_too_few_values_is_none():
    assert isinstance(quantile(np.arange(60.0), 0.95, "s"), Unscored)
    assert isinstance(quantile([], 0.5, "s"), Unscored)
    assert isinstance(quantile(np.arange(100.0), 0.95, "s"), Scored)


def test_the_suggested_threshold_keeps_such_documents_and_drops_others():
    learned = learn_ngrams(texts(800))
    assert isinstance(learned.suggested, Scored)
    generator = np.random.default_rng(1)
    others = [" ".join(f"word{word}" for word in generator.integers(0, 20, 30)) for _ in range(200)]
    threshold = learned.suggested.value

    def kept(given_texts):
        return np.mean([np.exp(nats / n) <= threshold for nats, n in learned.model.score(given_texts)])

    assert kept(texts(200, seed=2)) > 0.85 and kept(others) < 0.05
    assert f"at_most = {threshold:.4g}" in section_of(learned).text and f"{SUGGESTED:.0%}" in section_of(learned).text


def test_too_few_documents_are_told():
    for given_texts in ([], ["one"], ["one", "one", " "]):
        with pytest.raises(ValueError, match="give more documents"):
            learn_ngrams(given_texts)
    few = learn_ngrams(texts(20))
    assert few.held_out == 4 and isinstance(few.suggested, Unscored)
    assert "No threshold is suggested" in section_of(few).text


@needs_books
def test_a_book_is_more_likely_under_other_books_than_shuffled():
    text = gzip.decompress((BOOKS / "Alice's Adventures in Wonderland.md.gz").read_bytes()).decode()
    pieces = [text[start : start + 1500] for start in range(0, len(text), 1500)]
    learned = learn_ngrams(pieces)
    with Spool() as spool:
        for piece in pieces:
            spool.add(piece)
        held_out = [pieces[place] for place in np.argsort(spool.hashes)[: learned.held_out].tolist()]
    generator = np.random.default_rng(0)
    shuffled = [" ".join(generator.permutation(piece.split())) for piece in held_out]
    costs = [learned.model.score([piece, other]) for piece, other in zip(held_out, shuffled, strict=True)]
    assert all(one[0] / one[1] < other[0] / other[1] for one, other in costs)
