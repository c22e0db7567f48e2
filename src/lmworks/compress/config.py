"""The configs of compression, free of torch: the one schema of recipes, `--set` and Python."""

from dataclasses import dataclass, field
from typing import Literal

from lmworks.adapt.config import FullConfig
from lmworks.config import below_one, positive, within
from lmworks.evaluate.config import WithSuites
from lmworks.stage import MODEL, ROWS
from lmworks.train.config import FinetuneConfig, TrainConfig
from lmworks.train.optimizer_config import AdamW, Linear


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """The texts on which activations are measured: pieces of documents, drawn by the seed.

    sequences  Pieces, at most: 64 of 512 tokens are enough for the Hessians of small models.
    length     Tokens of a piece.
    batch      Pieces that run through a block together.
    seed       Of the order in which documents are taken.
    """

    sequences: int = 64
    length: int = 512
    batch: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        positive(sequences=self.sequences, batch=self.batch)
        within(2, 2**20, length=self.length)


# ---------------------------------------------------------------------------------------------------------------------
# Quantisation

GROUP = 32  # columns that share a scale in the engine and in GGUF files


@dataclass(frozen=True, slots=True)
class GridConfig:
    """The levels that weights are rounded to; see `weight_grid.py`.

    bits       8, 4; 3 and 2 are simulated: they take the memory of 4.
    symmetric  Levels around 0, without a minimum: half a bit a weight less, and what compressed-tensors holds.
    group      Columns that share a scale, a multiple of 32.
    """

    bits: int = 4
    symmetric: bool = False
    group: int = GROUP

    def __post_init__(self) -> None:
        if self.bits not in (2, 3, 4, 8):
            raise ValueError(f"bits are 8, 4, 3 or 2, got {self.bits}: the engine and the files hold no others")
        if self.group < GROUP or self.group % GROUP:
            raise ValueError(f"group is a multiple of {GROUP} columns, got {self.group}")

    @property
    def centre(self) -> int | None:
        """The q whose level is 0; None where each group has a minimum of its own."""
        if self.bits == 8:
            return 0
        return 8 if self.symmetric else None

    @property
    def levels(self) -> tuple[int, int]:
        """The least and the largest q."""
        if self.bits == 8:
            return -127, 127
        half = 2 ** (self.bits - 1)
        return (8 - half, 7 + half) if self.symmetric else (0, 2 * half - 1)


@dataclass(frozen=True, slots=True)
class RoundConfig:
    """Round each weight to the nearest level, without a calibration text."""

    kind: Literal["rtn"] = "rtn"


@dataclass(frozen=True, slots=True)
class GPTQConfig:
    """GPTQ (Frantar et al. 2022): round column by column, and let the columns to come make up for the error.

    damping  Share of the mean diagonal of the Hessian that is added to it.
    order    Columns of large inputs first ("act order"); the groups stay where they are.
    """

    kind: Literal["gptq"] = "gptq"
    damping: float = 0.01
    order: bool = True

    def __post_init__(self) -> None:
        positive(damping=self.damping)


@dataclass(frozen=True, slots=True)
class AWQConfig:
    """AWQ (Lin et al. 2023): scale the columns that see large inputs before rounding, and the inputs back; then take
    the best range of each group."""

    kind: Literal["awq"] = "awq"


@dataclass(frozen=True, slots=True)
class SmoothQuantConfig:
    """SmoothQuant (Xiao et al. 2022): move the range of the inputs' outlier channels into the weights, for activations
    of 8 bits.

    strength  α: 0 leaves all of the range to the activations, 1 moves all of it to the weights.
    """

    kind: Literal["smoothquant"] = "smoothquant"
    strength: float = 0.5

    def __post_init__(self) -> None:
        within(0, 1, strength=self.strength)


QuantisationMethod = RoundConfig | GPTQConfig | AWQConfig | SmoothQuantConfig
FileFormat = Literal["gguf", "compressed-tensors", "float"]
EmbeddingFormat = Literal["bfloat16", "int8", "int4"]


@dataclass(frozen=True, slots=True)
class QuantisedFileConfig:
    """Settings of all stages that quantise: from which checkpoint, to which levels, in which file.

    base       The checkpoint, where no input is one: the name of a pulled model, a Hugging Face folder, or a .gguf
               file. A relative path starts at the folder of the recipe, or, for a command, at the current one.
    grid       The levels of the projections' weights.
    embedding  Format of the token embedding and the head: `bfloat16`, `int8`, `int4`. Left out: int8, because logits
               suffer most; bfloat16 in a compressed-tensors folder, which quantises no embedding.
    format     What is written: `gguf`, for the engine and llama.cpp; `compressed-tensors`, for transformers and vLLM;
               `float`, a plain folder of the rounded weights.
    """

    base: str = field(default="", metadata=MODEL)
    grid: GridConfig = field(default_factory=GridConfig)
    embedding: EmbeddingFormat | None = None
    format: FileFormat = "gguf"

    def __post_init__(self) -> None:
        if self.format == "compressed-tensors" and self.grid.centre is None:
            raise ValueError(
                "compressed-tensors holds whole zero points, and these levels have a minimum of their own: set "
                "grid.symmetric=true, or write format=gguf"
            )
        if self.format == "compressed-tensors" and self.embedding_format != "bfloat16":
            raise ValueError(
                f"transformers reads no quantised embedding from compressed-tensors: leave embedding={self.embedding} "
                "out, or write format=gguf"
            )

    @property
    def embedding_format(self) -> EmbeddingFormat:
        return self.embedding or ("bfloat16" if self.format == "compressed-tensors" else "int8")


@dataclass(frozen=True, slots=True)
class QuantiseConfig(QuantisedFileConfig):
    """A smaller checkpoint by post-training quantisation.

    method       `rtn`, `gptq`, `awq`, `smoothquant`.
    budget       Most bytes of the file: each matrix then gets 4, 8 or 16 bits, by how much the loss suffers, measured.
    calibration  The texts that activations are measured on.
    held_out     Share of the documents that no calibration sees, chosen by their hashes: to measure on.
    requantise   Round weights that are quantised already a second time.
    rows         Files of the rows that the model was tuned on: calibrated on, and answered before and after.
    minimum_survival  Least share that is to be left of a fine-tune of a quantised base; 0: any.
    """

    method: QuantisationMethod = field(default_factory=GPTQConfig)
    budget: int | None = None
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    held_out: float = 0.2
    requantise: bool = False
    rows: tuple[str, ...] = field(default=(), metadata=ROWS)
    minimum_survival: float = 0.8

    def __post_init__(self) -> None:
        QuantisedFileConfig.__post_init__(self)
        positive(budget=self.budget)
        within(0, 1, held_out=self.held_out)


@dataclass(frozen=True, slots=True)
class LSQConfig(QuantisedFileConfig):
    """A smaller checkpoint by quantisation-aware training, on token shards: weights are rounded in every forward, and
    the scales learn with them (LSQ, Esser et al. 2020).

    tune  The run: steps or minutes, length, batch, rate, the loop. In float32, as the levels that weights are nearest
          to turn on differences that bfloat16 does not see.
    """

    tune: FinetuneConfig = field(
        default_factory=lambda: FinetuneConfig(train=TrainConfig(AdamW(decay=0.0), Linear(), precision="float32"))
    )

    def __post_init__(self) -> None:
        QuantisedFileConfig.__post_init__(self)
        if not isinstance(self.tune.method, FullConfig) or self.tune.base:
            raise ValueError("quantisation-aware training is of all weights of `base`: leave tune.method and .base out")


# ---------------------------------------------------------------------------------------------------------------------
# Pruning


@dataclass(frozen=True, slots=True)
class StructuredPruning:
    """Parts that are taken out whole, so that what stays is a plain smaller model. Each layer loses as many.

    layers           Number of layers.
    heads            Share of the attention heads: of grouped ones, of the queries of each group.
    kv_groups        Share of the groups of a key, a value and their queries; of ungrouped heads the same as `heads`.
    neurons          Share of the feed-forward's; so many stay as make a multiple of 32.
    criterion        Of heads and neurons, those that score least are taken out: `magnitude`, the squares of their
                     weights; `activation`, the squares of what they give (Muralidharan et al. 2024, section 2.2);
                     `taylor`, by how much the loss would change (Michel et al. 2019, equation 2).
    layer_criterion  The same of layers; `block_influence`: by how much a layer turns the hidden states (Men et al.
                     2024, equation 1).
    """

    layers: int = 0
    heads: float = 0.0
    kv_groups: float = 0.0
    neurons: float = 0.0
    criterion: Literal["magnitude", "activation", "taylor"] = "taylor"
    layer_criterion: Literal["magnitude", "block_influence", "taylor"] = "block_influence"
    kind: Literal["structured"] = "structured"

    def __post_init__(self) -> None:
        below_one(heads=self.heads, kv_groups=self.kv_groups, neurons=self.neurons)
        if self.layers < 0:
            raise ValueError(f"layers is how many are taken out, 0 or more, got {self.layers}")

    @property
    def criteria(self) -> dict[str, str]:
        """The kinds of parts that are taken out, "heads", "neurons", "layers", and the criterion of each."""
        requested = {"heads": self.heads or self.kv_groups, "neurons": self.neurons, "layers": self.layers}
        return {
            kind: self.layer_criterion if kind == "layers" else self.criterion for kind in requested if requested[kind]
        }


@dataclass(frozen=True, slots=True)
class Sparsity:
    """Weights of the blocks' linear layers that are set to 0. Their files and their speed stay as they are.

    kind      `magnitude`, the smallest of each matrix (Han et al. 2015); `wanda`, the smallest of each row times the
              norm of what they read (Sun et al. 2024); `sparsegpt`, which changes the weights that stay so that they
              make up for those that are gone (Frantar & Alistarh 2023).
    sparsity  Share of the weights.
    pattern   `unstructured`, or `2:4`: two of each four neighbours in a row are 0.
    """

    sparsity: float = 0.5
    pattern: Literal["unstructured", "2:4"] = "unstructured"
    kind: Literal["magnitude", "wanda", "sparsegpt"] = "wanda"

    def __post_init__(self) -> None:
        below_one(sparsity=self.sparsity)
        positive(sparsity=self.sparsity)
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise ValueError("2:4 is a sparsity of 0.5: set it so")


@dataclass(frozen=True, slots=True)
class PruneConfig:
    """A smaller, or a sparser, checkpoint.

    base         As in compress.quantise.
    method       What is taken out, and by what it is chosen; of a structure nothing but what is set.
    calibration  The texts on which activations and gradients are measured.
    held_out     Share of the documents kept from calibration, chosen by their hashes: to measure on.
    """

    base: str = field(default="", metadata=MODEL)
    method: StructuredPruning | Sparsity = field(default_factory=StructuredPruning)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    held_out: float = 0.2

    def __post_init__(self) -> None:
        below_one(held_out=self.held_out)
        if isinstance(self.method, StructuredPruning) and not self.method.criteria:
            raise ValueError(
                "nothing is taken out: set method.neurons, method.kv_groups, method.heads or method.layers above 0"
            )


# ---------------------------------------------------------------------------------------------------------------------
# Measurement


@dataclass(frozen=True, slots=True)
class CompareConfig(WithSuites):
    """Measure compressed models next to the model that they were made of, and keep the best.

    base         What they are compared with, as in compress.quantise.
    budget       Most bytes of the file of the model that is kept; null: any.
    held_out     Share of the documents that are measured on; of the stages that made the models.
    characters   Most characters of these documents together, and a 50th of it, but at least 200, of each.
    window       Tokens that are read together.
    weights      How the engine holds the weights: `auto`, as the file has them; `float32`, without its rounding of
                 activations.
    new          Tokens that are generated to measure the speed; 0: it is not measured.
    """

    base: str = field(default="", metadata=MODEL)
    budget: int | None = None
    held_out: float = 0.2
    characters: int = 400_000
    window: int = 512
    weights: Literal["auto", "float32"] = "auto"
    new: int = 64

    def __post_init__(self) -> None:
        positive(budget=self.budget, characters=self.characters)
        within(0, 1, held_out=self.held_out)
        within(2, 2**20, window=self.window)
