"""A model with more tokens: rows that are the means of the old pieces, and everything else as it was."""

import gzip
import json
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from kit.tables import for_each
from lmworks.adapt.adapter_merge import merge
from lmworks.adapt.config import LoraConfig
from lmworks.adapt.lora import initialise_lora
from lmworks.adapt.multi_lora import apply
from lmworks.adapt.task_head import with_further_tokens
from lmworks.model.checkpoint import assemble, load
from lmworks.model.config import MaskedLanguageModelHead, NextSentenceHead, Norm, PoolHead, SpanBoundaryHead
from lmworks.model.embedding_resize import extend_vocabulary, vocabulary_parameters
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert, llama, t5
from lmworks.model.transformer import Transformer
from published_data import DATA, needs_data

DOMAIN = ["the antigen binds the antibody", "antibodies and antigens in the serum"] * 3


def made(config, tokenizer, dtype=torch.float32):
    weights = initialise(Transformer(config), 0, std=0.2).state_dict()
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(w.shape, generator=generator) if name.endswith("head.bias") else w
        for name, w in weights.items()
    }
    return assemble(config, weights, tokenizer, dtype=dtype)


def of_llama(tied, vocabulary=267):
    return llama(vocabulary, 32, 2, 4, 2, 48, 64, tied=tied)


def means(weight, tokenizer, token):
    return weight[tokenizer.encode(token)].float().mean(dim=0)


@for_each("tied", [True, False])
def test_rows_are_the_means_of_the_old_pieces(tied, tiny_tokenizer):
    old = made(of_llama(tied), tiny_tokenizer)
    new = extend_vocabulary(old, [" antigen", "antibody"])
    before, after = old.model.state_dict(), new.model.state_dict()
    for name in vocabulary_parameters(old.config):
        assert torch.equal(after[name][:267], before[name])
        for token in (" antigen", "antibody"):
            (index,) = new.tokenizer.encode(token)
            assert torch.allclose(after[name][index], means(before[name], tiny_tokenizer, token), atol=1e-6)
    for name in before.keys() - vocabulary_parameters(old.config):
        assert torch.equal(after[name], before[name])
    assert ("head.projection.weight" in after) is not tied
    assert old.config.embedding.vocabulary == 267  # untouched
    assert new.fingerprint != old.fingerprint


@for_each(
    ("config", "names"),
    [
        (of_llama(True), {"embedding.tokens.weight"}),
        (of_llama(False), {"embedding.tokens.weight", "head.projection.weight"}),
        (
            bert(267, 32, 2, 4, 48, 64, head=MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))),
            {"embedding.tokens.weight", "head.bias"},
        ),
        (
            bert(
                267, 32, 2, 4, 48, 64, head=SpanBoundaryHead(MaskedLanguageModelHead("gelu", Norm("layer", 1e-12)), 5)
            ),
            {"embedding.tokens.weight", "head.bias", "head.masked.bias"},
        ),
        (
            bert(267, 32, 2, 4, 48, 64, head=NextSentenceHead(MaskedLanguageModelHead("gelu", Norm("layer", 1e-12)))),
            {"embedding.tokens.weight", "head.masked.bias"},
        ),
        (with_further_tokens(of_llama(False)), {"embedding.tokens.weight", "head.next.projection.weight"}),
        (bert(267, 32, 2, 4, 48, 64, head=PoolHead()), {"embedding.tokens.weight"}),
        (t5(267, 32, 2, 4, 8, 48), {"embedding.tokens.weight"}),
    ],
)
def test_every_head_grows(config, names, tiny_tokenizer):
    assert vocabulary_parameters(config) == names
    # Oracle: what changes shape in a model of another vocabulary, 267 being no other size of these models.
    assert names == {name for name, w in Transformer(config).state_dict().items() if w.shape[:1] == (267,)}
    new = extend_vocabulary(made(config, tiny_tokenizer), texts=DOMAIN, count=4)
    assert {new.model.state_dict()[name].shape[0] for name in names} == {271}


def test_padding_is_used_up_and_then_kept_even(tiny_tokenizer):
    old = made(of_llama(True, 272), tiny_tokenizer)  # 5 rows of padding, 272 = 16 · 17
    few, many = (extend_vocabulary(old, texts=DOMAIN, count=count) for count in (4, 7))
    assert few.config.embedding.vocabulary == 272 and many.config.embedding.vocabulary == 288
    rows, former = many.model.state_dict()["embedding.tokens.weight"], old.model.state_dict()["embedding.tokens.weight"]
    assert torch.allclose(rows[274:], former.mean(dim=0).expand(14, -1), atol=1e-6)
    assert torch.equal(few.model.state_dict()["embedding.tokens.weight"][271], former[271])


@torch.no_grad()
def test_a_text_without_new_tokens_has_the_same_logits(tiny_tokenizer):
    old = made(of_llama(False), tiny_tokenizer)
    new = extend_vocabulary(old, texts=DOMAIN, count=6)
    ids = old.tokenizer.encode("in 12 groups")
    assert new.tokenizer.encode("in 12 groups") == ids
    # One matrix product of another width: the last bit may differ.
    assert torch.allclose(new.model(torch.tensor([ids]))[..., :267], old.model(torch.tensor([ids])), atol=1e-5)


def test_the_dtype_is_kept_and_the_mean_is_exact(tiny_tokenizer):
    old = made(of_llama(True), tiny_tokenizer, torch.bfloat16)
    new = extend_vocabulary(old, ["antibody"])
    weight = old.model.state_dict()["embedding.tokens.weight"]
    (index,) = new.tokenizer.encode("antibody")
    row = new.model.state_dict()["embedding.tokens.weight"][index]
    assert torch.equal(row, means(weight, tiny_tokenizer, "antibody").to(torch.bfloat16))


def test_a_model_that_was_trained_on_is_the_one_extended(tiny_tokenizer):
    old = made(of_llama(True), tiny_tokenizer)
    with torch.no_grad():
        old.model.embedding.tokens.weight += 1
    new = extend_vocabulary(old, ["antibody"])
    assert torch.equal(new.model.embedding.tokens.weight[:267], old.model.embedding.tokens.weight)


@for_each("tied", [True, False])
@torch.no_grad()
def test_transformers_loads_the_extended_folder(tied, tiny_tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    new = extend_vocabulary(made(of_llama(tied), tiny_tokenizer), texts=DOMAIN, count=10)
    folder = new.save(tmp_path / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = "the antibodies of an antigen"
    ids = tokenizer(text)["input_ids"]
    assert ids == new.tokenizer.encode(text) and max(ids) >= 267
    assert model.config.vocab_size == new.config.embedding.vocabulary == 277
    assert torch.allclose(model(torch.tensor([ids])).logits, new.model(torch.tensor([ids])), atol=1e-5)
    again = load(folder)
    assert again.fingerprint == new.fingerprint and again.tokenizer.hash == new.tokenizer.hash


def test_a_model_with_adapters_is_refused(tiny_tokenizer):
    old = made(of_llama(True), tiny_tokenizer)
    lora = initialise_lora(old.config, LoraConfig(r=2), torch.Generator().manual_seed(0))
    adapted = old.with_model(apply(old.model, lora))
    with pytest.raises(ValueError, match="without its adapters, or merge them"):
        extend_vocabulary(adapted, ["antigen"])
    merged = extend_vocabulary(old.with_model(merge(old.model, lora)), ["antigen"])
    assert merged.model.tokens.shape[0] > 267


def test_mistakes_are_named(tiny_tokenizer):
    old = made(of_llama(True), tiny_tokenizer)
    for arguments in ({}, {"tokens": ["antigen"], "count": 2}):
        with pytest.raises(ValueError, match="give tokens to add, or texts and a count"):
            extend_vocabulary(old, **arguments)


# ---------------------------------------------------------------------------------------------------------------------
# A published model


@torch.no_grad()
def bits_per_byte(checkpoint, texts):
    nats = size = tokens = 0
    for text in texts:
        ids = checkpoint.tokenizer.encode(text)
        logits = checkpoint.model(torch.tensor([[checkpoint.tokenizer.special_ids["<|endoftext|>"], *ids]]))[0, :-1]
        nats += F.cross_entropy(logits, torch.tensor(ids), reduction="sum").item()
        size, tokens = size + len(text.encode()), tokens + len(ids)
    return nats / math.log(2) / size, size / tokens


@needs_data
@pytest.mark.slow
@pytest.mark.weights
def test_a_published_model_keeps_most_of_what_it_knew(smollm2_checkpoint, tmp_path):
    """Medical articles that the new tokens were not chosen from, before any training on the new tokens."""
    found = json.loads(gzip.decompress((DATA / "covid-qa" / "200423_covidQA.json.gz").read_bytes()))["data"]
    articles = list(dict.fromkeys(part["context"] for article in found for part in article["paragraphs"]))
    held_out = [article[2000:3500] for article in articles[88:]]
    new = extend_vocabulary(smollm2_checkpoint, texts=articles[:88], count=500)
    (before, short), (after, long) = (bits_per_byte(c, held_out) for c in (smollm2_checkpoint, new))
    assert 49152 < new.config.embedding.vocabulary == 49664  # 128 divides both
    assert long > 1.01 * short
    # Measured: 0.965 → 0.994 bits per byte. Rows drawn at random cost several times as much, which is the second bound.
    assert before < after < 1.06 * before
    drawn = new.with_model(new.model)
    rows = drawn.model.embedding.tokens.weight
    kept = rows[49152:].clone()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        rows[49152:] = rows[:49152].std() * torch.randn(kept.shape, generator=generator)
        assert bits_per_byte(drawn, held_out)[0] - before > 3 * (after - before)
        rows[49152:] = kept
    loaded = load(new.save(tmp_path / "model"))
    assert loaded.fingerprint == new.fingerprint
    assert loaded.tokenizer.encode(held_out[0]) == new.tokenizer.encode(held_out[0])
