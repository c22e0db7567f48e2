"""The configs of distillation and its stages, free of torch."""

import math
from dataclasses import dataclass, field

from lmworks.adapt.config import FullConfig
from lmworks.config import positive, within
from lmworks.stage import ROWS
from lmworks.train.config import FinetuneConfig


@dataclass(frozen=True, slots=True)
class DistillationLoss:
    """The losses that a student learns from, by their weights; 0 leaves one out.

    beta            The divergence of the next token's distributions: 0 is KL(teacher ‖ student) (Hinton et al. 2015);
                    1 is KL(student ‖ teacher) (Gu et al. 2024); between them the generalised Jensen-Shannon divergence
                    (Agarwal et al. 2024).
    temperature     Both distributions are those of logits / temperature.
    teacher         Weight of the divergence times temperature², so that its gradient keeps its size (Hinton et al.,
                    section 2).
    next_token      Weight of the text's own next token.
    hidden_states   Weight of the hidden states behind matched layers (Romero et al. 2015; Jiao et al. 2020), through a
                    learned projection where the widths differ.
    attention_maps  Weight of the attention maps of matched layers (Wang et al. 2020). They are held whole: 4 bytes ·
                    heads · length² for each sequence, layer and model.
    """

    beta: float = 0.0
    temperature: float = 1.0
    teacher: float = 0.5
    next_token: float = 0.5
    hidden_states: float = 0.0
    attention_maps: float = 0.0

    def __post_init__(self) -> None:
        positive(temperature=self.temperature)
        within(0, 1, beta=self.beta)
        weights = {name: getattr(self, name) for name in ("teacher", "next_token", "hidden_states", "attention_maps")}
        within(0, math.inf, **weights)
        if not self.teacher + self.next_token:
            raise ValueError("the student learns no next token: give teacher or next_token a weight above 0")

    @property
    def asks(self) -> bool:
        """Whether anything is asked of a teacher."""
        return bool(self.teacher + self.needs_layers)

    @property
    def needs_layers(self) -> float:
        """Weight of the losses that read the teacher's layers, and not its next tokens alone."""
        return self.hidden_states + self.attention_maps


@dataclass(frozen=True, slots=True)
class OnPolicyConfig:
    """Texts that the student writes itself, through the engine (Agarwal et al. 2024, algorithm 1).

    share        Of the batches, λ, whose beginnings the student continues; the teacher judges each of its tokens.
    prompt       Tokens of a beginning; of a conversation all up to the first that is to be learned.
    completion   Most tokens that the student adds.
    temperature  Of its sampling.
    """

    share: float = 0.5
    prompt: int = 32
    completion: int = 128
    temperature: float = 1.0

    def __post_init__(self) -> None:
        within(0, 1, share=self.share)
        positive(prompt=self.prompt, completion=self.completion, temperature=self.temperature)


@dataclass(frozen=True, slots=True)
class DistillConfig(FinetuneConfig):
    """A student learns on token shards, from the model in the role `teacher`, or from the columns of compress.teacher.
    The settings of the run are those of fine-tuning.

    base        A student to continue from, such as a pruned one, where no input is one: a pulled model, a Hugging Face
                folder or a .gguf file of floats. Else one is made of the teacher, by one of the next two.
    layers      So many of the teacher's layers, evenly spaced, with their weights; left out: every other one.
    parameters  A new model of about so many parameters and the teacher's vocabulary.
    loss        What is learned.
    on_policy   Batches that the student writes itself; null: none.
    """

    layers: int | None = None
    parameters: int | None = None
    loss: DistillationLoss = field(default_factory=DistillationLoss)
    on_policy: OnPolicyConfig | None = None

    def __post_init__(self) -> None:
        FinetuneConfig.__post_init__(self)
        positive(layers=self.layers, parameters=self.parameters)
        if bool(self.base) + (self.layers is not None) + (self.parameters is not None) > 1:
            raise ValueError("a student is a base, some of the teacher's layers, or a new model: set one of the three")
        if self.neftune or self.base_format != "float":
            raise ValueError("a student learns without noise, and is floats: set no neftune, no base_format")
        if self.method != FullConfig() and (self.on_policy or self.loss.needs_layers):
            raise ValueError("an adapter learns next tokens of given texts: leave on_policy and losses of layers out")
        parallel = self.train.parallel
        if parallel.devices > parallel.data or parallel.zero > 1:
            raise ValueError("each process holds the whole student: divide by train.parallel.data alone")


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """Columns of what the model in the role `teacher` says to token shards: the likeliest next tokens at each place.

    k            Tokens of each position, the others as one: 6 · k + 4 bytes for a vocabulary of at most 65,536.
    temperature  That of compress.distil, as are length and seed.
    length       Tokens in a sequence.
    seed         Of what is packed with what.
    """

    k: int = 32
    temperature: float = 1.0
    length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        positive(k=self.k, temperature=self.temperature)
        within(2, 2**20, length=self.length)


@dataclass(frozen=True, slots=True)
class SequencesConfig:
    """Texts that the model in the role `teacher` writes, for a student to learn from (Kim & Rush 2016, section 3.2):
    with any tokenizer, as data.tokenize makes shards of them.

    rows         Files with prompts, which it answers; else it continues the beginnings of documents.
    prompt       Tokens of a beginning.
    completion   Most tokens that it adds.
    temperature  0 takes the likeliest token: towards the mode, as in the paper.
    most         Prompts, or documents, at most; 0: all.
    seed         Of what is sampled.
    """

    rows: tuple[str, ...] = field(default=(), metadata=ROWS)
    prompt: int = 32
    completion: int = 256
    temperature: float = 1.0
    most: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        positive(prompt=self.prompt, completion=self.completion)
        within(0, math.inf, temperature=self.temperature, most=self.most)
