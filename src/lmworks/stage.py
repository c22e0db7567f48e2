"""Description of a stage: what a recipe may `use`, and what its result depends on.

A stage is a plain function `(config, context) -> StageResult`. Each package lists its own in `stages.py`, by reference,
so that a recipe is read and a command line shown without importing what they run. `version` is raised when what the
stage makes changes, and only then; a test compares what it makes of a fixture with what was recorded
(tests/test_stage_versions.py).

A field of a config that names something outside of the workspace says so in its metadata, such as `MODEL`; it is then
looked for before any stage runs and hashed into the cache key (`lmworks.outside_inputs`).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pkgutil import resolve_name
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
    check: str = ""  # (config, base): raises for settings that cannot work, before any stage runs
    check_inputs: str = ""  # (config, base, the configs of the inputs): raises where they do not go together
    outside_digest: str = ""  # (config, base): a digest of what no field's metadata declares
    keeps_hashes: bool = False  # `outside_digest` also takes a file that keeps the hashes of the files it read

    def roles(self, models: Collection[str]) -> tuple[str, ...]:
        """The roles among those of `models` that the stage uses."""
        return tuple(role for role in (*self.models, *self.optional) if role in models)


# Metadata of a config's field: its value, or each of its values, names such a thing. An empty one names nothing.
MODEL = {"names": "model"}  # a checkpoint: a path, or a model that was pulled
TOKENIZER = {"names": "tokenizer"}
ROWS = {"names": "rows"}  # files, folders and globs of rows: conversations, preferences, prompts
PAIRS = {"names": "pairs", "required": True}  # the same, of pairs of texts
FILE = {"names": "file"}
SUITES = {"names": "suites"}  # tasks of `lmworks eval`, whose data the config's `suite_data` holds

# What several stages read from, and what most are made with.
DOCUMENTS = "documents, which corpus.read makes"
ATTRIBUTES = "their attributes, which corpus.tag and corpus.perplexity make"
SHARDS = "token shards of its vocabulary, which data.tokenize makes"
VOCABULARY = "their vocabulary, which tokenizer.bpe, .wordpiece or .unigram makes; none where tokenizer is set"
CHECKPOINT = "a checkpoint, which train.pretrain or train.finetune makes; none where base is set"
INDEX = "an index, which retrieve.index makes"
QUESTIONS = "questions, which ground.questions makes"
MODEL_LIBRARIES = ("gguf", "numpy", "tokenizers", "torch")
READERS = ("reader", "reranker", "verifier")  # roles of models that read pairs of texts


resolve: Callable[[str], Any] = resolve_name  # imports "module:name"
