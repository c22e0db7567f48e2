"""Positional encodings, and the shape of a block and of its parts; `config.py` hands them out with the rest."""

from dataclasses import dataclass
from typing import Literal

from lmworks.config import positive

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2", "tanh"]


@dataclass(frozen=True)
class Norm:
    """`layer`: by mean and variance, with bias (Ba et al. 2016). `rms`: by root mean square (Zhang & Sennrich 2019).

    `offset` is added to the stored weight: 1 in Gemma, whose weights are kept as their distance from one.
    """

    kind: Literal["layer", "rms"]
    eps: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.kind == "layer" and self.offset:
            raise ValueError("only an rms norm has an offset")


# ---------------------------------------------------------------------------------------------------------------------
# Positional encodings


@dataclass(frozen=True)
class Learned:
    """A table with one learned vector for each of `length` absolute positions; position p is row p + `offset`.

    RoBERTa and BART keep their first `offset` = 2 rows for padding. The table has `length + offset` rows.
    """

    length: int
    offset: int = 0
    kind: Literal["learned"] = "learned"


@dataclass(frozen=True)
class Sinusoidal:
    """Fixed sines and cosines of absolute positions (Vaswani et al. 2017, section 3.5)."""

    theta: float = 10_000.0
    kind: Literal["sinusoidal"] = "sinusoidal"


@dataclass(frozen=True)
class LinearScaling:
    """Position interpolation (Chen et al. 2023): every position is divided by `factor`."""

    factor: float
    kind: Literal["linear"] = "linear"


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (Peng et al. 2023, sections 3.2 and 3.4): fast planes are kept, slow ones are interpolated by `factor`.

    `beta_fast` and `beta_slow` are the numbers of turns within `original_length` above and below which a plane is
    kept or fully interpolated. `attention_factor` scales cosine and sine, and so its square the scores; None is the
    paper's `0.1 ln(factor) + 1`. `truncate` rounds the borders between planes to whole planes, as the authors' code.
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True
    kind: Literal["yarn"] = "yarn"


@dataclass(frozen=True)
class Llama3Scaling:
    """LLaMA 3.1 (Grattafiori et al. 2024, section 3.4.2): as YaRN, with borders given as wavelengths.

    A plane whose wavelength is below `original_length / high_frequency_factor` is kept, one above
    `original_length / low_frequency_factor` is interpolated by `factor`, between them smoothly.
    """

    factor: float
    original_length: int
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    kind: Literal["llama3"] = "llama3"


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding (Su et al. 2021) of the first `fraction` of each head; `theta` is the base of its
    wavelengths."""

    theta: float
    fraction: float = 1.0
    scaling: LinearScaling | YarnScaling | Llama3Scaling | None = None
    kind: Literal["rope"] = "rope"

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"a rotary embedding turns a fraction of a head above 0, at most 1, got {self.fraction}")


@dataclass(frozen=True)
class Alibi:
    """Attention with linear biases (Press et al. 2022): head h subtracts its slope times the distance."""

    kind: Literal["alibi"] = "alibi"


@dataclass(frozen=True)
class RelativeBias:
    """T5's bias (Raffel et al. 2020, section 2.1): a learned number for each head and bucket of distances.

    Half of the `buckets` are exact, the other half logarithmic up to `max_distance`. `both_directions`: half of the
    buckets for the future, as in an encoder.
    """

    buckets: int = 32
    max_distance: int = 128
    both_directions: bool = False
    kind: Literal["relative_bias"] = "relative_bias"

    def __post_init__(self) -> None:
        exact = self.buckets // (4 if self.both_directions else 2)
        if not 0 < exact < self.max_distance:
            raise ValueError(f"max_distance {self.max_distance} must exceed the {exact} exact buckets, at least one")


@dataclass(frozen=True)
class Shaw:
    """Relative key vectors (Shaw et al. 2018, section 3.2, without the term on the values, which their section 4.3
    finds unnecessary): a learned vector for each distance, clipped at `max_distance`, shared by the heads."""

    max_distance: int
    kind: Literal["shaw"] = "shaw"


@dataclass(frozen=True)
class TransformerXL:
    """Relative positions of Dai et al. 2019, section 3.3, which Gopher uses: projected sinusoids of the distance, and
    two learned biases of the query, for contents and for distances."""

    kind: Literal["transformer_xl"] = "transformer_xl"


# ---------------------------------------------------------------------------------------------------------------------
# Attention


@dataclass(frozen=True)
class Window:
    """A position sees the `size` nearest ones that the stack lets it see, itself included (Beltagy et al. 2020)."""

    size: int
    kind: Literal["window"] = "window"

    def __post_init__(self) -> None:
        _sees_itself(self.size)


@dataclass(frozen=True)
class Banded:
    """Blocks of `block` positions; a position sees its own block and the `bands - 1` before it, and, in an encoder,
    after it: the locally banded pattern that alternates with dense attention in GPT-3 (Child et al. 2019)."""

    block: int
    bands: int
    kind: Literal["banded"] = "banded"

    def __post_init__(self) -> None:
        _sees_itself(min(self.block, self.bands))


@dataclass(frozen=True)
class WindowAndGlobal:
    """A window, and the first `global_tokens` positions, which see and are seen by all (Longformer, Beltagy et al.
    2020; BigBird, Zaheer et al. 2020)."""

    size: int
    global_tokens: int
    kind: Literal["window_and_global"] = "window_and_global"

    def __post_init__(self) -> None:
        _sees_itself(self.size)


def _sees_itself(size: int) -> None:
    if size < 1:
        raise ValueError(f"a position sees at least itself: a pattern's sizes are 1 or more, got {size}")


Pattern = Window | Banded | WindowAndGlobal


@dataclass(frozen=True)
class Attention:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2), with grouped keys and values (Ainslie et al.
    2023).

    Every group of `heads / kv_heads` query heads shares one key head and one value head: `kv_heads == heads` is
    multi-head, 1 is multi-query attention.

    bias         of the query, key and value projections; `output_bias` of the output projection, None: like `bias`.
    scale        multiplies the scores; None is `head_dim ** -0.5`.
    position     how the scores learn of positions.
    qk_norm      normalises each query and key head before the rotation (Henry et al. 2020).
    pattern      sparse attention; None sees everything that the stack allows.
    softcap      scores become `softcap * tanh(scores / softcap)` (Bello et al. 2016; Gemma 2).
    sinks        a learned logit per head that takes part in the softmax and has no value (Xiao et al. 2024).
    """

    heads: int
    kv_heads: int
    head_dim: int
    bias: bool = False
    output_bias: bool | None = None
    scale: float | None = None
    position: Rope | Alibi | RelativeBias | Shaw | TransformerXL | None = None
    qk_norm: Norm | None = None
    pattern: Pattern | None = None
    softcap: float | None = None
    sinks: bool = False

    def __post_init__(self) -> None:
        positive(head_dim=self.head_dim, softcap=self.softcap)
        if min(self.heads, self.kv_heads) < 1 or self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} key heads evenly")
        if isinstance(self.position, Rope) and int(self.head_dim * self.position.fraction) % 2:
            raise ValueError(
                f"a rotary embedding rotates pairs: {self.position.fraction} of head_dim {self.head_dim} is odd"
            )

    @property
    def rope(self) -> Rope | None:
        return self.position if isinstance(self.position, Rope) else None

    @property
    def has_output_bias(self) -> bool:
        return self.bias if self.output_bias is None else self.output_bias


# ---------------------------------------------------------------------------------------------------------------------
# Feed-forward


@dataclass(frozen=True)
class FeedForward:
    """`down(activation(up(x)))`, or `down(activation(gate(x)) * up(x))` when gated (Shazeer 2020)."""

    hidden: int
    activation: Activation
    gated: bool = False
    bias: bool = False
    kind: Literal["dense"] = "dense"

    def __post_init__(self) -> None:
        positive(hidden=self.hidden)


@dataclass(frozen=True)
class MixtureOfExperts:
    """Each token runs through the `top_k` of `experts` that a linear router prefers (Shazeer et al. 2017).

    The outputs are added with the router's softmax as weights: `normalise` makes the chosen ones sum to one (GShard,
    Mixtral), without it the weight is the plain probability (Switch).

    shared             an expert that every token runs through besides (DeepSeekMoE, Dai et al. 2024).
    capacity           each expert takes at most so many tokens of one sequence, the earliest ones; the rest pass by on
                       the residual connection (Fedus et al. 2022, section 2.2). None drops none.
    capacity_factor    the same as a share: `ceil(capacity_factor * top_k * length / experts)` tokens.
    """

    expert: FeedForward
    experts: int
    top_k: int
    normalise: bool = True
    shared: FeedForward | None = None
    capacity: int | None = None
    capacity_factor: float | None = None
    kind: Literal["mixture_of_experts"] = "mixture_of_experts"

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.experts:
            raise ValueError(f"top_k must lie between 1 and the {self.experts} experts, got {self.top_k}")
        if self.capacity is not None and self.capacity_factor is not None:
            raise ValueError("give a capacity or a capacity_factor, not both")
        positive(capacity=self.capacity, capacity_factor=self.capacity_factor)


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


@dataclass(frozen=True)
class Block:
    """One layer: attention, cross-attention to an encoder where there is one, feed-forward.

    pre       `x + f(norm(x))`
    post      `norm(x + f(x))` (Xiong et al. 2020 compare the two)
    sandwich  `x + post_norm(f(norm(x)))` (Ding et al. 2021; Gemma 2)
    parallel  `x + attention(norm_1(x)) + feed_forward(norm_2(x))` (Wang & Komatsuzaki 2021; GPT-NeoX)
    """

    attention: Attention
    feed_forward: FeedForward | MixtureOfExperts
    norm: Norm
    norm_at: Literal["pre", "post", "sandwich", "parallel"]
    cross: Attention | None = None

    def __post_init__(self) -> None:
        if self.cross is not None and self.norm_at == "parallel":
            raise ValueError("a parallel block has no cross-attention")
        if self.cross is not None and (self.cross.position is not None or self.cross.pattern is not None):
            raise ValueError("cross-attention knows no distances: build it without position and pattern")
