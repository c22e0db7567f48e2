"""Tensors of a Hugging Face folder: safetensors files in, safetensors file out, under the family's names."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmworks.model.config import ModelConfig
from lmworks.model.huggingface import Family, family_of, write_config
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.tokenizer import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of `model.safetensors`, or of the files that its index lists, by the name it has there."""
    if (folder / SINGLE).exists():
        return load_file(folder / SINGLE)
    if not (folder / INDEX).exists():
        raise FileNotFoundError(f"{folder} has neither {SINGLE} nor {INDEX}: save the model in the safetensors format")
    files = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    return {name: tensor for file in files for name, tensor in load_file(folder / file).items()}


def write_weights(folder: Path, model: Transformer) -> None:
    """Writes `model.safetensors`, with the tensor names of the model's family."""
    family = _family(model.config)
    tensors = {family.their_name(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})


def to_our_names(config: ModelConfig, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a family's tensors to the parameters of `Transformer(config)`.

    ValueError lists tensors that are missing, and tensors that have no place in the model, which would be lost.
    """
    family = _family(config)
    expected = {family.their_name(name): name for name in empty_model(config).state_dict()}
    remaining = {name: tensor for name, tensor in theirs.items() if not re.fullmatch(family.ignored, name)}
    head, embedding = family.modules.get("unembedding", ""), family.modules["embedding.tokens"]
    if f"{head}.weight" in remaining and f"{head}.weight" not in expected:
        copy = remaining.pop(f"{head}.weight")  # some files store a tied head a second time
        if not torch.equal(copy, remaining[f"{embedding}.weight"]):
            raise ValueError(f"config.json ties the embeddings, but {head}.weight differs from {embedding}.weight")
    missing, unknown = sorted(expected.keys() - remaining), sorted(remaining.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(f"the weights do not fit config.json: missing {missing[:5]}, without a place {unknown[:5]}")
    return {expected[name]: tensor for name, tensor in remaining.items()}


def empty_model(config: ModelConfig) -> Transformer:
    """The model without memory for its weights, to be filled by `load_state_dict(..., assign=True)`."""
    with torch.device("meta"):
        return Transformer(config)


def _family(config: ModelConfig) -> Family:
    return family_of(write_config(config)["model_type"])
