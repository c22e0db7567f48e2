import subprocess
import sys
from dataclasses import replace

import pytest

from lmworks.model.config import (
    Attention,
    Banded,
    Embedding,
    FeedForward,
    MixtureOfExperts,
    Norm,
    PoolHead,
    Rope,
    Sinusoidal,
    Stack,
    TransformerXL,
    Window,
    WindowAndGlobal,
)
from lmworks.model.model_costs import count_parameters
from lmworks.model.presets import bert, llama

SMOLLM2 = llama(49152, 576, 30, 9, 3, 1536, 8192, rope=Rope(100_000.0), tied=True)
MINILM = bert(30522, 384, 6, 12, 1536, head=PoolHead())


def test_counts_of_the_published_models():
    assert count_parameters(SMOLLM2) == 134_515_008  # the model card's 135M
    pooler = 384 * 384 + 384  # the one part of BertModel that is not ours
    assert count_parameters(MINILM) == 22_713_216 - pooler


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="evenly"):
        Attention(heads=9, kv_heads=2, head_dim=64)
    with pytest.raises(ValueError, match="evenly"):
        Attention(heads=0, kv_heads=1, head_dim=64)
    with pytest.raises(ValueError, match="head_dim 5 is odd"):
        Attention(heads=2, kv_heads=2, head_dim=5, position=Rope(10_000.0))
    with pytest.raises(ValueError, match="encoder or a decoder"):
        replace(SMOLLM2, decoder=None)
    with pytest.raises(ValueError, match="causal=True"):
        replace(SMOLLM2, decoder=replace(SMOLLM2.decoder, causal=False))
    with pytest.raises(ValueError, match="causal=False"):
        replace(MINILM, encoder=replace(MINILM.encoder, causal=True))
    with pytest.raises(ValueError, match="512 learned positions"):
        replace(MINILM, context_length=513)
    with pytest.raises(ValueError, match="every decoder block of an encoder–decoder has cross-attention"):
        replace(SMOLLM2, encoder=MINILM.encoder)


def test_impossible_parts_are_refused():
    expert = FeedForward(8, "relu")
    with pytest.raises(ValueError, match="top_k must lie between 1 and the 2 experts"):
        MixtureOfExperts(expert, experts=2, top_k=3)
    with pytest.raises(ValueError, match="not both"):
        MixtureOfExperts(expert, experts=2, top_k=1, capacity=4, capacity_factor=1.0)
    with pytest.raises(ValueError, match="only an rms norm"):
        Norm("layer", 1e-5, offset=1.0)
    with pytest.raises(ValueError, match=r"at most 1, got 1\.5"):
        Rope(10_000.0, fraction=1.5)
    with pytest.raises(ValueError, match="capacity must be above 0"):
        MixtureOfExperts(expert, experts=2, top_k=1, capacity=0)
    with pytest.raises(ValueError, match="hidden must be above 0"):
        FeedForward(0, "relu")
    with pytest.raises(ValueError, match="softcap must be above 0"):
        Attention(heads=2, kv_heads=2, head_dim=4, softcap=0.0)
    with pytest.raises(ValueError, match="vocabulary must be above 0"):
        replace(SMOLLM2.embedding, vocabulary=0)
    with pytest.raises(ValueError, match="context_length must be above 0"):
        replace(SMOLLM2, context_length=0)
    block = SMOLLM2.decoder.blocks[0]
    with pytest.raises(ValueError, match="knows no distances"):
        replace(block, cross=block.attention)
    plain = replace(block.attention, position=None)
    with pytest.raises(ValueError, match="parallel block has no cross-attention"):
        replace(block, norm_at="parallel", cross=plain)
    crossing = replace(SMOLLM2.decoder, blocks=(replace(block, cross=plain),) * 2)
    with pytest.raises(ValueError, match="no other block has"):
        replace(SMOLLM2, decoder=crossing)
    for pattern in (lambda: Window(0), lambda: Banded(4, 0), lambda: WindowAndGlobal(0, 2)):
        with pytest.raises(ValueError, match="at least itself"):
            pattern()
    odd = replace(SMOLLM2, embedding=Embedding(10, 15))
    for change in (
        {"embedding": Embedding(10, 15, Sinusoidal())},
        {"decoder": Stack((replace(block, attention=replace(plain, position=TransformerXL())),), causal=True)},
    ):
        with pytest.raises(ValueError, match="the width 15 is odd"):
            replace(odd, **change)
    with pytest.raises(ValueError, match="needs a block"):
        replace(SMOLLM2.decoder, blocks=())


def test_configs_need_no_torch():
    modules = ("presets.sizes", "model_costs", "description", "diagram")
    program = f"import sys, {', '.join(f'lmworks.model.{name}' for name in modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
