"""One model in the formats that the contenders read: the same weights for all of them."""

from dataclasses import dataclass
from pathlib import Path

import lmworks
from contenders import client
from lmworks.model.download import MODELS, pull


@dataclass(frozen=True)
class Models:
    """source: the file that was given; q4_0, q8_0: as llama.cpp writes it; folder: of Hugging Face, float32."""

    source: Path
    q4_0: Path
    q8_0: Path
    folder: Path
    vocabulary: int


def prepare(model: str, llama_python: str, folder: Path) -> Models:
    """`model` is the name of a pulled model or a .gguf file; what is written goes into `folder`."""
    source = pull(model) if model in MODELS else Path(model)
    q4_0, q8_0 = (client.quantise(llama_python, source, folder, name) for name in ("Q4_0", "Q8_0"))
    checkpoint = lmworks.load(source)
    saved = checkpoint.save(folder / "hugging-face")
    return Models(source, q4_0, q8_0, saved, checkpoint.config.embedding.vocabulary)
