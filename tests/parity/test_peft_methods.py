"""LoRA, rsLoRA, DoRA, IA³ and adapters of embeddings against `peft` in float64: logits and gradients, both ways."""

import copy
import warnings
from functools import cache

import pytest
import torch

pytest.importorskip("peft")

import peft
from decoder_cases import DECODERS
from encoder_cases import ENCODERS
from harness import Float64, Pair, difference
from safetensors.torch import load_file

from kit.tables import for_each
from lmworks.adapt import IA3Config, LoraConfig, add_adapter, load_adapter, merge_adapter, save_adapter
from lmworks.adapt.ia3 import IA3Linear
from lmworks.adapt.lora import EMBEDDING
from lmworks.adapt.lora_layers import LoraLinear
from lmworks.adapt.peft_folder import their_linears
from lmworks.model.checkpoint import load
from lmworks.model.huggingface import write_config

CASES = {case.name: case for case in (*DECODERS, *ENCODERS)}
TOLERANCE = 1e-10
LINEAR = {"llama": ["q_proj", "k_proj", "down_proj"], "llama 3": ["v_proj", "o_proj"], "gpt2": ["c_attn", "c_proj"]}
TABLE = {"llama": ["embed_tokens", "lm_head"], "llama 3": ["embed_tokens", "v_proj"], "gpt2": ["wte", "c_attn"]}
KINDS = {
    "lora": lambda case: peft.LoraConfig(r=3, lora_alpha=5, target_modules=LINEAR[case]),
    "rslora": lambda case: peft.LoraConfig(
        r=4, lora_alpha=3, use_rslora=True, target_modules=LINEAR[case], rank_pattern={"k_proj": 2}
    ),
    "dora": lambda case: peft.LoraConfig(r=3, lora_alpha=5, use_dora=True, target_modules=LINEAR[case]),
    "table": lambda case: peft.LoraConfig(r=3, lora_alpha=5, target_modules=TABLE[case]),
    "table, dora": lambda case: peft.LoraConfig(r=3, lora_alpha=5, use_dora=True, target_modules=TABLE[case]),
    "ia3": lambda case: peft.IA3Config(),  # of the family
}
OURS = {
    "lora": LoraConfig(r=3, lora_alpha=5),
    "rslora": LoraConfig(r=4, lora_alpha=3, use_rslora=True, rank_pattern={"key": 2}),
    "dora": LoraConfig(r=3, use_dora=True, target_modules=("value", "up", "output")),
    "table": LoraConfig(target_modules=("tokens", "projection")),
    "table, dora": LoraConfig(target_modules=("tokens", "key"), use_dora=True),
    "ia3": IA3Config(),
}
pytestmark = pytest.mark.filterwarnings("ignore")  # of ties that PEFT cannot merge, and of Conv1D


def every_case(function):
    return pytest.mark.parametrize("kind", KINDS)(pytest.mark.parametrize("case", LINEAR)(function))


@pytest.fixture(scope="module")
def models_of(tmp_path_factory):
    """Theirs and ours, which is loaded in float64."""

    @cache
    def made(case):
        pair = Pair(CASES[case], tmp_path_factory.mktemp("pair"))
        return pair, load(pair.folder / "theirs", torch.float64)

    return made


def draw_anew(model, std=0.3):
    """Whatever is trained moves away from where it begins."""
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += std * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


def their_gradients(model):
    return {
        name.replace(".default", "").removeprefix("base_model.model.").replace("vector.weight", "vector"): weight.grad
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def our_gradients(model, checkpoint):
    """By their names: what parts share has the sum of their gradients."""
    gradients = {}
    for linear in their_linears(checkpoint.config, checkpoint.published or write_config(checkpoint.config)):
        for part, rows in linear.parts:
            layer = model.get_submodule(part) if part != "head.projection" else getattr(model.head, "projection", None)
            if isinstance(layer, IA3Linear):
                name = f"{linear.name}.ia3_l"
                if layer.of_inputs:
                    gradients[name] = layer.ia3_l.grad[None]
                else:
                    gradients.setdefault(name, torch.zeros(linear.shape[0], 1).double())[rows, 0] = layer.ia3_l.grad
            elif isinstance(layer, LoraLinear):
                a, b = (
                    ("lora_A.weight", "lora_B.weight")
                    if part != EMBEDDING
                    else ("lora_embedding_A", "lora_embedding_B")
                )
                gradients[f"{linear.name}.{a}"] = gradients.get(f"{linear.name}.{a}", 0) + layer.lora_a.grad
                whole = torch.zeros(linear.shape[0], layer.lora_b.shape[1]).double()
                gradients.setdefault(f"{linear.name}.{b}", whole)[rows] = layer.lora_b.grad
                if layer.lora_magnitude is not None:
                    name = f"{linear.name}.lora_magnitude_vector"
                    gradients.setdefault(name, torch.zeros(linear.shape[0]).double())[rows] = layer.lora_magnitude.grad
    return gradients


@every_case
def test_their_adapter_gives_our_model_their_logits_and_gradients(case, kind, models_of, tmp_path):
    pair, checkpoint = models_of(case)
    adapted = peft.get_peft_model(copy.deepcopy(pair.in_float64[0]), KINDS[kind](case)).eval()
    draw_anew(adapted)
    adapted.save_pretrained(tmp_path / "theirs")
    ours, inputs = load_adapter(tmp_path / "theirs", checkpoint), pair.inputs()
    merged = merge_adapter(ours)
    with Float64():
        expected, found = pair.their_output(inputs, adapted), ours(**inputs)
        assert difference(found, checkpoint.model(**inputs)) > 0.05  # the adapter does something
        assert difference(found, expected) < TOLERANCE
        mix = torch.randn(expected.shape, generator=torch.Generator().manual_seed(4)).double()
        (expected * mix).sum().backward()
        (found * mix).sum().backward()
        assert difference(merged(**inputs), found) < TOLERANCE
    their, our = their_gradients(adapted), our_gradients(ours, checkpoint)
    assert their.keys() == our.keys()
    for name, gradient in their.items():
        assert (our[name] - gradient).abs().max() < TOLERANCE * gradient.abs().max(), name
    if not kind.startswith("table"):  # whose change PEFT merges into a tied head, too
        with Float64():
            assert difference(pair.their_output(inputs, adapted.merge_and_unload()), found) < TOLERANCE


@every_case
def test_our_adapter_gives_their_model_our_logits(case, kind, models_of, tmp_path):
    pair, checkpoint = models_of(case)
    ours, inputs = add_adapter(checkpoint.model, OURS[kind], seed=1), pair.inputs()
    with Float64():
        assert difference(ours(**inputs), checkpoint.model(**inputs)) < TOLERANCE  # it begins as the base
    draw_anew(ours)
    folder = save_adapter(tmp_path / "ours", ours, OURS[kind], checkpoint)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?i).*(missing|unexpected).*keys")
        theirs = peft.PeftModel.from_pretrained(copy.deepcopy(pair.in_float64[0]), folder).eval()
    again = load_adapter(folder, checkpoint)
    with Float64():
        expected = ours(**inputs)
        assert difference(pair.their_output(inputs, theirs), expected) < TOLERANCE
        assert difference(again(**inputs), expected) < TOLERANCE


@for_each("case", ["llama", "gpt2", "gpt_neox", "qwen2", "gemma2", "t5", "bart", "bert", "roberta"])
def test_ia3_takes_the_layers_that_peft_takes_for_the_family(case, models_of, tmp_path):
    pair, checkpoint = models_of(case)
    theirs = peft.get_peft_model(copy.deepcopy(pair.theirs), peft.IA3Config())
    folder = save_adapter(tmp_path / "ours", add_adapter(checkpoint.model, IA3Config()), IA3Config(), checkpoint)
    expected = {name: tensor.shape for name, tensor in peft.get_peft_model_state_dict(theirs).items()}
    assert {name: tensor.shape for name, tensor in load_file(folder / "adapter_model.safetensors").items()} == expected
