"""A head for a new task on a model. Next to an adapter it is learned whole, and saved as PEFT's `modules_to_save`.

checkpoint = with_head(lmworks.load("all-minilm-l6-v2"), SpanHead())
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from lmworks.adapt.peft_folder import PREFIX
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.config import (
    ClassificationHead,
    Head,
    LanguageModelHead,
    ModelConfig,
    MultiTokenHead,
    ScoreHead,
    SpanHead,
    UnsupportedModel,
)
from lmworks.model.families.family import Document, JsonObject
from lmworks.model.heads import build_head
from lmworks.model.huggingface import family_of, write_config

HEAD = "head."


def with_head(
    checkpoint: Checkpoint, head: Head, seed: int = 0, weights: Mapping[str, Tensor] | None = None
) -> Checkpoint:
    """The checkpoint with this head instead of its own: with new weights (normal, 0.02), or these, by their names in
    the head."""
    embedding = checkpoint.config.embedding
    module = build_head(head, embedding.width, embedding.vocabulary)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        nn.init.zeros_(weight) if name.endswith("bias") else nn.init.normal_(weight, std=0.02, generator=generator)
    if weights is not None:
        module.load_state_dict({name: weight.float() for name, weight in weights.items()})
    base = {name: weight for name, weight in checkpoint.model.state_dict().items() if not name.startswith(HEAD)}
    own = {f"{HEAD}{name}": weight.detach() for name, weight in module.state_dict().items()}
    return assemble(
        replace(checkpoint.config, head=head), {**base, **own}, checkpoint.tokenizer, checkpoint.chat_template,
        max_length=checkpoint.max_length, source=checkpoint.source, licence=checkpoint.licence,
        published=checkpoint.published, dtype=checkpoint.dtype or torch.float32, device=checkpoint.device,
    )  # fmt: skip


def head_to_peft(weights: Mapping[str, Tensor], document: Document) -> tuple[JsonObject, dict[str, Tensor]]:
    """The fields and tensors of a head whose weights, by our names, are among those that were trained; `document` is
    the config.json of the model with it."""
    own = {name: weight for name, weight in weights.items() if name.startswith(HEAD) and ".lora_" not in name}
    if not own:
        return {}, {}
    modules = family_of(document["model_type"]).architecture(document).modules
    tensors = {
        f"{PREFIX}{modules[module]}.{name}": weight.detach().cpu().contiguous()
        for (module, _, name), weight in ((key.rpartition("."), value) for key, value in own.items())
    }
    return {"modules_to_save": sorted({modules[name.rpartition(".")[0]] for name in own})}, tensors


def head_from_peft(
    document: Document, tensors: Mapping[str, Tensor], checkpoint: Checkpoint
) -> tuple[Checkpoint, Document, Mapping[str, Tensor]]:
    """The checkpoint with the head that a PEFT folder holds, and what else the folder holds. UnsupportedModel for
    modules that are no head for spans or labels."""
    saved = tuple(f"{PREFIX}{name}." for name in document.get("modules_to_save") or ())
    head_tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(saved)} if saved else {}
    if not head_tensors:
        return checkpoint, document, tensors
    labels = next((len(tensor) for name, tensor in head_tensors.items() if ".classifier." in name), 0)
    label: Head = ClassificationHead(labels)
    if (last := head_tensors.get(f"{PREFIX}score.weight")) is not None:  # of a decoder, which reads its last token
        label = ScoreHead() if len(last) == 1 else ClassificationHead(len(last), "last", None, bias=False)
    heads: Mapping[str, Head] = {"QUESTION_ANS": SpanHead(), "SEQ_CLS": label}
    head = heads.get(document.get("task_type") or "")
    if head is None:
        raise UnsupportedModel(f"modules_to_save of the task {document.get('task_type')!r} is not supported")
    described = write_config(replace(checkpoint.config, head=head), checkpoint.published)
    modules = family_of(described["model_type"]).architecture(described).modules
    ours = {f"{PREFIX}{peft_name}": name.removeprefix(HEAD) for name, peft_name in modules.items()}
    weights = {
        f"{ours[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": tensor for name, tensor in head_tensors.items()
    }
    rest = {name: tensor for name, tensor in tensors.items() if name not in head_tensors}
    return with_head(checkpoint, head, weights=weights), {**document, "modules_to_save": None}, rest


# ---------------------------------------------------------------------------------------------------------------------
# Blocks for tokens after the next one: put on a model for training, and taken off again


def with_further_tokens(config: ModelConfig, depth: int = 1) -> ModelConfig:
    """The decoder, and for each of `depth` tokens after the next one a block such as its last. TypeError for a model
    that is no language model of a decoder."""
    decoder, head = config.decoder, config.head
    if decoder is None or not isinstance(head, LanguageModelHead):
        raise TypeError(f"further tokens are predicted by a decoder with a language model head, not with {head}")
    block = decoder.blocks[-1]
    return replace(config, head=MultiTokenHead(head, block, decoder.final_norm or block.norm, depth))


def without_further_tokens(checkpoint: Checkpoint) -> Checkpoint:
    """The model that predicts the next token, by the same logits bit for bit, as the family that can express it saves
    it. TypeError for one that predicts no further tokens."""
    head = checkpoint.config.head
    if not isinstance(head, MultiTokenHead):
        raise TypeError(f"the model predicts no further tokens, its head is {head}")
    weights = {
        name.replace("head.next.", "head."): weight
        for name, weight in checkpoint.model.state_dict().items()
        if not name.startswith("head.steps.")
    }
    return replace(checkpoint, config=replace(checkpoint.config, head=head.next), weights=weights, published=None)
