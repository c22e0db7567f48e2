import json
from dataclasses import replace

import pytest
import torch

import lmworks.model.checkpoint
from lmworks.model.checkpoint import Checkpoint, assemble, load
from lmworks.model.config import PoolHead
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert, llama
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.template import ChatTemplateError
from lmworks.tokenizer.tokenizer import Tokenizer

LLAMA = llama(267, 32, 2, 4, 2, 48, 64, tied=True)
BERT = bert(267, 32, 2, 4, 48, 64, head=PoolHead("cls", normalize=False))
IDS = torch.randint(267, (2, 10), generator=torch.Generator().manual_seed(0))
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}"


def weights(config, seed=0):
    return initialise(Transformer(config), seed, std=0.2).state_dict()


@pytest.fixture
def checkpoint(tiny_tokenizer) -> Checkpoint:
    return assemble(LLAMA, weights(LLAMA), tiny_tokenizer, TEMPLATE, licence="apache-2.0")


@torch.no_grad()
def test_what_is_saved_is_what_is_loaded(checkpoint, tmp_path):
    loaded = load(checkpoint.save(tmp_path / "model"))
    assert torch.equal(loaded.model(IDS), checkpoint.model(IDS))
    assert loaded.config == checkpoint.config
    assert loaded.tokenizer.hash == checkpoint.tokenizer.hash
    assert (loaded.chat_template, loaded.licence, loaded.max_length) == (TEMPLATE, "apache-2.0", 64)
    assert loaded.fingerprint == checkpoint.fingerprint
    assert loaded.model.training is False


@torch.no_grad()
def test_embedding_settings_are_kept(tiny_tokenizer, tmp_path):
    checkpoint = assemble(BERT, weights(BERT), tiny_tokenizer, max_length=48)
    loaded = load(checkpoint.save(tmp_path / "model"))
    assert (loaded.config, loaded.max_length, loaded.fingerprint) == (BERT, 48, checkpoint.fingerprint)
    assert torch.equal(loaded.model(IDS), checkpoint.model(IDS))
    assert loaded.model(IDS).shape == (2, 32)


def test_an_unknown_pooling_is_named(tiny_tokenizer, tmp_path):
    folder = assemble(BERT, weights(BERT), tiny_tokenizer).save(tmp_path / "model")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ValueError, match="pooling_mode_max_tokens"):
        load(folder)
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.CNN", "path": ""}]')
    with pytest.raises(ValueError, match="CNN"):
        load(folder)


def test_the_fingerprint_covers_everything_that_shapes_a_result(checkpoint, tiny_tokenizer):
    def fingerprint(config=LLAMA, tensors=None, tokenizer=tiny_tokenizer, **rest) -> str:
        return assemble(config, tensors or weights(config), tokenizer, **rest).fingerprint

    nudged = weights(LLAMA)
    nudged["decoder.norm.weight"][3] += 1e-3
    other_tokenizer = Tokenizer(tiny_tokenizer.backend, {"eos_token": "<|endoftext|>"})
    same = {
        checkpoint.fingerprint,
        fingerprint(),
        fingerprint(dtype=torch.bfloat16),
        fingerprint(chat_template=TEMPLATE),
    }
    assert len(same) == 1
    others = [
        fingerprint(tensors=nudged),
        fingerprint(replace(LLAMA, context_length=32), weights(LLAMA)),
        fingerprint(tokenizer=other_tokenizer),
        fingerprint(max_length=63),
        fingerprint(BERT),
        fingerprint(replace(BERT, head=PoolHead()), weights(BERT)),
    ]
    assert len({*same, *others}) == 1 + len(others)


def test_nothing_is_overwritten(checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="never overwritten"):
        checkpoint.save(folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_failure_in_the_middle_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(lmworks.model.checkpoint, "write_json", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@torch.no_grad()
def test_dtype(checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "full")
    rounded = load(folder, dtype=torch.bfloat16)
    assert rounded.model(IDS).dtype == torch.bfloat16
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "float32"
    half = rounded.save(tmp_path / "half")
    assert json.loads((half / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert load(half).model(IDS).dtype == torch.float32
    assert torch.equal(load(half, dtype=torch.bfloat16).model(IDS), rounded.model(IDS))


def test_where_special_ids_and_templates_may_be_kept(checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["eos_token"] = {"content": "<|im_end|>", "lstrip": False}
    settings["chat_template"] = [{"name": "tools", "template": "x"}, {"name": "default", "template": "y"}]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = load(folder)
    assert loaded.tokenizer.eos_ids == (2, 0)
    assert loaded.chat_template == "y"
    again = load(loaded.save(tmp_path / "again"))
    assert again.tokenizer.eos_ids == (2, 0)
    (folder / "chat_template.jinja").write_text("z")
    assert load(folder).chat_template == "z"


def test_a_missing_chat_template_is_an_error(tiny_tokenizer):
    with pytest.raises(ChatTemplateError, match="no chat template"):
        _ = assemble(LLAMA, weights(LLAMA), tiny_tokenizer).chat


@pytest.mark.parametrize("source", ["gpt5", "/nowhere/at/all", "model.safetensors"])
def test_an_unknown_source_is_told_what_is_allowed(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match="smollm2-135m-instruct, all-minilm-l6-v2, a Hugging Face folder"):
        load(source)


def test_what_does_not_fit_together_is_refused(tiny_tokenizer, tmp_path):
    small = llama(100, 32, 2, 4, 2, 48, 64)
    with pytest.raises(ValueError, match="267 tokens, the embedding 100 rows"):
        assemble(small, weights(small), tiny_tokenizer)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load(tmp_path / "empty")


@torch.no_grad()
@pytest.mark.weights
def test_a_gguf_file_and_the_folder_saved_from_it_are_one_model(smollm2_checkpoint, smollm2_folder):
    from_folder = load(smollm2_folder)
    assert from_folder.fingerprint == smollm2_checkpoint.fingerprint
    assert from_folder.licence == "apache-2.0"
    ids = torch.tensor([smollm2_checkpoint.tokenizer.encode("The same weights give the same logits.")])
    assert torch.equal(from_folder.model(ids), smollm2_checkpoint.model(ids))


@pytest.mark.weights
def test_minilm_keeps_its_settings(minilm_checkpoint, tmp_path):
    assert minilm_checkpoint.config.head == PoolHead("mean", normalize=True)
    assert minilm_checkpoint.max_length == 256
    assert minilm_checkpoint.licence == "apache-2.0"
    # The file asks for padding to 128 tokens and truncation at 128; both are off.
    assert len(minilm_checkpoint.tokenizer.encode("word " * 200, special=True)) == 202
    assert load(minilm_checkpoint.save(tmp_path / "minilm")).fingerprint == minilm_checkpoint.fingerprint
