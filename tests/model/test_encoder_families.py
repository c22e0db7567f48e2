"""Published config.json files of encoders and encoder–decoders, with the fields that decide, as they stand there."""

from dataclasses import replace

import pytest
import torch

from kit.tables import for_each
from lmworks.model.config import (
    ClassificationHead,
    LanguageModelHead,
    MaskedLanguageModelHead,
    MixtureOfExperts,
    NextSentenceHead,
    Norm,
    UnsupportedModel,
)
from lmworks.model.huggingface import read_config, to_our_names, to_their_names, write_config
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bart, bert, roberta, switch, t5, t5_v1_1
from lmworks.model.transformer import Transformer

BERT_BASE = {
    "architectures": ["BertForMaskedLM"],
    "hidden_act": "gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
ROBERTA_BASE = {
    **BERT_BASE,
    "architectures": ["RobertaForMaskedLM"],
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 514,
    "model_type": "roberta",
    "pad_token_id": 1,
    "type_vocab_size": 1,
    "vocab_size": 50265,
}
T5_SMALL = {
    "architectures": ["T5ForConditionalGeneration"],
    "d_ff": 2048,
    "d_kv": 64,
    "d_model": 512,
    "layer_norm_epsilon": 1e-6,
    "model_type": "t5",
    "n_positions": 512,
    "num_heads": 8,
    "num_layers": 6,
    "relative_attention_num_buckets": 32,
    "vocab_size": 32128,
}
T5_1_1_SMALL = {
    **T5_SMALL,
    "d_ff": 1024,
    "feed_forward_proj": "gated-gelu",
    "num_decoder_layers": 8,
    "num_heads": 6,
    "num_layers": 8,
    "tie_word_embeddings": False,
}
SWITCH_BASE_8 = {
    "architectures": ["SwitchTransformersForConditionalGeneration"],
    "d_ff": 3072,
    "d_kv": 64,
    "d_model": 768,
    "expert_capacity": 64,
    "model_type": "switch_transformers",
    "num_decoder_layers": 12,
    "num_experts": 8,
    "num_heads": 12,
    "num_layers": 12,
    "num_sparse_decoder_layers": 6,
    "num_sparse_encoder_layers": 6,
    "vocab_size": 32128,
}
BART_BASE = {
    "activation_function": "gelu",
    "architectures": ["BartForConditionalGeneration"],
    "d_model": 768,
    "decoder_attention_heads": 12,
    "decoder_ffn_dim": 3072,
    "decoder_layers": 6,
    "encoder_attention_heads": 12,
    "encoder_ffn_dim": 3072,
    "encoder_layers": 6,
    "max_position_embeddings": 1024,
    "model_type": "bart",
    "normalize_before": False,
    "scale_embedding": False,
    "vocab_size": 50265,
}
MASKED = MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))
PUBLISHED = {
    "bert": (BERT_BASE, bert(30522, 768, 12, 12, 3072, head=MASKED)),
    "bert, pre-training": (
        {**BERT_BASE, "architectures": ["BertForPreTraining"]},
        bert(30522, 768, 12, 12, 3072, head=NextSentenceHead(MASKED)),
    ),
    "bert, one label": (
        {**BERT_BASE, "architectures": ["BertForSequenceClassification"], "id2label": {"0": "relevant"}},
        bert(30522, 768, 12, 12, 3072, head=ClassificationHead(1)),
    ),
    "roberta": (
        ROBERTA_BASE,
        roberta(50265, 768, 12, 12, 3072, head=MaskedLanguageModelHead("gelu", Norm("layer", 1e-5))),
    ),
    "t5": (T5_SMALL, t5(32128, 512, 6, 8, 2048)),
    "t5 1.1": (T5_1_1_SMALL, t5_v1_1(32128, 512, 8, 6, 1024)),
    # As `transformers` 5 writes it, whose file may yet hold a head of its own.
    "t5 1.1, again": (
        {**T5_1_1_SMALL, "tie_word_embeddings": True, "scale_decoder_outputs": False, "dense_act_fn": "gelu_new"},
        replace(t5_v1_1(32128, 512, 8, 6, 1024), head=LanguageModelHead(tied=True)),
    ),
    "switch": (SWITCH_BASE_8, switch(32128, 768, 12, 12, 3072, experts=8, capacity=64)),
    "bart": (BART_BASE, bart(50265, 768, 6, 12, 3072)),
}


@for_each(("document", "config"), PUBLISHED.values())
def test_published_files_are_read_and_written(document, config):
    assert read_config(document) == config
    assert read_config(write_config(config)) == config
    kept = write_config(config, document)
    assert read_config(kept) == config
    assert {name for name in document if kept[name] != document[name]} <= {"architectures", "tie_word_embeddings"}


@for_each(
    ("document", "field"),
    [
        ({**BERT_BASE, "is_decoder": True}, "is_decoder"),
        ({**BERT_BASE, "position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({**BERT_BASE, "hidden_act": "mish"}, "hidden_act"),
        ({**BERT_BASE, "architectures": ["BertForTokenClassification"]}, "architectures"),
        ({**ROBERTA_BASE, "tie_word_embeddings": False}, "tie_word_embeddings"),
        ({**T5_SMALL, "feed_forward_proj": "gated-mish"}, "feed_forward_proj"),
        ({**SWITCH_BASE_8, "router_bias": True}, "router_bias"),
        ({**BART_BASE, "decoder_ffn_dim": 4096}, "decoder_ffn_dim"),
        ({**BART_BASE, "normalize_before": True}, "normalize_before"),
        ({name: value for name, value in BART_BASE.items() if name != "d_model"}, "d_model"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(document, field):
    with pytest.raises(UnsupportedModel, match=field):
        read_config(document)


def test_the_experts_of_a_file_without_any_stand_where_transformers_puts_them():
    """Zero layers with experts are one there, the second; more of them than layers are none."""
    config = read_config({**SWITCH_BASE_8, "num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 13})
    sparse = [[isinstance(b.feed_forward, MixtureOfExperts) for b in stack.blocks] for stack in config.stacks]
    assert sparse == [[False, True, *[False] * 10], [False] * 12]
    assert read_config(write_config(config)) == config


def test_tensors_that_are_stored_twice_must_be_equal():
    config = bart(97, 16, 1, 2, 24, context_length=8)
    document = write_config(config)
    ours = initialise(Transformer(config), seed=0).state_dict()
    theirs = dict(to_their_names(config, document, ours))
    shared = theirs["model.shared.weight"]
    doubled = {**theirs, "lm_head.weight": shared.clone(), "model.encoder.embed_tokens.weight": shared.clone()}
    again = to_our_names(config, document, doubled)
    assert again.keys() == ours.keys()
    assert all(torch.equal(again[name], ours[name]) for name in ours)
    with pytest.raises(ValueError, match=r"model.decoder.embed_tokens.weight differs from model.shared.weight"):
        to_our_names(config, document, {**theirs, "model.decoder.embed_tokens.weight": shared + 1})
