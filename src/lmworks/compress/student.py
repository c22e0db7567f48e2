"""Students: a teacher with fewer of its layers, or a new model of its vocabulary."""

import re
from collections.abc import Sequence
from dataclasses import replace

from lmworks.compress.block_calibration import decoder_of
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.huggingface import write_config
from lmworks.model.initialisation import by_fan_in, initialise
from lmworks.model.transformer import Transformer
from lmworks.train.planning.model_shape import FAMILIES, choose_shape


def evenly_spaced(count: int, layers: int) -> list[int]:
    """The numbers of `count` of so many layers, the first among them: of every other one 0, 2, 4, … (Sanh et al. 2019,
    section 3). ValueError for more than there are."""
    if not 1 <= count <= layers:
        raise ValueError(f"a student keeps 1 to {layers} of the teacher's layers, not {count}")
    return [number * layers // count for number in range(count)]


def keep_layers(checkpoint: Checkpoint, layers: Sequence[int]) -> Checkpoint:
    """The decoder with these of its layers, in order, and all other weights. ValueError for a model without one."""
    decoder = decoder_of(checkpoint.config)
    config = replace(checkpoint.config, decoder=replace(decoder, blocks=tuple(decoder.blocks[n] for n in layers)))
    places, weights = {str(old): str(new) for new, old in enumerate(layers)}, {}
    for name, weight in checkpoint.model.state_dict().items():
        found = re.fullmatch(r"decoder\.blocks\.(\d+)\.(.+)", name)
        if found is None:
            weights[name] = weight
        elif found[1] in places:
            weights[f"decoder.blocks.{places[found[1]]}.{found[2]}"] = weight
    # `published`, what config.json says besides, may be of the layers that are gone.
    return replace(checkpoint, config=config, weights=weights, published=None)


def new_student(teacher: Checkpoint, parameters: int, seed: int) -> Checkpoint:
    """A new model of about so many parameters, of the teacher's vocabulary, tokenizer and family (a Llama where there
    is no rule for that family). ValueError as `choose_shape`."""
    family = write_config(teacher.config, teacher.published)["model_type"]
    family = family if family in FAMILIES else "llama"
    config = choose_shape(parameters, family, teacher.config.embedding.vocabulary, teacher.config.context_length)
    model = initialise(Transformer(config), seed, scheme=by_fan_in)
    weights, source = model.state_dict(), f"a student of {teacher.source}"
    return replace(teacher, config=config, weights=weights, source=source, published=None)
