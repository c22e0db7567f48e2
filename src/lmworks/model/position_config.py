"""Positional encodings as data: learned, sinusoidal, rotary (RoPE) and relative ones; a part of `config.py`."""

from dataclasses import dataclass
from typing import Literal


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
