"""Prefix tuning against `peft`, in float64: logits, gradients, and folders both ways.

Not compared: layers with a window that the text outgrows, where PEFT's prefix slides out of sight with the first
tokens; classifiers of BERT, for which this version of PEFT finds no cache.
"""

import copy
import tempfile
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")

import peft
from decoder_cases import DECODERS
from encoder_cases import ENCODERS
from harness import LENGTH, Float64, Pair, difference

from lmworks.adapt import PrefixConfig, add_adapter, load_adapter, save_adapter
from lmworks.adapt.prefix_tuning import Prefix, PrefixAttention
from lmworks.model.checkpoint import load

pytestmark = pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated")
TOKENS, HIDDEN, TOLERANCE = 5, 40, 1e-10
CASES = {case.name: case for case in (*DECODERS, *ENCODERS)}
NAMES = ["llama", "llama, yarn", "gpt2", "gpt_neox", "qwen3", "phi4-mini", "bert, bare", "t5", "bart"]
# PEFT looks for these sizes in the config's fields for the encoder.
FIELDS = {"t5": {"token_dim": 48, "num_layers": 2}, "bart": {"num_layers": 3}}


class Prefixed:
    """Their model with a random prefix, and ours with the same one."""

    def __init__(self, name: str, projection: bool) -> None:
        folder = Path(tempfile.mkdtemp())
        self.pair = Pair(CASES[name], folder)
        theirs, self.base = self.pair.in_float64
        task = "SEQ_2_SEQ_LM" if self.pair.crosses else "FEATURE_EXTRACTION" if "bare" in name else "CAUSAL_LM"
        fields = {"num_virtual_tokens": TOKENS, "encoder_hidden_size": HIDDEN, **FIELDS.get(name, {})}
        torch.manual_seed(3)
        config = peft.PrefixTuningConfig(task_type=task, prefix_projection=projection, **fields)
        self.theirs = peft.get_peft_model(copy.deepcopy(theirs), config).double().eval()
        self.encoder = self.theirs.prompt_encoder["default"]
        self.ours = add_adapter(self.base, PrefixConfig(TOKENS, projection, HIDDEN if projection else None))
        names = {"embedding.weight": "embedding", "transform.0": "first", "transform.2": "last"}
        self.ours_by_theirs = {}
        for their_name, weight in self.encoder.named_parameters():
            own = next(their_name.replace(old, new) for old, new in names.items() if their_name.startswith(old))
            self.ours_by_theirs[own] = weight
        self.prefix = self.ours.get_submodule("prefix")
        assert isinstance(self.prefix, Prefix)
        self.prefix.load_state_dict({own: weight.detach() for own, weight in self.ours_by_theirs.items()})
        self.folder = folder / "adapter"
        self.theirs.save_pretrained(self.folder)
        self.checkpoint = load(folder / "theirs", torch.float64)

    def outputs(self, ours, theirs, lengths=None):
        inputs = self.pair.inputs(lengths)
        with Float64():
            found, expected = ours(**inputs), self.pair.their_output(inputs, theirs)
        if lengths is not None:
            real = inputs["decoder_attention_mask" if self.pair.crosses else "attention_mask"]
            found, expected = found[real], expected[real]
        return found, expected


prefixed_of = cache(Prefixed)


@pytest.mark.parametrize("projection", [False, True], ids=["table", "mlp"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_gradients(name, projection):
    prefixed = prefixed_of(name, projection)
    with torch.no_grad():
        found, expected = prefixed.outputs(prefixed.ours, prefixed.theirs)
        assert difference(prefixed.base(**prefixed.pair.inputs()), expected) > 0.05  # the prefix does something
        assert difference(found, expected) < TOLERANCE
        assert difference(*prefixed.outputs(prefixed.ours, prefixed.theirs, [LENGTH, 9, 1])) < TOLERANCE
    prefixed.theirs.zero_grad()
    prefixed.ours.zero_grad()
    for output in prefixed.outputs(prefixed.ours, prefixed.theirs):
        mix = torch.randn(output.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        (output * mix).sum().backward()
    for own, weight in prefixed.prefix.named_parameters():
        assert difference(weight.grad, prefixed.ours_by_theirs[own].grad) < TOLERANCE
    assert {name for name, weight in prefixed.ours.named_parameters() if weight.grad is not None} == {
        f"prefix.{own}" for own in prefixed.ours_by_theirs
    }


@torch.no_grad()
@pytest.mark.parametrize("projection", [False, True], ids=["table", "mlp"])
@pytest.mark.parametrize("name", NAMES)
def test_folders(name, projection, tmp_path):
    prefixed = prefixed_of(name, projection)
    theirs_by_us = load_adapter(prefixed.folder, prefixed.checkpoint)
    assert difference(*prefixed.outputs(theirs_by_us, prefixed.theirs)) < TOLERANCE
    folder = save_adapter(tmp_path / "ours", prefixed.ours, PrefixConfig(TOKENS, projection), prefixed.checkpoint)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?i).*(missing|unexpected).*keys")
        loaded = peft.PeftModel.from_pretrained(copy.deepcopy(prefixed.pair.in_float64[0]), folder)
    tolerance = 1e-6 if projection else TOLERANCE  # it loads a table in float32, which ours was drawn in
    assert difference(*prefixed.outputs(prefixed.ours, loaded.double().eval())) < tolerance


@torch.no_grad()
def test_a_window_within_which_the_text_stays():
    """Further on ours still sees the prefix."""
    prefixed, inputs = prefixed_of("mistral", False), prefixed_of("mistral", False).pair.inputs()
    inputs = {"ids": inputs["ids"][:, : 7 - TOKENS]}
    with Float64():
        expected = prefixed.pair.their_output(inputs, prefixed.theirs)
        assert difference(prefixed.ours(**inputs), expected) < TOLERANCE
    assert isinstance(prefixed.ours.decoder.blocks[0].attention, PrefixAttention)
