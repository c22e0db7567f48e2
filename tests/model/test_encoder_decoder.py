import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from kit.tables import for_each
from lmworks.model.attention import Memory
from lmworks.model.initialisation import initialise
from lmworks.model.kv_cache import KVCache
from lmworks.model.presets import bart, bert, llama, switch, t5, t5_v1_1, transformer
from lmworks.model.stack import Block
from lmworks.model.transformer import Transformer

CONFIGS = {
    "transformer": transformer(97, 32, 2, 4, 48, 64),
    "bart": bart(97, 32, 2, 4, 48, decoder_layers=3, context_length=64),
    "t5": t5(97, 32, 2, 4, 48, head_dim=6, decoder_layers=3),
    "t5 1.1": t5_v1_1(97, 32, 3, 4, 48, head_dim=8, decoder_layers=2),
}
EACH = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
SOURCE = torch.randint(97, (3, 12), generator=torch.Generator().manual_seed(1))
TARGET = torch.randint(97, (3, 9), generator=torch.Generator().manual_seed(2))


def build(config) -> Transformer:
    """float64, so that a tolerance of 1e-10 tells rounding from a mistake. No parameter stays where it begins, for a
    bias of zero does nothing."""
    model = initialise(Transformer(config), seed=0, std=0.3).double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).double() * 0.1)
    return model


def close(actual, expected):
    # Of all these models only the sinusoids are in float32, and they are the same numbers on both sides.
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-10)


def pad(ids: torch.Tensor, lengths: list[int], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Row r's first `lengths[r]` tokens, with padding on one side, and the mask."""
    mask = torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]
    mask = mask if side == "right" else mask.flip(1)
    padded = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        padded[row, mask[row]] = ids[row, :length]
    return padded, mask


# ---------------------------------------------------------------------------------------------------------------------
# The computation


@torch.no_grad()
def test_the_first_transformer_is_torchs_own():
    config = CONFIGS["transformer"]
    ours = build(config)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 48, 0.0, "relu", 1e-6, batch_first=True), 2)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 48, 0.0, "relu", 1e-6, batch_first=True), 2)
    for theirs, stack in ((encoder.double(), ours.encoder), (decoder.double(), ours.decoder)):
        for layer, block in zip(theirs.layers, stack.blocks, strict=True):
            copy_block(layer, block)
    # Section 3.5: sines at even places of the width and cosines at odd ones; ours has all sines first.
    place, plane = torch.arange(12.0)[:, None], torch.arange(16.0)
    angles = place / 10_000 ** (2 * plane / 32)
    table = torch.cat((angles.sin(), angles.cos()), dim=1).double()
    tokens = ours.tokens
    source, target = tokens[SOURCE] * 32**0.5 + table, tokens[TARGET] * 32**0.5 + table[:9]
    expected = decoder(target, encoder(source), tgt_mask=nn.Transformer.generate_square_subsequent_mask(9).double())
    # The table's angles are in float32: their rounding differs by some 1e-7 between the two ways to compute the powers.
    torch.testing.assert_close(ours(SOURCE, TARGET), expected @ tokens.T, atol=1e-4, rtol=1e-4)


def copy_block(layer, block):
    pairs = [(layer.self_attn, block.attention)]
    if hasattr(layer, "multihead_attn"):
        pairs.append((layer.multihead_attn, block.cross_attention))
    for theirs, ours in pairs:
        theirs.in_proj_weight.copy_(torch.cat((ours.query.weight, ours.key.weight, ours.value.weight)))
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.zero_()
    norms = [block.attention_norm, block.cross_attention_norm, block.feed_forward_norm]
    for number, norm in enumerate((norm for norm in norms if norm is not None), start=1):
        getattr(layer, f"norm{number}").load_state_dict(norm.state_dict())
    layer.linear1.load_state_dict(block.feed_forward.up.state_dict())
    layer.linear2.load_state_dict(block.feed_forward.down.state_dict())


@torch.no_grad()
@EACH
def test_the_decoder_sees_the_whole_source_and_its_own_past(config):
    model = build(config)
    out = model(SOURCE, TARGET)
    later, last = TARGET.clone(), SOURCE.clone()
    later[:, 5] = (later[:, 5] + 1) % 97
    last[:, -1] = (last[:, -1] + 1) % 97
    close(model(SOURCE, later)[:, :5], out[:, :5])
    assert (model(SOURCE, later)[:, 5:] - out[:, 5:]).abs().amax(dim=2).min() > 1e-4
    assert (model(last, TARGET) - out).abs().amax(dim=2).min() > 1e-4


@torch.no_grad()
@EACH
@for_each("side", ["right", "left"])
def test_padding_on_either_side_of_either_text_changes_nothing(config, side):
    model = build(config)
    sources, targets = [5, 12, 1], [9, 2, 6]
    ids, mask = pad(SOURCE, sources, side)
    decoder_ids, decoder_mask = pad(TARGET, targets, side)
    out = model(ids, decoder_ids, attention_mask=mask, decoder_attention_mask=decoder_mask)
    assert out.isfinite().all()
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        alone = model(SOURCE[row : row + 1, :source], TARGET[row : row + 1, :target])
        close(out[row, decoder_mask[row]], alone[0])


@torch.no_grad()
def test_experts_stand_in_every_second_layer_of_both_stacks():
    config = switch(97, 32, 4, 4, 48, experts=3, head_dim=8, decoder_layers=5)
    kinds = [[block.feed_forward.kind[:3] for block in stack.blocks] for stack in config.stacks]
    assert kinds == [["den", "mix"] * 2, ["den", "mix", "den", "mix", "den"]]
    assert not any(
        "mix" in b.feed_forward.kind for b in switch(97, 32, 4, 4, 48, experts=3, sparse_every=0).encoder.blocks
    )
    assert all("mix" in b.feed_forward.kind for b in switch(97, 32, 4, 4, 48, experts=3, sparse_every=1).encoder.blocks)
    assert build(config)(SOURCE, TARGET).isfinite().all()


# ---------------------------------------------------------------------------------------------------------------------
# Encode once, decode step by step


@torch.no_grad()
@EACH
def test_decoding_through_the_cache_equals_decoding_at_once(config):
    """A ragged batch with padded sources: a prefix of its own length in each row, then one token at a time."""
    model = build(config)
    ids, mask = pad(SOURCE, [12, 4, 1], "left")
    memory, slots = model.encode(ids, attention_mask=mask), torch.tensor([2, 0, 1])
    cache = KVCache(config, 3, 9, dtype=torch.float64)
    prefixes = torch.tensor([4, 1, 2])
    positions = torch.where(torch.arange(4) < prefixes[:, None], torch.arange(4), -1)
    expected = model(ids, TARGET, attention_mask=mask)
    first = model.logits(model.decode(TARGET[:, :4], memory, cache=cache.view(slots, positions)))
    for row, length in enumerate(prefixes.tolist()):
        close(first[row, :length], expected[row, :length])
    for step in range(5):
        at = (prefixes + step)[:, None]
        out = model.logits(model.decode(TARGET.gather(1, at), memory, cache=cache.view(slots, at)))
        close(out[:, 0], expected[torch.arange(3), at[:, 0]])


@torch.no_grad()
def test_the_source_is_projected_once():
    config = CONFIGS["bart"]
    model = build(config)
    calls = []
    for block in model.decoder.blocks:
        block.cross_attention.key.register_forward_hook(lambda *_: calls.append("key"))
    memory = model.encode(SOURCE)
    first = model.decode(TARGET, memory)
    second = model.decode(TARGET, memory)
    assert calls == ["key"] * len(config.decoder.blocks)
    assert torch.equal(first, second)


@EACH
def test_a_memory_in_training_can_be_used_twice(config):
    model = build(config)
    at_once = [g.clone() for g in torch.autograd.grad(model(SOURCE, TARGET).square().sum(), list(model.parameters()))]
    memory = model.encode(SOURCE)
    for _ in range(2):  # a graph that was kept would be gone the second time
        loss = model.logits(model.decode(TARGET, memory)).square().sum()
        loss.backward(retain_graph=True)
    assert not memory.projected
    for parameter, expected in zip(model.parameters(), at_once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * expected, atol=1e-9, rtol=1e-9)


@EACH
def test_what_was_kept_without_gradients_is_no_part_of_training(config):
    """As when a text is sampled from a memory and then learned from."""
    model = build(config)
    expected = torch.autograd.grad(model(SOURCE, TARGET).square().sum(), list(model.parameters()))
    memory = model.encode(SOURCE)
    with torch.no_grad():
        model.decode(TARGET, memory)
    assert memory.projected
    loss = model.logits(model.decode(TARGET, memory)).square().sum()
    for actual, gradient in zip(torch.autograd.grad(loss, list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(actual, gradient, atol=1e-9, rtol=1e-9)


def test_a_source_of_padding_alone_spoils_no_gradient():
    """With a softcap: PyTorch's kernels give zeros for a softmax over nothing, the plain formula NaN."""
    config = CONFIGS["t5"]
    blocks = tuple(replace(block, cross=replace(block.cross, softcap=20.0)) for block in config.decoder.blocks)
    model = build(replace(config, decoder=replace(config.decoder, blocks=blocks)))
    mask = torch.tensor([[True], [False], [True]]).expand(3, 12)
    model(SOURCE, TARGET, attention_mask=mask)[::2].square().sum().backward()
    mixed = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(SOURCE[::2], TARGET[::2]).square().sum().backward()
    for actual, parameter in zip(mixed, model.parameters(), strict=True):
        torch.testing.assert_close(actual, parameter.grad, atol=1e-9, rtol=1e-9)


@torch.no_grad()
@EACH
def test_models_and_memories_are_copied_and_pickled(config):
    model = build(config)
    memory = model.encode(SOURCE)
    expected = model.decode(TARGET, memory)  # fills what is kept
    for duplicate in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        assert torch.equal(duplicate(model).decode(TARGET, duplicate(memory)), expected)


@torch.no_grad()
@EACH
def test_bfloat16_runs_and_is_close(config):
    model = initialise(Transformer(config), seed=0, std=0.1).eval()
    exact = model(SOURCE, TARGET)
    rounded = model.bfloat16()(SOURCE, TARGET)
    assert rounded.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits, so some steps of rounding leave 1 to 3 % of the values' size
    assert (rounded - exact).abs().max() < 0.06 * exact.abs().max()


@torch.no_grad()
@pytest.mark.slow
@EACH
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_equals_eager(config):
    model = initialise(Transformer(config), seed=0, std=0.1).eval()
    compiled = torch.compile(model, fullgraph=True)
    # float32 with operations fused in another order
    torch.testing.assert_close(compiled(SOURCE, TARGET), model(SOURCE, TARGET), atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Refusals


def test_what_fits_another_kind_of_model_is_refused():
    both, decoder, encoder = (build(c) for c in (CONFIGS["t5"], llama(97, 32, 1, 4, 2, 48, 64), bert(97, 32, 1, 4, 48)))
    view = KVCache(CONFIGS["t5"], 3, 16, dtype=torch.float64).view(torch.arange(3), torch.arange(9).expand(3, 9))
    with pytest.raises(ValueError, match="takes `ids` and `decoder_ids`"):
        both(SOURCE)
    with pytest.raises(ValueError, match="`encode` once, then `decode` with a cache"):
        both(SOURCE, TARGET, cache=view)
    for model in (decoder, encoder):
        with pytest.raises(ValueError, match="takes `decoder_ids`"):
            model(SOURCE, TARGET)
        with pytest.raises(ValueError, match="has `encode` and `decode`"):
            model.encode(SOURCE)
        with pytest.raises(ValueError, match="has `encode` and `decode`"):
            model.decode(SOURCE, Memory(torch.zeros(3, 12, 32).double()))
    with pytest.raises(ValueError, match="its own positions"):
        both.decode(TARGET, both.encode(SOURCE), cache=view, attention_mask=torch.ones_like(TARGET))


@torch.no_grad()
@pytest.mark.usefixtures("fresh_compiler")
def test_more_layers_are_no_more_graphs():
    """Compiled blocks share their graphs, and a compiler that is asked for too many gives up."""

    made = []

    def count(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        made.append(graph)
        return graph.forward

    def graphs(layers: int) -> int:
        torch.compiler.reset()
        made.clear()
        model = initialise(Transformer(t5(97, 32, layers, 4, 48, head_dim=6)), seed=0, std=0.1).eval()
        expected = model(SOURCE, TARGET)
        for module in model.modules():
            if isinstance(module, Block):
                module.compile(backend=count)
        torch.testing.assert_close(model(SOURCE, TARGET), expected)
        return len(made)

    assert graphs(3) == graphs(2) == 2  # a block of the encoder, and one of the decoder
