import json
from dataclasses import replace

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

import lmworks.model.checkpoint
from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request
from lmworks.model.checkpoint import Checkpoint, assemble, load
from lmworks.model.config import PoolHead, UnsupportedModel
from lmworks.model.gguf_write import save_gguf
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert, llama, roberta
from lmworks.model.sentence_transformers import read_pooling, write_pooling
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.jinja_template import ChatTemplateError
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
        fingerprint(dtype=torch.float64),
        fingerprint(chat_template=TEMPLATE),
    }
    assert len(same) == 1
    others = [
        fingerprint(tensors=nudged),
        fingerprint(dtype=torch.bfloat16),  # rounded weights give other logits
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


def test_a_model_that_was_first_asked_for_in_inference_mode_can_be_trained(checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    with torch.inference_mode():
        loaded = load(folder)
        inside = loaded.model(IDS)
    loaded.model(IDS).sum().backward()
    assert all(weight.grad is not None for weight in loaded.model.parameters())
    with torch.inference_mode():
        made = assemble(
            LLAMA, {name: weight.clone() for name, weight in checkpoint.weights.items()}, checkpoint.tokenizer
        )
    assert torch.equal(made.model(IDS), inside)
    made.model(IDS).sum().backward()


@torch.no_grad()
def test_dtype(checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "full")
    rounded = load(folder, dtype=torch.bfloat16)
    assert rounded.model(IDS).dtype == torch.bfloat16
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    half = rounded.save(tmp_path / "half")
    assert json.loads((half / "config.json").read_text())["dtype"] == "bfloat16"
    assert load(half).model(IDS).dtype == torch.float32
    assert load(half).fingerprint == rounded.fingerprint
    stored = load(half, dtype="stored").model
    assert {tensor.dtype for tensor in stored.parameters()} == {torch.bfloat16}
    assert torch.equal(stored(IDS), rounded.model(IDS))


@torch.no_grad()
@for_each("dtype", [torch.float32, torch.bfloat16, torch.float16])
@for_each("shard_size", [20_000, 10**9])
def test_transformers_loads_what_is_saved_bit_for_bit(checkpoint, dtype, shard_size, tmp_path):
    transformers = pytest.importorskip("transformers")
    saved = load(checkpoint.save(tmp_path / "first"), dtype)
    folder = saved.save(tmp_path / "second", shard_size)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (shard_size == 20_000)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert theirs.dtype == dtype
    assert torch.equal(theirs.model.embed_tokens.weight, saved.model.embedding.tokens.weight)
    assert torch.equal(theirs.model.layers[1].mlp.up_proj.weight, saved.model.decoder.blocks[1].feed_forward.up.weight)
    if dtype == torch.float32:  # the others round at different places
        assert (theirs(IDS).logits - saved.model(IDS)).abs().max() < 1e-5
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.generate(**tokenizer("the", return_tensors="pt"), max_new_tokens=2).shape[0] == 1


def test_what_was_published_is_saved_again(checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    document = json.loads((folder / "config.json").read_text()) | {
        "torch_dtype": "float16", "pad_token_id": 7, "bos_token_id": None, "eos_token_id": [2, 0], "author": "x",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(document))
    generation = {"eos_token_id": [0, 2], "temperature": 0.6}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    loaded = load(folder)
    again = loaded.save(tmp_path / "again")
    del document["torch_dtype"]  # `dtype` says it
    assert json.loads((again / "config.json").read_text()) == document
    assert json.loads((again / "generation_config.json").read_text()) == generation
    other = Tokenizer(loaded.tokenizer.backend, {"eos_token": "<|endoftext|>"})
    changed = load(replace(loaded, tokenizer=other).save(tmp_path / "changed"))
    assert changed.tokenizer.eos_ids == (0,)
    assert changed.generation == {"eos_token_id": [0], "temperature": 0.6}


@torch.no_grad()
def test_a_pickled_model_is_read_when_asked_for(checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match=r"only pickled weights \(pytorch_model.bin\).*pickle=True"):
        load(folder)
    assert load(folder, pickle=True).fingerprint == checkpoint.fingerprint


# ---------------------------------------------------------------------------------------------------------------------
# Damaged, mismatched and foreign folders: one error, which begins with the folder and names the file and the key


def refuse(folder, error, message):
    with pytest.raises(error, match=message) as caught:
        load(folder)
    assert caught.type is error
    assert str(folder) in str(caught.value)


@for_each(
    ("text", "message"),
    [
        ("", r"config\.json is not JSON"),
        ('{"model_type": ', r"config\.json is not JSON"),
        ("[1]", r"config\.json holds a JSON list"),
        ("[" * 100_000, r"config\.json is not JSON"),
    ],
)
def test_a_config_that_is_no_object(text, message, checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    (folder / "config.json").write_text(text)
    refuse(folder, ValueError, message)


@for_each(
    ("change", "error", "message"),
    [
        ({"model_type": ...}, UnsupportedModel, r"config\.json lacks model_type"),
        ({"model_type": "vit"}, UnsupportedModel, "model_type 'vit' is not supported; supported: "),
        ({"num_hidden_layers": ...}, UnsupportedModel, "lacks 'num_hidden_layers'"),
        ({"architectures": ["LlamaForTokenTwins"]}, UnsupportedModel, "LlamaForTokenTwins"),
        ({"quantization_config": {"quant_method": "gptq"}}, UnsupportedModel, "quantization_config = .*gptq"),
        ({"num_attention_heads": 3}, ValueError, "query heads cannot share"),
        ({"vocab_size": 300}, ValueError, r"embed_tokens\.weight has the shape \(267, 32\), .* \(300, 32\)"),
        ({"num_hidden_layers": 3}, ValueError, r"missing \['layers\.2\.input_layernorm\.weight'"),
        ({"num_hidden_layers": 1}, ValueError, r"without a place \['layers\.1\.input_layernorm\.weight'"),
        ({"hidden_size": "32"}, ValueError, "config.json does not describe a llama model"),
        ({"num_attention_heads": 0}, ValueError, "0 query heads cannot share"),
        ({"intermediate_size": -1}, ValueError, "config.json does not describe a llama model"),
        ({"rope_parameters": 3}, ValueError, "config.json does not describe a llama model"),
    ],
)
def test_a_config_that_does_not_fit(change, error, message, checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    document = {**json.loads((folder / "config.json").read_text()), **change}
    document = {name: value for name, value in document.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(document))
    refuse(folder, error, message)


@for_each("value", [torch.int8, torch.float8_e4m3fn])
def test_weights_of_another_dtype(value, checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(value)
    save_file(tensors, folder / "model.safetensors")
    refuse(folder, UnsupportedModel, r"model\.safetensors: model\.norm\.weight has dtype")


@for_each("share", [0, 0.0001, 0.01, 0.5, 0.9999])
def test_a_truncated_file(share, checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refuse(folder, ValueError, r"model\.safetensors is not a whole safetensors file")


@torch.no_grad()
def test_a_folder_without_a_tokenizer_is_a_model_of_ids(checkpoint, tmp_path):
    """As `save_pretrained` of a model alone leaves it."""
    theirs = pytest.importorskip("transformers").AutoModelForCausalLM.from_pretrained(checkpoint.save(tmp_path / "all"))
    theirs.save_pretrained(tmp_path / "model")
    with pytest.warns(UserWarning, match="no tokenizer"):
        loaded = load(tmp_path / "model")
    assert loaded.tokenizer is None and torch.equal(loaded.model(IDS), checkpoint.model(IDS))
    with pytest.warns(UserWarning, match="no tokenizer"):
        assert load(loaded.save(tmp_path / "again")).fingerprint == loaded.fingerprint != checkpoint.fingerprint
    for use in (Engine, lambda each: each.chat, lambda each: save_gguf(each, tmp_path / "a.gguf")):
        with pytest.raises(ValueError, match=r"tokenizer\.json"):
            use(loaded)
    assert Engine(replace(loaded, tokenizer=checkpoint.tokenizer)).generate([Request((5,))])[0].ids


def test_an_adapter_is_not_a_model(checkpoint, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    refuse(tmp_path / "adapter", UnsupportedModel, r"adapter_config\.json.*lmworks\.load")


def test_a_damaged_tokenizer_and_modules(checkpoint, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    settings = folder / "tokenizer_config.json"
    whole = settings.read_text()
    settings.write_text("{")
    refuse(folder, ValueError, r"tokenizer_config\.json is not JSON")
    settings.write_text(whole)
    (folder / "tokenizer.json").write_text("{}")
    refuse(folder, ValueError, r"tokenizer\.json is damaged or of an unknown kind")
    (folder / "tokenizer.json").unlink()
    refuse(folder, FileNotFoundError, r"tokenizer\.json is missing")
    (folder / "modules.json").write_text("{}")
    refuse(folder, UnsupportedModel, r"modules\.json lists \[\]")
    (folder / "modules.json").write_text("[3]")
    refuse(folder, ValueError, r"modules\.json is no JSON list of modules")


def test_weights_that_the_config_does_not_ask_for(tiny_tokenizer):
    tensors = weights(LLAMA)
    del tensors["decoder.norm.weight"]
    with pytest.raises(ValueError, match=r"(?s)do not fit the config.*decoder\.norm\.weight"):
        assemble(LLAMA, tensors, tiny_tokenizer)


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


def test_the_padding_id_of_roberta_says_where_its_positions_begin(tiny_tokenizer, tmp_path):
    config = roberta(267, 32, 2, 4, 48, 64)
    assert tiny_tokenizer.pad_id != config.embedding.positions.offset - 1
    loaded = load(assemble(config, weights(config), tiny_tokenizer).save(tmp_path / "roberta"))
    assert loaded.config == config


def test_a_length_beyond_the_model_is_cut(tiny_tokenizer):
    assert assemble(BERT, weights(BERT), tiny_tokenizer, max_length=514).max_length == 64


def test_a_missing_chat_template_is_an_error(tiny_tokenizer):
    with pytest.raises(ChatTemplateError, match="no chat template"):
        _ = assemble(LLAMA, weights(LLAMA), tiny_tokenizer).chat


@for_each("source", ["gpt5", "/nowhere/at/all", "model.safetensors"])
def test_an_unknown_source_lists_what_is_allowed(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=r"smollm2-135m-instruct, .*, a Hugging Face folder"):
        load(source)


def test_what_does_not_fit_together_is_refused(tiny_tokenizer, tmp_path):
    small = llama(100, 32, 2, 4, 2, 48, 64)
    with pytest.raises(ValueError, match="267 tokens, the embedding 100 rows"):
        assemble(small, weights(small), tiny_tokenizer)
    full = llama(267, 32, 2, 4, 2, 48, 64)
    backend = tokenizers.Tokenizer.from_str(tiny_tokenizer.backend.to_str())
    backend.add_special_tokens(["<image_soft_token>"])
    assemble(full, weights(full), Tokenizer(backend, tiny_tokenizer.roles))  # no text becomes this token
    with pytest.raises(ValueError, match="268 tokens, the embedding 267 rows"):
        assemble(full, weights(full), Tokenizer(backend, {"pad_token": "<image_soft_token>"}))
    backend.add_tokens(["word"])
    with pytest.raises(ValueError, match="269 tokens, the embedding 267 rows"):
        assemble(full, weights(full), Tokenizer(backend, tiny_tokenizer.roles))
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", FileNotFoundError, r"no config\.json, so it is not a Hugging Face folder$")
    for name in ("tiny.gguf", "other.gguf"):
        (tmp_path / "empty" / name).touch()
    refuse(tmp_path / "empty", FileNotFoundError, r"one of its GGUF files: other\.gguf, tiny\.gguf")


@torch.no_grad()
def test_a_gguf_file_and_the_folder_saved_from_it_are_one_model(tiny_tokenizer, tmp_path):
    path = save_gguf(assemble(LLAMA, weights(LLAMA), tiny_tokenizer, TEMPLATE), tmp_path / "model.gguf", "Q4_0")
    from_file = load(path)
    from_folder = load(from_file.save(tmp_path / "folder"))
    assert from_folder.fingerprint == from_file.fingerprint
    assert torch.equal(from_folder.model(IDS), from_file.model(IDS))


@for_each("dtype", [None, "float16", torch.int8])
def test_what_is_no_dtype_of_a_model_is_refused_before_anything_is_read(dtype, tmp_path):
    with pytest.raises(ValueError, match="floating-point"):
        load(tmp_path, dtype=dtype)


# ---------------------------------------------------------------------------------------------------------------------
# The files of sentence-transformers


@for_each("pooling", ["mean", "cls", "last"])
@for_each("normalize", [True, False])
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


@for_each(("mode", "pooling"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last")])
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
