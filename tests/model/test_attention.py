"""Attention against its formula, written out head by head, and the order of its steps against Qwen3's."""

from dataclasses import replace

import pytest
import torch

from lmworks.model.attention import Attention
from lmworks.model.config import Attention as AttentionConfig
from lmworks.model.config import Norm
from lmworks.model.huggingface import LLAMA
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_formula_with_grouped_heads(causal, scale):
    torch.manual_seed(0)
    config = AttentionConfig(heads=6, kv_heads=2, head_dim=8, bias=True, scale=scale)
    attention = Attention(config, width=20, causal=causal).double()
    hidden = torch.randn(2, 5, 20, dtype=torch.float64)
    query, key, value = attention.query(hidden), attention.key(hidden), attention.value(hidden)
    heads = []
    for head in range(6):
        group = head // 3  # three query heads share a key head
        q, own = query[..., head * 8 : head * 8 + 8], slice(group * 8, group * 8 + 8)
        scores = q @ key[..., own].transpose(1, 2) * (8**-0.5 if scale is None else scale)
        if causal:
            scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(-1) @ value[..., own])
    expected = attention.output(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(hidden, None, None, None, 0), expected)


def test_norms_of_queries_and_keys_come_before_the_rotation():
    """Qwen3 is LLaMA with query and key norms; after the rotation they would give other logits."""
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    settings = transformers.Qwen3Config(**shape, vocab_size=97, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-6)
    torch.manual_seed(0)
    theirs = transformers.Qwen3ForCausalLM(settings).eval()
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    config = llama(97, 32, 2, 4, 2, 48, settings.max_position_embeddings, norm_eps=1e-6)
    block = config.decoder.blocks[0]
    block = replace(block, attention=replace(block.attention, qk_norm=Norm("rms", 1e-6)))
    ours = Transformer(replace(config, decoder=replace(config.decoder, blocks=(block, block)))).eval()
    names = {f"decoder.blocks.{{}}.attention.{k}": f"model.layers.{{}}.self_attn.{v}" for k, v in
             {"query_norm": "q_norm", "key_norm": "k_norm"}.items()}  # fmt: skip
    qwen3 = replace(LLAMA, modules={**LLAMA.modules, **names})
    weights = theirs.state_dict()
    ours.load_state_dict({name: weights[qwen3.their_name(name)] for name in ours.state_dict()})
    ids = torch.randint(97, (2, 9))
    with torch.no_grad():
        # float32, logits of size 10: rounding in another order gives 1e-5, norms in another order give more than 1
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)
