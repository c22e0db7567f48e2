import json

import pytest

from lmworks.model.config import PoolHead, UnsupportedModel
from lmworks.model.sentence_transformers import read_pooling, write_pooling


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_round_trip(pooling, normalize, tmp_path):
    head = PoolHead(pooling, normalize)
    write_pooling(tmp_path, head, width=32, max_length=128)
    assert read_pooling(tmp_path) == (head, 128)


def test_a_folder_of_another_kind_has_no_pooling(tmp_path):
    assert read_pooling(tmp_path) == (None, None)


def test_published_names(tmp_path):
    """The files of all-MiniLM-L6-v2, with another folder for the pooling."""
    kinds = {"Transformer": "", "Pooling": "pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds.items()]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "pooling").mkdir()
    settings = {"word_embedding_dimension": 384, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (tmp_path / "pooling" / "config.json").write_text(json.dumps(settings))
    assert read_pooling(tmp_path) == (PoolHead("mean", normalize=False), None)
    settings["pooling_mode_weightedmean_tokens"] = True
    (tmp_path / "pooling" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UnsupportedModel, match=r"\['pooling_mode_mean_tokens', 'pooling_mode_weightedmean_tokens'\]"):
        read_pooling(tmp_path)


@pytest.mark.parametrize(("mode", "pooling"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last")])
def test_folders_of_sentence_transformers_since_5_4(mode, pooling, tmp_path):
    places = {"Transformer": "base.modules.transformer", "Pooling": "sentence_transformer.modules.pooling"}
    places["Normalize"] = "base.modules.normalize"
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.{places[kind]}.{kind}"} for kind, path in kinds.items()]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 256}))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"embedding_dimension": 8, "pooling_mode": mode}))
    assert read_pooling(tmp_path) == (PoolHead(pooling, normalize=True), 256)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": [mode, "max"]}))
    with pytest.raises(UnsupportedModel, match=r"pooling by .*max"):
        read_pooling(tmp_path)
