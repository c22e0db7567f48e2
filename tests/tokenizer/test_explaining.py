"""What made a token: the steps lead from its letters to it, in the order of learning."""

import inspect
import textwrap

import pytest

from lmworks.tokenizer.config import BpeConfig, WordPieceConfig
from lmworks.tokenizer.explaining import TRACE, explain, merge_steps, read_trace
from lmworks.tokenizer.training.bpe import train_bpe
from lmworks.tokenizer.training.wordpiece import train_wordpiece

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
    parts, steps = merge_steps("lower", rank)
    assert parts == ["lower"]
    assert steps == [("e", "r"), ("l", "o"), ("lo", "w"), ("low", "er")]
    assert merge_steps("wwl", rank) == (["w", "w", "l"], [])


def test_without_a_trace_the_order_is_known_and_the_counts_are_not(trained, tmp_path):
    assert read_trace(tmp_path) == {}
    step = explain(trained.tokenizer, "self")[0].steps[-1]
    assert step.count is None and trained.merges.pairs()[step.number - 1] == (step.left, step.right)


def test_a_damaged_trace_is_named(tmp_path):
    (tmp_path / TRACE).write_text("token\tleft\tright\tcount\n1\t2\n", "utf-8")
    with pytest.raises(ValueError, match=r"merges\.tsv is damaged"):
        read_trace(tmp_path)


def test_pieces_of_wordpiece_know_their_merges_from_the_trace(tmp_path):
    trained = train_wordpiece([TEXT], WordPieceConfig(vocabulary_size=400))
    (tmp_path / TRACE).write_text(trained.trace(), "utf-8")
    tokens = explain(trained.tokenizer, "wrapper \u2603", read_trace(tmp_path))
    assert tokens[0].steps and tokens[0].because.startswith("the longest piece")
    last = tokens[0].steps[-1]
    assert last.left + last.right.removeprefix("##") == tokens[0].name
    assert [step.number for step in tokens[0].steps] == sorted(step.number for step in tokens[0].steps)
    assert tokens[-1].name == "[UNK]" and "nothing in the vocabulary" in tokens[-1].because
