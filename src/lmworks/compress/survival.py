"""What quantisation leaves of a fine-tune whose base was quantised already.

With the base's W and the tuned W + ΔW, rounded to Ŵ, the share that survives is <Ŵ - W, ΔW> / <ΔW, ΔW>: 1 where the
change is kept, whatever noise is added to it, 0 where it is gone. A ΔW below half a step of the levels that W lies on
is rounded away by levels that are the same, and kept on the mean by any others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
Share = tuple[float, float]  # what is left of a change, and the whole: <Ŵ - W, ΔW>, <ΔW, ΔW>


@dataclass(frozen=True)
class Survival:
    """Of a matrix: the shares by its weights and, where a text was seen, by its outputs on that."""

    weights: Share
    outputs: Share | None = None

    @property
    def measured(self) -> Share:
        return self.outputs or self.weights


def base_weights(checkpoint: Checkpoint) -> tuple[Mapping[str, Tensor], str]:
    """The weights of the quantised checkpoint that this one was tuned from; or none, and why."""
    told = checkpoint.quantised
    if told is None:
        return {}, ""
    path = Path(told["path"])
    try:
        path = path if path.exists() else located(told["name"], Path.cwd())
    except FileNotFoundError:
        pull = f"run `lmworks pull {told['name']}`" if told["name"] in MODELS else f"put it at {path}"
        return {}, f"its base {told['name']}, which was quantised, is not on this machine ({pull} to measure it)"
    if told.get("sha256", digest := digest_of_model(path)) != digest:
        return {}, f"{path} is no longer the quantised base that it was tuned from (SHA-256 {told['sha256']})"
    return load_whole(path, "stored").weights, ""


def survival(base: Tensor, tuned: Tensor, scaled: Tensor, rounded: Tensor, moment: Tensor | None) -> Survival | None:
    """Of matrices (rows, columns); `scaled` is `tuned` as a method scaled it before it rounded, `moment` the mean x xᵀ
    of what it reads. None where nothing was changed, or the base has another shape."""
    if base.shape != tuned.shape or torch.equal(base.to(tuned.dtype), tuned):
        return None
    scales = torch.where(tuned == 0, 1.0, scaled / tuned)
    change, left = scaled - base * scales, rounded - base * scales

    def share(reads: Tensor) -> Share:
        return float((left * reads).sum()), float((change * reads).sum())

    plain = change / scales.square().clamp(min=1e-30)
    return Survival(share(plain), None if moment is None else share(change @ moment))


def total(parts: Sequence[Share]) -> float:
    """The share that is left of all of them together."""
    return sum(left for left, _ in parts) / max(sum(whole for _, whole in parts), 1e-30)


def check_survival(found: Mapping[str, Survival], checkpoint: Checkpoint, least: float) -> None:
    """ValueError, with what keeps more, where less than this share is left of the change of all matrices."""
    if found and (share := total([one.measured for one in found.values()])) < least:
        assert checkpoint.quantised is not None
        source, base = checkpoint.source, checkpoint.quantised["name"]
        raise ValueError(
            f"{share:.1%} of the fine-tune is left: {source} was tuned from {base}, which is quantised, and these "
            "levels round its weights back to what they were. Take levels around 0, which are others, or 8 bits; let "
            "gptq make up for it on the rows of the fine-tune; or serve the adapter beside its base:\n"
            f"  lmworks compress {source} --method gptq --data ROWS.jsonl --set grid.symmetric=true\n"
            f"  lmworks compress {source} --method rtn --set grid.symmetric=true\n"
            f"  lmworks compress {source} --method rtn --set grid.bits=8\n"
            f"  lmworks serve --model {base} --adapter NAME=ADAPTER\n"
            "--set minimum_survival=0 rounds it all the same"
        )


def survival_section(found: Mapping[str, Survival], checkpoint: Checkpoint, unmeasured: str) -> Section:
    """The shares of all matrices that the fine-tune changed, and of each kind of layer; or why there are none."""
    title = "What is left of the fine-tune"
    if unmeasured:
        return Section(title, alarms=(f"what is left of the fine-tune was not measured: {unmeasured}",))
    kinds: dict[str, list[Survival]] = {"all": list(found.values())}
    for name, one in found.items():
        kinds.setdefault(name.removesuffix(".weight").rpartition(".")[2], []).append(one)
    rows = []
    for kind, parts in kinds.items():
        least = min((total([one.measured]), name) for name, one in found.items() if one in parts)
        outputs = [one.outputs for one in parts if one.outputs]
        shown = f"{total(outputs):.3f}" if outputs else ""
        rows.append((kind, len(parts), f"{total([one.weights for one in parts]):.3f}", shown, *map(str, least[1:])))
    text = (
        f"The weights were tuned from {(checkpoint.quantised or {}).get('name')}, which was quantised already. This is "
        "what the rounding leaves of the change: 1 is all of it. Of outputs it is measured on the calibration text, "
        "and is what counts."
    )
    return Section(title, text, (Table(("layers", "count", "weights", "outputs", "least in"), tuple(rows)),))


def answers_section(rows: Sequence[Dialogue], tuned: Checkpoint, rounded: Checkpoint) -> tuple[Section, float]:
    """What both answer, greedily, to the prompts of the first rows, and the share that they answer alike."""
    turns = [turns_of(row)[0] for row in rows[:_ASKED]]
    last = [max(place for place, turn in enumerate(each) if turn.role == "assistant") for each in turns]
    sampling = SamplingParameters(max_tokens=_NEW)
    asked = [
        Request(messages=each[:end], tools=row.tools, sampling=sampling)
        for row, each, end in zip(rows, turns, last, strict=False)
    ]
    given = [[found.text for found in Engine(model, 8).generate(asked)] for model in (tuned, rounded)]
    alike = [before == after for before, after in zip(*given, strict=True)]
    shown = [(request.messages[-1].content, *both) for request, *both in zip(asked, *given, strict=True)]
    shown = [row for _, row in sorted(zip(alike, shown, strict=True), key=lambda pair: pair[0])][:_SHOWN]
    text = f"{sum(alike)} of {len(alike)} rows that the model was tuned on are answered as before, word for word."
    table = Table(("question", "before", "after"), tuple(shown), "Those that changed first")
    return Section("Answers before and after", text, (table,)), sum(alike) / len(alike)
