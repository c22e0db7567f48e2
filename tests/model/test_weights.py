import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert, llama
from lmworks.model.transformer import Transformer
from lmworks.model.weights import read_weights, to_our_names, write_weights

TIED = llama(97, 32, 2, 4, 2, 48, 64, tied=True)
MODEL = initialise(Transformer(TIED), seed=0)


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_round_trip(tmp_path):
    write_weights(tmp_path, MODEL)
    assert_same(to_our_names(TIED, read_weights(tmp_path)), MODEL.state_dict())


def test_shards_are_joined(tmp_path):
    write_weights(tmp_path, MODEL)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:7], "model-00002-of-00002.safetensors": names[7:]}
    for file, chosen in shards.items():
        save_file({name: tensors[name] for name in chosen}, tmp_path / file)
    index = {"weight_map": {name: file for file, chosen in shards.items() for name in chosen}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(read_weights(tmp_path), tensors)


def test_a_folder_without_safetensors_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="safetensors"):
        read_weights(tmp_path)


def test_no_tensor_is_lost_or_made_up(tmp_path):
    write_weights(tmp_path, MODEL)
    tensors = load_file(tmp_path / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    with pytest.raises(ValueError, match=r"without a place \['score.weight'\]"):
        to_our_names(TIED, {**tensors, "score.weight": embedding})
    del tensors["model.norm.weight"]
    with pytest.raises(ValueError, match=r"missing \['model.norm.weight'\]"):
        to_our_names(TIED, tensors)


def test_a_tied_head_stored_twice_must_agree(tmp_path):
    write_weights(tmp_path, MODEL)
    tensors = load_file(tmp_path / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    assert_same(to_our_names(TIED, {**tensors, "lm_head.weight": embedding.clone()}), MODEL.state_dict())
    with pytest.raises(ValueError, match="ties the embeddings"):
        to_our_names(TIED, {**tensors, "lm_head.weight": embedding + 1})


def test_the_pooler_of_bert_has_no_part_in_hidden_states(tmp_path):
    model = initialise(Transformer(bert(97, 32, 2, 4, 48, 64)), seed=0)
    write_weights(tmp_path, model)
    tensors = {**read_weights(tmp_path), "pooler.dense.weight": torch.zeros(32, 32)}
    assert_same(to_our_names(model.config, tensors), model.state_dict())
