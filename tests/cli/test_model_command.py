"""The verb `model`: what a model is made of and what it costs, without its weights."""

import json
import re
from xml.etree import ElementTree

from command_line import lmworks
from lmworks.model import presets
from lmworks.model.presets.sizes import SIZES


def shown(*arguments):
    result = lmworks("model", "show", *arguments)
    assert result.returncode == 0, result.stderr
    return " ".join(result.stdout.split())


def test_shows_a_published_size_by_its_name_and_a_family_by_its_first():
    text = shown("gpt2-124m")
    assert "parameters 124,439,808" in text
    assert "12 × block, pre, layer norm" in text
    assert "12 heads of 64" in text and "768 → 3,072 → 768" in text
    assert "keys and values in bfloat16, per token 36,864" in text  # 12 layers · 2 · 768 values · 2 bytes
    assert text == shown("gpt2").replace("gpt2 ", "gpt2-124m ")


def test_operations_follow_the_context():
    short, long = (
        int(re.search(r"forward, per token of [\d,]+ ([\d,]+)", shown("gpt2", "--context", n))[1].replace(",", ""))
        for n in ("1", "101")
    )
    assert long - short == 100 * 12 * 4 * 768


def test_a_mixture_says_what_a_token_meets():
    assert "parameters that a token meets 12,879,925,248" in shown("mixtral-8x7b")


def test_shows_a_folder_and_a_file_without_reading_weights(tmp_path, smollm2):
    folder = tmp_path / "folder"
    folder.mkdir()
    fields = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    fields |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **fields}))
    assert "4 query heads, 2 key heads of 8" in shown(str(folder))
    assert "parameters 134,515,008" in shown(str(smollm2))


def test_draws_a_picture(tmp_path):
    picture = tmp_path / "picture.svg"
    shown("t5-base", "--svg", str(picture))
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_lists_every_preset_and_size():
    text = lmworks("model", "list").stdout
    assert all(name in text for name in (*SIZES, *presets.__all__))
