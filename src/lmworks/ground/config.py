"""Configuration of grounded answers: questions, calibration, evaluation, refusals."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmworks.config import at_least, below_one, positive, within
from lmworks.retrieve.config import SearchConfig
from lmworks.stage import FILE


@dataclass(frozen=True, slots=True)
class AnswerConfig:
    """Configuration of an answer; calibration, evaluation and asking use the same one.

    search              how passages are found; their budget in tokens is `search.budget_tokens`.
    read                how many of the passages are read by the reader, where there is one.
    minimum_characters  shorter sentences are no candidates ("Note:" answers nothing).
    repeated            word-shingle overlap from which a sentence repeats a better one.
    """

    search: SearchConfig = field(default_factory=lambda: SearchConfig(k=8))
    read: int = 6
    minimum_characters: int = 20
    repeated: float = 0.6

    def __post_init__(self) -> None:
        positive(up_to=1, repeated=self.repeated)


@dataclass(frozen=True, slots=True)
class WritingConfig:
    """The `[writing]` table of a recipe: whether a language model writes the answers. Nothing is built again for it.

    write       auto, never or always. auto: by a recipe's assistant of a billion parameters or more, or by `endpoint`.
    statements  in an answer, at most.
    passages    that it reads, at most: the most relevant ones.
    max_tokens  that it writes at a time.
    floor       the share of the threshold that a confidence must reach for it to be asked. 1: what is abstained from
                without it is abstained from with it.
    endpoint    of an OpenAI-compatible server that writes, such as "http://localhost:8000/v1": questions and passages
                are sent to it. "": none.
    model       of the endpoint.
    key         the environment variable that holds the endpoint's API key. "": none.
    extensions  that the endpoint understands, see `RemoteEngine`. With "structured_outputs" its lines are constrained.
    """

    write: Literal["auto", "never", "always"] = "auto"
    statements: int = 4
    passages: int = 4
    max_tokens: int = 256
    floor: float = 1.0
    endpoint: str = ""
    model: str = ""
    key: str = ""
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least(1, statements=self.statements, passages=self.passages, max_tokens=self.max_tokens)
        within(0, 1, floor=self.floor)
        if self.endpoint and not self.model:
            raise ValueError("an endpoint serves several models: say which one writes, model")

    def api_key(self) -> str | None:
        """The value of the environment variable `key`; ValueError where it is not set."""
        if self.key and self.key not in os.environ:
            raise ValueError(f"writing.key names the environment variable {self.key}, not set: export {self.key}=...")
        return os.environ[self.key] if self.key else None


@dataclass(frozen=True, slots=True)
class QuestionsConfig:
    """Questions for calibration and test.

    gold       JSON lines files of questions with gold quotes, relative to the recipe; their format: docs/evaluation.md.
    automatic  how many questions to make from headings, at most; half as many again are made from removed sources, so
               that a third of all cannot be answered.
    seed       of the choice.
    """

    gold: tuple[Path, ...] = field(default=(), metadata=FILE)
    automatic: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(0, automatic=self.automatic)


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """Configuration of the calibration: the standards by which decisions are made.

    answer             how answers are made.
    alpha              of the answers that are given, at most this share shall be wrong ...
    delta              ... with probability 1 - `delta`: the guarantee by which the threshold is chosen.
    maximum_sentences  an answer has this many at most.
    sentence_cost      a further sentence is worth reading when it finds the answer for at least this share of the
                       questions.
    """

    answer: AnswerConfig = AnswerConfig()
    alpha: float = 0.25
    delta: float = 0.1
    maximum_sentences: int = 3
    sentence_cost: float = 0.05

    def __post_init__(self) -> None:
        at_least(1, maximum_sentences=self.maximum_sentences)
        positive(alpha=self.alpha, delta=self.delta, sentence_cost=self.sentence_cost)
        below_one(alpha=self.alpha, delta=self.delta, sentence_cost=self.sentence_cost)

    @property
    def roles(self) -> tuple[str, ...]:
        """The models that these settings need next to those of the stage."""
        return ("expander",) if self.answer.search.expands else ()


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """The evaluation has nothing to set: how answers are made is part of the calibration."""


@dataclass(frozen=True, slots=True)
class RefusalsConfig:
    """Rows that teach a model to say "I don't know" where it does not: refusal-aware tuning (Zhang et al. 2024).

    tasks     Questions with short answers: built-in tasks or TOML files of request "generation" (docs/suites.md). Where
              they have contexts, the first one is the passage that answers; where a row's column `answerable` is false,
              nothing in it does. Questions without one are closed book: the base model's own knowledge is asked for.
    data      Folder of the tasks' files.
    limit     Questions of each task; 0: all.
    known_by  How it is decided whether the base knows: its greedy answer holds a `reference`, or, without labels, five
              `samples` have less entropy than those of half of the questions; what it said greedily is then the answer.
    variant   `unknown`: what is not known is answered by a refusal; `unsure`: by the reference all the same, and "Are
              you sure ...?" behind each answer by whether it was known.
    refusals  At most this share of the rows, closed book and with a passage each, teach a refusal; what is too much is
              left out. More of them make more over-refusal. Of the held-out questions half are not known, at most.
    held_out  Share of the tasks' questions, by their hashes, that become no rows; of ground.questions, its test split.
    """

    tasks: tuple[str, ...] = ()
    data: Path = Path()
    limit: int = 0
    known_by: Literal["reference", "samples"] = "reference"
    variant: Literal["unknown", "unsure"] = "unknown"
    refusals: float = 0.3
    held_out: float = 0.3

    def __post_init__(self) -> None:
        below_one(refusals=self.refusals)
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, such as 0.3, got {self.held_out}")
