from dataclasses import replace

import pytest
import torch

from kit.tables import for_each
from lmworks.model.config import PoolHead, ScoreHead
from lmworks.model.initialisation import initialise
from lmworks.model.kv_cache import KVCache
from lmworks.model.presets import bert, llama, spanbert
from lmworks.model.transformer import Transformer

LLAMA = llama(97, 32, 3, 4, 2, 48, 64)
BERT = bert(97, 32, 3, 4, 48, 64)
SPANBERT = spanbert(97, 32, 2, 4, 48, 64)
IDS = torch.randint(97, (3, 12), generator=torch.Generator().manual_seed(1))


def build(config) -> Transformer:
    """float64, so that a tolerance of 1e-12 tells rounding from a mistake."""
    return initialise(Transformer(config), seed=0, std=0.3).double().eval()


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_a_decoder_never_sees_the_future_and_an_encoder_does():
    changed = IDS.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 97
    decoder, encoder = build(LLAMA), build(BERT)
    before, after = decoder(IDS), decoder(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amin(dim=(0, 2)).min() > 0
    assert (encoder(IDS)[:, 0] - encoder(changed)[:, 0]).abs().max() > 1e-3


@torch.no_grad()
@for_each("config", [LLAMA, BERT, bert(97, 32, 3, 4, 48, 64, head=PoolHead())])
def test_padding_changes_nothing(config):
    model = build(config)
    mask = torch.ones(IDS.shape, dtype=torch.bool)
    mask[0, 5:] = False
    mask[1, 9:] = False
    padded = model(IDS.where(mask, 0), attention_mask=mask)
    for row, length in enumerate([5, 9, 12]):
        alone = model(IDS[row : row + 1, :length])[0]
        close(padded[row] if alone.dim() == 1 else padded[row, :length], alone)


@torch.no_grad()
def test_rotary_positions_are_relative_so_padding_may_stand_left():
    model = build(LLAMA)
    ids = torch.cat((torch.zeros(1, 4, dtype=torch.long), IDS[:1]), dim=1)
    mask = torch.arange(16)[None] >= 4
    out = model(ids, attention_mask=mask)
    # The angles are computed in float32, which costs 1e-6 even in a float64 model.
    torch.testing.assert_close(out[:, 4:], model(IDS[:1]), atol=1e-4, rtol=1e-4)
    assert out.isfinite().all()


@torch.no_grad()
def test_a_tied_head_is_the_embedding():
    tied = build(llama(97, 32, 2, 4, 2, 48, 64, tied=True))
    close(tied(IDS), tied.hidden(IDS) @ tied.embedding.tokens.weight.T)
    assert not any("head.projection" in name for name in tied.state_dict())


@torch.no_grad()
def test_positions_and_token_types_reach_the_embedding():
    encoder = build(BERT)
    assert not torch.equal(encoder(IDS), encoder(IDS, token_types=torch.ones_like(IDS)))
    close(encoder(IDS), encoder(IDS, token_types=torch.zeros_like(IDS), positions=torch.arange(12).expand(3, 12)))
    assert not torch.equal(encoder(IDS), encoder(IDS, positions=torch.arange(1, 13).expand(3, 12)))


def test_contradictory_arguments_are_refused():
    decoder, encoder = build(LLAMA), build(BERT)
    view = KVCache(LLAMA, 3, 16, dtype=torch.float64).view(torch.arange(3), torch.arange(12).expand(3, 12))
    with pytest.raises(ValueError, match="token types"):
        decoder(IDS, token_types=torch.zeros_like(IDS))
    with pytest.raises(ValueError, match="its own positions"):
        decoder(IDS, cache=view, attention_mask=torch.ones_like(IDS).bool())
    with pytest.raises(ValueError, match="no cache"):
        encoder(IDS, cache=view)


def test_arguments_of_another_shape_than_the_ids_are_refused():
    """They would be broadcast: a mask of one column runs, and every token has position 0."""
    decoder, encoder = build(LLAMA), build(BERT)
    ones = torch.ones(3, 1, dtype=torch.long)
    with pytest.raises(ValueError, match=r"ids must be \(batch, length\), got \(12,\)"):
        decoder(IDS[0])
    for model in (decoder, encoder):
        for name in ("positions", "attention_mask"):
            with pytest.raises(ValueError, match=rf"{name} must be \(3, 12\) as the ids.*got \(3, 1\)"):
                model(IDS, **{name: ones})
    with pytest.raises(ValueError, match=r"token_types must be \(3, 12\)"):
        encoder(IDS, token_types=ones)
    with pytest.raises(ValueError, match=r"integers or bools; got .* torch\.float32"):
        decoder(IDS, attention_mask=torch.zeros(3, 12))  # to be added to the scores, as some libraries have it
    view = KVCache(LLAMA, 3, 16, dtype=torch.float64).view(torch.arange(3), torch.arange(12).expand(3, 12))
    with pytest.raises(ValueError, match=r"the cache's positions must be \(3, 1\)"):
        decoder(IDS[:, :1], cache=view)


def test_a_pooling_head_has_no_cache():
    """It would pool the new tokens alone, padding among them."""
    config = replace(LLAMA, head=ScoreHead())
    view = KVCache(config, 3, 16, dtype=torch.float64).view(torch.arange(3), torch.arange(12).expand(3, 12))
    with pytest.raises(ValueError, match="a head that pools needs the whole text"):
        build(config)(IDS, cache=view)


@torch.no_grad()
@for_each("config", [LLAMA, BERT])
def test_bfloat16_runs_and_is_close(config):
    model = initialise(Transformer(config), seed=0, std=0.1).eval()
    exact = model(IDS)
    rounded = model.bfloat16()(IDS)
    assert rounded.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits, so a few steps of rounding leave 1 to 2 % of the values' size
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()


@torch.no_grad()
@pytest.mark.slow
@for_each("config", [LLAMA, BERT])
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_equals_eager(config):
    model = initialise(Transformer(config), seed=0, std=0.1).eval()
    compiled = torch.compile(model, fullgraph=True)
    # float32 with operations fused in another order
    torch.testing.assert_close(compiled(IDS), model(IDS), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@for_each("config", [LLAMA, SPANBERT, replace(BERT, head=SPANBERT.head.masked)])
def test_logits_of_chosen_positions_are_the_forwards(config):
    model = build(config)
    close(model.logits(model.hidden(IDS)[:, 2:4]), model(IDS)[:, 2:4])
    with pytest.raises(ValueError, match="language model head"):
        build(BERT).logits(model.hidden(IDS))
