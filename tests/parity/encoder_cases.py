"""The encoders and encoder–decoders of `transformers` that are compared; see `harness.py`."""

from typing import Any

import torch
from harness import Case
from torch import nn

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
LABELS = {**SIZES, "num_labels": 5}
T5_SIZES = {"d_model": 64, "d_kv": 12, "d_ff": 96, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4}
# Few buckets and a small distance, so that a short text reaches the last bucket of both kinds.
T5 = {
    **T5_SIZES,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 15,
    "decoder_start_token_id": 0,
}
SWITCH = {**T5, "num_layers": 4, "num_experts": 4, "expert_capacity": 5}
BART = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "max_position_embeddings": 64,
    "forced_eos_token_id": None,  # which would end each text, and the comparison with it
}
POOLER = r"(bert\.|roberta\.)?pooler\.dense\.(weight|bias)"


@torch.no_grad()
def wide_embedding(model: Any) -> Any:
    """As T5's begin, with a deviation of one: tied logits are scaled by width ** -0.5."""
    model.shared.weight.mul_(model.config.d_model**0.5)
    return model


def untie(model: Any) -> Any:
    """As T5 1.1 is: `transformers` builds it tied, and finds out from a checkpoint that it is not."""
    model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight) * model.config.d_model**-0.5)
    del model.all_tied_weights_keys["lm_head.weight"]
    return model


# Only padded on the right: BART numbers padding, classifiers of BERT and RoBERTa look at the first place whatever is
# there, and in a Switch Transformer padding on the left takes experts' places away from tokens, as it chooses.
ENCODERS = (
    Case("bert, bare", "BertModel", SIZES, positions=True, ignored=POOLER),
    Case("bert", "BertForMaskedLM", {**SIZES, "hidden_act": "gelu_new"}, positions=True),
    Case("bert, classifier", "BertForSequenceClassification", LABELS, positions=True, sides=("right",)),
    Case("roberta, bare", "RobertaModel", SIZES, ignored=POOLER),
    Case("roberta", "RobertaForMaskedLM", {**SIZES, "hidden_act": "relu", "type_vocab_size": 1}),
    Case("roberta, classifier", "RobertaForSequenceClassification", LABELS, sides=("right",)),
    Case("t5", "T5ForConditionalGeneration", T5, adapt=wide_embedding),
    Case(
        "t5 1.1",
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        adapt=untie,
        rewritten=("tie_word_embeddings",),
    ),
    Case(
        "t5 1.1, tied",
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    Case("t5, bare", "T5Model", {**T5, "feed_forward_proj": "gated-silu"}),
    Case("t5, encoder", "T5EncoderModel", T5),
    Case(
        "switch",
        "SwitchTransformersForConditionalGeneration",
        {**SWITCH, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2},
        sides=("right",),
        attention="eager",
        adapt=wide_embedding,
    ),
    Case(
        "switch, bare",
        "SwitchTransformersModel",
        {**SWITCH, "num_sparse_encoder_layers": 4, "num_sparse_decoder_layers": 1},
        attention="eager",
        sides=("right",),
    ),
    Case("bart", "BartForConditionalGeneration", BART, sides=("right",), constant=r"head\.bias"),
    Case("bart, bare", "BartModel", {**BART, "scale_embedding": True}, sides=("right",)),
)
