"""Each flaw planted in a set is found, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from hashing_encoder import make_document
from lmworks.corpus.dedup.decontamination import EvaluationItem
from lmworks.corpus.documents import write_documents
from lmworks.data.token_dataset import TokenWriter
from lmworks.evaluate.question_set import GoldQuestion, GoldQuote, logged_items, read_gold
from lmworks.evaluate.set_lint import (
    EvaluationSet,
    find_duplicates,
    find_gold_errors,
    find_label_errors,
    find_leaks,
    read_set,
    training_texts,
)
from lmworks.model.tokenizer_lookup import find_tokenizer
from lmworks.records import Feedback, Interaction, Message, Span, Verdict

LEAKED = "Which of the seven bridges of the old town did the surveyor cross twice on the evening of the flood"
ITEMS = (
    EvaluationItem("1", "Who wrote the report?", ("Ann",)),
    EvaluationItem("2", "who wrote  the report?", ("Ben",)),
    EvaluationItem("3", "How many legs has a spider in the garden of my aunt?", ("8",), ("6", "8", " 8")),
    EvaluationItem("4", "How many legs has a spider in the garden of an aunt?", ("9",), ("6", "8")),
    EvaluationItem("5", LEAKED, ("the third",)),
    EvaluationItem("6", "Where do rivers end?", ("in the sea",)),
)


def test_planted_flaws_of_items_are_found():
    found = [*find_duplicates(ITEMS), *find_label_errors(EvaluationSet(Path("set.jsonl"), ITEMS))]
    assert {(one.kind, one.items) for one in found} == {
        ("label conflict", ("1", "2")),
        ("near-duplicate", ("3", "4")),
        ("repeated choice", ("3",)),
        ("answer not a choice", ("4",)),
    }


def test_paraphrases_are_found_by_their_embeddings():
    vectors = np.eye(len(ITEMS), dtype=np.float32)
    vectors[5] = vectors[4] * 0.96 + vectors[5] * 0.28
    assert ("5", "6") in {one.items for one in find_duplicates(ITEMS, vectors)}


def test_gold_that_does_not_stand_in_the_documents_is_found():
    document = make_document("The pump runs\nat 40 bar. The valve opens at 60 bar.", "manual")
    quotes = {
        "right": ("manual", "The pump runs at 40 bar.", "40 bar"),
        "uri": ("handbook", "The pump runs at 40 bar.", ""),
        "quote": ("manual", "The pump runs at 50 bar.", ""),
        "answer": ("manual", "The pump runs at 40 bar.", "the valve"),
    }
    gold = [GoldQuestion(k, "?", "test", True, (GoldQuote(u, q),), answer=a) for k, (u, q, a) in quotes.items()]
    found = {(one.kind, one.items[0]) for one in find_gold_errors(gold, {"manual": [document]})}
    assert found == {("no such document", "uri"), ("quote not found", "quote"), ("answer outside gold", "answer")}


def test_a_leaked_item_is_found_in_documents_and_in_token_shards(tmp_path: Path, tiny_folder: Path):
    texts = ["Nothing of interest is said here, at some length, about the weather of the season.", f"{LEAKED}? No."]
    write_documents(tmp_path / "documents", [make_document(text, str(n)) for n, text in enumerate(texts)])
    tokenizer = find_tokenizer(str(tiny_folder)).tokenizer
    with TokenWriter(tmp_path / "shards", tokenizer.hash, tokenizer.vocabulary_size) as writer:
        for text in texts:
            writer.add(tokenizer.encode(text), make_document(text, "x").hash)
    for folder, name in ((tmp_path / "documents", ""), (tmp_path / "shards", str(tiny_folder))):
        assert [one.items for one in find_leaks(ITEMS, training_texts(folder, name))] == [("5",)]
    with pytest.raises(ValueError, match="--tokenizer"):
        list(training_texts(tmp_path / "shards"))


def test_items_of_the_log_are_gold_only_where_a_person_agreed(tmp_path: Path):
    evidence = Verdict("The pump runs at 40 bar.", "quoted", Span("0" * 64, 0, 24), "manual", 0.9, None, "cited")
    rows = [
        Interaction(name, 0.0, (Message("user", question),), "…", verdicts=(evidence,), feedback=feedback)
        for name, question, feedback in (
            ("a", "Which pressure?", (Feedback("a", 1.0, "thumbs", "up"),)),
            ("b", "Which colour?", (Feedback("b", 1.0, "thumbs", "down", "wrong"),)),
            ("c", "Which pressure?", ()),
        )
    ]
    gold, waiting = logged_items(rows)
    assert [(one.id, one.gold) for one in gold] == [("a", (GoldQuote("manual", evidence.text),))]
    assert [row["question"] for row in waiting] == ["Which colour?"]
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(waiting[0]) + "\n", "utf-8")
    with pytest.raises(ValueError, match="answerable"):
        read_gold(path)  # a row that nobody completed is refused
    with pytest.raises(ValueError, match="answerable"):
        read_set(path)
