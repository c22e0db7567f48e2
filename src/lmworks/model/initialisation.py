"""Random weights for a new model: as each family published them, or by their fan-in, which fits a model of any width.

A scheme is a function from what a weight is for and its shape to the distribution that it is sampled from. Whatever the
scheme, biases and attention sinks begin at zero and norms at one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from lmworks.model.config import LanguageModelHead
from lmworks.model.norms import RMSNorm
from lmworks.model.transformer import Transformer


@dataclass(frozen=True)
class Weight:
    """A weight as a scheme sees it.

    role      the name of its module, or its own: `tokens`, `query`, `output`, `up`, `down`, `router`, `projection` (of
              a head), `table` (of relative biases) ...
    fan_in    inputs of a projection, rows of a table; `fan_out`: outputs, columns.
    width     of the hidden states.
    depth     residual connections in its stack, two or three a block; 0 outside the stacks.
    head_dim  of its stack's attention; 0 outside the stacks.
    factor    that its model multiplies with what it gives: of a query, the scores beyond `head_dim ** -0.5`; of tokens
              that are a tied head, or of an untied one, the logits.
    """

    role: str
    fan_in: int
    fan_out: int
    width: int
    depth: int = 0
    head_dim: int = 0
    factor: float = 1.0

    @property
    def closes_residual(self) -> bool:
        """The last projection before a residual connection: it decides how fast the residual stream grows."""
        return self.role in ("output", "down")


@dataclass(frozen=True)
class Distribution:
    """A distribution of mean 0. `truncated`: a normal one of deviation `std`, sampled again beyond two deviations,
    which leaves 0.88 of it, as TensorFlow's `truncated_normal`."""

    std: float
    kind: Literal["normal", "truncated", "uniform"] = "normal"


Scheme = Callable[[Weight], Distribution]


def normal(std: float) -> Scheme:
    """Every weight alike. GPT-1's 0.02 (Radford et al. 2018, section 4.1), and RoBERTa's and BART's code."""
    return lambda weight: Distribution(std)


def bert(weight: Weight) -> Distribution:
    """Truncated normal of 0.02, in the authors' code; the paper (Devlin et al. 2019) does not say."""
    return Distribution(0.02, "truncated")


def residual_scaled(std: float) -> Scheme:
    """Normal, with the last projection before each of N residual connections divided by sqrt(N), so that the sum of all
    has the same variance at any depth (Radford et al. 2019, section 2.3)."""
    return lambda weight: Distribution(std / sqrt(weight.depth) if weight.closes_residual else std)


def gpt2(weight: Weight) -> Distribution:
    """`residual_scaled` with 0.02, and 0.01 for the positions as in the authors' code."""
    return Distribution(0.01) if weight.role == "positions" else residual_scaled(0.02)(weight)


def by_fan_in(weight: Weight) -> Distribution:
    """Normal with `fan_in ** -0.5`, which keeps the size of a vector through a projection (LeCun et al. 1998,
    "Efficient BackProp", section 4.6), the last projection before each of N residual connections divided by sqrt(N) as
    GPT-2's, and tables with `width ** -0.5`, so that a tied head's logits begin with the size of an untied one's.
    Where a model multiplies scores or logits with a factor of its own, as T5's, queries and heads are divided by it.
    Vectors for distances (Shaw et al. 2018) are sampled by their columns; biases of every query (Dai et al. 2019) begin
    at zero.

    A published 0.02 is this at a width of 2,500. In a narrow model it is several times less, and training stays long
    where it knows the frequencies of tokens alone.
    """
    match weight.role:
        case "tokens" | "positions" | "token_types" | "table":
            return Distribution(weight.width**-0.5 / weight.factor)
        case "vectors":
            return Distribution(weight.fan_out**-0.5)
        case "content_bias" | "position_bias":
            return Distribution(0.0)
        case _:
            return residual_scaled(weight.fan_in**-0.5 / weight.factor)(weight)


def xavier(weight: Weight) -> Distribution:
    """Uniform of variance 2 / (fan in + fan out) (Glorot & Bengio 2010), as tensor2tensor samples the projections of
    Vaswani et al. 2017, and tables with `width ** -0.5`; the paper does not say."""
    if weight.role in ("tokens", "positions", "token_types"):
        return Distribution(weight.width**-0.5)
    return Distribution(sqrt(2 / (weight.fan_in + weight.fan_out)), "uniform")


def t5(weight: Weight) -> Distribution:
    """Mesh TensorFlow's, for T5 (Raffel et al. 2020): a projection by its fan-in, tokens and an untied head with 1.

    A query's deviation carries the factor `head_dim ** -0.5` that T5's attention leaves out of the scores.
    """
    match weight.role:
        case "tokens":
            return Distribution(1.0)
        case "projection" if not weight.depth:
            return Distribution(1.0)
        case "query":
            return Distribution((weight.fan_in * weight.head_dim) ** -0.5)
        case "table":
            return Distribution(weight.width**-0.5)
        case _:
            return Distribution(weight.fan_in**-0.5)


def switch(weight: Weight) -> Distribution:
    """T5's with a tenth of the variance, and truncated: `sqrt(0.1 / fan in)` (Fedus et al. 2022, section 2.4).

    The paper speaks of weight matrices: the tokens are kept as T5's.
    """
    return t5(weight) if weight.role == "tokens" else Distribution(sqrt(0.1) * t5(weight).std, "truncated")


def gpt_neox(weight: Weight) -> Distribution:
    """Black et al. 2022, section 2.1: `sqrt(2 / (5 width))` (Nguyen & Salazar 2019), and `2 / (layers sqrt(width))`
    (Wang & Komatsuzaki 2021) for the last projection before each of a layer's two residual connections."""
    std = 4 / (weight.depth * sqrt(weight.width)) if weight.closes_residual else sqrt(2 / (5 * weight.width))
    return Distribution(std)


PUBLISHED: dict[str, Scheme] = {
    "transformer": xavier,
    "gpt1": normal(0.02),
    "bert": bert,
    "roberta": normal(0.02),
    "spanbert": normal(0.02),
    "gpt2": gpt2,
    "t5": t5,
    "t5_v1_1": t5,
    "bart": normal(0.02),
    "gpt3": gpt2,  # Brown et al. 2020, section 2.1: "including the modified initialization"
    "jurassic1": gpt2,  # not stated; Lieber et al. 2021 take GPT-2's modifications
    "switch": switch,
    "gpt_neox": gpt_neox,
    # What follows states no initialisation. GPT-2's for the models of its time; for those whose authors released
    # `transformers` code, the normal 0.02 that stands there.
    **dict.fromkeys(("gopher", "chinchilla", "lamda", "glam"), gpt2),
    **dict.fromkeys(
        ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"), normal(0.02)
    ),
}
"""The scheme of each preset, by its name."""


@torch.no_grad()
def initialise(model: Transformer, seed: int, std: float = 0.02, *, scheme: Scheme | None = None) -> Transformer:
    """Fills `model` in place by `scheme`, such as `PUBLISHED["gpt2"]`; without one, every weight is normal with `std`.

    The values depend on the seed, the config and the scheme alone, not on torch's global generator or the device.
    Returns the same model.
    """
    scheme = scheme or normal(std)
    generator = torch.Generator().manual_seed(seed)
    for module_name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm | RMSNorm):
            module.reset_parameters()
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if name in ("bias", "sinks"):
                parameter.zero_()
            else:
                weight = _describe(model, module, f"{module_name}.{name}")
                parameter.copy_(_sample(scheme(weight), parameter.shape, generator))
    return model


def _describe(model: Transformer, module: nn.Module, name: str) -> Weight:
    """A matrix of `module` by its full name, such as `decoder.blocks.0.attention.query.weight`."""
    path = name.removesuffix(".weight").split(".")
    rows, columns = model.get_parameter(name).shape
    fans = (columns, rows) if isinstance(module, nn.Linear) else (rows, columns)
    width, head = model.config.embedding.width, model.config.head
    # A head's blocks stand on the decoder's.
    stack_name = "decoder" if path[0] == "head" and "blocks" in path else path[0]
    stack = {"encoder": model.config.encoder, "decoder": model.config.decoder}.get(stack_name)
    if stack is None:
        factor = None
        if isinstance(head, LanguageModelHead) and path[-1] == ("tokens" if head.tied else "projection"):
            factor = head.scale
        return Weight(path[-1], *fans, width, factor=1.0 if factor is None else factor)
    depth = sum(2 if block.cross is None else 3 for block in stack.blocks)
    block, head_dim = stack.blocks[0], stack.blocks[0].attention.head_dim
    attention = block.cross if "cross_attention" in path and block.cross is not None else block.attention
    factor = 1.0 if attention.scale is None or path[-1] != "query" else attention.scale * head_dim**0.5
    return Weight(path[-1], *fans, width, depth, head_dim, factor)


def _sample(distribution: Distribution, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """On the CPU in float32, so that every device and dtype begins with the same numbers."""
    values, std = torch.empty(shape), distribution.std
    match distribution.kind:
        case "normal":
            return values.normal_(0.0, std, generator=generator)
        case "truncated":
            return nn.init.trunc_normal_(values, 0.0, std, -2 * std, 2 * std, generator=generator)
        case "uniform":
            limit = sqrt(3) * std
            return values.uniform_(-limit, limit, generator=generator)
        case unknown:
            assert_never(unknown)
