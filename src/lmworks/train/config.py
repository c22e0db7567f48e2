"""The configs of the training loop and its stages, free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from lmworks.adapt.config import BaseFormat, BottleneckConfig, FullConfig, LoraConfig, Method, PrefixConfig
from lmworks.config import at_least, below_one, positive, within
from lmworks.stage import MODEL, PAIRS, TOKENIZER
from lmworks.train.objective_config import Causal, ObjectiveConfig, check_stacks
from lmworks.train.optimizer_config import AdamW, Cosine, Linear, Optimizer, Schedule
from lmworks.train.parallel.config import ParallelConfig

Precision = Literal["float32", "bfloat16", "float16"]
Recompute = Literal["nothing", "blocks", "selective"]
Family = Literal["llama", "gpt2", "qwen3", "gpt_neox", "mixtral", "bert", "t5", "bart"]
Pooling = Literal["", "mean", "cls", "last"]
_STACKS = {"bert": "encoder", "t5": "encoder–decoder", "bart": "encoder–decoder"}  # else a decoder


# ---------------------------------------------------------------------------------------------------------------------
# The loop


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """The response to a loss or gradient that is no number, or a loss that jumps.

    action      `stop` ends the run before the weights change; `skip` leaves the step out. Ten such steps in a row end
                it.
    deviations  A jump is so many standard deviations above the mean of recent losses; 0: never.
    least       And at least so much, in nats.
    memory      Steps over which the mean is taken, and before which nothing is a jump.
    """

    action: Literal["stop", "skip"] = "stop"
    deviations: float = 0.0
    least: float = 0.5
    memory: int = 50

    def __post_init__(self) -> None:
        at_least(0, deviations=self.deviations, least=self.least)
        at_least(1, memory=self.memory)


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """When the run is saved, besides at its end.

    steps       Steps between two checkpoints.
    minutes     Minutes between two; whichever comes first.
    keep        Latest checkpoints that stay.
    background  Write while training continues, from a copy in memory of weights and optimizer state.
    """

    steps: int | None = None
    minutes: float | None = 10.0
    keep: int = 2
    background: bool = True

    def __post_init__(self) -> None:
        positive(steps=self.steps, minutes=self.minutes, keep=self.keep)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run of the loop.

    optimizer   See `Sgd`, `AdamW`, `Lion`, `Muon`.
    schedule    See `Cosine`, `Linear`, `WarmupStableDecay`, `InverseSqrt`; over the steps of the loader.
    micro_batch  Sequences in a forward; a step of more is summed from several. Default: all at once.
    balance     Weight of the loss that balances the experts of a mixture, in each layer; 0: none.
    router_z    Weight of the square of their routers' log-normaliser, which keeps logits small; 0: none.
    clip        Longest gradient, by its Euclidean norm; null: as long as they are.
    precision   Of the model's weights and activations; the optimizers keep float32 weights next to lower ones.
    recompute   What the backward computes again instead of keeping it: `nothing`, all inside of `blocks`, or what is
                cheap (`selective`: everything but matrix products).
    compile     Compile the blocks with torch.compile: a slow first step, faster ones after.
    parallel    Over how many processes the run is laid out; see `ParallelConfig`.
    average     Weight of the past in an exponential moving average of the weights, such as 0.999; null: none.
    guard       What to do when a step goes wrong.
    checkpoint  When the run is saved.
    validate    Steps between two validations.
    samples     Beginnings of texts that the model continues at each validation; none: some of those held out.
    log         Steps between two lines of the log.
    """

    optimizer: Optimizer = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Cosine)
    micro_batch: int | None = None
    balance: float = 0.01
    router_z: float = 0.001
    clip: float | None = 1.0
    precision: Precision = "float32"
    recompute: Recompute = "nothing"
    compile: bool = False
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    average: float | None = None
    guard: GuardConfig = field(default_factory=GuardConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    validate: int | None = 250
    samples: tuple[str, ...] = ()
    log: int = 10

    def __post_init__(self) -> None:
        positive(micro_batch=self.micro_batch, clip=self.clip, validate=self.validate, log=self.log)
        within(0, 1, average=self.average)
        at_least(0, balance=self.balance, router_z=self.router_z)
        if not all(self.samples):
            raise ValueError("samples are beginnings of texts, and one of them is empty: give it a word")
        if self.samples and self.validate is None:
            raise ValueError("samples are written at each validation: set validate to the steps between two of them")
        if self.samples and not self.parallel.generates:
            raise ValueError(
                "samples are continued by a process that has the whole model, which this layout divides: leave samples "
                "out, or divide by data alone, with zero 0 or 1"
            )


# ---------------------------------------------------------------------------------------------------------------------
# Stages


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """A new model from token shards. One target is enough: the rest is derived, and the report gives reasons.

    minutes     How long the run may take on this machine; its size and tokens follow from a scaling law.
    parameters  How large the model is, embeddings included; its tokens follow.
    tokens      How many tokens it is trained on.
    tokenizer   The vocabulary of the shards, where no input has it: a pulled model, a folder or a file.
    family      Of the architecture: decoders (`llama`, `gpt2`, `qwen3`, `gpt_neox`; `mixtral`, with eight experts of
                which each token takes two), an encoder (`bert`), encoder–decoders (`t5`, `bart`).
    objective   What it is asked: a decoder `causal`, `prefix` or `multi-token`, an encoder `masked`, an encoder–decoder
                `span-corruption` or `denoising`.
    length      Tokens in a sequence.
    batch       Sequences in a step.
    rate        Peak learning rate; it replaces the optimizer's. Where neither is given, AdamW's and Muon's follow from
                the size of the run.
    mode        How documents become sequences; see the loader's `mode`.
    weights     Share of each input of token shards, by its name; left out, their sizes decide.
    seed        Of the first weights and of the order.
    train       The loop.
    """

    minutes: float | None = None
    parameters: int | None = None
    tokens: int | None = None
    tokenizer: str = field(default="", metadata=TOKENIZER)
    family: Family = "llama"
    objective: ObjectiveConfig = field(default_factory=Causal)
    length: int = 512
    batch: int | None = None
    rate: float | None = None
    mode: Literal["pack", "concatenate"] = "pack"
    weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    train: TrainConfig = field(default_factory=lambda: TrainConfig(precision="bfloat16"))

    def __post_init__(self) -> None:
        positive(minutes=self.minutes, parameters=self.parameters, tokens=self.tokens)
        positive(batch=self.batch, rate=self.rate)
        within(2, 2**20, length=self.length)
        if self.family not in get_args(Family):
            raise ValueError(f"family must be one of {', '.join(get_args(Family))}, got {self.family!r}")
        stacks = _STACKS.get(self.family, "decoder")
        check_stacks(self.objective, stacks, f"family={self.family}")
        if self.minutes is not None and stacks == "encoder–decoder":
            raise ValueError("minutes are measured of one stack: for an encoder–decoder, set parameters or tokens")
        targets = sum(target is not None for target in (self.minutes, self.parameters, self.tokens))
        if targets == 0:
            raise ValueError("set one budget: minutes (of training on this machine), parameters or tokens")
        if targets == 3:
            raise ValueError(
                "two of minutes, parameters and tokens decide the third: leave one of them out, or set it to null "
                "where a recipe has it"
            )
        if self.minutes is not None and self.train.parallel.devices > 1:
            raise ValueError(
                "minutes are measured on one process: with several, set parameters or tokens instead, and minutes to "
                "null where a recipe has them"
            )


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """A model continues from a checkpoint, on token shards: dialogues of which the assistant's tokens are learned
    (supervised fine-tuning), prompts with completions, or plain texts of another domain.

    base    The checkpoint, where no input is one: the name of a pulled model, a Hugging Face folder, or a .gguf file. A
            relative path starts at the folder of the recipe, or, for a command, at the current one.
    What is left out follows from the method, the texts and the model, and the report gives the reasons.

    minutes  How long the run may take on this machine: fewer epochs are taken where these are too many.
    epochs  How often each sequence is seen; left out: 3, or fewer that fit into the minutes.
    steps   Of the optimizer, instead of epochs.
    length  Tokens in a sequence; at most what the model was made for. Left out: 512, or more for longer texts.
    batch   Sequences in a step; at most all there are.
    rate    Peak learning rate; it replaces the optimizer's.
    objective  What the model is asked: as of train.pretrain, and of the kind of model that the base is.
    method  What is trained: all weights (`full`), or an adapter next to them (`lora`, `ia3`, `prefix`, `bottleneck`).
    base_format  Format of the base's linear layers under an adapter: `int4` (QLoRA) or `int8`, packed and never made
            floats of; `stored`, the blocks of a GGUF file as they are; or `float`.
    neftune  α of noise on the embeddings in training, such as 5 (Jain et al. 2023); null: none.
    merge   Deliver a whole model, with the adapter merged into its weights; else the adapter alone, as PEFT's folder.
    weights  Share of each input of token shards, by its name; left out, their sizes decide.
    seed    Of the order, and of an adapter's first weights.
    train   The loop.
    """

    OTHER_NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = {  # of TRL, PEFT and axolotl
        "learning_rate": ("rate",),
        "num_train_epochs": ("epochs",),
        "num_epochs": ("epochs",),
        "max_steps": ("steps",),
        "max_length": ("length",),
        "sequence_len": ("length",),
        "per_device_train_batch_size": ("batch",),
        "gradient_accumulation_steps": ("train.micro_batch",),
        "warmup_ratio": ("train.schedule.warmup",),
        "weight_decay": ("train.optimizer.decay",),
        "max_grad_norm": ("train.clip",),
        "neftune_noise_alpha": ("neftune",),
        "lora_r": ("method.r",),
        "lora_alpha": ("method.lora_alpha",),
    }
    base: str = field(default="", metadata=MODEL)
    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None
    length: int | None = None
    batch: int | None = None
    rate: float | None = None
    objective: ObjectiveConfig = field(default_factory=Causal)
    method: Method = field(default_factory=FullConfig)
    base_format: BaseFormat = "float"
    neftune: float | None = None
    merge: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    train: TrainConfig = field(default_factory=lambda: TrainConfig(AdamW(decay=0.0), Linear(), precision="bfloat16"))

    def __post_init__(self) -> None:
        positive(minutes=self.minutes, epochs=self.epochs, steps=self.steps, batch=self.batch, rate=self.rate)
        positive(neftune=self.neftune)
        if self.neftune and not isinstance(self.objective, Causal):
            raise ValueError("neftune is noise of causal language models: leave it out, or objective.kind=causal")
        if self.neftune and self.train.parallel.context * self.train.parallel.pipeline > 1:
            raise ValueError("neftune takes whole rows and embeddings: leave train.parallel.context and .pipeline out")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("steps are given instead of epochs: leave one of them out")
        within(2, 2**20, length=self.length)
        if self.minutes is not None and self.train.parallel.devices > 1:
            raise ValueError("minutes are measured on one process: with several, set epochs instead")
        if self.merge and isinstance(self.method, FullConfig | PrefixConfig | BottleneckConfig):
            raise ValueError(f"merge is of lora and ia3, which become part of the weights; {self.method.kind} does not")
        if self.base_format != "float" and (self.merge or isinstance(self.method, FullConfig)):
            raise ValueError(
                f"base_format={self.base_format} keeps the base's weights: train an adapter, such as method.kind=lora, "
                "without merge; `lmworks.load` of its folder merges it into the float base"
            )


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """An embedding model continues from a checkpoint, on pairs of texts that belong together: each anchor is to prefer
    its positive to all other texts of the batch (InfoNCE).

    pairs        .jsonl files with a pair a line (`anchor`, `positive` and perhaps a list of `negatives`), or folders
                 or globs of them.
    base         The checkpoint, where no input is one: the name of a pulled model, a Hugging Face folder, or a .gguf
                 file. A relative path starts at the folder of the recipe, or, for a command, at the current one.
    pooling      How the tokens of a text become one vector: `mean`, `cls` (the first), `last`. A base that is an
                 embedding model has its own, and needs none.
    held_out     The share of the pairs that is kept from training and validated on, chosen by the hashes of their
                 anchors.
    epochs       How often each pair is seen.
    length       Most tokens of a text; a longer one loses its end, and the report counts those. At most what the model
                 was made for.
    batch        Pairs in a step, each with the others as its negatives; at most all there are.
    rate         Peak learning rate; it replaces the optimizer's.
    temperature  τ, which the cosines are divided by.
    symmetric    Whether each positive is to find its anchor, too.
    chunk        Texts in a forward, which bounds the memory and changes no number; null: all of the batch at once.
    seed         Of the order.
    train        The loop.
    """

    pairs: tuple[str, ...] = field(default=(), metadata=PAIRS)
    base: str = field(default="", metadata=MODEL)
    pooling: Pooling = ""
    held_out: float = 0.05
    epochs: float = 1.0
    length: int = 256
    batch: int = 64
    rate: float | None = None
    temperature: float = 0.05
    symmetric: bool = False
    chunk: int | None = None
    seed: int = 0
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(AdamW(rate=5e-5, beta2=0.999, decay=0.01), Linear(), validate=100)
    )

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, rate=self.rate, temperature=self.temperature, chunk=self.chunk)
        below_one(held_out=self.held_out)
        within(2, 2**20, length=self.length)
        if not self.pairs:
            raise ValueError('name the files with pairs: pairs=["pairs.jsonl"]')
        if self.batch < 2:
            raise ValueError("a batch holds two pairs at least: one alone has nothing to be compared with")
        if self.train.parallel.devices > 1:
            raise ValueError("embedding models train on one process: leave train.parallel out")
        if self.train.samples:
            raise ValueError("an embedding model writes no text: leave train.samples out")


@dataclass(frozen=True, slots=True)
class CrossEncoderConfig:
    """A head that reads two texts at once continues from a text encoder, on rows of its task.

    task      `reader` (the answer's span in a passage, or none), `reranker` (whether a passage answers a question),
              `verifier` (whether a claim follows from a passage).
    rows      .jsonl files of the task's rows, or folders or globs of them.
    base      The encoder, where no input is one: the name of a pulled model or a Hugging Face folder.
    held_out  The share of the rows that is kept from training and validated on, of few rows more (a fifth, up to eight
              texts); rows of one text are on one side.
    epochs    How often each row is seen.
    length    Most tokens of a pair; a longer one loses its end, and the report counts those.
    batch     Rows in a step.
    rate      Peak learning rate; left out: 5e-4 of an adapter, 5e-5 of all weights.
    method    What is trained next to the head: an adapter, or all weights (`full`).
    licence   Of the rows, for the card.
    seed      Of the order, and of the first weights.
    train     The loop.
    """

    task: Literal["reader", "reranker", "verifier"] = "reader"
    rows: tuple[str, ...] = field(default=(), metadata=PAIRS)
    base: str = field(default="all-minilm-l6-v2", metadata=MODEL)
    held_out: float = 0.05
    epochs: float = 2.0
    length: int = 384
    batch: int = 32
    rate: float | None = None
    method: Method = field(default_factory=lambda: LoraConfig(r=16, lora_alpha=32))
    licence: str = ""
    seed: int = 0
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            AdamW(beta2=0.999, decay=0.01), Linear(), precision="bfloat16", validate=500
        )
    )

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, batch=self.batch, rate=self.rate)
        below_one(held_out=self.held_out)
        within(16, 2**20, length=self.length)
        if not self.rows:
            raise ValueError('name the files with rows: rows=["rows.jsonl"]')
        if not isinstance(self.method, LoraConfig | FullConfig):
            raise ValueError(f"a cross-encoder is trained by lora or full, not by {self.method.kind}")
        if self.train.parallel.devices > 1 or self.train.samples:
            raise ValueError("cross-encoders train on one process, without samples of text")
