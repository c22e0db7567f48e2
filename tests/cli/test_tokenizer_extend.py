"""`lmworks tokenizer extend`: a folder that `lmworks.load` and `transformers` read, and what it refuses."""

import json

import pytest
import tokenizers
import torch
from tokenizers import AddedToken

import lmworks
from command_line import run
from kit.tables import for_each
from lmworks.generate import Request, SamplingParameters
from lmworks.model.checkpoint import assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.sentence_piece import sentence_piece_bpe
from lmworks.tokenizer.tokenizer import Tokenizer

GERMAN = [f"Antikörper {word} Antigene im Serum.\n" for word in ("binden", "finden", "suchen", "meiden", "bilden")] * 4


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "german.txt"
    path.write_text("".join(f"{number} {line}" for number, line in enumerate(GERMAN)), "utf-8")
    return path


def saved(folder, tokenizer, tied=True, rows=272):
    config = llama(rows, 32, 2, 4, 2, 48, 64, tied=tied)
    return assemble(config, initialise(Transformer(config), 0, std=0.2).state_dict(), tokenizer).save(folder)


@for_each("tied", [True, False])
@torch.no_grad()
def test_the_new_folder_is_a_checkpoint(tied, texts, tiny_tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, out = saved(tmp_path / "model", tiny_tokenizer, tied), tmp_path / "extended"
    output = run("tokenizer", "extend", folder, "--text", f"german={texts}", "--tokens", 30, "--out", out)
    old, new = lmworks.load(folder), lmworks.load(out)
    assert new.tokenizer.vocabulary_size == old.tokenizer.vocabulary_size + 30 == 297
    assert new.config.embedding.vocabulary == 304 and "ids 267 to 296" in output  # 272 = 16 · 17
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    # No new token applies: everything is as it was, but for the last bits of a wider matrix product.
    ids = old.tokenizer.encode("the ring")
    assert new.tokenizer.encode("the ring") == tokenizer("the ring")["input_ids"] == ids
    before, after, oracle = (model(torch.tensor([ids])) for model in (old.model, new.model, theirs))
    assert torch.allclose(after[..., :267], before[..., :267], atol=1e-5)
    assert torch.allclose(oracle.logits, after, atol=1e-5)
    # And with new tokens.
    ids = new.tokenizer.encode("Antikörper im Serum")
    assert max(ids) >= 267 and tokenizer("Antikörper im Serum")["input_ids"] == ids
    assert torch.allclose(theirs(torch.tensor([ids])).logits, new.model(torch.tensor([ids])), atol=1e-5)
    (generated,) = lmworks.Engine(new).generate([Request(tuple(ids), sampling=SamplingParameters(max_tokens=3))])
    assert generated.ids is not None
    greedy = theirs.generate(torch.tensor([ids]), max_new_tokens=len(generated.ids), do_sample=False)
    assert greedy[0, len(ids) :].tolist() == list(generated.ids)


def test_fewer_tokens_than_wanted_are_told(texts, tiny_tokenizer, tmp_path):
    folder = saved(tmp_path / "model", tiny_tokenizer)
    output = run("tokenizer", "extend", folder, "--text", texts, "--tokens", 5000, "--out", tmp_path / "out")
    assert "of 5,000 wanted: the texts hold no more" in output


def test_sentence_piece(texts, tmp_path):
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁antigebodyshrum"]
    kinds = [2, 3, *[6] * 256, *[1] * (len(pieces) - 258)]
    backend = sentence_piece_bpe(pieces, [-float(n) for n in range(len(pieces))], kinds, True)
    folder = saved(tmp_path / "model", Tokenizer(backend, {"unk_token": "<unk>", "eos_token": "<s>"}), rows=len(pieces))
    run("tokenizer", "extend", folder, "--text", texts, "--tokens", 40, "--out", tmp_path / "out")
    new = lmworks.load(tmp_path / "out")
    names = new.tokenizer.backend.get_vocab()
    assert "ö" in names and new.tokenizer.decode(new.tokenizer.encode("Antikörper im Öl")) == "Antikörper im Öl"


def test_a_gguf_file_becomes_a_folder(texts, tiny_tokenizer, tmp_path):
    from lmworks.model import save_gguf

    source = tmp_path / "model.gguf"
    save_gguf(lmworks.load(saved(tmp_path / "model", tiny_tokenizer)), source, "F32")
    run("tokenizer", "extend", source, "--text", texts, "--tokens", 20, "--out", tmp_path / "out")
    old, new = lmworks.load(source), lmworks.load(tmp_path / "out")
    assert new.tokenizer.encode("the ring") == old.tokenizer.encode("the ring")
    assert new.tokenizer.special_ids == old.tokenizer.special_ids and new.tokenizer.eos_ids == old.tokenizer.eos_ids


def test_special_tokens_behind_the_vocabulary_stay_where_transformers_looks(texts, tiny_tokenizer, tmp_path):
    """As in LLaMA 3 and Qwen, whose special tokens are in no vocabulary and have the ids behind it."""
    from transformers import AutoTokenizer

    state = json.loads(tiny_tokenizer.backend.to_str())
    for token in state["added_tokens"]:
        del state["model"]["vocab"][token["content"]]
    state["model"]["vocab"] = {name: index - 3 for name, index in state["model"]["vocab"].items()}
    state["added_tokens"] = []
    backend = tokenizers.Tokenizer.from_str(json.dumps(state))
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("<|start|>", "<|end|>")])
    folder = saved(tmp_path / "model", Tokenizer(backend, {"bos_token": "<|start|>", "eos_token": "<|end|>"}))
    run("tokenizer", "extend", folder, "--text", texts, "--tokens", 20, "--out", tmp_path / "out")
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path / "out"), lmworks.load(tmp_path / "out").tokenizer
    assert (theirs.bos_token_id, theirs.eos_token_id) == (264, 265) == (ours.bos_id, ours.eos_id)
    assert theirs("<|start|>Antikörper<|end|>")["input_ids"] == [264, *ours.encode("Antikörper"), 265]


# ---------------------------------------------------------------------------------------------------------------------
# Refusals
