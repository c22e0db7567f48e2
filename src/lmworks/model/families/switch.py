"""Switch Transformers (`switch_transformers`), whose experts have a fixed capacity for each text."""

from lmworks.model import presets
from lmworks.model.config import MixtureOfExperts, ModelConfig
from lmworks.model.families import common, t5
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


def _mixture(config: ModelConfig) -> MixtureOfExperts:
    for stack in config.stacks:
        for block in stack.blocks:
            if isinstance(block.feed_forward, MixtureOfExperts):
                return block.feed_forward
    raise UnsupportedModel("a Switch Transformer has experts")


def _sparse_every(argument: str, stack: int) -> Setting:
    """Which layers have experts: every how many, or, in a file without it, how many, which gives the step."""
    side = ("encoder", "decoder")[stack]

    def read(document: Document) -> int:
        layers = (document["num_layers"], t5.decoder_layers(document))[stack]
        # Zero layers with experts are computed as one by theirs.
        return document.get(f"{side}_sparse_step", layers // (document.get(f"num_sparse_{side}_layers", 3) or 1))

    def write(config: ModelConfig) -> JsonObject:
        blocks = config.stacks[stack].blocks
        sparse = [layer for layer, block in enumerate(blocks) if isinstance(block.feed_forward, MixtureOfExperts)]
        step = sparse[1] - sparse[0] if len(sparse) > 1 else len(blocks) if sparse else 0
        return {f"num_sparse_{side}_layers": len(sparse), f"{side}_sparse_step": step}

    return Setting(argument, read, write)


def _modules() -> dict[str, str]:
    names = t5.modules("mlp")
    for stack, last in (("encoder", 1), ("decoder", 2)):
        ours, theirs = f"{stack}.blocks.{{}}.feed_forward", f"{stack}.block.{{}}.layer.{last}.mlp"
        names[f"{ours}.router"] = f"{theirs}.router.classifier"
        for part, name in (("up", "wi"), ("down", "wo")):
            names[f"{ours}.experts.{{}}.{part}"] = f"{theirs}.experts.expert_{{}}.{name}"
    return names


SWITCH = Family(
    model_type="switch_transformers",
    prefix="",
    preset=presets.switch,
    settings=(
        *t5.SETTINGS,
        t5.DECODER_LAYERS,
        setting("activation", "dense_act_fn", lambda c: common.feed_forward(c).activation, "relu", ACTIVATIONS),
        setting("experts", "num_experts", lambda c: _mixture(c).experts, 8),
        setting("capacity", "expert_capacity", lambda c: _mixture(c).capacity, 64),
        _sparse_every("sparse_every", 0),
        _sparse_every("decoder_sparse_every", 1),
    ),
    fixed={"tie_word_embeddings": True, "router_bias": False, "router_dtype": "float32"},
    architectures=(
        t5.language_model("SwitchTransformersForConditionalGeneration"),
        bare_model("SwitchTransformersModel"),
    ),
    modules=_modules(),
    copies=t5.COPIES,
)
