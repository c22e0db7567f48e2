"""BERT (`bert`), SpanBERT, whose published folders are BERT's, and RoBERTa (`roberta`).

BERT's classes number padding too, ours counts real tokens: a text padded on the left needs `position_ids` there to give
the same. A folder of a class without a pooler or a next-sentence classifier may hold them all the same, as
`bert-base-uncased` does: they are left out.
"""

from collections.abc import Mapping

from lmworks.model import presets
from lmworks.model.config import (
    Activation,
    ClassificationHead,
    Head,
    Learned,
    MaskedLanguageModelHead,
    ModelConfig,
    NextSentenceHead,
    SpanHead,
    UnsupportedModel,
)
from lmworks.model.families import common
from lmworks.model.families.family import Architecture, Document, Family, JsonObject, Setting, bare_model, setting


def masked_language_model(name: str, modules: Mapping[str, str], activation: Activation | None = None) -> Architecture:
    """The class with BERT's head; `activation` None: that of the feed-forward networks."""

    def read_head(document: Document, config: ModelConfig) -> Head:
        head_activation = activation or common.feed_forward(config).activation
        return MaskedLanguageModelHead(head_activation, common.first_block(config).norm)

    return Architecture(name, read_head, MaskedLanguageModelHead, modules=modules)


def _pre_training(masked: Architecture) -> Architecture:
    """The class with both heads of pre-training; `masked` is the one that has the first."""

    def read_head(document: Document, config: ModelConfig) -> Head:
        head = masked.read_head(document, config)
        assert isinstance(head, MaskedLanguageModelHead)
        return NextSentenceHead(head)

    modules = {our_name.replace("head.", "head.masked."): their_name for our_name, their_name in masked.modules.items()}
    modules |= {"head.pooler": "bert.pooler.dense", "head.projection": "cls.seq_relationship"}
    return Architecture("BertForPreTraining", read_head, NextSentenceHead, modules=modules)


def classifier(name: str, modules: Mapping[str, str]) -> Architecture:
    """The class that labels a text by its first token."""

    def read_head(document: Document, config: ModelConfig) -> Head:
        return ClassificationHead(len(document.get("id2label") or range(document.get("num_labels", 2))))

    def write_head(head: ClassificationHead) -> JsonObject:
        return {} if head.labels == 2 else {"num_labels": head.labels}

    return Architecture(name, read_head, ClassificationHead, write_head, modules)


def question_answering(name: str) -> Architecture:
    """The class that finds an answer's span."""
    return Architecture(name, lambda document, config: SpanHead(), SpanHead, modules={"head.projection": "qa_outputs"})


_MASKED = masked_language_model(
    "BertForMaskedLM",
    {
        "head.dense": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "head.bias": "cls.predictions.bias",
    },
)

BERT = Family(
    model_type="bert",
    prefix="bert.",
    preset=presets.bert,
    settings=(
        *common.SIZES,
        common.context_length(512),
        setting("token_types", "type_vocab_size", lambda c: c.embedding.token_types, 2),
        common.activation("hidden_act", "gelu"),
        common.norm_eps("layer_norm_eps", 1e-12),
    ),
    fixed={
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    },
    architectures=(
        bare_model("BertModel"),
        _MASKED,
        classifier(
            "BertForSequenceClassification", {"head.dense": "bert.pooler.dense", "head.projection": "classifier"}
        ),
        _pre_training(_MASKED),
        question_answering("BertForQuestionAnswering"),
    ),
    modules={
        "embedding.tokens": "embeddings.word_embeddings",
        "embedding.positions": "embeddings.position_embeddings",
        "embedding.token_types": "embeddings.token_type_embeddings",
        "embedding.norm": "embeddings.LayerNorm",
        "encoder.blocks.{}.attention.query": "encoder.layer.{}.attention.self.query",
        "encoder.blocks.{}.attention.key": "encoder.layer.{}.attention.self.key",
        "encoder.blocks.{}.attention.value": "encoder.layer.{}.attention.self.value",
        "encoder.blocks.{}.attention.output": "encoder.layer.{}.attention.output.dense",
        "encoder.blocks.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
        "encoder.blocks.{}.feed_forward.up": "encoder.layer.{}.intermediate.dense",
        "encoder.blocks.{}.feed_forward.down": "encoder.layer.{}.output.dense",
        "encoder.blocks.{}.feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
    },
    copies={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    renamed={
        "LayerNorm.gamma": "LayerNorm.weight",
        "LayerNorm.beta": "LayerNorm.bias",
    },  # `bert-base-uncased`, even now
    ignored=r"pooler\.dense\.(weight|bias)|cls\.seq_relationship\.(weight|bias)|embeddings\.position_ids",
)


# ---------------------------------------------------------------------------------------------------------------------
# RoBERTa, whose positions count real tokens, as ours do


def _positions(config: ModelConfig) -> Learned:
    if not isinstance(config.embedding.positions, Learned):
        raise UnsupportedModel("RoBERTa has learned positions")
    return config.embedding.positions


def _offset(document: Document) -> int:
    """The row of position 0: the one after the padding token's number."""
    return document.get("pad_token_id", 1) + 1


ROBERTA = Family(
    model_type="roberta",
    prefix="roberta.",
    preset=presets.roberta,
    settings=(
        *common.SIZES,
        Setting(
            "context_length",
            lambda d: d.get("max_position_embeddings", 512) - _offset(d),
            lambda c: {"max_position_embeddings": c.context_length + _positions(c).offset},
        ),
        Setting("offset", _offset, lambda c: {"pad_token_id": _positions(c).offset - 1}),
        setting("token_types", "type_vocab_size", lambda c: c.embedding.token_types, 2),
        common.activation("hidden_act", "gelu"),
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
        question_answering("RobertaForQuestionAnswering"),
    ),
    modules=BERT.modules,
    copies={"lm_head.decoder.weight": "embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"},
    ignored=r"pooler\.dense\.(weight|bias)|embeddings\.position_ids",
)
