"""Unwanted content on real texts: classifiers of labelled examples and word lists, with what they reach and do not."""

import gzip
import json

from lmworks.corpus.taggers.classifier_trainer import Evaluation, Example, learn_classifier, usable
from lmworks.corpus.taggers.tagger import Text
from lmworks.corpus.taggers.word_list import word_list
from lmworks.records import Scored
from lmworks.statistics import wilson_interval
from published_data import DATA, needs_data

pytestmark = needs_data


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


def test_a_word_list_finds_the_texts_with_its_words_and_no_others():
    unwanted = word_list("unwanted", ["fuck", "fucking", "shit", "bitch", "slut"]).tag
    shares = []
    for texts in (jailbreaks(), pages()):
        found = [unwanted(Text(text)) for text in texts]
        by_hand = [any(word in text.casefold() for word in ("fuck", "shit", "bitch", "slut")) for text in texts]
        assert all(hand or not each.spans for hand, each in zip(by_hand, found, strict=True))
        shares.append(wilson_interval(sum(bool(each.spans) for each in found), len(found)))
    assert shares[0][0] > shares[1][1]  # 95 % intervals that do not touch
