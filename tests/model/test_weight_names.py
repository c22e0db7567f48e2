import re
from dataclasses import replace

import pytest
import torch

from lmworks.model.config import PoolHead
from lmworks.model.huggingface import to_our_names, to_their_names, write_config, write_weights
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert, llama, t5
from lmworks.model.tensor_files import read_weights
from lmworks.model.transformer import Transformer, empty_model

TIED = llama(97, 32, 2, 4, 2, 48, 64, tied=True)
DOCUMENT = write_config(TIED)
MODEL = initialise(Transformer(TIED), seed=0)
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def theirs() -> dict[str, torch.Tensor]:
    return dict(to_their_names(TIED, DOCUMENT, MODEL.state_dict()))


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("shard_size", [10_000, 10**9])
def test_round_trip(shard_size, tmp_path):
    write_weights(tmp_path, MODEL, DOCUMENT, shard_size)
    assert len(list(tmp_path.glob("*.safetensors"))) == (1 if shard_size == 10**9 else 11)
    assert_same(to_our_names(TIED, DOCUMENT, read_weights(tmp_path)), MODEL.state_dict())


def test_no_tensor_is_lost_or_made_up(theirs):
    with pytest.raises(ValueError, match=r"without a place \['score.weight'\]"):
        to_our_names(TIED, DOCUMENT, {**theirs, "score.weight": theirs[EMBEDDING]})
    del theirs["model.norm.weight"]
    with pytest.raises(ValueError, match=r"missing \['norm.weight'\]"):
        to_our_names(TIED, DOCUMENT, theirs)


def test_a_wrong_shape_names_the_tensor_and_both_shapes(theirs):
    theirs[EMBEDDING] = torch.zeros(98, 32)
    ours = to_our_names(TIED, DOCUMENT, theirs)
    with pytest.raises(
        ValueError, match=r"embed_tokens.weight has the shape \(98, 32\), config.json asks for \(97, 32\)"
    ):
        ours["embedding.tokens.weight"]


def test_names_with_and_without_the_prefix_are_one_tensor(theirs):
    bare = {name.removeprefix("model."): tensor for name, tensor in theirs.items()}
    assert_same(to_our_names(TIED, DOCUMENT, bare), MODEL.state_dict())
    with pytest.raises(ValueError, match=r"model\.norm\.weight and norm\.weight are the same tensor"):
        to_our_names(TIED, DOCUMENT, {**theirs, "norm.weight": theirs["model.norm.weight"] + 1})


def test_a_tied_head_stored_twice_must_agree(theirs):
    copy = theirs[EMBEDDING].clone()
    assert_same(to_our_names(TIED, DOCUMENT, {**theirs, "lm_head.weight": copy}), MODEL.state_dict())
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        to_our_names(TIED, DOCUMENT, {**theirs, "lm_head.weight": copy + 1})


def test_a_tied_head_stored_alone_is_the_embedding(theirs):
    alone = {**theirs, "lm_head.weight": theirs[EMBEDDING]}
    del alone[EMBEDDING]  # some programs keep only the first name of what is shared
    assert_same(to_our_names(TIED, DOCUMENT, alone), MODEL.state_dict())
    with pytest.raises(ValueError, match=r"missing \['embed_tokens.weight'\]"):  # without a head nothing is tied
        to_our_names(replace(TIED, head=None), {**DOCUMENT, "architectures": ["LlamaModel"]}, alone)


@pytest.mark.parametrize("kept", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_the_embedding_of_t5_may_have_either_name_alone(kept):
    config = t5(97, 32, 2, 4, 8, 48)
    document, model = write_config(config), initialise(Transformer(config), seed=0)
    theirs = dict(to_their_names(config, document, model.state_dict()))
    theirs[kept] = theirs.pop("shared.weight")
    assert_same(to_our_names(config, document, theirs), model.state_dict())


def test_the_norms_of_the_first_bert_files_have_other_names():
    config = bert(97, 32, 2, 4, 48, 64)
    document, model = write_config(config), initialise(Transformer(config), seed=0)
    older = {
        re.sub(r"LayerNorm.bias$", "LayerNorm.beta", re.sub(r"LayerNorm.weight$", "LayerNorm.gamma", name)): tensor
        for name, tensor in to_their_names(config, document, model.state_dict()).items()
    }
    assert sum(name.endswith("LayerNorm.gamma") for name in older) == 1 + 2 * 2
    assert_same(to_our_names(config, document, older), model.state_dict())


def test_an_untied_head_is_a_tensor_of_its_own():
    config = llama(97, 32, 2, 4, 2, 48, 64, tied=False)
    document, model = write_config(config), initialise(Transformer(config), seed=0)
    theirs = dict(to_their_names(config, document, model.state_dict()))
    assert_same(to_our_names(config, document, theirs), model.state_dict())
    del theirs["lm_head.weight"]
    with pytest.raises(ValueError, match=r"missing \['lm_head.weight'\]"):
        to_our_names(config, document, theirs)


def test_the_pooler_of_bert_has_no_part_in_hidden_states():
    config = bert(97, 32, 2, 4, 48, 64)
    document, model = write_config(config), initialise(Transformer(config), seed=0)
    theirs = dict(to_their_names(config, document, model.state_dict()))
    theirs["pooler.dense.weight"] = torch.zeros(32, 32)
    assert_same(to_our_names(config, document, theirs), model.state_dict())


@pytest.mark.parametrize("config", [TIED, bert(97, 32, 2, 4, 48, 64, head=PoolHead())])
def test_a_model_filled_from_its_weights_has_nothing_left_to_fill(config):
    model = empty_model(config)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    model.load_state_dict(initialise(Transformer(config), seed=0).state_dict(), assign=True)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
