import pytest
import torch

from lmworks.model.config import Embedding, Learned, Norm, Sinusoidal
from lmworks.model.transformer import Embedding as EmbeddingModule

IDS = torch.randint(11, (2, 5), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.tensor([[3, 0, 1, 7, 2], [0, 1, 2, 3, 4]])


def build(config: Embedding, **arguments) -> EmbeddingModule:
    module, generator = EmbeddingModule(config, **arguments).double(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


@torch.no_grad()
def test_it_is_the_sum_of_its_tables_then_the_norm():
    module = build(Embedding(11, 6, Learned(8, offset=2), token_types=3, norm=Norm("layer", 1e-5), scale=2.5))
    types = torch.tensor([[0, 2, 1, 1, 0], [2, 2, 0, 0, 1]])
    assert module.positions.weight.shape == (10, 6)
    summed = 2.5 * module.tokens.weight[IDS] + module.token_types.weight[types] + module.positions.weight[POSITIONS + 2]
    centred = summed - summed.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * module.norm.weight + module.norm.bias
    torch.testing.assert_close(module(IDS, POSITIONS, types), expected, atol=1e-12, rtol=1e-12)
    assert torch.equal(module(IDS, POSITIONS), module(IDS, POSITIONS, torch.zeros_like(IDS)))


@torch.no_grad()
def test_sinusoids_are_added_after_the_scale():
    module = build(Embedding(11, 6, Sinusoidal(theta=100.0), scale=3.0))
    angles = POSITIONS[..., None] / 100.0 ** (torch.arange(3) / 3)
    expected = 3 * module.tokens.weight[IDS] + torch.cat((angles.sin(), angles.cos()), dim=-1)
    torch.testing.assert_close(module(IDS, POSITIONS), expected, atol=1e-6, rtol=1e-6)  # angles are in float32


@torch.no_grad()
def test_one_row_of_positions_serves_every_text():
    module = build(Embedding(11, 6, Learned(8)))
    assert torch.equal(module(IDS, POSITIONS[1:]), module(IDS, POSITIONS[1:].expand(2, 5)))


@torch.no_grad()
def test_token_vectors_may_be_another_embeddings():
    owner, guest = build(Embedding(11, 6)), build(Embedding(11, 6, Learned(8)), owns_tokens=False)
    assert list(guest.state_dict()) == ["positions.weight"]
    expected = owner.tokens.weight[IDS] + guest.positions.weight[POSITIONS]
    assert torch.equal(guest(IDS, POSITIONS, tokens=owner.tokens), expected)


@torch.no_grad()
def test_the_scale_is_rounded_to_the_weights_dtype():
    module = EmbeddingModule(Embedding(11, 6, scale=24.06)).bfloat16()  # between 24 and 24.125, nearer to the first
    torch.nn.init.constant_(module.tokens.weight, 9.0)
    assert (module(IDS, POSITIONS) == 216.0).all()  # the next value is 217, to which 9 * 24.06 = 216.54 would round


def test_refusals():
    plain = build(Embedding(11, 6, Learned(4)))
    with pytest.raises(ValueError, match="no token types"):
        plain(IDS[:, :4], POSITIONS[:, :4] % 4, torch.zeros_like(IDS))
    with pytest.raises(ValueError, match="5 tokens are more than the 4 learned positions"):
        plain(IDS, POSITIONS)
