"""Blocks for tokens after the next one: put on a model for training, and taken off again."""

from dataclasses import replace

from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import LanguageModelHead, ModelConfig, MultiTokenHead


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
