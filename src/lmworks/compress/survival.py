"""Survival of a fine-tune, whose base was quantised already, under another quantisation.

With the base's W and the tuned W + ΔW, rounded to Ŵ, the share that survives is <Ŵ - W, ΔW> / <ΔW, ΔW>: 1 where the
change is kept, whatever noise is added to it, 0 where it is gone. A ΔW below half a step of the levels that W lies on
is rounded away by levels that are the same, and kept on the mean by any others.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lmworks.data.conversations import Dialogue, turns_of
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.checkpoint import load as load_whole
from lmworks.model.download import MODELS, digest_of_model, located
from lmworks.report import Section, Table

_ASKED, _NEW, _SHOWN = 64, 64, 5  # rows, tokens of an answer, rows in the report
Share = tuple[float, float]  # the part of a change that survives, and the whole: <Ŵ - W, ΔW>, <ΔW, ΔW>


def base_weights(checkpoint: Checkpoint) -> tuple[Mapping[str, Tensor], str]:
    """The weights of the quantised checkpoint that this one was tuned from; or none, and why."""
    origin = checkpoint.quantised
    if origin is None:
        return {}, ""
    path = Path(origin.get("path", origin["name"]))
    try:
        path = path if path.exists() else located(origin["name"], Path.cwd())
    except FileNotFoundError:
        pull = f"run `lmworks pull {origin['name']}`" if origin["name"] in MODELS else f"put it at {path}"
        return {}, f"its base {origin['name']}, which was quantised, is not on this machine ({pull} to measure it)"
    if origin.get("sha256", digest := digest_of_model(path)) != digest:
        return {}, f"{path} is no longer the quantised base that it was tuned from (SHA-256 {origin['sha256']})"
    return load_whole(path, "stored").weights, ""


def survival(base: Tensor, tuned: Tensor, scaled: Tensor, rounded: Tensor, moment: Tensor | None) -> Share | None:
    """The share of a matrix (rows, columns): of its outputs where `moment`, the mean x xᵀ of what it reads, is known,
    else of its weights. `scaled` is `tuned` as a method scaled it before it rounded. None where nothing was changed, or
    the base has another shape."""
    if base.shape != tuned.shape or torch.equal(base.to(tuned.dtype), tuned):
        return None
    scaled_base = base * torch.where(tuned == 0, 1.0, scaled / tuned)
    change = scaled - scaled_base
    seen = change if moment is None else change @ moment
    return float(((rounded - scaled_base) * seen).sum()), float((change * seen).sum())


def total(parts: Iterable[Share]) -> float:
    """The share that is left of all of them together."""
    left, whole = map(sum, zip(*parts, strict=True))
    return left / max(whole, 1e-30)


def check_survival(left: Mapping[str, Share], checkpoint: Checkpoint, least: float) -> None:
    """ValueError, with what keeps more, where less than this share is left of the change of all matrices."""
    if left and (share := total(left.values())) < least:
        assert checkpoint.quantised is not None
        source, base = checkpoint.source, checkpoint.quantised["name"]
        raise ValueError(
            f"{share:.1%} of the fine-tune is left: {source} was tuned from {base}, which is quantised, and these "
            "levels round its weights back to what they were. Take levels around 0, which are others, or 8 bits; let "
            "gptq make up for it on the rows of the fine-tune; or serve the adapter next to its base:\n"
            f"  lmworks compress {source} --method gptq --data ROWS.jsonl --set grid.symmetric=true\n"
            f"  lmworks compress {source} --method rtn --set grid.symmetric=true\n"
            f"  lmworks compress {source} --method rtn --set grid.bits=8\n"
            f"  lmworks serve --model {base} --adapter NAME=ADAPTER\n"
            "--set minimum_survival=0 rounds it all the same"
        )


def answers_section(rows: Sequence[Dialogue], tuned: Checkpoint, rounded: Checkpoint) -> tuple[Section, float]:
    """The answers of both, greedily, to the prompts of the first rows, and the share that they answer alike."""
    turns = [turns_of(row)[0] for row in rows[:_ASKED]]
    last = [max(index for index, turn in enumerate(messages) if turn.role == "assistant") for messages in turns]
    sampling = SamplingParameters(max_tokens=_NEW)
    asked = [
        Request(messages=messages[:end], tools=row.tools, sampling=sampling)
        for row, messages, end in zip(rows, turns, last, strict=False)
    ]
    given = [[answer.text for answer in Engine(model, 8).generate(asked)] for model in (tuned, rounded)]
    alike = [before == after for before, after in zip(*given, strict=True)]
    shown = [(request.messages[-1].content, *both) for request, *both in zip(asked, *given, strict=True)]
    shown = [row for _, row in sorted(zip(alike, shown, strict=True), key=lambda pair: pair[0])][:_SHOWN]
    text = f"{sum(alike)} of {len(alike)} rows that the model was tuned on are answered as before, word for word."
    table = Table(("question", "before", "after"), tuple(shown), "Those that changed first")
    return Section("Answers before and after", text, (table,)), sum(alike) / len(alike)
