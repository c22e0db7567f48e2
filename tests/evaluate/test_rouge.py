"""ROUGE and its stemmer against rouge-score and nltk."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer

from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.porter_stemmer import stem
from lmworks.evaluate.registry import metric
from lmworks.evaluate.rouge import rouge_l, rouge_lsum, rouge_n
from lmworks.records import Unscored
from text_pairs import DOCS, sentences, text_pairs

KEYS = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-l": "rougeL", "rouge-lsum": "rougeLsum"}


def test_values_are_those_of_rouge_score_for_the_best_reference():
    items, responses = map(list, zip(*text_pairs(), strict=True))
    scorer = RougeScorer([*KEYS.values()], use_stemmer=True)
    for name, key in KEYS.items():
        for item, response, value in zip(items, responses, metric(name).measure(items, responses), strict=True):
            expected = scorer.score_multi(item.references, response.text)[key].fmeasure
            assert value == pytest.approx(expected, abs=1e-12), (name, item.id)


lines = st.lists(sentences, max_size=4).map("\n".join)


@given(lines, lines)
def test_summaries_of_any_lines_agree_with_rouge_score(response, reference):
    theirs = RougeScorer([*KEYS.values()], use_stemmer=True).score(reference, response)
    ours = [rouge_n(response, reference, 1), rouge_n(response, reference, 2)]
    ours += [rouge_l(response, reference), rouge_lsum(response, reference)]
    assert ours == pytest.approx([theirs[key].fmeasure for key in KEYS.values()], abs=1e-12)


def test_a_reference_without_a_letter_of_rouge_is_unscored():
    value = metric("rouge-l").measure([Item("1", references=("東京タワー",))], [Response("東京タワー")])[0]
    assert isinstance(value, Unscored)


def test_stems_are_those_of_nltk_for_the_words_of_the_documentation():
    words = {word for page in DOCS.glob("*.md") for word in re.findall(r"[^\W_]+", page.read_text("utf-8"))}
    assert len(words) > 3000
    theirs = PorterStemmer()
    assert {word: stem(word) for word in words} == {word: theirs.stem(word) for word in words}


parts = "y yy s ss ll bl at iz fl hop e ee ed ing ies ied eed alli ational logi ion tion bli fulli ement ive ly".split()


@given(st.lists(st.sampled_from(parts), min_size=1, max_size=4).map("".join))
def test_stems_are_those_of_nltk_for_any_suffixes(word):
    assert stem(word) == PorterStemmer().stem(word)
