"""A pruned model is the whole one with the columns of what went zeroed, and its folder is a plain one."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import transformers

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.compress.block_calibration import CalibrationText
from lmworks.compress.config import StructuredPruning
from lmworks.compress.structured_pruning import importance, prune_structure
from lmworks.model.checkpoint import assemble, load
from lmworks.model.presets import gpt2, llama, qwen3
from objective_cases import new_model
from training_cases import SPECIAL

GROUPED = llama(vocabulary=257, width=64, layers=4, heads=8, kv_heads=4, hidden=160, context_length=64)
CONFIGS = {
    "llama": GROUPED,
    "qwen3": qwen3(257, 64, 4, 8, 4, 160, 64, head_dim=16, tied=True),
    "gpt2": gpt2(vocabulary=257, width=64, layers=4, heads=4, context_length=64),
}
IDS = torch.randint(257, (6, 40), generator=torch.Generator().manual_seed(0))
TEXT = CalibrationText(IDS, ())


def a_checkpoint(family: str = "llama"):
    return assemble(CONFIGS[family], new_model(CONFIGS[family], family).state_dict(), byte_tokenizer(SPECIAL))


@for_each("criterion", ["magnitude", "activation", "taylor"])
@for_each(
    ("family", "shares"),
    [
        ("llama", {"heads": 0.5}),
        ("llama", {"kv_groups": 0.5}),
        ("llama", {"heads": 0.5, "kv_groups": 0.25, "neurons": 0.4}),
        ("qwen3", {"kv_groups": 0.25, "neurons": 0.2}),
        ("gpt2", {"neurons": 0.5}),
    ],
)
def test_it_is_the_whole_model_with_what_scores_least_zeroed(family, shares, criterion):
    """The units are chosen here from the scores, by sorting them."""
    checkpoint, config = a_checkpoint(family), StructuredPruning(**shares, criterion=criterion)
    pruned = prune_structure(checkpoint, config, TEXT)
    scores = importance(copy.deepcopy(checkpoint.model), config, IDS)
    zeroed = copy.deepcopy(checkpoint.model)
    for number, block in enumerate(zeroed.decoder.blocks):
        attention = block.attention.config
        gone = set[int]()
        if "heads" in scores:
            groups = scores["heads"][number].view(attention.kv_heads, -1)
            lost = round(attention.kv_heads * shares.get("kv_groups", 0.0))
            gone_groups = groups.sum(1).argsort()[:lost].tolist()
            per_group = groups.argsort(1)[:, : round(groups.shape[1] * shares.get("heads", 0.0))]
            for group, heads in enumerate(per_group.tolist()):
                heads = range(groups.shape[1]) if group in gone_groups else heads
                gone |= {group * groups.shape[1] + head for head in heads}
        for head in gone:
            block.attention.output.weight.data[:, head * attention.head_dim : (head + 1) * attention.head_dim] = 0
        if "neurons" in scores:
            kept = pruned.config.decoder.blocks[number].feed_forward.hidden
            assert kept % 32 == 0 and kept < scores["neurons"].shape[1]
            least = scores["neurons"][number].argsort()[: scores["neurons"].shape[1] - kept]
            block.feed_forward.down.weight.data[:, least] = 0
        assert pruned.config.decoder.blocks[number].attention.heads == attention.heads - len(gone)
    torch.testing.assert_close(pruned.model(IDS), zeroed(IDS), rtol=1e-4, atol=1e-5)


def test_layers_that_turn_the_hidden_states_least_are_skipped():
    """Block influence as Men et al. 2024, equation 1, from a run of the blocks."""
    checkpoint = a_checkpoint()
    for number, share in ((1, 0.01), (2, 0.1)):  # that they turn them less than the others
        block = checkpoint.model.decoder.blocks[number]
        block.attention.output.weight.data *= share
        block.feed_forward.down.weight.data *= share
    scores = importance(checkpoint.model, StructuredPruning(layers=2), IDS)["layers"][:, 0]
    hidden = checkpoint.model.embedding(IDS, torch.arange(40)[None])
    contexts = checkpoint.model.decoder.layer_contexts(hidden, torch.arange(40)[None])
    for score, block, context in zip(scores, checkpoint.model.decoder.blocks, contexts, strict=True):
        after = block(hidden, context)
        torch.testing.assert_close(
            score.float(), (1 - F.cosine_similarity(hidden, after, dim=-1)).sum(), rtol=1e-3, atol=1e-4
        )
        hidden = after
    skipping = copy.deepcopy(checkpoint.model)
    for number in (1, 2):
        skipping.decoder.blocks[number].forward = lambda hidden, *_: hidden
    pruned = prune_structure(checkpoint, StructuredPruning(layers=2), TEXT)
    torch.testing.assert_close(pruned.model(IDS), skipping(IDS))


def test_taylors_importance_is_the_slope_of_a_factor_of_each_head():
    """Michel et al. 2019, equation 2: E |∂L / ∂ξ| of a factor ξ of what a head gives, sequence by sequence."""
    model, expected = a_checkpoint().model, torch.zeros(8)
    found = importance(copy.deepcopy(model), StructuredPruning(heads=0.5), IDS)["heads"][1]
    factors = torch.ones(8, requires_grad=True)
    output = model.decoder.blocks[1].attention.output
    output.register_forward_pre_hook(
        lambda _, given: ((given[0].unflatten(-1, (8, 8)) * factors[:, None]).flatten(-2),)
    )
    for sequence in IDS:
        loss = F.cross_entropy(model(sequence[None])[0, :-1], sequence[1:], reduction="sum")
        expected += torch.autograd.grad(loss, factors)[0].abs()
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-5)


@for_each(
    ("family", "written", "config"),
    [
        ("llama", "llama", StructuredPruning(layers=1, heads=0.5, neurons=0.4)),
        ("llama", "mistral", StructuredPruning(kv_groups=0.25)),  # 6 heads of 8 in a width of 64
        ("qwen3", "qwen3", StructuredPruning(layers=2, kv_groups=0.5, neurons=0.2)),
        ("gpt2", "gpt2", StructuredPruning(layers=1, neurons=0.25)),
    ],
)
def test_its_folder_is_a_plain_one(family, written, config, tmp_path):
    pruned = prune_structure(a_checkpoint(family), config, TEXT)
    pruned.save(tmp_path / "pruned")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "pruned")
    assert theirs.config.model_type == written
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, pruned.model(IDS), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(load(tmp_path / "pruned").model(IDS), pruned.model(IDS))


@for_each(
    ("family", "config", "message"),
    [
        ("llama", StructuredPruning(layers=4), "4 layers, and cannot lose 4"),
        ("gpt2", StructuredPruning(heads=0.5), "take out neurons or layers only"),
    ],
)
def test_what_a_model_cannot_lose_is_refused(family, config, message):
    with pytest.raises(ValueError, match=message):
        prune_structure(a_checkpoint(family), config, TEXT)
