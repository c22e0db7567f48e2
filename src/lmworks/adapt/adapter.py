"""Any fine-tuning method by its config: put it into a model, write it, read it; and `load`, the way to any model by its
name or place, an adapter's folder too, for all that evaluates and serves.

model = add_adapter(checkpoint.model, LoraConfig(r=8), seed=0)      # what requires a gradient is to be trained
save_adapter("french", model, LoraConfig(r=8), checkpoint)          # a folder that PEFT loads
model = load_adapter("french", checkpoint)
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lmworks.adapt.adapter_merge import merge_adapter
from lmworks.adapt.bottleneck import add_bottleneck, bottleneck_from_peft, bottleneck_to_peft
from lmworks.adapt.config import BottleneckConfig, FullConfig, IA3Config, LoraConfig, Method, PrefixConfig
from lmworks.adapt.full_tuning import add_full
from lmworks.adapt.ia3 import add_ia3, ia3_from_peft, ia3_to_peft
from lmworks.adapt.lora_layers import add_lora, lora_of, trainable_lora
from lmworks.adapt.peft_folder import CONFIG, named, read_peft_folder, write_peft_folder
from lmworks.adapt.peft_lora import lora_from_peft, write_lora
from lmworks.adapt.prefix_tuning import add_prefix, prefix_from_peft, prefix_to_peft
from lmworks.adapt.task_head import head_from_peft
from lmworks.model.checkpoint import Checkpoint, DType
from lmworks.model.checkpoint import load as load_whole
from lmworks.model.config import UnsupportedModel
from lmworks.model.download import MODELS, PACKAGED, base_of_adapter, locate
from lmworks.model.quantised_linear import has_adapter
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.tokenizer_folder import read_chat_template, read_json

_BESIDE = {"PREFIX_TUNING", "BOTTLENECK"}  # peft_type of what cannot become a part of the base's weights


def add_adapter(model: Transformer, method: Method, seed: int = 0) -> Transformer:
    """The model with a new adapter, whose parameters alone require a gradient; `model` stays, its weights are shared.

    At first it computes what `model` computes, but for a prefix, whose keys take attention from the text. ValueError
    for a method that does not go with this model, and for a model with an adapter.
    """
    _check_whole(model)
    generator = torch.Generator(device=model.tokens.device).manual_seed(seed)
    match method:
        case LoraConfig():
            return add_lora(model, method, generator)
        case IA3Config():
            return add_ia3(model, method, generator)
        case PrefixConfig():
            return add_prefix(model, method, generator)
        case BottleneckConfig():
            return add_bottleneck(model, method, generator)
        case FullConfig():
            return add_full(model, method)


def trained_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights that require a gradient, by their names in `model`."""
    return {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}


def save_adapter(
    folder: str | Path,
    model: Transformer,
    method: Method,
    checkpoint: Checkpoint,
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Writes the adapter that `add_adapter` put into `model` as PEFT's folder, whole or not at all.

    checkpoint  the base, which names the family and is named as the base.
    weights     the adapter's, by the names of `trained_weights`, such as `Run.trained` gives; None: those of `model`.

    FileExistsError when there is something already. ValueError for full fine-tuning, which makes a whole model.
    """
    weights = trained_weights(model) if weights is None else weights
    match method:
        case LoraConfig():
            return write_lora(
                folder, lora_of(model, weights), checkpoint.config, checkpoint.published, checkpoint.source,
                method.use_rslora, checkpoint.model, weights,
            )  # fmt: skip
        case IA3Config():
            return write_peft_folder(folder, *ia3_to_peft(model, weights, checkpoint))
        case PrefixConfig():
            return write_peft_folder(folder, *prefix_to_peft(model, weights, checkpoint))
        case BottleneckConfig():
            return write_peft_folder(folder, *bottleneck_to_peft(method, weights, checkpoint))
        case FullConfig():
            raise ValueError("full fine-tuning makes a whole model: save the checkpoint")


def load_adapter(folder: str | Path, checkpoint: Checkpoint) -> Transformer:
    """The checkpoint's model with the adapter of a folder. The errors are those of `read_peft_folder`, and ValueError
    for an adapter of another base."""
    with named(folder):
        _check_whole(checkpoint.model)
        checkpoint, document, tensors = head_from_peft(*read_peft_folder(folder), checkpoint)
        match document.get("peft_type"):
            case "LORA":
                lora = lora_from_peft(checkpoint.config, checkpoint.published, document, tensors)
                return trainable_lora(checkpoint.model, lora)
            case "IA3":
                return ia3_from_peft(checkpoint, document, tensors)
            case "PREFIX_TUNING":
                return prefix_from_peft(checkpoint, document, tensors)
            case "BOTTLENECK":
                return bottleneck_from_peft(checkpoint, document, tensors)
            case other:
                supported = "LORA, IA3, PREFIX_TUNING, BOTTLENECK"
                raise UnsupportedModel(f"peft_type = {other!r} is not supported; supported: {supported}")


def load(
    source: str | Path,
    dtype: DType = torch.float32,
    device: torch.device | str = "cpu",
    pickle: bool = False,
    base: Checkpoint | str | Path | None = None,
) -> Checkpoint:
    """`model.checkpoint.load`, and a PEFT adapter's folder as a model like any other.

    base    what the adapter was trained on, where that is not the model that its folder names.

    LoRA and its kin are merged into the weights; prefixes and bottlenecks stay next to them, in modules that `Engine`
    runs as they are. The chat template of the folder, if it has one, takes the place of the base's. What the adapter
    leaves alone is shared with `base`. The errors are those of `model.checkpoint.load` and `load_adapter`, and
    FileNotFoundError for a base that is not on this machine.
    """
    folder = locate(str(source)) if source in PACKAGED else Path(source)
    named = None if base is None and source in MODELS else base or base_of_adapter(folder)
    if named is None:
        return load_whole(source, dtype, device, pickle)
    whole = named if isinstance(named, Checkpoint) else load(named, dtype, device, pickle)
    try:
        model = load_adapter(folder, whole)
        if not stays_beside(folder):
            model = merge_adapter(model)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{folder}: {error}") from error
    template = read_chat_template(folder) or whole.chat_template
    length = min(whole.max_length, model.config.context_length)  # a prefix takes learned positions from the text
    return replace(whole, source=str(source), chat_template=template, max_length=length).with_model(model)


def stays_beside(folder: Path) -> bool:
    """Whether it holds an adapter that cannot become a part of its base's weights: a prefix, or bottlenecks."""
    return (folder / CONFIG).is_file() and read_json(folder / CONFIG).get("peft_type") in _BESIDE


def _check_whole(model: Transformer) -> None:
    if has_adapter(model):
        raise ValueError("the model has an adapter already, and takes no second one: merge that one first")
