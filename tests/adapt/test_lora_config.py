"""Which layers an adapter has, with which rank and scale: against PEFT's own matching."""

import subprocess
import sys

import pytest

pytest.importorskip("peft")

import peft
from hypothesis import given
from hypothesis import strategies as st
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from kit.tables import for_each
from lmworks.adapt import LoraConfig
from lmworks.adapt.config import ALL_LINEAR
from lmworks.adapt.peft_lora import read_peft_config
from lmworks.config import ConfigError
from lmworks.model.config import UnsupportedModel

NAMES = [
    *(f"model.layers.{n}.self_attn.{part}_proj" for n in (0, 1, 11) for part in "qkv"),
    *(f"model.layers.{n}.mlp.{part}_proj" for n in (0, 1, 11) for part in ("up", "down")),
    *(f"encoder.block.{n}.layer.1.DenseReluDense.wi" for n in (0, 2)),
    "lm_head",
    "q_proj",
]
ENDS = st.sampled_from(["q_proj", "proj", "self_attn.q_proj", "layers.1.mlp.up_proj", "lm_head", "wi", NAMES[3], ""])
PATTERNS = st.sampled_from(
    [r".*_proj", r".*\.1\..*", r".*(q|v)_proj", "lm_head", "layers.1.self_attn.q_proj", r"\d+\.mlp\..*", "self_attn"]
)
LISTS = st.lists(ENDS, min_size=1, max_size=3)


@given(
    targets=LISTS | PATTERNS,
    excluded=st.none() | LISTS | PATTERNS,
    layers=st.none() | st.integers(0, 2) | st.lists(st.sampled_from([0, 1, 11]), min_size=1),
    list_name=st.none() | st.sampled_from(["layers", "block", "h", ["h", "layers"]]),
    ranks=st.dictionaries(PATTERNS | ENDS.filter(bool), st.integers(1, 9), max_size=3),
    alphas=st.dictionaries(PATTERNS | ENDS.filter(bool), st.integers(1, 9), max_size=3),
    rslora=st.booleans(),
)
def test_targets_ranks_and_scales_are_those_of_peft(targets, excluded, layers, list_name, ranks, alphas, rslora):
    if isinstance(targets, str):
        layers = list_name = None  # PEFT refuses them beside an expression
    if layers is None:
        list_name = None
    theirs = peft.LoraConfig(
        target_modules=targets, exclude_modules=excluded, layers_to_transform=layers, layers_pattern=list_name,
        rank_pattern=ranks, alpha_pattern=alphas, use_rslora=rslora, r=4, lora_alpha=6,
    )  # fmt: skip
    document = {k: sorted(v) if isinstance(v, set) else v for k, v in theirs.to_dict().items()}
    ours = read_peft_config({**document, "peft_type": "LORA"})
    for name in NAMES:
        found = check_target_module_exists(theirs, name)
        assert ours.targets(name) == bool(found), name
        rank = ranks.get(get_pattern_key(ranks.keys(), name), 4)
        alpha = alphas.get(get_pattern_key(alphas.keys(), name), 6)
        assert ours.rank(name) == rank
        assert ours.scale(name) == (alpha / rank**0.5 if rslora else alpha / rank)


def test_all_linear_leaves_the_head_out():
    config = LoraConfig(target_modules=ALL_LINEAR)
    assert config.targets("decoder.blocks.0.attention.query")
    assert not config.targets("head.projection")


@for_each(
    ("fields", "message"),
    [
        ({"bias": "all"}, "bias = 'all' is not supported; supported: 'none'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save = \['lm_head'\]"),
        ({"lora_bias": True}, "lora_bias"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"peft_type": "LOHA"}, "peft_type = 'LOHA' is not supported; supported: 'LORA'"),
        ({"use_something_new": 1}, "use_something_new = 1"),
    ],
)
def test_another_kind_of_adapter_is_refused_by_its_field(fields, message):
    with pytest.raises(UnsupportedModel, match=message):
        read_peft_config({"target_modules": ["q_proj"], **fields})


def test_fields_that_change_nothing_are_passed_over():
    document = {"r": 2, "target_modules": ["q_proj"], "use_dora": False, "modules_to_save": None, "megatron_core": "x"}
    assert read_peft_config({**document, "loftq_config": {}}) == LoraConfig(r=2, target_modules=("q_proj",))


@for_each(
    ("fields", "message"),
    [
        ({"r": "8"}, r"adapter_config\.json\.r: expected a whole number"),
        ({"r": 0}, "r must be 1 or more, got 0"),
        ({"rank_pattern": {"q_proj": 0}}, "q_proj must be 1 or more"),
        ({"target_modules": "("}, "not a regular expression"),
        ({"lora_dropout": 1.5}, "lora_dropout"),
    ],
)
def test_a_value_that_no_adapter_has_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        read_peft_config({"target_modules": ["q_proj"], **fields})


def test_the_config_needs_no_torch():
    program = "import sys; from lmworks.adapt import LoraConfig; LoraConfig(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
