import subprocess
import sys
from dataclasses import replace

import pytest

from lmworks.model.config import Attention, Norm, PoolHead, Rope, count_parameters, kv_bytes_per_token
from lmworks.model.presets import bert, llama
from lmworks.model.transformer import Transformer

SMOLLM2 = llama(49152, 576, 30, 9, 3, 1536, 8192, rope_theta=100_000.0, tied=True)
MINILM = bert(30522, 384, 6, 12, 1536, head=PoolHead())


@pytest.mark.parametrize(
    "config",
    [
        llama(97, 32, 2, 4, 2, 48, 64),
        llama(97, 32, 2, 4, 4, 48, 64, head_dim=16, tied=True, attention_bias=True, feed_forward_bias=True),
        bert(97, 32, 3, 4, 48, 64, token_types=3),
    ],
)
def test_counts_what_the_model_has(config):
    assert count_parameters(config) == sum(p.numel() for p in Transformer(config).parameters())


def test_counts_of_the_published_models():
    assert count_parameters(SMOLLM2) == 134_515_008  # the model card's 135M
    pooler = 384 * 384 + 384  # the one part of BertModel that is not ours
    assert count_parameters(MINILM) == 22_713_216 - pooler


def test_query_key_norms_are_counted():
    config = llama(97, 32, 2, 4, 2, 48, 64)
    block = config.decoder.blocks[0]
    block = replace(block, attention=replace(block.attention, qk_norm=Norm("rms", 1e-6)))
    config = replace(config, decoder=replace(config.decoder, blocks=(block, block)))
    assert count_parameters(config) == sum(p.numel() for p in Transformer(config).parameters())


def test_kv_bytes_per_token():
    # 30 layers, keys and values, 3 heads of 64 values, 2 bytes each
    assert kv_bytes_per_token(SMOLLM2, bytes_per_value=2) == 30 * 2 * 3 * 64 * 2
    with pytest.raises(ValueError, match="decoder"):
        kv_bytes_per_token(MINILM, bytes_per_value=2)


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="evenly"):
        Attention(heads=9, kv_heads=2, head_dim=64)
    with pytest.raises(ValueError, match="even"):
        Attention(heads=2, kv_heads=2, head_dim=5, rope=Rope(10_000.0))
    with pytest.raises(ValueError, match="encoder or a decoder"):
        replace(SMOLLM2, decoder=None)
    with pytest.raises(ValueError, match="causal=True"):
        replace(SMOLLM2, decoder=replace(SMOLLM2.decoder, causal=False))
    with pytest.raises(ValueError, match="causal=False"):
        replace(MINILM, encoder=replace(MINILM.encoder, causal=True))
    with pytest.raises(ValueError, match="512 learned positions"):
        replace(MINILM, context_length=513)
    with pytest.raises(NotImplementedError, match="cross-attention"):
        Transformer(replace(SMOLLM2, encoder=MINILM.encoder))


def test_configs_need_no_torch():
    program = "import sys, lmworks.model.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
