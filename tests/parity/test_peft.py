"""LoRA adapters against `peft`, both ways: what it saved, read by us, and what we wrote, loaded by it."""

import copy
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft")

import peft
from decoder_cases import DECODERS
from encoder_cases import ENCODERS
from harness import Pair, difference

from kit.tables import for_each
from lmworks.adapt import (
    Lora,
    LoraConfig,
    LowRank,
    apply,
    initialise_lora,
    merge,
    read_lora,
    trainable_lora,
    write_lora,
)
from lmworks.adapt.peft_folder import their_linears
from lmworks.model.huggingface import write_config
from lmworks.train.losses import token_log_probabilities

CASES = {case.name: case for case in (*DECODERS, *ENCODERS)}
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOLERANCE = 1e-5  # float32: a few layers of sums in another order, as in harness.py


@dataclass(frozen=True)
class Adapter:
    """Of the model of a parity case; `fields` are of PEFT's LoraConfig."""

    case: str
    target_modules: Any
    fields: dict[str, Any] = field(default_factory=dict)


ADAPTERS = {
    "llama": Adapter(
        "llama",
        LLAMA,
        {"rank_pattern": {"layers.1.self_attn.q_proj": 2, "down_proj": 1}, "alpha_pattern": {"self_attn.v_proj": 3}},
    ),
    "a tied head": Adapter("llama 3", ["q_proj", "lm_head"], {"use_rslora": True, "rank_pattern": {"q_proj": 9}}),
    "llama, bare": Adapter("llama, bare", ["v_proj"]),
    "one layer": Adapter("mistral", ["q_proj", "up_proj"], {"layers_to_transform": [1], "layers_pattern": "layers"}),
    "an expression": Adapter("qwen2", r".*\.[02]\.self_attn\.(q|k|v)_proj"),
    "all but some": Adapter("gemma2", ["q_proj", "o_proj"], {"exclude_modules": ["layers.0.self_attn.q_proj"]}),
    "mixtral": Adapter("mixtral", ["q_proj", "v_proj"]),
    "gpt2": Adapter("gpt2", ["c_attn", "c_proj", "c_fc"], {"r": 1, "fan_in_fan_out": True}),
    "gpt_neox": Adapter("gpt_neox", ["query_key_value", "dense", "dense_4h_to_h"]),
    "phi3": Adapter("phi3", ["qkv_proj", "gate_up_proj", "down_proj"]),
    "t5": Adapter("t5", ["q", "v", "wi", "wo"]),
    "a head, scaled and tied": Adapter("t5", ["k", "lm_head"]),
    "bert": Adapter("bert", ["query", "dense"]),
    "a layer without use": Adapter("bert, bare", ["value", "dense"]),  # the pooler, which we do not compute
}


class Adapted:
    """A model of theirs with an adapter of random values, and its folder."""

    def __init__(self, adapter: Adapter, folder: Path) -> None:
        self.pair = Pair(CASES[adapter.case], folder)
        fields = {"r": 4, "lora_alpha": 6, "init_lora_weights": False, **adapter.fields}
        torch.manual_seed(2)
        config = peft.LoraConfig(target_modules=adapter.target_modules, **fields)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of heads that are tied, which it cannot merge, and of rslora's patterns
            self.theirs = peft.get_peft_model(copy.deepcopy(self.pair.theirs), config).eval()
        with torch.no_grad():
            for name, parameter in self.theirs.named_parameters():
                if "lora_" in name:
                    torch.nn.init.normal_(parameter, std=0.3 * parameter.shape[-1] ** -0.5)
        self.folder = folder / "adapter"
        self.theirs.save_pretrained(self.folder)
        checkpoint = self.pair.checkpoint
        self.lora = read_lora(self.folder, checkpoint.config, checkpoint.published)

    @torch.no_grad()
    def their_output(self) -> torch.Tensor:
        return self.pair.their_output(self.pair.inputs(), self.theirs)

    def loaded(self, folder: Path) -> torch.Tensor:
        """What theirs gives with the adapter in `folder`, of which it must miss nothing."""
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="(?i).*(missing|unexpected).*keys")
            theirs = peft.PeftModel.from_pretrained(copy.deepcopy(self.pair.theirs), folder).eval()
        with torch.no_grad():
            return self.pair.their_output(self.pair.inputs(), theirs)


@pytest.fixture(scope="module")
def adapted_of(tmp_path_factory):
    return cache(lambda name: Adapted(ADAPTERS[name], tmp_path_factory.mktemp("adapted")))


@torch.no_grad()
@for_each("name", ADAPTERS)
def test_their_adapter_beside_our_weights(name, adapted_of):
    adapted = adapted_of(name)
    inputs, ours = adapted.pair.inputs(), adapted.pair.ours
    expected = adapted.their_output()
    assert difference(ours(**inputs), expected) > 0.05  # the adapter does something
    assert difference(apply(ours, adapted.lora)(**inputs), expected) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    [n if n in ("llama", "gpt2", "t5", "bert") else pytest.param(n, marks=pytest.mark.slow) for n in ADAPTERS],
)
def test_their_adapter_merged_into_our_weights(name, adapted_of):
    adapted = adapted_of(name)
    merged = merge(adapted.pair.ours, adapted.lora)
    assert difference(merged(**adapted.pair.inputs()), adapted.their_output()) < TOLERANCE


@for_each("name", ADAPTERS)
def test_their_adapter_written_by_us(name, adapted_of, tmp_path):
    adapted, checkpoint = adapted_of(name), adapted_of(name).pair.checkpoint
    folder = write_lora(tmp_path / "written", adapted.lora, checkpoint.config, checkpoint.published)
    if name == "a layer without use":  # PEFT draws one for its pooler, whose name is like the others'
        with pytest.warns(UserWarning, match="missing"), torch.no_grad():
            theirs = peft.PeftModel.from_pretrained(copy.deepcopy(adapted.pair.theirs), folder).eval()
        found = adapted.pair.their_output(adapted.pair.inputs(), theirs)
    else:
        found = adapted.loaded(folder)
    assert difference(found, adapted.their_output()) < TOLERANCE


@torch.no_grad()
@for_each("name", ["llama", "gpt2", "gpt_neox", "phi3", "t5", "bert"])
def test_our_adapter_loaded_by_them(name, adapted_of, tmp_path):
    """Also where three adapters, each with an A of its own, become one."""
    adapted, checkpoint = adapted_of(name), adapted_of(name).pair.checkpoint
    generator = torch.Generator().manual_seed(3)
    config = LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=("query", "value", "up"),
        rank_pattern={"value": 2},
        alpha_pattern={r"blocks\.0\..*": 1.5},
    )
    lora = initialise_lora(checkpoint.config, config, generator)
    lora = Lora(
        {name: c._replace(b=0.3 * torch.randn(c.b.shape, generator=generator)) for name, c in lora.changes.items()}
    )
    expected = merge(adapted.pair.ours, lora)(**adapted.pair.inputs())
    folder = write_lora(tmp_path / "ours", lora, checkpoint.config, checkpoint.published)
    assert difference(adapted.loaded(folder), expected) < TOLERANCE
    again = read_lora(folder, checkpoint.config, checkpoint.published)
    assert difference(apply(adapted.pair.ours, again)(**adapted.pair.inputs()), expected) < TOLERANCE


@for_each("name", ["llama", "a tied head", "mistral", "gemma2"])
def test_gradients_are_theirs(name, adapted_of):
    """Of A and B, by a loss over the vocabulary that never holds all logits; where no layers are one in theirs."""
    adapted = adapted_of({"mistral": "one layer", "gemma2": "all but some"}.get(name, name))
    inputs, ours = adapted.pair.inputs(), trainable_lora(adapted.pair.ours, adapted.lora)
    adapted.theirs.zero_grad()
    logits = adapted.pair.their_output(inputs, adapted.theirs)
    targets = inputs["ids"].flatten()
    weights = torch.randn(len(targets), generator=torch.Generator().manual_seed(4))
    (logits.flatten(0, 1).log_softmax(-1).gather(-1, targets[:, None])[:, 0] @ weights).backward()
    features = ours.head.features(ours.hidden(**inputs)).flatten(0, 1)
    (token_log_probabilities(features, ours.head.projection_to_vocabulary(ours.tokens), targets) @ weights).backward()
    checkpoint = adapted.pair.checkpoint
    theirs = dict(adapted.theirs.named_parameters())
    linears = their_linears(checkpoint.config, checkpoint.published or write_config(checkpoint.config))
    compared = 0
    for linear in linears:
        (part, _), path = linear.parts[0], f"base_model.model.{linear.name}"
        if part in adapted.lora.changes:
            layer = ours.get_submodule(part)
            for own, other in ((layer.lora_a, "lora_A"), (layer.lora_b, "lora_B")):
                gradient = theirs[f"{path}.{other}.default.weight"].grad
                torch.testing.assert_close(own.grad, gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))
                compared += 1
    assert compared == 2 * len(adapted.lora.changes)


def test_their_names_become_ours(adapted_of):
    changes = adapted_of("llama").lora.changes
    assert len(changes) == 3 * 7
    ranks = {name: change.rank for name, change in changes.items() if name.endswith("attention.query")}
    assert ranks == {f"decoder.blocks.{layer}.attention.query": rank for layer, rank in enumerate((4, 2, 4))}
    assert changes["decoder.blocks.2.attention.value"].scale == 3 / 4
    assert changes["decoder.blocks.2.feed_forward.down"].scale == 6 / 1
    assert isinstance(changes["decoder.blocks.0.feed_forward.gate"], LowRank)
