"""What made a token: the steps lead from its letters to it, in the order of learning."""

import inspect
import re
import textwrap

import pytest

from kit.tables import for_each
from lmworks.tokenizer.config import BpeConfig, WordPieceConfig
from lmworks.tokenizer.merge_history import HEADINGS, TRACE, explain, legible, merge_steps, read_trace
from lmworks.tokenizer.training.trainers import train_bpe, train_wordpiece

TEXT = inspect.getsource(textwrap)


@pytest.fixture(scope="module")
def trained():
    return train_bpe([TEXT], BpeConfig(vocabulary_size=600))


def test_steps_lead_to_every_token(trained, tmp_path):
    (tmp_path / TRACE).write_text(trained.trace(), "utf-8")
    tokens = explain(trained.tokenizer, TEXT, read_trace(tmp_path))
    assert [token.id for token in tokens] == trained.tokenizer.encode(TEXT)
    assert "".join(TEXT[token.start : token.end] for token in tokens) == TEXT
    pairs, counts = trained.merges.pairs(), trained.merges.counts.tolist()
    for token in tokens:
        if len(token.name) == 1:
            assert token.steps == () and token.because == "a symbol of the alphabet"
            continue
        assert token.steps[-1].left + token.steps[-1].right == token.name
        for step in token.steps:
            assert pairs[step.number - 1] == (step.left, step.right) and counts[step.number - 1] == step.count


def test_by_hand():
    rank = {("e", "r"): 0, ("l", "o"): 1, ("lo", "w"): 2, ("low", "er"): 3}
    parts, steps = merge_steps(list("lower"), rank.get)
    assert parts == ["lower"]
    assert steps == [("e", "r"), ("l", "o"), ("lo", "w"), ("low", "er")]
    assert merge_steps(list("wwl"), rank.get) == (["w", "w", "l"], [])


def test_without_a_trace_the_order_is_known_and_the_counts_are_not(trained, tmp_path):
    assert read_trace(tmp_path) == {}
    step = explain(trained.tokenizer, "self")[0].steps[-1]
    assert step.count is None and trained.merges.pairs()[step.number - 1] == (step.left, step.right)


DAMAGE = {
    "": (1, "headings"),
    "token left right count\n5\t1\t2\t9\n": (1, "headings"),
    f"{HEADINGS}\n5\t1\t2\t9\n6\t2\n": (3, "four numbers"),
    f"{HEADINGS}\n5\t1\t2\t9\n\n": (3, "four numbers"),
    f"{HEADINGS}\n5\t1\ttwo\t9\n": (2, "four numbers"),
    f"{HEADINGS}\n5\t1\t2\t9\t9\n": (2, "four numbers"),
    f"{HEADINGS}\n5\t5\t2\t9\n": (2, "two lower ones"),  # made of itself: it would never come to an end
    f"{HEADINGS}\n5\t-1\t2\t9\n": (2, "two lower ones"),
    f"{HEADINGS}\n5\t1\t2\t9\n5\t1\t3\t9\n": (3, "above the line before"),
    f"{HEADINGS}\n5\t1\t2\t9\n6\t1\t3\t1": (3, "not complete"),
    HEADINGS: (1, "not complete"),
}


@for_each("content", DAMAGE)
def test_a_damaged_trace_is_named_with_its_line(content, tmp_path):
    line, why = DAMAGE[content]
    (tmp_path / TRACE).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path / TRACE))}, line {line}: .*{why}.*delete the file"):
        read_trace(tmp_path)


def test_a_trace_that_is_another_tokenizers_is_named(trained, tmp_path):
    other = train_bpe([TEXT[::-1]], BpeConfig(vocabulary_size=600))
    (tmp_path / TRACE).write_text(other.trace(), "utf-8")
    with pytest.raises(ValueError, match=r"merges\.tsv was learnt with another tokenizer"):
        explain(trained.tokenizer, TEXT, read_trace(tmp_path))
    pieces = [train_wordpiece([text], WordPieceConfig(vocabulary_size=400)) for text in (TEXT, TEXT[::-1])]
    (tmp_path / TRACE).write_text(pieces[1].trace(), "utf-8")
    with pytest.raises(ValueError, match=r"merges\.tsv was learnt with another tokenizer"):
        explain(pieces[0].tokenizer, TEXT, read_trace(tmp_path))


def test_what_cannot_be_seen_is_shown_as_an_escape():
    assert legible("a\r\n\tb") == r"a\r\n\tb"
    assert legible("\x07\u200b\u2028\ud800\xa0") == r"\x07\u200b\u2028\ud800\xa0"
    assert legible("größer 狗 ▁Ġ") == "größer 狗 ▁Ġ"
    assert legible("\\n") == r"\\n" != legible("\n")


def test_pieces_of_wordpiece_know_their_merges_from_the_trace(tmp_path):
    trained = train_wordpiece([TEXT], WordPieceConfig(vocabulary_size=400))
    (tmp_path / TRACE).write_text(trained.trace(), "utf-8")
    tokens = explain(trained.tokenizer, "wrapper \u2603", read_trace(tmp_path))
    assert tokens[0].steps and tokens[0].because.startswith("the longest piece")
    last = tokens[0].steps[-1]
    assert last.left + last.right.removeprefix("##") == tokens[0].name
    assert [step.number for step in tokens[0].steps] == sorted(step.number for step in tokens[0].steps)
    assert tokens[-1].name == "[UNK]" and "nothing in the vocabulary" in tokens[-1].because
