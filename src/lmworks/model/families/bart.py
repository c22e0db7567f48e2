"""BART (`bart`). Theirs numbers padding too, ours counts real tokens: the same where padding stands on the right."""

from collections.abc import Callable

from lmworks.model import presets
from lmworks.model.config import LanguageModelHead, ModelConfig, UnsupportedModel
from lmworks.model.families import common
from lmworks.model.families.family import Architecture, Document, Family, Fused, Setting, bare_model, setting


def _both(argument: str, name: str, get: Callable[[ModelConfig], int]) -> Setting:
    """A size that each stack has a field for, and that both must agree on."""

    def read(document: Document) -> int:
        encoder, decoder = document[f"encoder_{name}"], document[f"decoder_{name}"]
        if encoder != decoder:
            raise UnsupportedModel(f"decoder_{name} = {decoder} next to encoder_{name} = {encoder} is not supported")
        return encoder

    return Setting(argument, read, lambda c: dict.fromkeys((f"encoder_{name}", f"decoder_{name}"), get(c)))


_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}


def _stack(name: str) -> dict[str, str]:
    """Our names → theirs of what both stacks have."""
    our_block, their_layer = f"{name}.blocks.{{}}", f"{name}.layers.{{}}"
    return {
        **{f"{our_block}.attention.{ours}": f"{their_layer}.self_attn.{theirs}" for ours, theirs in _ATTENTION.items()},
        f"{our_block}.attention_norm": f"{their_layer}.self_attn_layer_norm",
        f"{our_block}.feed_forward.up": f"{their_layer}.fc1",
        f"{our_block}.feed_forward.down": f"{their_layer}.fc2",
        f"{our_block}.feed_forward_norm": f"{their_layer}.final_layer_norm",
    }


_LANGUAGE_MODEL = Architecture(
    "BartForConditionalGeneration",
    read_head=lambda document, config: LanguageModelHead(tied=True, bias=True),
    heads=LanguageModelHead,
    modules={"head.bias": "final_logits_bias"},
)
BART = Family(
    model_type="bart",
    prefix="model.",
    preset=presets.bart,
    settings=(
        common.VOCABULARY,
        setting("width", "d_model", lambda c: c.embedding.width),
        setting("layers", "encoder_layers", lambda c: len(c.stacks[0].blocks)),
        setting("decoder_layers", "decoder_layers", lambda c: len(c.stacks[-1].blocks)),
        _both("heads", "attention_heads", lambda c: common.first_block(c).attention.heads),
        _both("hidden", "ffn_dim", lambda c: common.feed_forward(c).hidden),
        common.context_length(1024),
        common.activation("activation_function", "gelu"),
        Setting(
            "scale",
            lambda d: d["d_model"] ** 0.5 if d.get("scale_embedding") else None,
            lambda c: {"scale_embedding": c.embedding.scale is not None},
        ),
    ),
    fixed={"tie_word_embeddings": True, "normalize_before": False, "add_final_layer_norm": False},
    architectures=(_LANGUAGE_MODEL, bare_model("BartModel")),
    modules={
        "embedding.tokens": "shared",
        "embedding.positions": "encoder.embed_positions",
        "embedding.norm": "encoder.layernorm_embedding",
        "decoder_embedding.positions": "decoder.embed_positions",
        "decoder_embedding.norm": "decoder.layernorm_embedding",
        **_stack("encoder"),
        **_stack("decoder"),
        **{
            f"decoder.blocks.{{}}.cross_attention.{o}": f"decoder.layers.{{}}.encoder_attn.{t}"
            for o, t in _ATTENTION.items()
        },
        "decoder.blocks.{}.cross_attention_norm": "decoder.layers.{}.encoder_attn_layer_norm",
    },
    fused=(
        Fused("final_logits_bias", ("head.bias",), lambda t, c: (t[0],), lambda tensors, c: tensors[0][None]),
    ),  # (1, n)
    copies=dict.fromkeys(
        ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"), "shared.weight"
    ),
    ignored=r"(encoder|decoder)\.version",
)
