"""PEFT's folders: what fits, what does not, and what is damaged. That PEFT agrees is proven in tests/parity."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from small_models import LLAMA, TIED, random_lora

from kit.tables import for_each
from lmworks.adapt import Lora, LoraConfig, LowRank, initialise_lora, read_lora, write_lora
from lmworks.adapt.peft_folder import their_linears
from lmworks.adapt.peft_lora import cut, join
from lmworks.model.config import UnsupportedModel
from lmworks.model.huggingface import write_config
from lmworks.model.presets import llama, phi3

FILE = "adapter_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return write_lora(tmp_path / "adapter", random_lora(LLAMA, 1), LLAMA)


def edit(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder, function):
    """As another program would write them: without our checksum."""
    save_file(function(load_file(folder / FILE)), folder / FILE)


@for_each("dtype", [torch.float32, torch.bfloat16])
def test_what_is_written_is_read_bit_for_bit(dtype, tmp_path):
    lora_config = LoraConfig(r=3, lora_alpha=2, rank_pattern={"key": 1, r"blocks\.1\.attention\.query": 5})
    drawn = random_lora(LLAMA, 1, lora_config)
    lora = Lora({name: LowRank(c.a.to(dtype), c.b.to(dtype), c.scale) for name, c in drawn.changes.items()})
    again = read_lora(write_lora(tmp_path / "adapter", lora, LLAMA), LLAMA)
    assert again.changes.keys() == lora.changes.keys()
    for name, (a, b, scale, _) in lora.changes.items():
        found = again.changes[name]
        assert torch.equal(found.a, a) and torch.equal(found.b, b) and found.a.dtype == dtype
        assert found.scale == pytest.approx(scale, rel=1e-15)
    assert again.fingerprint == lora.fingerprint


def test_the_config_says_no_more_than_it_must(folder):
    document = json.loads((folder / "adapter_config.json").read_text())
    assert document["r"] == 4 and document["lora_alpha"] == 8 and document["rank_pattern"] == {}
    names = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(document["target_modules"]) == names
    assert document["task_type"] == "CAUSAL_LM" and document["fan_in_fan_out"] is False


def test_layers_that_are_not_all_adapted_are_named_in_full(tmp_path):
    lora = random_lora(LLAMA, 1, LoraConfig(r=2, target_modules=("blocks.1.attention.query", "attention.value")))
    document = json.loads((write_lora(tmp_path / "a", lora, LLAMA) / "adapter_config.json").read_text())
    assert document["target_modules"] == ["model.layers.1.self_attn.q_proj", "v_proj"]


def test_a_folder_is_never_overwritten(folder):
    with pytest.raises(FileExistsError, match="never overwritten"):
        write_lora(folder, random_lora(LLAMA, 1), LLAMA)


def test_published_names_count_where_families_share_a_config(tmp_path):
    """A Phi-3 without what only Phi-3 has could be a LLaMA, whose layers have other names."""
    config = phi3(89, 32, layers=2, heads=4, kv_heads=2, hidden=48, context_length=64)
    published = {**write_config(config), "model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}
    lora = random_lora(config, 1, LoraConfig(r=2, target_modules=("query", "gate", "up")))
    folder = write_lora(tmp_path / "a", lora, config, published)
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == ["gate_up_proj", "qkv_proj"]
    assert read_lora(folder, config, published).changes.keys() > lora.changes.keys()  # keys and values: of zeros
    with pytest.raises(ValueError, match=r"of another base: a llama model.*gate_up_proj"):
        read_lora(folder, config)


@given(
    own=st.lists(st.booleans(), min_size=3, max_size=3).filter(any),
    ranks=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    shared=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_layers_that_are_one_there_keep_their_product(own, ranks, shared, seed):
    """Queries, keys and values of GPT-2, some without an adapter, with one A or with one each."""
    document = write_config(TIED)
    linear = next(linear for linear in their_linears(TIED, document) if linear.name.endswith("0.attn.c_attn"))
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    a, changes = draw(ranks[0], 32), {}
    for part, is_own, rank in zip(linear.parts, own, ranks, strict=True):
        one_a, scale = (a, 0.5) if shared else (draw(rank, 32), 0.25 * rank)
        if is_own:
            changes[part.name] = LowRank(one_a, draw(32, len(one_a)), scale)
    joined = join(linear, changes)
    assert joined is not None
    assert joined.rank == (ranks[0] if shared else sum(rank for rank, is_own in zip(ranks, own, strict=True) if is_own))
    for name, found in cut(linear, joined).items():
        expected = changes[name].product() if name in changes else torch.zeros(32, 32, dtype=torch.float64)
        torch.testing.assert_close(found.product(), expected)


def test_a_fingerprint_knows_values_scales_and_names_and_no_dtype():
    lora = initialise_lora(LLAMA, LoraConfig(r=2), torch.Generator().manual_seed(0))
    name, change = next(iter(lora.changes.items()))
    half = {n: c._replace(a=c.a.bfloat16()) for n, c in lora.changes.items()}
    wide = {n: c._replace(a=c.a.float()) for n, c in half.items()}
    assert Lora(half).fingerprint == Lora(wide).fingerprint != lora.fingerprint
    others = [
        lora.changes | {name: change._replace(scale=3.0)},
        lora.changes | {name: change._replace(b=change.b + 1e-3)},
        {n: c for n, c in lora.changes.items() if n != name},
    ]
    assert len({lora.fingerprint, *(Lora(changes).fingerprint for changes in others)}) == 4
    assert Lora(dict(reversed(lora.changes.items()))).fingerprint == lora.fingerprint


def test_an_adapter_of_another_base_is_refused_by_what_does_not_fit(folder):
    wider = llama(89, 32, layers=2, heads=4, kv_heads=4, hidden=48, context_length=64)
    with pytest.raises(
        ValueError, match=r"another base: model\.layers\.0\.self_attn\.k_proj has A \(4, 32\) and B \(16"
    ):
        read_lora(folder, wider)
    shallower = llama(89, 32, layers=1, heads=4, kv_heads=2, hidden=48, context_length=64)
    with pytest.raises(ValueError, match=r"no linear layers model\.layers\.1"):
        read_lora(folder, shallower)
    with pytest.raises(ValueError, match="a gpt2 model like this one has no linear layers"):
        read_lora(folder, TIED)
    with pytest.raises(ValueError, match="of another model: this one has no linear layers decoder"):
        write_lora(folder.with_name("b"), random_lora(LLAMA, 1), TIED)
    with pytest.raises(ValueError, match=r"its decoder\.blocks\.0\.attention\.key goes from 32 to 16 values.*32 to 32"):
        write_lora(folder.with_name("b"), random_lora(LLAMA, 1), wider)


def test_a_deeper_base_is_not_taken_for_the_adapted_one(folder):
    deeper = llama(89, 32, layers=3, heads=4, kv_heads=2, hidden=48, context_length=64)
    with pytest.raises(ValueError, match=r"lacks model\.layers\.2\.mlp\.down_proj.*target_modules"):
        read_lora(folder, deeper)


def test_tensors_and_config_that_disagree_are_refused(folder):
    edit(folder, r=5)
    with pytest.raises(ValueError, match=r"_proj has the rank 4, adapter_config\.json says 5"):
        read_lora(folder, LLAMA)
    edit(folder, r=4, use_dora=True)
    with pytest.raises(ValueError, match=r"_proj has no magnitudes, adapter_config\.json says use_dora = True"):
        read_lora(folder, LLAMA)
    edit(folder, use_dora=False, target_modules=["q_proj"])
    with pytest.raises(ValueError, match=r"down_proj.*does not name"):
        read_lora(folder, LLAMA)


@for_each("place", [-1, -1000, 100])
def test_a_damaged_file_is_refused_by_its_name(folder, place):
    """One bit anywhere: in the values it is the checksum that finds it."""
    content = bytearray((folder / FILE).read_bytes())
    content[place] ^= 1
    (folder / FILE).write_bytes(content)
    with pytest.raises(ValueError, match="adapter_model"):
        read_lora(folder, LLAMA)


def test_a_file_that_ends_too_early_is_refused_by_its_name(folder):
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-7])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_lora(folder, LLAMA)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(folder, value):
    edit(folder, alpha_pattern={"q_proj": value})
    with pytest.raises(ValueError, match=r"finite number, got q_proj"):
        read_lora(folder, LLAMA)
    edit(folder, alpha_pattern={})
    name = "model.layers.1.mlp.up_proj"
    change_tensors(
        folder, lambda tensors: tensors | {f"base_model.model.{name}.lora_A.weight": torch.full((4, 32), value)}
    )
    with pytest.raises(ValueError, match=rf"{name}.lora_A.weight holds values that are not finite"):
        read_lora(folder, LLAMA)


def test_what_is_missing_is_named(folder):
    change_tensors(
        folder, lambda tensors: {n: t for n, t in tensors.items() if not n.endswith("1.mlp.up_proj.lora_B.weight")}
    )
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.up_proj have not both of lora_A and lora_B"):
        read_lora(folder, LLAMA)
    (folder / FILE).unlink()
    with pytest.raises(FileNotFoundError, match="no weights"):
        read_lora(folder, LLAMA)
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(UnsupportedModel, match="pickled"):
        read_lora(folder, LLAMA)
    with pytest.raises(FileNotFoundError, match=r"no adapter_config\.json"):
        read_lora(folder.parent, LLAMA)


@for_each(
    "name",
    [
        "base_model.model.model.layers.0.self_attn.q_proj.ia3_l",
        "base_model.model.model.embed_tokens.weight",
        "base_model.model.lm_head.weight",
    ],
)
def test_a_tensor_of_another_kind_of_adapter_is_refused_by_its_name(folder, name):
    change_tensors(folder, lambda tensors: tensors | {name: torch.zeros(3, 3)})
    with pytest.raises(UnsupportedModel, match=rf"{name} is not a matrix of a LoRA"):
        read_lora(folder, LLAMA)


def test_the_weight_of_a_base_that_was_resized_is_refused(tmp_path):
    lora = random_lora(LLAMA, 1, LoraConfig(r=2, target_modules=("head.projection",)))
    folder, name = write_lora(tmp_path / "a", lora, LLAMA), "base_model.model.lm_head.base_layer.weight"
    change_tensors(folder, lambda tensors: tensors | {name: torch.zeros(89, 32)})
    assert read_lora(folder, LLAMA).changes.keys() == {"head.projection"}
    change_tensors(folder, lambda tensors: tensors | {name: torch.zeros(90, 32)})
    with pytest.raises(UnsupportedModel, match="resized"):
        read_lora(folder, LLAMA)


def test_matrices_that_are_no_pair_are_refused():
    with pytest.raises(ValueError, match=r"layer: A is \(r, in\) and B is \(out, r\), got \(2, 3\) and \(4, 5\)"):
        Lora({"layer": LowRank(torch.zeros(2, 3), torch.zeros(4, 5), 1.0)})
