"""RoBERTa (`roberta`), whose positions count real tokens, as ours do."""

from lmworks.model import presets
from lmworks.model.config import Learned, ModelConfig
from lmworks.model.families import common
from lmworks.model.families.bert import BERT, classifier, masked_language_model
from lmworks.model.huggingface import (
    ACTIVATIONS,
    Document,
    Family,
    JsonObject,
    Setting,
    UnsupportedModel,
    bare_model,
    setting,
)


def _positions(config: ModelConfig) -> Learned:
    if not isinstance(config.embedding.positions, Learned):
        raise UnsupportedModel("RoBERTa has learned positions")
    return config.embedding.positions


def _offset(document: Document) -> int:
    """The row of position 0: the one after the padding token's number."""
    return document.get("pad_token_id", 1) + 1


def _length(config: ModelConfig) -> JsonObject:
    return {"max_position_embeddings": config.context_length + _positions(config).offset}


ROBERTA = Family(
    model_type="roberta",
    prefix="roberta.",
    preset=presets.roberta,
    settings=(
        common.VOCABULARY,
        common.WIDTH,
        common.LAYERS,
        common.HEADS,
        common.HIDDEN,
        Setting("context_length", lambda d: d.get("max_position_embeddings", 512) - _offset(d), _length),
        Setting("offset", _offset, lambda c: {"pad_token_id": _positions(c).offset - 1}),
        setting("token_types", "type_vocab_size", lambda c: c.embedding.token_types, 2),
        setting("activation", "hidden_act", lambda c: common.feed_forward(c).activation, "gelu", ACTIVATIONS),
        common.norm_eps("layer_norm_eps", 1e-12),
    ),
    fixed=BERT.fixed,
    architectures=(
        bare_model("RobertaModel"),
        masked_language_model(
            "RobertaForMaskedLM",
            {"head.dense": "lm_head.dense", "head.norm": "lm_head.layer_norm", "head.bias": "lm_head.bias"},
            activation="gelu",
        ),
        classifier(
            "RobertaForSequenceClassification",
            {"head.dense": "classifier.dense", "head.projection": "classifier.out_proj"},
        ),
    ),
    modules=BERT.modules,
    copies={
        "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    ignored=r"pooler\.dense\.(weight|bias)|embeddings\.position_ids",
)
