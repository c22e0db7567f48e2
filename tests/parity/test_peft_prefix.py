"""Prefix tuning against `peft`, in float64: logits, gradients, and folders both ways.

Not compared: windows that the text outgrows, where PEFT's prefix slides out of sight with the first tokens; classifiers
of BERT, for which this version of PEFT finds no cache.
"""

import copy
import warnings

import pytest
import torch

pytest.importorskip("peft")

import peft
from decoder_cases import DECODERS
from encoder_cases import ENCODERS
from harness import LENGTH, Float64, Pair, difference

from lmworks.adapt import PrefixConfig, add_adapter, load_adapter, save_adapter
from lmworks.model.checkpoint import load
from slow_cases import slow

pytestmark = pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated")
TOKENS, HIDDEN, TOLERANCE = 5, 40, 1e-10
CASES = {case.name: case for case in (*DECODERS, *ENCODERS)}
NAMES = ["llama", "gpt2", "qwen3", "bert, bare", "t5", *slow("llama, yarn", "gpt_neox", "phi4-mini", "mistral", "bart")]
# PEFT looks for these sizes in the config's fields for the encoder.
FIELDS = {"t5": {"token_dim": 48, "num_layers": 2}, "bart": {"num_layers": 3}}


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:this model has layers that see a window")
def test_logits_gradients_and_folders(name, projection, tmp_path):
    pair = Pair(CASES[name], tmp_path)
    base, ours = pair.in_float64
    task = "SEQ_2_SEQ_LM" if pair.crosses else "FEATURE_EXTRACTION" if "bare" in name else "CAUSAL_LM"
    torch.manual_seed(3)
    fields = {"num_virtual_tokens": TOKENS, "encoder_hidden_size": HIDDEN, **FIELDS.get(name, {})}
    config = peft.PrefixTuningConfig(task_type=task, prefix_projection=projection, **fields)
    theirs = peft.get_peft_model(copy.deepcopy(base), config).double().eval()
    adapted = add_adapter(ours, PrefixConfig(TOKENS, projection, HIDDEN if projection else None))
    weights = {}  # by our names
    for their_name, weight in theirs.prompt_encoder["default"].named_parameters():
        own = their_name.replace("embedding.weight", "embedding").replace("transform.0", "first")
        weights[own.replace("transform.2", "last")] = weight
    prefix = adapted.get_submodule("prefix")
    prefix.load_state_dict({own: weight.detach() for own, weight in weights.items()})

    def outputs(found, expected, lengths=None):
        inputs = pair.inputs(lengths)
        if name == "mistral":  # within its window
            inputs = {field: tensor[:, : 7 - TOKENS] for field, tensor in inputs.items()}
        with Float64():
            output, other = found(**inputs), pair.their_output(inputs, expected)
        real = inputs.get("decoder_attention_mask" if pair.crosses else "attention_mask", slice(None))
        return output[real], other[real]

    found, expected = outputs(adapted, theirs)
    assert difference(found, expected) < TOLERANCE
    assert difference(*outputs(ours, theirs)) > 0.05  # the prefix does something
    assert difference(*outputs(adapted, theirs, [LENGTH, 9, 1])) < TOLERANCE
    for output in (found, expected):
        mix = torch.randn(output.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        (output * mix).sum().backward()
    for own, weight in prefix.named_parameters():
        assert difference(weight.grad, weights[own].grad) < TOLERANCE
    assert all(weight.grad is None for weight in adapted.parameters() if not weight.requires_grad)

    theirs.save_pretrained(tmp_path / "peft")
    checkpoint = load(tmp_path / "theirs", torch.float64)
    assert difference(*outputs(load_adapter(tmp_path / "peft", checkpoint), theirs)) < TOLERANCE
    folder = save_adapter(tmp_path / "lmworks", adapted, PrefixConfig(TOKENS, projection), checkpoint)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?i).*(missing|unexpected).*keys")
        loaded = peft.PeftModel.from_pretrained(copy.deepcopy(base), folder).double().eval()
    tolerance = 1e-6 if projection else TOLERANCE  # it loads a table in float32, which ours was drawn in
    assert difference(*outputs(adapted, loaded)) < tolerance
