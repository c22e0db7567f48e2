"""Evaluation items from logged interactions: what people asked, and what they found right.

A question whose answer got a thumb up and cites its evidence is a gold question: its quotes are what was cited. Any
other one waits for a person: it is written as a row without `answerable` and `gold`, which is refused until they are
filled in; what the system said stands in its `notes`.
"""

from collections.abc import Iterable
from typing import Any

from lmworks.evaluate.question_set import GoldQuestion, GoldQuote
from lmworks.records import Interaction, question_of


def thumb_of(interaction: Interaction) -> str:
    """The last thumb that a person gave: "up", "down" or ""."""
    return next((one.value or "" for one in reversed(interaction.feedback) if one.kind == "thumbs"), "")


def logged_items(interactions: Iterable[Interaction]) -> tuple[list[GoldQuestion], list[dict[str, Any]]]:
    """Gold questions (split "test", kind "logged"), and rows for a person to complete, each question once."""
    gold: dict[str, GoldQuestion] = {}
    waiting: dict[str, dict[str, Any]] = {}
    for interaction in interactions:
        question = question_of(interaction.messages).strip()
        cited = [verdict for verdict in interaction.verdicts if verdict.verdict == "cited"]
        if not question or interaction.error:
            continue
        if thumb_of(interaction) == "up" and cited:
            quotes = tuple(GoldQuote(verdict.uri, verdict.text) for verdict in cited)
            gold[question] = GoldQuestion(interaction.id, question, "test", True, quotes, kind="logged")
        else:
            reasons = [one.text for one in interaction.feedback if one.text]
            waiting[question] = {
                "id": interaction.id, "question": question, "split": "test", "kind": "logged", "answerable": None,
                "gold": [], "notes": {
                    "response": interaction.response, "thumb": thumb_of(interaction), "reasons": reasons,
                    "cited": [{"uri": verdict.uri, "quote": verdict.text} for verdict in cited],
                },
            }  # fmt: skip
    return list(gold.values()), [row for question, row in waiting.items() if question not in gold]
