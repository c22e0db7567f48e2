"""The table of stages: what a recipe may `use`, and what a change of it invalidates.

A stage is a plain function `(config, context) -> StageResult`. Its `version` is raised when what it makes changes, and
only then; a test compares what it makes of a fixture with what was recorded (tests/test_stage_versions.py).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """Reference to a stage's function and config ("module:name", imported on use) and what its result depends on."""

    run: str
    config: str
    version: int
    purpose: str
    inputs: tuple[str, ...] = ()  # what it reads from: an artefact each
    libraries: tuple[str, ...] = ()  # installed distributions whose version shapes the result
    models: tuple[str, ...] = ()  # roles of the recipe's models that the stage needs
    optional: tuple[str, ...] = ()  # roles that it uses where the recipe names them
    outside: str = ""  # module for what it reads from outside; see `look_outside`
    kept_hashes: bool = False  # its `outside_digest` also takes a file that keeps the hashes of what it read

    def roles(self, models: Collection[str]) -> tuple[str, ...]:
        """The roles among those of `models` that the stage uses."""
        return tuple(role for role in (*self.models, *self.optional) if role in models)

    def look_outside(self, function: str, config: Any, base: Path, *more: Any) -> Any:
        """The result of a function of the module `outside`, None where it has no such: `outside_digest`, of what is
        read; `check`, which raises for what is not there, before any stage runs; and `check_inputs`, given the configs
        of the inputs, too, where these do not fit."""
        found = getattr(import_module(self.outside), function, None) if self.outside else None
        return found(config, base, *more) if found else None


_OTHER_NAMES = {  # what other libraries call what a stage does, by how the word begins
    "dedup": "data.duplicates",
    "minhash": "data.duplicates",
    "filter": "data.clean",
    "tag": "data.annotate",
    "extract": "data.read",
    "mix": "data.balance",
}


def meant_stages(name: str) -> list[str]:
    """The stages that other libraries call so."""
    return [stage for word, stage in _OTHER_NAMES.items() if name.rpartition(".")[2].startswith(word)]


ANSWERER = "ground.calibrate"  # the stage whose artefact decides answers
READERS = ("reader", "reranker", "verifier")  # roles of models that read pairs of texts

_DOCUMENTS = "documents, which data.read makes"
_ATTRIBUTES = "their attributes, which data.annotate and data.perplexity make"
_SHARDS = "token shards of its vocabulary, which data.tokenize makes"
_VOCABULARY = "their vocabulary, which tokenizer.bpe, .wordpiece or .unigram makes; none where tokenizer is set"
_CHECKPOINT = "a checkpoint, which train.pretrain or train.finetune makes; none where base is set"
_INDEX = "an index, which retrieve.index makes"
_QUESTIONS = "questions, which ground.questions makes"

STAGES: dict[str, Stage] = {
    "data.read": Stage(
        run="lmworks.corpus.read.stage:read",
        config="lmworks.corpus.read.config:ReadConfig",
        version=20,
        purpose="read files into documents; list what was left out and why",
        libraries=(  # that read, and that extract
            *("charset-normalizer", "fastwarc", "pyarrow"),
            *("mammoth", "markdown-it-py", "mwparserfromhell", "pypdfium2", "trafilatura"),
        ),
        outside="lmworks.corpus.read.stage",
        kept_hashes=True,
    ),
    "data.annotate": Stage(
        run="lmworks.corpus.taggers.stage:annotate",
        config="lmworks.corpus.taggers.config:AnnotateConfig",
        version=8,
        purpose="measure documents: repairs, language, heuristics, personal data, licences, evaluation items",
        inputs=(_DOCUMENTS,),
        libraries=("ftfy", "license-expression", "numpy", "py3langid", "pygments", "scikit-learn"),
        outside="lmworks.corpus.taggers.stage",
    ),
    "data.duplicates": Stage(
        run="lmworks.corpus.dedup.stage:duplicates",
        config="lmworks.corpus.dedup.stage:DuplicatesConfig",
        version=7,
        purpose="find documents, paragraphs, passages and repositories that repeat others",
        inputs=(_DOCUMENTS, "their attributes, which data.annotate makes"),
        libraries=("numpy", "pydivsufsort"),
    ),
    "data.clean": Stage(
        run="lmworks.corpus.stage:clean",
        config="lmworks.corpus.filtering.stage:CleanConfig",
        version=11,
        purpose="decide by a policy what stays of documents, and keep a ledger of why",
        inputs=(
            _DOCUMENTS,
            _ATTRIBUTES,
            "their duplicates, which data.duplicates makes",
        ),
        libraries=("numpy", "pyarrow"),
        outside="lmworks.corpus.filtering.stage",
    ),
    "data.balance": Stage(
        run="lmworks.corpus.balance.stage:balance",
        config="lmworks.corpus.balance.config:BalanceConfig",
        version=6,
        purpose="bring documents of several sources into the wanted proportions: choose, repeat, vary repeats",
        inputs=(
            _DOCUMENTS,
            f"{_ATTRIBUTES}; none where no factor asks for any",
        ),
        libraries=("numpy", "pyarrow"),
        outside="lmworks.corpus.balance.stage",
    ),
    "data.perplexity": Stage(
        run="lmworks.generate.perplexity:perplexity",
        config="lmworks.corpus.taggers.config:ModelPerplexityConfig",
        version=5,
        purpose="measure how unlikely a language model finds each document, for data.clean as a further input",
        inputs=(
            _DOCUMENTS,
            "their attributes, which data.annotate makes",
            "a checkpoint, which train.pretrain or train.finetune makes; none where checkpoint is set",
        ),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        outside="lmworks.generate.perplexity",
    ),
    "tokenizer.bpe": Stage(
        run="lmworks.data.tokenizer_stage:train",
        config="lmworks.tokenizer.config:BpeConfig",
        version=8,
        purpose="learn a vocabulary from documents by byte-pair encoding",
        inputs=(_DOCUMENTS,),
        libraries=("numpy", "tokenizers"),
    ),
    "tokenizer.wordpiece": Stage(
        run="lmworks.data.tokenizer_stage:train",
        config="lmworks.tokenizer.config:WordPieceConfig",
        version=8,
        purpose="learn a vocabulary from documents as BERT has it",
        inputs=(_DOCUMENTS,),
        libraries=("numpy", "tokenizers"),
    ),
    "tokenizer.unigram": Stage(
        run="lmworks.data.tokenizer_stage:train",
        config="lmworks.tokenizer.config:UnigramConfig",
        version=8,
        purpose="learn a vocabulary from documents as T5 has it",
        inputs=(_DOCUMENTS,),
        libraries=("numpy", "tokenizers"),
    ),
    "data.tokenize": Stage(
        run="lmworks.model.stage_tokenize:tokenize",
        config="lmworks.data.config:TokenizeConfig",
        version=9,
        purpose="write documents, or conversations, as token shards",
        inputs=(
            f"{_DOCUMENTS}, or conversations, which ground.refusals makes; none where conversations are set",
            "a vocabulary, which tokenizer.bpe, .wordpiece or .unigram makes; none where tokenizer is set",
        ),
        libraries=("jinja2", "numpy", "tokenizers"),
        outside="lmworks.model.stage_tokenize",
    ),
    "embeddings.words": Stage(
        run="lmworks.embeddings.stage:words",
        config="lmworks.embeddings.config:WordVectorsConfig",
        version=8,
        purpose="learn word vectors from documents by skip-gram or CBOW, with subwords if wanted",
        inputs=(_DOCUMENTS,),
        libraries=("numpy",),
    ),
    "embeddings.glove": Stage(
        run="lmworks.embeddings.stage:glove",
        config="lmworks.embeddings.config:GloveConfig",
        version=9,
        purpose="learn word vectors from documents by GloVe",
        inputs=(_DOCUMENTS,),
        libraries=("numpy", "scipy"),
    ),
    "train.pretrain": Stage(
        run="lmworks.train.train_stages:pretrain",
        config="lmworks.train.config:PretrainConfig",
        version=8,
        purpose="train a new language model on token shards, from one target: minutes, parameters or tokens",
        inputs=(
            "token shards, which data.tokenize makes; those of the held-out part are validated on",
            _VOCABULARY,
        ),
        libraries=("numpy", "tokenizers", "torch"),
        outside="lmworks.train.train_stages",
    ),
    "train.finetune": Stage(
        run="lmworks.train.train_stages:finetune",
        config="lmworks.train.config:FinetuneConfig",
        version=8,
        purpose="go on training a checkpoint on other token shards, such as conversations",
        inputs=(_SHARDS, _CHECKPOINT),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        outside="lmworks.train.train_stages",
    ),
    "train.sweep": Stage(
        run="lmworks.train.sweep.stage:sweep",
        config="lmworks.train.sweep.config:SweepConfig",
        version=7,
        purpose="train models of several sizes on several numbers of tokens, and fit the scaling law of this text",
        inputs=(
            "token shards, which data.tokenize makes, and those of the held-out part",
            _VOCABULARY,
        ),
        libraries=("matplotlib", "numpy", "scipy", "tokenizers", "torch"),
        outside="lmworks.train.train_stages",
    ),
    "train.embedder": Stage(
        run="lmworks.train.stage_embedder:embedder",
        config="lmworks.train.embedder_config:EmbedderConfig",
        version=8,
        purpose="go on training a checkpoint as an embedding model, on pairs of texts that belong together",
        inputs=(_CHECKPOINT,),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        outside="lmworks.train.stage_embedder",
    ),
    "train.cross_encoder": Stage(
        run="lmworks.train.stage_cross_encoder:cross_encoder",
        config="lmworks.train.cross_encoder_config:CrossEncoderConfig",
        version=3,
        purpose="teach a text encoder to read pairs: a reader, a reranker or a verifier",
        inputs=(_CHECKPOINT,),
        libraries=("numpy", "tokenizers", "torch"),
        outside="lmworks.train.stage_embedder",
    ),
    "align.offline": Stage(
        run="lmworks.align.stage_offline:offline",
        config="lmworks.align.config:OfflineConfig",
        version=7,
        purpose="teach a model what people and judges prefer, from rows: DPO",
        inputs=(_CHECKPOINT,),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        outside="lmworks.align.stage_offline",
    ),
    "align.online": Stage(
        run="lmworks.align.stage_online:online",
        config="lmworks.align.online_config:OnlineConfig",
        version=6,
        purpose="teach a model by rewards of what it says, or by ratings: GRPO and its relatives, PPO, online DPO",
        inputs=(_CHECKPOINT,),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        outside="lmworks.align.stage_online",
    ),
    "align.critique_and_revision": Stage(
        run="lmworks.align.critique_and_revision:critique_and_revision",
        config="lmworks.align.config:CritiqueConfig",
        version=1,
        purpose="let a model criticise its answers by principles and revise them, as rows to learn from",
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        models=("base",),
        outside="lmworks.align.critique_and_revision",
    ),
    "compress.quantise": Stage(
        run="lmworks.compress.stage:quantise",
        config="lmworks.compress.config:QuantiseConfig",
        version=1,
        purpose="quantise a checkpoint after its training: RTN, GPTQ, AWQ, SmoothQuant, mixed precision under a budget",
        inputs=(
            _CHECKPOINT,
            "documents to calibrate on, which data.read makes; none for rtn",
        ),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        outside="lmworks.compress.stage",
    ),
    "compress.lsq": Stage(
        run="lmworks.compress.lsq:lsq",
        config="lmworks.compress.config:LSQConfig",
        version=1,
        purpose="quantise a checkpoint by training it with rounded weights and learned scales",
        inputs=(_SHARDS, _CHECKPOINT),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        outside="lmworks.compress.stage",
    ),
    "compress.compare": Stage(
        run="lmworks.compress.compression_report:compare",
        config="lmworks.compress.config:CompareConfig",
        version=1,
        purpose="measure compressed models next to their base: bytes, speed, bits per byte, suites; keep the best",
        inputs=(
            "compressed models, which the stages of compress make",
            "the documents that those were calibrated on, of which a share was held out",
        ),
        libraries=("gguf", "matplotlib", "numpy", "tokenizers", "torch"),
        outside="lmworks.compress.compression_report",
    ),
    "compress.prune": Stage(
        run="lmworks.compress.stage:pruning",
        config="lmworks.compress.config:PruneConfig",
        version=1,
        purpose="take heads, neurons or layers out of a model, or set weights to 0: a smaller or a sparser checkpoint",
        inputs=(
            f"{_DOCUMENTS}, to calibrate on; none for magnitudes",
            _CHECKPOINT,
        ),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        outside="lmworks.compress.stage",
    ),
    "compress.teacher": Stage(
        run="lmworks.compress.stage_distil:teacher",
        config="lmworks.compress.distillation_config:TeacherConfig",
        version=1,
        purpose="store what a teacher says to token shards: the likeliest next tokens at each place",
        inputs=(_SHARDS,),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        models=("teacher",),
    ),
    "compress.sequences": Stage(
        run="lmworks.compress.teacher_sequences:sequences",
        config="lmworks.compress.distillation_config:SequencesConfig",
        version=1,
        purpose="let a teacher answer prompts, or continue documents, for a student to learn from",
        inputs=(f"{_DOCUMENTS}; none where rows are set",),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        models=("teacher",),
        outside="lmworks.compress.teacher_sequences",
    ),
    "compress.distil": Stage(
        run="lmworks.compress.stage_distil:distil",
        config="lmworks.compress.distillation_config:DistillConfig",
        version=1,
        purpose="teach a student what a teacher says to token shards: logits, hidden states, attention maps",
        inputs=(
            "token shards of the student's vocabulary, which data.tokenize makes; the held-out part is validated on",
            "a student, which compress.prune makes; none where base is set, or it is made of the teacher",
            "what the teacher says, which compress.teacher makes; none next to a model in the role teacher",
        ),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        optional=("teacher",),
        outside="lmworks.compress.stage",
    ),
    "evaluate.suite": Stage(
        run="lmworks.system:evaluate_suite",
        config="lmworks.evaluate.config:SuiteConfig",
        version=4,
        purpose="score a model, or a whole system, on the tasks of a suite, item by item",
        inputs=("the tasks' files, such as the questions that ground.refusals holds out; none where data is set",),
        libraries=("gguf", "numpy", "tokenizers", "torch"),
        optional=("model",),
        outside="lmworks.evaluate.suite",
    ),
    "evaluate.learned": Stage(
        run="lmworks.evaluate.learned_metric:learned",
        config="lmworks.evaluate.config:LearnedConfig",
        version=2,
        purpose="train a metric on texts that people rated, and measure it on documents that were held out",
        libraries=("numpy", "sacrebleu", "tokenizers", "torch"),
        outside="lmworks.evaluate.learned_metric",
    ),
    "retrieve.index": Stage(
        run="lmworks.retrieve.stage:index",
        config="lmworks.retrieve.config:IndexConfig",
        version=18,
        purpose="cut documents into chunks; index them by embedding and by words",
        inputs=(_DOCUMENTS,),
        libraries=("markdown-it-py", "numpy", "tokenizers", "torch"),
        models=("embedder",),
        outside="lmworks.retrieve.vector_store",
    ),
    "ground.questions": Stage(
        run="lmworks.ground.question_generation:make_questions",
        config="lmworks.ground.config:QuestionsConfig",
        version=15,
        purpose="load gold questions and make automatic ones from headings and removed sources",
        inputs=(_DOCUMENTS,),
        libraries=("markdown-it-py",),
        outside="lmworks.ground.question_generation",
    ),
    "ground.calibrate": Stage(
        run="lmworks.ground.calibration:calibrate",
        config="lmworks.ground.config:CalibrationConfig",
        version=20,
        purpose="fit the confidence of answers, and the threshold below which to abstain, on the calibration split",
        inputs=(_INDEX, _QUESTIONS),
        libraries=("numpy", "scikit-learn", "tokenizers", "torch"),
        models=("embedder",),
        optional=(*READERS, "expander"),
    ),
    "ground.evaluate": Stage(
        run="lmworks.ground.grounding_evaluation:evaluate",
        config="lmworks.ground.config:EvaluationConfig",
        version=21,
        purpose="ask the test questions; score answers, citations and abstentions next to two baselines",
        inputs=(_INDEX, _QUESTIONS, "a calibration, which ground.calibrate makes"),
        libraries=("numpy", "tokenizers", "torch"),
        models=("embedder",),
        optional=(*READERS, "expander"),
    ),
    "ground.refusals": Stage(
        run="lmworks.ground.refusal_rows:refusals",
        config="lmworks.ground.config:RefusalsConfig",
        version=1,
        purpose="ask a model what it knows, and write rows that teach it to answer that and to refuse the rest",
        inputs=(f"{_QUESTIONS}, and {_INDEX}; none where tasks are set",),
        libraries=("numpy", "scikit-learn", "tokenizers", "torch"),
        models=("base",),
        outside="lmworks.ground.refusal_rows",
    ),
    "evaluate.judge": Stage(
        run="lmworks.evaluate.judge_calibration:calibrate_judge",
        config="lmworks.evaluate.judge_calibration:JudgeConfig",
        version=2,
        purpose="measure how far a judge agrees with people, and what besides quality moves it",
        libraries=("numpy", "scipy", "tokenizers", "torch"),
        optional=("judge",),
        outside="lmworks.evaluate.judge_calibration",
    ),
}


def resolve(reference: str) -> Callable[..., Any]:
    """Import "module:name"."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
