"""An interaction with a language model, made again with the same seed, compared token by token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmworks.config import from_mapping
from lmworks.generate.protocol import EngineProtocol, Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Interaction


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of a replay. `reason` says in words what is the same and what is not.

    `first_difference` is the position of the first token that differs (where one list ends before the other, its
    length), None when none does or nothing was generated. `prompt_same`: the messages render to the logged prompt byte
    for byte; nothing is generated otherwise. `model_same`: the weights and tokenizer are the logged ones.
    """

    same: bool
    model_same: bool
    reason: str
    token_ids: tuple[int, ...] = ()
    first_difference: int | None = None
    prompt_same: bool = True


def replay(interaction: Interaction, engine: EngineProtocol, checkpoint: Checkpoint) -> Replay:
    """Generate again what was logged; `checkpoint` is what `engine` runs.

    A seed decides every draw, so the same weights give the same tokens, up to places where two tokens are almost
    equally probable: what else was in the batch moves log-probabilities by rounding (see `Engine`). Raises ValueError
    for what cannot be replayed, and says why.
    """
    _check(interaction, engine)
    prompt_ids = interaction.prompt_ids
    if interaction.operation == "chat":
        rendered = checkpoint.chat.render(interaction.messages, add_generation_prompt=True, tools=interaction.tools)
        if rendered.text != interaction.rendered_prompt or rendered.ids != prompt_ids:
            return _other_prompt(interaction, rendered.text, checkpoint)
        request = Request(messages=interaction.messages, tools=interaction.tools, sampling=_sampling(interaction))
    else:
        request = Request(prompt_ids=prompt_ids, sampling=_sampling(interaction))
    completion = engine.generate([request])[0]
    ids = completion.ids or ()
    difference = first_difference(interaction.token_ids, ids)
    model_same = checkpoint.fingerprint == interaction.model and not completion.policy_version
    weights = "the same weights" if model_same else "other weights than those that were logged"
    if difference is None:
        reason = f"all {len(ids)} tokens, from {weights}"
    else:
        reason = f"token {difference + 1} of {len(interaction.token_ids)} is the first that differs; {weights}"
    return Replay(difference is None, model_same, reason, ids, difference)


def first_difference(first: Sequence[int], second: Sequence[int]) -> int | None:
    """The first position at which two lists differ; None when they are equal."""
    if first == second:
        return None
    pairs = enumerate(zip(first, second, strict=False))
    return next((position for position, (a, b) in pairs if a != b), min(len(first), len(second)))


def _check(interaction: Interaction, engine: EngineProtocol) -> None:
    name = interaction.id
    if interaction.operation == "embeddings":
        raise ValueError(f"{name} embedded texts: it generated nothing that could be compared")
    if interaction.redacted:
        raise ValueError(f"{name} was redacted ({', '.join(interaction.redacted)}): its prompt is not known")
    if interaction.confidence is not None or interaction.retrieved or interaction.verdicts:
        raise ValueError(f"{name} is an answer from documents: ask its question again, with the same index")
    if not interaction.token_ids or interaction.seed is None:
        why = interaction.error or interaction.finish_reason
        raise ValueError(f"{name} has no tokens to compare with ({why})")
    if interaction.operation == "text_completion" and not interaction.prompt_ids:
        raise ValueError(f"{name} has no prompt ids")
    if adapters := [key.partition(":")[2] for key in interaction.lineage if key.startswith("adapter:")]:
        raise ValueError(
            f"{name} was made with the adapter {adapters[0]!r}: only what the model made alone is replayed"
        )
    if not engine.capabilities.token_ids:
        raise ValueError("this engine returns no token ids; replay with the local Engine")


def _sampling(interaction: Interaction) -> SamplingParameters:
    """The logged parameters. What ended early ends there again: it was cancelled, or its context was full."""
    mapping = dict(interaction.parameters)
    bias = {int(token): value for token, value in mapping.pop("logit_bias", {}).items()}
    sampling = from_mapping(SamplingParameters, mapping, ("parameters",))
    if interaction.finish_reason != "stop":
        sampling = replace(sampling, max_tokens=len(interaction.token_ids))
    return replace(sampling, seed=interaction.seed, logit_bias=bias)


def _other_prompt(interaction: Interaction, rendered: str, checkpoint: Checkpoint) -> Replay:
    position = first_difference(interaction.rendered_prompt, rendered)  # type: ignore[arg-type]
    change = "has other token ids" if position is None else f"is rendered differently from character {position + 1} on"
    model_same = checkpoint.fingerprint == interaction.model
    return Replay(False, model_same, f"the prompt {change}; nothing was generated", prompt_same=False)
