"""The field `lmworks` of an answer: what OpenAI's format has no place for."""

from typing import Any

from lmworks.config import to_mapping
from lmworks.records import Answer, Interaction, Retrieved, Verdict
from lmworks.serve.events import Finished


def of_finished(finished: Finished) -> dict[str, Any]:
    """Of one choice: the grounds of an answer from documents, or what repeats a completion."""
    interaction = finished.interaction
    if finished.answer is None:
        return {"interaction": interaction.id, "seed": interaction.seed, "timings": dict(interaction.timings)}
    return _of_answer(interaction, finished.answer)


def of_choices(choices: list[Finished]) -> dict[str, Any]:
    """Of all choices of a request: the first one's, and under `choices` each one's, where there are several."""
    first = of_finished(choices[0])
    return first if len(choices) == 1 else {**first, "choices": [of_finished(one) for one in choices]}


def _of_answer(interaction: Interaction, answer: Answer) -> dict[str, Any]:
    return {
        "interaction": interaction.id,
        "confidence": answer.confidence,
        "abstained": answer.abstained,
        "citations": [{"number": n, **_evidence(one)} for n, one in enumerate(answer.citations, start=1)],
        "verdicts": [{**_evidence(one), "verdict": one.verdict, "origin": one.origin} for one in answer.verdicts],
        "nearest": [_passage(one) for one in answer.nearest],
        "lineage": dict(answer.lineage),
        "timings": dict(interaction.timings),
    }


def _evidence(verdict: Verdict) -> dict[str, Any]:
    place = {**to_mapping(verdict.evidence), "uri": verdict.uri}
    return {**place, "text": verdict.text, "relevance": verdict.relevance, "support": verdict.support}


def _passage(found: Retrieved) -> dict[str, Any]:
    place = {**to_mapping(found.span), "uri": found.uri}
    return {"chunk": found.chunk, **place, "text": found.text, "scores": dict(found.scores)}
