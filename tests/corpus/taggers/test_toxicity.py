"""Unwanted content on real texts: classifiers of labelled examples and word lists, with what they reach and do not."""

import gzip
import json

import pytest

from lmworks.corpus.taggers.classifier_trainer import Evaluation, Example, learn_classifier, usable
from lmworks.records import Scored
from published_data import DATA, needs_data

pytestmark = [needs_data, pytest.mark.slow]  # the numbers of docs/measured/annotations.md


def lines(name: str) -> list[str]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as stream:
        return [line for line in stream if line.strip()]


def jailbreaks() -> list[str]:
    """666 prompts by which people tried to make a model misbehave, a line each."""
    return lines("in-the-wild-jailbreaks/inthewild_jailbreak_llms.txt.gz")


def pages() -> list[str]:
    """300 web pages."""
    return [json.loads(line)["text"] for line in lines("llama-factory-demos/c4_demo.jsonl.gz")]


def evaluated(examples: list[Example], label: str) -> Evaluation:
    return learn_classifier(usable(examples), label).evaluation


def test_jailbreaks_are_told_from_pages():
    examples = [*(Example(text, True) for text in jailbreaks()), *(Example(text, False) for text in pages())]
    evaluation = evaluated(examples, "jailbreak")
    # Measured: AUC 0.978 [0.955, 1.000], recall 0.934 [0.864, 0.969] and 0.023 [0.004, 0.118] wrongly taken, n=135.
    recall, wrongly = evaluation.recall, evaluation.wrongly
    assert isinstance(recall, Scored) and isinstance(wrongly, Scored)
    assert evaluation.auc.interval[0] > 0.93 and recall.interval[0] > 0.8 and wrongly.interval[1] < 0.15


def test_the_more_harmful_reply_is_told_by_its_words_better_than_by_chance_and_badly():
    """The last replies of 2,312 pairs of conversations, of which people called one the more harmful."""
    pairs = enumerate(map(json.loads, lines("hh-rlhf-harmless-test/test.jsonl.gz")))
    examples = [
        Example(pair[key].rpartition("\n\nAssistant:")[2].strip(), key == "rejected", group=str(number))
        for number, pair in pairs
        for key in ("chosen", "rejected")
    ]
    auc = evaluated(examples, "harmful").auc
    # Measured: 0.611 [0.569, 0.652], n=695. A reply is harmful for what it answers to, which its words do not hold.
    assert 0.5 < auc.interval[0] < auc.value < 0.75
    assert auc.interval[1] - auc.interval[0] < 0.1
