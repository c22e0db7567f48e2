"""Settings of the taggers, and of the models that some scores need."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmworks.config import SHAPES_NOTHING, at_least, below_one, positive, within
from lmworks.corpus.work_parts import ExecutionConfig
from lmworks.stage import FILE, MODEL


@dataclass(frozen=True, slots=True)
class AnnotateConfig:
    """The taggers that run. Nothing is decided here: thresholds are those of the policy of `corpus.filter`.

    repair        Whether texts are repaired before they are tagged, by what kind of source they are from: page numbers
                  and broken words of books, quotations in mail, noise of chats and of web pages. What is only tagged by
                  kind comes with it: front matter and hopeless pages of books, and all that is said of code.
    language      Whether the language of each document is told, and of paragraphs in another one. What a document
                  declares itself, the label `declared_language`, counts where none is told.
    heuristics    Whether the scores of Gopher, C4 and FineWeb are taken.
    personal      Whether personal data and credentials are looked for, in texts, titles and metadata.
    licences      Whether statements of a licence are: `licence_of_source`, `licence_in_text`, and `licence`, both.
    spam          Whether the scores of web spam are taken.
    classifiers   Name → file that `lmworks data classifier` trained, such as `{quality = "good.npz", toxicity =
                  "toxic.npz"}`, for scores of these names: the probability, from 0 to 1, that a text is like the
                  examples. Of equal or alike documents the one of highest `quality` stays. A relative path starts at
                  the folder of the recipe, or, for a command, at the current one.
    word_lists    Files with a word or phrase a line; of `rude.txt` the score `rude_share`, of all words those on the
                  list, and a span `rude` on each.
    taggers       Python files that define a `Tagger` of your own, or several; they are run.
    evaluation    Files with items of evaluation sets: documents that hold one are tagged.
    execution     Who does the work.
    """

    repair: bool = True
    language: bool = True
    heuristics: bool = True
    personal: bool = True
    licences: bool = True
    spam: bool = True
    classifiers: Mapping[str, str] = field(default_factory=dict, metadata=FILE)
    word_lists: tuple[str, ...] = field(default=(), metadata=FILE)
    taggers: tuple[str, ...] = field(default=(), metadata=FILE)
    evaluation: tuple[str, ...] = field(default=(), metadata=FILE)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig, metadata=SHAPES_NOTHING)

    def __post_init__(self) -> None:
        for name in self.classifiers:
            if not name.isidentifier():
                raise ValueError(f"a classifier's name becomes that of a score: letters, digits and _, not {name!r}")


@dataclass(frozen=True, slots=True)
class ClassifierConfig:
    """How a classifier of texts learns from examples.

    order     Words and signs in the longest n-grams: 1 looks at single words, 2 at pairs as well.
    bits      The n-grams are hashed into 2^bits numbers; fewer make a smaller file, in which more of them share one.
    strength  Larger follows the examples more closely; smaller is surer to hold for other texts. It is the inverse of
              the penalty on the weights.
    held_out  The share of the examples that it is evaluated on, and as large a share that its probabilities are
              calibrated on.
    """

    order: int = 2
    bits: int = 20
    strength: float = 10.0
    held_out: float = 0.15

    def __post_init__(self) -> None:
        within(1, 5, order=self.order)
        within(8, 26, bits=self.bits)
        positive(strength=self.strength)
        if not 0 < self.held_out < 0.5:
            raise ValueError(f"held_out must be above 0 and below 0.5, got {self.held_out:g}")


@dataclass(frozen=True, slots=True)
class NgramConfig:
    """How an n-gram model learns from texts.

    order       Words in the longest n-grams.
    vocabulary  The most frequent words that it knows; all others are one unknown word.
    held_out    The share of the documents that it does not learn from, to say how it finds texts of their sort.
    """

    order: int = 3
    vocabulary: int = 500_000
    held_out: float = 0.1

    def __post_init__(self) -> None:
        positive(vocabulary=self.vocabulary, held_out=self.held_out)
        at_least(2, order=self.order)
        below_one(held_out=self.held_out)


@dataclass(frozen=True, slots=True)
class ModelPerplexityConfig:
    """How unlikely a language model finds each document.

    checkpoint  The model, where no input is one: the name of a pulled model, a Hugging Face folder or a GGUF file. A
                relative path starts at the folder of the recipe, or, for a command, at the current one.
    window      Most tokens that it sees at a time, and at most what it was trained for. The beginning of each window is
                scored without what is before it, so the perplexity of long texts is a little higher than it would be.
    learn_from  Instead of a checkpoint: the input whose documents are of the sort that is wanted. An n-gram model of
                words learns from them, on the CPU: a perplexity is low where a text reads like them.
    ngrams      How it learns.
    score       What the score is called: two models need two names.
    """

    checkpoint: str = field(default="", metadata=MODEL)
    window: int = 1024
    learn_from: str = ""
    ngrams: NgramConfig = field(default_factory=NgramConfig)
    score: str = "model_perplexity"

    def __post_init__(self) -> None:
        if self.checkpoint and self.learn_from:
            raise ValueError(
                "a perplexity is of a checkpoint or of the n-grams of learn_from: leave out one of the two"
            )
        at_least(1, window=self.window)
        if not self.score.isidentifier():
            raise ValueError(f"the name of a score is letters, digits and _, got {self.score!r}")
