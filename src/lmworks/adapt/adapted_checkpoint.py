"""Any model by its name or place, an adapter's folder too: the way in for all that evaluates and serves."""

from dataclasses import replace
from pathlib import Path

import torch

from lmworks.adapt.adapter import load_adapter
from lmworks.adapt.adapter_merge import merge_adapter
from lmworks.adapt.peft_folder import CONFIG
from lmworks.model.checkpoint import Checkpoint, DType
from lmworks.model.checkpoint import load as load_whole
from lmworks.model.config import UnsupportedModel
from lmworks.model.download import MODELS, PACKAGED, base_of_adapter, locate
from lmworks.tokenizer.tokenizer_folder import read_chat_template, read_json

_BESIDE = {"PREFIX_TUNING", "BOTTLENECK"}  # peft_type of what cannot become a part of the base's weights


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
