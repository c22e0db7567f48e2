"""One target: the shapes that the rule chooses, against published ones and against its own words."""

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.model.model_costs import count_parameters
from lmworks.model.presets.sizes import SIZES
from lmworks.train.planning.model_shape import (
    FAMILIES,
    HIGHEST_ASPECT,
    LOWEST_ASPECT,
    choose_shape,
    explain_shape,
    preferred_aspect,
)


@for_each("name", ["llama2-7b", "llama2-13b"])
def test_the_parameters_of_llama_give_its_shape(name):
    config = SIZES[name].config
    chosen = choose_shape(count_parameters(config), "llama", config.embedding.vocabulary, config.context_length)
    assert chosen == config


@for_each(("name", "family"), [("gpt2-124m", "gpt2"), ("gpt3-175b", "gpt2")])
def test_the_parameters_of_gpt_give_its_width_layers_and_heads(name, family):
    config = SIZES[name].config
    shape = explain_shape(count_parameters(config), family, config.embedding.vocabulary, config.context_length)
    block = config.decoder.blocks[0]
    assert shape.dimensions.width == config.embedding.width
    assert shape.dimensions.layers == len(config.decoder.blocks)
    assert (shape.dimensions.heads, shape.dimensions.hidden) == (block.attention.heads, block.feed_forward.hidden)


@for_each("family", ["llama", "qwen3", "gpt2", "gpt_neox"])
def test_every_size_follows_the_rule(family):
    for parameters in np.logspace(7, 12, 41):
        vocabulary = 1000 if parameters < 1e8 else 32_000
        shape = explain_shape(parameters, family, vocabulary)
        d = shape.dimensions
        assert shape.parameters == count_parameters(shape.config)
        # From 1e7 on there are several shapes for each size; the coarsest step, a layer of a shallow model, is 6 %.
        assert abs(shape.parameters / parameters - 1) < 0.06
        assert d.width % 64 == 0 and d.width == d.heads * (128 if d.width >= 1024 else 64)
        assert LOWEST_ASPECT <= d.width / d.layers <= HIGHEST_ASPECT
        assert d.hidden % 64 == 0
        assert d.tied == (family == "gpt2" or d.vocabulary * d.width > 0.2 * parameters)


@for_each("vocabulary", [5, 4096, 262_144])
@for_each("family", FAMILIES)
def test_the_parameters_of_the_smallest_model_give_it(family, vocabulary):
    """Also where most of them are a table of positions."""
    least = FAMILIES[family].smallest(vocabulary, 2048)
    assert explain_shape(least, family, vocabulary, 2048).parameters == pytest.approx(least, rel=0.01)


def test_large_models_can_be_divided_among_devices():
    for parameters in np.logspace(10, 12, 21):
        assert explain_shape(parameters).dimensions.heads % 4 == 0


def test_the_preferred_width_per_layer_grows_from_gpt2_to_llama():
    assert [preferred_aspect(n) for n in (1e6, 1e8, 7e9, 1e12)] == pytest.approx([64, 64, 128, 128])
    assert 64 < preferred_aspect(1e9) < 128


def test_each_number_has_its_reason():
    reasons = {name: (value, why) for name, value, why in explain_shape(124.4e6, "gpt2", 50_257).reasons}
    assert set(reasons) == {"parameters", "width", "layers", "heads", "hidden", "head"}
    assert reasons["width"][0] == "768" and "a multiple of 64; 64 for each layer" in reasons["width"][1]
    assert reasons["heads"][0] == "12 of 64" and reasons["head"][0] == "tied"


def test_what_cannot_be_built_is_refused_with_the_fix():
    with pytest.raises(ValueError, match="take more parameters or a smaller vocabulary"):
        choose_shape(100_000, "llama", 32_000)
    with pytest.raises(ValueError, match=r"a llama of 1e\+18 parameters is larger than any shape"):
        choose_shape(1e18, "llama", 32_000)
    with pytest.raises(LookupError, match="llama, qwen3, gpt2, gpt_neox"):
        choose_shape(1e9, "albert")
    with pytest.raises(ValueError, match="above 0"):
        choose_shape(-1)
