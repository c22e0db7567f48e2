"""BLEU, chrF and TER of items and corpora against sacrebleu's own."""

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.evaluate.metric import Item, Response, item_value, score
from lmworks.evaluate.registry import metric
from lmworks.records import Scored
from text_pairs import references, sentences, text_pairs

SCORERS = {
    "bleu": lambda **options: sacrebleu.BLEU(force=True, **options),
    "bleu-zh": lambda **options: sacrebleu.BLEU(force=True, tokenize="zh", **options),
    "bleu-char": lambda **options: sacrebleu.BLEU(force=True, tokenize="char", **options),
    "chrf": sacrebleu.CHRF,
    "chrf++": lambda: sacrebleu.CHRF(word_order=2),
    "ter": sacrebleu.TER,
}


@for_each("name", SCORERS)
def test_items_and_corpora_have_the_values_of_sacrebleu(name):
    items, responses = map(list, zip(*text_pairs(), strict=True))
    ours = metric(name)
    values = ours.measure(items, responses)
    one = SCORERS[name](**({"effective_order": True} if "bleu" in name else {}))
    for item, response, value in zip(items, responses, values, strict=True):
        expected = one.sentence_score(response.text, item.references).score
        assert item_value(ours, value) == pytest.approx(expected, abs=1e-9)
    width = max(len(item.references) for item in items)
    streams = [[([*item.references] + [None] * width)[i] for item in items] for i in range(width)]
    corpus, found = SCORERS[name](), score(ours, items, values)
    assert isinstance(found, Scored)
    assert found.value == pytest.approx(corpus.corpus_score([r.text for r in responses], streams).score, abs=1e-9)
    assert found.interval[0] < found.value < found.interval[1]
    assert ours.signature["sacrebleu"] == str(corpus.get_signature())  # nrefs:var, as these items have it


@given(st.lists(st.tuples(sentences, references), min_size=2, max_size=4))
def test_a_corpus_of_any_sentences_has_the_bleu_of_sacrebleu(rows):
    """Also one without any 4-gram, which is 0 for a corpus and not for a sentence."""
    items = [Item(str(i), references=(texts[0],)) for i, (_, texts) in enumerate(rows)]
    values = metric("bleu").measure(items, [Response(text) for text, _ in rows])
    found = score(metric("bleu"), items, values)
    expected = sacrebleu.corpus_bleu([text for text, _ in rows], [[texts[0] for _, texts in rows]], force=True).score
    assert isinstance(found, Scored)
    assert found.value == pytest.approx(expected, abs=1e-9)
