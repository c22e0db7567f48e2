"""Configs of the stages `evaluate.suite`, `evaluate.learned` and `evaluate.judge`, free of torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmworks.stage import MODEL, PAIRS, SUITES


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricModels:
    """The models of the metrics that need one, by role, as `registry.open_role` takes it.

    judge     MODEL:RUBRIC:CALIBRATION of judge, g-eval, faithfulness and selfcheck-prompt.
    encoder   of BERTScore, and of what compares vectors.
    model     a language model, by whose probabilities texts are measured.
    verifier  of entailment, by default the packaged one.
    learned   folder of the stage `evaluate.learned`.
    reward    a reward model.
    """

    judge: str = ""
    encoder: str = ""
    model: str = ""
    verifier: str = ""
    learned: str = ""
    reward: str = ""


@dataclass(frozen=True, slots=True)
class SuiteConfig(MetricModels):
    """Tasks, data, limits, and how the model is held. Models of metrics stand before those that the tasks name.

    suite           names of built-in tasks and suites, or paths of TOML files.
    data            folder of the tasks' files; null: the one input, which holds them.
    limit           rows of each task, in turns from its files; 0: all.
    shots           solved rows before each prompt, instead of what the tasks say.
    seed            of shots that are drawn at random.
    weights         how the model's weights are held, as `Engine` takes it; "float32" for parity with other tools.
    device          of the model: auto, cpu, cuda, cuda:1 or mps. auto is a CUDA GPU where there is one, but the CPU for
                    int8 and int4, which run there alone.
    context_length  most tokens of a prompt and its generation; 0: what the model takes, and of whole texts 2,048.
    slots           generations at a time.
    allow_code      run what a model wrote, for the tasks that check it so.
    skip_missing    leave out the tasks whose files are not there: they stay in the table, unscored, with the reason.
    endpoint        URL#NAME of a model behind an OpenAI-compatible address, in the place of one in the role "model"; it
                    has no log-probabilities of given texts, and `slots` requests are in flight at a time.
    critique        append the criticism (`critique.py`): calibration, diversity, retrieval, exactness, consistency and
                    bias, on the generations of the suite that have contexts or several references.
    """

    suite: tuple[str, ...]
    data: Path | None = None
    limit: int = 0
    shots: int | None = None
    seed: int = 0
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto"
    device: str = "auto"
    context_length: int = 0
    slots: int = 16
    allow_code: bool = False
    skip_missing: bool = False
    critique: bool = False
    endpoint: str = ""

    def __post_init__(self) -> None:
        if self.endpoint and ((self.weights, self.device) != ("auto", "auto") or self.context_length):
            raise ValueError(
                "an endpoint holds its model itself: leave out weights, device and context_length, or set them there"
            )

    @property
    def roles(self) -> tuple[str, ...]:
        """The models that these settings need."""
        return () if self.endpoint else ("model",)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithSuites:
    """Suites that a model is asked before and after what another stage does to it, such as `safety`.

    suites       Suites or tasks of `lmworks eval`.
    suite_data   The folder of the suites' files.
    suite_limit  Rows of each of their tasks; 0: all.
    """

    suites: tuple[str, ...] = field(default=(), metadata=SUITES)
    suite_data: Path = Path("data")
    suite_limit: int = 100

    def suite_config(self) -> SuiteConfig:
        """The config of `evaluate.suite` for them."""
        return SuiteConfig(self.suites, self.suite_data, self.suite_limit, seed=getattr(self, "seed", 0))


@dataclass(frozen=True, slots=True)
class LearnedConfig:
    """A metric learns to rate from texts of one kind that people rated.

    rows       .jsonl files with a `Rated` a line: `prompt`, what the `completion` is compared with (a reference or a
               source), `rating`, and as `provenance.source` "SET/DOCUMENT", the data set and the document in it.
    base       An embedding model: the name of a pulled one or a folder.
    held_out   The share of the documents that is kept from training, whole, and measured on.
    baselines  Metrics of the table that are measured on the same rows; they take an encoder at most.
    """

    rows: tuple[str, ...] = field(metadata=PAIRS)
    base: str = field(default="all-minilm-l6-v2", metadata=MODEL)
    held_out: float = 0.2
    baselines: tuple[str, ...] = ("bleu", "chrf", "bertscore")

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, such as 0.2, got {self.held_out}")


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """Config of the stage.

    rows      JSON lines with people's labels.
    rubric    The name of a rubric that comes with lmworks, or a TOML file.
    own       The name by which the rows call the judge's own model, for self-preference.
    endpoint  URL#NAME of a model behind an OpenAI-compatible address, in the place of one in the role "judge".
    """

    rows: str
    rubric: str
    own: str = ""
    endpoint: str = ""

    @property
    def roles(self) -> tuple[str, ...]:
        """The models that these settings need."""
        return () if self.endpoint else ("judge",)
