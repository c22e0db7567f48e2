"""A tiny language model, a tiny embedder and a recipe over three pages: what a built workspace is made of in tests."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from lmworks.artefact import read_json, write_json
from lmworks.build import build
from lmworks.ground.conformal_risk_control import CALIBRATION
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.config import PoolHead
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert, llama
from lmworks.model.transformer import Transformer
from lmworks.recipe import load
from lmworks.retrieve.bm25 import STOP_WORDS
from lmworks.stages import ANSWERER
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.workspace import artefact_of, read_current

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAGES = {
    "leave.md": "# Leave\n\nEvery employee has twenty-eight days of paid leave a year. Leave is asked for in the "
    "calendar, at least two weeks ahead.\n\n## Carrying over\n\nAt most five days are carried over into the next "
    "year, and they expire at the end of March.\n",
    "travel.md": "# Travel\n\nTrains are booked by the office; ask at least three days before you travel. Flights "
    "need the approval of the head of department.\n\n## Expenses\n\nReceipts are handed in within thirty days. Meals "
    "are paid up to forty euros a day, hotels up to one hundred and fifty.\n",
    "security.md": "# Security\n\nA lost laptop is reported to the security desk within one hour, by telephone, at "
    "any time of the day. Passwords live in the password manager and nowhere else.\n",
}
RECIPE = """\
{head}

[models]
assistant = {language}
embedder = {embedder}

[stages.documents]
use = "corpus.read"
sources = {sources}

[stages.index]
use = "retrieve.index"
from = ["documents"]

[stages.questions]
use = "ground.questions"
from = ["documents"]
automatic = 5

[stages.calibration]
use = "ground.calibrate"
from = ["index", "questions"]
"""
_FRAME = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def tiny_language_model(tokenizer: Tokenizer) -> Checkpoint:
    """A random LLaMA with large weights, so that its distributions are far from flat; context 512."""
    size = tokenizer.vocabulary_size
    config = llama(size, width=32, layers=2, heads=4, kv_heads=2, hidden=64, context_length=512, tied=True)
    weights = initialise(Transformer(config), seed=5, std=0.2).state_dict()
    return assemble(config, weights, tokenizer, CHAT_TEMPLATE, source="tiny")


def tiny_embedding_model() -> Checkpoint:
    """A BERT whose blocks add nothing: a text's vector is the mean of the random vectors of its words.

    Words share a vector if their first four letters are the same, stop words nearly do; a word that is not in `PAGES`
    counts as its longest beginning that is. So a question is close to the sentence that has its words, and questions
    about `PAGES` are answered, others not, by the calibration that `RECIPE` decides.
    """
    words = re.findall(r"[a-z]{4,}", " ".join(PAGES.values()).lower())
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    stems = {word[:length] for word in {*words, *STOP_WORDS} for length in range(1, len(word) + 1)}
    tokens = [*_FRAME, *sorted({*letters, *stems}), *(f"##{letter}" for letter in letters)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(list(_FRAME))
    frame = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, frame)
    roles = {f"{role}_token": token for role, token in zip(("pad", "unk", "cls", "sep"), _FRAME, strict=True)}
    config = bert(len(vocabulary), width=64, layers=1, heads=2, hidden=8, context_length=256, head=PoolHead())
    weights = initialise(Transformer(config), seed=1).state_dict()
    for name, tensor in weights.items():
        if "norm" not in name and name != "embedding.tokens.weight":
            tensor.zero_()
    drawn = weights["embedding.tokens.weight"].clone()
    for token, row in vocabulary.items():
        if token in STOP_WORDS:
            vector = 0.7 * drawn[row] + drawn[vocabulary["the"]]
        elif token.isalnum() or token == "[CLS]":
            vector = drawn[vocabulary[token if token == "[CLS]" else token[:4]]]
        else:
            vector = torch.zeros(config.embedding.width)
        weights["embedding.tokens.weight"][row] = vector
    return assemble(config, weights, Tokenizer(backend, roles), source="tiny-embedder")


def build_workspace(
    root: Path, language: Path, embedder: Path, documents: Mapping[str, str] = PAGES, head: str = 'name = "handbook"'
) -> Path:
    """Build `RECIPE` over texts by file name: documents in `root/docs`, the workspace in `root/workspace`."""
    (root / "docs").mkdir(parents=True)
    for name, text in documents.items():
        (root / "docs" / name).write_text(text, "utf-8")
    paths = {"language": str(language), "embedder": str(embedder), "sources": [str(root / "docs")]}
    fields = {name: json.dumps(value) for name, value in paths.items()}
    (root / "recipe.toml").write_text(RECIPE.format(head=head, **fields), "utf-8")
    workspace = root / "workspace"
    build(load(root / "recipe.toml"), workspace)
    # What is borrowed was decided with another encoder: one sentence an answer, and a threshold that parts these texts.
    calibration = artefact_of(workspace, read_current(workspace), ANSWERER) / CALIBRATION
    decided = read_json(calibration)
    write_json(calibration, {**decided, "threshold": 0.1, "rules": {**decided["rules"], "sentences": 1}})
    return workspace


def copy_workspace(workspace: Path, target: Path) -> Path:
    """The same workspace for a test that writes: without its log, at a place of its own."""
    return Path(shutil.copytree(workspace, target, ignore=shutil.ignore_patterns("log.sqlite*")))
