"""A measure of what fine-tuning made a model forget (McCloskey & Cohen 1989, "Catastrophic interference"): the
likelihood of right answers to a fixed set of general questions, before and after.

A score on held-out rows says nothing of it: a model that answers every question as its rows do scores well there. The
beginning of each answer is given, and of what follows the right words alone count, so that another tone is no loss."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lmworks.model.checkpoint import Checkpoint
from lmworks.model.transformer import Transformer
from lmworks.records import Message, Scored
from lmworks.report import Section, Table
from lmworks.statistics import difference_score, mean_score
from lmworks.train.held_out import continue_text

QUESTIONS = [json.loads(line) for line in Path(__file__).with_name("general_prompts.jsonl").open("rb")]
_KNOWN, _LOST = 0.5, 0.05  # chances of an answer that a model knew, and of one that is gone
_HARMLESS = 0.05  # of the mean chance: what another tone may cost
_TOKENS = 8  # of what a model says in the place of an answer that is gone


@dataclass(frozen=True, slots=True)
class Answer:
    """The chance of the right words; where they seem to be gone, the likeliest words in their place."""

    chance: float
    said: str = ""


@torch.no_grad()
def general_answers(model: Transformer, checkpoint: Checkpoint, before: Sequence[Answer] = ()) -> list[Answer]:
    """The answers to `QUESTIONS` of a causal language model, `model`, asked as the checkpoint's chat template has it,
    or, where there is none, in their beginnings alone. None where the model's context is too short for them. What was
    known `before` and seems to be gone is asked for in the model's own words."""
    tokenizer, device, rows = checkpoint.required_tokenizer, model.tokens.device, []
    for asked in QUESTIONS:
        continued_prompt = asked["beginning"] + asked["answer"]
        turns = Message("user", asked["question"]), Message("assistant", continued_prompt)
        whole = None if checkpoint.chat_template is None else checkpoint.chat.render(turns)
        if whole is None or continued_prompt not in whole.text:
            rows.append((tokenizer.encode(continued_prompt), len(tokenizer.encode(asked["beginning"]))))
            continue
        end = whole.text.rindex(continued_prompt) + len(continued_prompt)
        rows.append((
            [token for token, start in zip(whole.ids, whole.starts, strict=True) if start < end],
            sum(start < end - len(asked["answer"]) for start in whole.starts),
        ))  # fmt: skip
    if max(len(prompt_ids) for prompt_ids, _ in rows) > checkpoint.config.context_length:
        return []
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids, _ in rows], batch_first=True).to(device)
    training = model.training
    hidden, answers = model.eval().hidden(ids), list[Answer]()
    for row, (prompt_ids, first) in enumerate(rows):
        logits = model.logits(hidden[row, first - 1 : len(prompt_ids) - 1]).float()  # (answer, vocabulary)
        chances = logits.log_softmax(-1).gather(1, ids[row, first : len(prompt_ids), None])
        answers.append(Answer(float(chances.sum().exp())))
    for n in [n for n, was in enumerate(before) if was.chance >= _KNOWN and answers[n].chance <= _LOST]:
        prompt_ids, first = rows[n]
        words = tokenizer.decode(continue_text(model, prompt_ids[:first], _TOKENS)).split()
        answers[n] = Answer(answers[n].chance, " ".join(words[:-1] or words))  # the last one may not be whole
    model.train(training)
    return answers


def forgetting_section(before: Sequence[Answer], after: Sequence[Answer]) -> tuple[Section, dict[str, float]]:
    """A section on what of the general answers is left, and the same numbers for the manifest. An alarm where the mean
    chance fell beyond doubt, or an answer that the model knew is gone, from its own words as well: quotation marks or
    an article before it change its chance, and are no loss."""
    was, now = ([answer.chance for answer in side] for side in (before, after))
    change = difference_score(now, was, "general prompts")
    right = [asked["answer"].strip() for asked in QUESTIONS]
    gone = [
        n
        for n, answer in enumerate(after)
        if was[n] >= _KNOWN and now[n] <= _LOST and right[n].lower() not in answer.said.lower()
    ]
    alarms = []
    if isinstance(change, Scored) and change.interval[1] < -_HARMLESS:
        alarms = [f"forgotten: the mean chance of right answers to general questions changed by {change}"]
    if gone:
        first = gone[0]
        example = f'"{QUESTIONS[first]["beginning"]}" continues with "{after[first].said}", no longer "{right[first]}"'
        alarms.append(f"{len(gone)} of {len(was)} general answers are gone: {example}")
    advice = "; train for fewer epochs, at a lower rate, or on general rows as well" if alarms else ""
    rows = [("mean chance of the right answer", *(str(mean_score(side, "general prompts")) for side in (was, now)))]
    rows += [(QUESTIONS[n]["beginning"], right[n], after[n].said) for n in gone]
    text = f"{len(was)} general questions that the rows did not teach, before and after; the change is {change}."
    table = Table(("what", "before", "after"), tuple(rows))
    numbers = {"general_before": sum(was) / len(was), "general_after": sum(now) / len(now)}
    return Section("What it still knows", text, (table,), alarms=tuple(a + advice for a in alarms)), numbers
