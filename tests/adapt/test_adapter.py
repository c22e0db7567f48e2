"""An adapter's folder as a model like any other: loaded with its base, and run by the engine."""

import pytest
import torch
from small_models import build, random_ids, random_lora

import lmworks
from byte_tokenizer import byte_tokenizer
from lmworks.adapt import load, merge, write_lora
from lmworks.model.checkpoint import assemble
from lmworks.model.download import base_of_adapter, digest_of_model
from lmworks.model.presets import llama

CONFIG = llama(300, 32, layers=2, heads=2, kv_heads=1, hidden=48, context_length=64)


@pytest.fixture
def folders(tmp_path):
    """A base, and a LoRA of it that names it."""
    tokenizer = byte_tokenizer({"eos_token": "<|end|>"})
    base = assemble(CONFIG, build(CONFIG).state_dict(), tokenizer, "{{ messages[0].content }}", source="base")
    base.save(tmp_path / "base")
    lora = random_lora(CONFIG, 1)
    write_lora(tmp_path / "tuned", lora, CONFIG, base=str(tmp_path / "base"))
    return tmp_path / "base", tmp_path / "tuned", merge(base.model, lora)


def test_a_folder_is_loaded_with_the_base_that_it_names(folders):
    base, tuned, merged = folders
    (tuned / "chat_template.jinja").write_text("tuned: {{ messages[0].content }}")
    found, ids = lmworks.load(str(tuned)), random_ids(2, 9)
    assert torch.equal(found.model(ids), merged(ids))
    assert found.chat_template == (tuned / "chat_template.jinja").read_text()
    assert found.required_tokenizer.hash == lmworks.load(base).required_tokenizer.hash
    whole = lmworks.load(found.save(tuned.with_name("whole")))
    assert torch.equal(whole.model(ids), found.model(ids))


def test_a_base_that_is_given_takes_the_place_of_the_one_that_is_named(folders):
    base, tuned, merged = folders
    moved = base.rename(base.with_name("moved"))
    with pytest.raises(FileNotFoundError, match="write the path of that model as base_model_name_or_path"):
        load(tuned)
    ids = random_ids(2, 9)
    assert torch.equal(load(tuned, base=moved).model(ids), merged(ids))


def test_what_a_model_is_made_of_includes_its_base(folders):
    base, tuned, _ = folders
    before = digest_of_model(tuned)
    assert base_of_adapter(tuned) == base and base_of_adapter(base) is None
    (base / "generation_config.json").write_text("{}")
    digest_of_model.cache_clear()
    assert digest_of_model(tuned) != before
