"""Rows to learn from, made of what people said about answers: thumbs of the log, votes of Compare, rankings of Rank.

kto          an answer with a thumb: desirable or not
preference   two answers to one prompt with opposite thumbs; a vote with a winner; any two that were ranked apart

What cannot be used is counted by its reason. An answer from documents has the passages that it cites in its prompt,
numbered as it cites them: without them a row would teach to make up citations.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product

from lmworks.artefact import hash_json
from lmworks.evaluate.question_set import thumb_of
from lmworks.evaluate.release.votes import Vote
from lmworks.records import CONTENT, Interaction, LabelledCompletion, Message, Preference, Provenance

GROUNDED = "Answer from these passages, or say that you don't know.\n\n{passages}\n\nQuestion: {question}"
SHOWN = 3  # passages of an answer that cites none
_CUT = {"length": "cut off at the limit of tokens", "cancelled": "cancelled", "deadline": "cut off by a deadline"}


def thumbed_rows(interactions: Iterable[Interaction], left_out: Counter[str]) -> list[LabelledCompletion]:
    """A row for each answer with a thumb, the newest one; `rubric` is the reason that the person gave."""
    rows = []
    for interaction in interactions:
        thumb, reason = thumb_of(interaction), unusable(interaction)
        if not thumb or reason:
            left_out[f"thumbs on answers {reason}" if thumb else "answers without a thumb"] += 1
            continue
        given = next(feedback for feedback in reversed(interaction.feedback) if feedback.kind == "thumbs")
        made = Provenance(f"interaction {interaction.id}", given.author or None, rubric=given.text or None)
        rows.append(
            LabelledCompletion(
                prompt_of_answer(interaction), interaction.response, thumb == "up", made, interaction.tools
            )
        )
    return rows


def preference_rows(
    thumbed: Sequence[LabelledCompletion], votes: Sequence[Vote], left_out: Counter[str]
) -> list[Preference]:
    """Pairs from thumbs, then from votes, each in the order of what they are from."""
    by_prompt: dict[str, tuple[list[LabelledCompletion], list[LabelledCompletion]]] = {}
    for row in thumbed:
        by_prompt.setdefault(hash_json([row.prompt, row.tools]), ([], []))[not row.label].append(row)
    rows = []
    for liked, disliked in by_prompt.values():
        if not (liked and disliked):
            left_out["thumbs on answers to a prompt without an opposite thumb"] += len(liked) + len(disliked)
        for good, bad in product(liked, disliked):
            if good.completion == bad.completion:
                left_out["opposite thumbs on equal answers"] += 1
                continue
            better, worse = good.provenance, bad.provenance
            annotator = better.annotator if better.annotator == worse.annotator else None
            made = Provenance(f"{better.source} and {worse.source}", annotator, rubric=worse.rubric or better.rubric)
            rows.append(Preference(good.prompt, good.completion, bad.completion, made, good.tools))
    rows += [row for vote in votes for row in vote.preferences]
    choices = [pair.choice for vote in votes for pair in vote.pairs]
    left_out["pairs that tie"] += choices.count("tie")
    left_out["pairs that are both bad"] += choices.count("both bad")
    left_out["prompts that were skipped"] += sum(vote.ranks == () for vote in votes)
    return rows


def unusable(interaction: Interaction) -> str:
    """Why nothing can be learned from an answer; "" where something can."""
    if interaction.finish_reason in _CUT or interaction.error:
        return _CUT.get(interaction.finish_reason, "that failed")
    if interaction.operation != "chat":
        return f"of the operation {interaction.operation}, whose prompt is no conversation"
    if CONTENT in interaction.redacted:
        return "whose texts the log does not keep"
    if interaction.redacted:
        return f"with words that the log replaces ({', '.join(interaction.redacted)})"
    if not interaction.messages or not interaction.response.strip():
        return "that are empty"
    return "from documents that found none" if interaction.confidence is not None and not interaction.retrieved else ""


def prompt_of_answer(interaction: Interaction) -> tuple[Message, ...]:
    if interaction.confidence is None:
        return interaction.messages
    passages = []
    for cited in interaction.citations:
        held = (passage.text for passage in interaction.retrieved if passage.span.overlap(cited.evidence))
        passages.append(next(held, cited.text))
    passages = passages or [passage.text for passage in interaction.retrieved[:SHOWN]]
    numbered = "\n\n".join(f"[{number}] {text.strip()}" for number, text in enumerate(passages, 1))
    question = "\n".join(message.content for message in interaction.messages if message.role == "user")
    return (Message("user", GROUNDED.format(passages=numbered, question=question)),)
