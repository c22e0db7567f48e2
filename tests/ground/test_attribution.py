"""Attribution against a closed form, and drafts that rest on what supports them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmworks.generate.protocol import Capabilities, Completion, Score, Timings
from lmworks.ground.attribution import support
from lmworks.ground.config import AnswerConfig
from lmworks.ground.draft_sentences import attribute, draft, fitting, prompt
from lmworks.tokenizer.tokenizer import Tokenizer


class CopyingEngine:
    """A closed form: a token costs 1 nat when the context has it, 3 nats when it has not."""

    def __init__(self, tokenizer: Tokenizer, text: str = "", context_length: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.capabilities = Capabilities(True, True, True, True, True, True, True, context_length)
        self.text = text
        self.requests: list = []

    def score(self, contexts, continuations) -> list[Score]:
        if (most := self.capabilities.context_length) is not None:
            assert all(len(a) + len(b) <= most for a, b in zip(contexts, continuations, strict=True))
        return [
            Score(tuple(-1.0 if token in context else -3.0 for token in continuation))
            for context, continuation in zip(contexts, continuations, strict=True)
        ]

    def generate(self, requests) -> list[Completion]:
        self.requests += requests
        timings = Timings(0.0, 0.0, 0.0)
        return [Completion("", self.text, (), (), (), "stop", 0, 1, 1, 0, timings) for _ in requests]


def test_support_is_the_gain_in_nats_per_token(tiny_tokenizer):
    engine = CopyingEngine(tiny_tokenizer)
    sentences, evidence = ["abc", "xyz"], ["cab\n", "none of it"]
    table = support(sentences, evidence, engine, tiny_tokenizer)  # type: ignore[arg-type]
    for i, sentence in enumerate(sentences):
        tokens = tiny_tokenizer.encode("\n" + sentence)
        for j, text in enumerate(evidence):
            known = sum(token in tiny_tokenizer.encode(text) for token in tokens)
            assert table[i, j] == pytest.approx(2 * known / len(tokens))
    assert table[0, 0] == 2.0


@pytest.mark.parametrize("context_length", [8, 11, 64])
def test_support_in_a_short_context_is_that_of_the_beginnings(tiny_tokenizer, context_length):
    engine = CopyingEngine(tiny_tokenizer, context_length=context_length)
    sentence, evidence = "abcdefgh" * 20, "z" * (context_length // 2) + "abcdefgh"
    whole = CopyingEngine(tiny_tokenizer)
    kept = tiny_tokenizer.encode("\n" + sentence)[: context_length // 2]
    read = tiny_tokenizer.encode(evidence)[: context_length - len(kept)]
    gained = 2 * sum(token in read for token in kept) / len(kept)
    assert support([sentence], [evidence], engine, tiny_tokenizer)[0, 0] == pytest.approx(gained)  # type: ignore[arg-type]
    short = support(["ab"], ["ba"], engine, tiny_tokenizer), support(["ab"], ["ba"], whole, tiny_tokenizer)  # type: ignore[arg-type]
    assert short[0] == short[1]


@example(texts=["☃"], question="", room=145)
@given(
    texts=st.lists(st.text(alphabet="abé ☃\n", max_size=60), max_size=4),
    question=st.text(alphabet="abé ☃", max_size=40),
    room=st.integers(-5, 500),
)
def test_passages_fit_with_the_question(tiny_tokenizer, texts, question, room):
    fit = fitting(question, texts, tiny_tokenizer, room)
    read = sum(len(tiny_tokenizer.encode(message.content)) for message in prompt(question, fit))
    assert fit == [] or read <= room
    assert all(text == whole for text, whole in zip(fit[1:], texts[1:], strict=False))
    if fit:
        assert texts[0].startswith(fit[0])
        if fit[0] != texts[0]:
            assert len(fit) == 1
    if fitting(question, texts, tiny_tokenizer, None) != fit:
        more = prompt(question, texts[: len(fit) + 1])
        assert (
            sum(len(tiny_tokenizer.encode(message.content)) for message in more) > room - 80
        )  # the frame, line breaks


def test_a_passage_of_which_nothing_fits_is_none(tiny_tokenizer):
    """Neither a part of its first character nor the spaces before it are something to answer from."""
    question = sum(len(tiny_tokenizer.encode(message.content)) for message in prompt("Why?", ()))
    rooms = range(question + 60, question + 70)
    for passage in ("☃" * 9, " " * 40 + "Because."):
        assert all(text.strip() for room in rooms for text in fitting("Why?", [passage], tiny_tokenizer, room))
    assert fitting("Why?", ["☃" * 9], tiny_tokenizer, rooms[-1]) == ["☃"]


def test_a_question_that_fills_the_context_is_answered_by_quotes_alone(finder, tiny_tokenizer):
    evidence = finder.evidence("How long does a cat sleep?")
    engine = CopyingEngine(tiny_tokenizer, "A cat sleeps for sixteen hours a day.", context_length=300)
    items = [(evidence.question * 20, evidence.passages, evidence.candidates)]
    assert draft(items, engine, tiny_tokenizer, AnswerConfig(draft_tokens=64)) == [[]]  # type: ignore[arg-type]
    assert engine.requests == []


def test_nothing_to_attribute_gives_an_empty_table(tiny_tokenizer):
    assert support([], ["x"], CopyingEngine(tiny_tokenizer), tiny_tokenizer).shape == (0, 1)  # type: ignore[arg-type]


def test_a_draft_rests_on_the_sentence_that_supports_it_most(finder, tiny_tokenizer):
    evidence = finder.evidence("How long does a cat sleep?")
    engine = CopyingEngine(tiny_tokenizer)
    for sentence in ("Owls hunt in the dark.", "It barks at strangers near the gate."):
        (made,) = attribute([sentence], evidence.passages, evidence.candidates, engine, tiny_tokenizer)  # type: ignore[arg-type]
        rests_on = finder.index.document(made.evidence.document).quote(made.evidence)
        assert made.origin == "generated"
        assert made.support is not None and made.support == pytest.approx(2.0, abs=0.5)
        assert evidence.passages[made.passage].span.document == made.evidence.document
        table = support([sentence], [c.text for c in evidence.candidates], engine, tiny_tokenizer)  # type: ignore[arg-type]
        inside = [g for g, c in zip(table[0], evidence.candidates, strict=True) if c.passage == made.passage]
        assert support([sentence], [rests_on], engine, tiny_tokenizer)[0, 0] == max(inside)  # type: ignore[arg-type]


def test_a_draft_reads_the_passages_and_loses_an_unfinished_end(finder, tiny_tokenizer):
    evidence = finder.evidence("How long does a cat sleep?")
    engine = CopyingEngine(tiny_tokenizer, "A cat sleeps for sixteen hours a day. And it also")
    items = [(evidence.question, evidence.passages, evidence.candidates), ("nothing found", (), ())]
    first, nothing = draft(items, engine, tiny_tokenizer, AnswerConfig(draft_tokens=64))  # type: ignore[arg-type]
    assert nothing == []
    assert [candidate.text for candidate in first] == ["A cat sleeps for sixteen hours a day."] or len(first) == 1
    (request,) = engine.requests  # one question had something to read
    assert request.messages == prompt(evidence.question, [passage.text for passage in evidence.passages[:3]])
    assert evidence.passages[0].text in request.messages[1].content
