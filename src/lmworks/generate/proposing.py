"""Which proposer an engine guesses with."""

from typing import Literal

from lmworks.generate.draft import DraftModel, LayerSkip, skip_layers
from lmworks.generate.fused_runner import FusedRunner
from lmworks.generate.paged_cache import PAGE
from lmworks.generate.prompt_lookup import PromptLookup
from lmworks.generate.runner import Runner
from lmworks.generate.speculation import Proposer

Speculation = Proposer | LayerSkip | Literal["auto", "lookup"] | None


def build_proposer(speculation: Speculation, runner: Runner, pages: int) -> Proposer | None:
    """The proposer for a runner, with `pages` for a cache of its own; ValueError where it cannot guess for it.

    "auto" looks up where a token's logits do not depend on how many are checked at once. Elsewhere a check would round
    differently from a single step, and two almost equally probable tokens could change places.
    """
    if speculation == "auto":
        return PromptLookup() if runner.grid is None else None
    if speculation == "lookup":
        return PromptLookup()
    if isinstance(speculation, str):
        raise ValueError(f'speculation is "auto", "lookup", a Proposer, LayerSkip or None, got {speculation!r}')
    if isinstance(speculation, LayerSkip):
        if not isinstance(runner, FusedRunner):
            raise ValueError("LayerSkip needs a model that the fused kernels run; use a draft model")
        skipping = FusedRunner(skip_layers(runner.program, speculation.kept), runner.windows)
        return DraftModel(skipping, pages, pages * PAGE)
    if isinstance(speculation, DraftModel) and speculation.runner.vocabulary != runner.vocabulary:
        raise ValueError(
            f"the draft model has {speculation.runner.vocabulary} tokens, the model {runner.vocabulary}: they must "
            "share a tokenizer"
        )
    return speculation
