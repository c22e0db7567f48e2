"""Operations, bytes sent and time: closed forms of the papers, and published runs."""

import pytest
import torch
from published_runs import MEMORY_RUNS, RUNS
from torch.utils.flop_counter import FlopCounterMode

from kit.tables import for_each
from lmworks.model import presets
from lmworks.model.model_costs import count_parameters
from lmworks.model.presets.sizes import SIZES
from lmworks.model.transformer import Transformer
from lmworks.train.planning.communication import communication_bytes
from lmworks.train.planning.compute import (
    bubble_share,
    find_device,
    repeated_share,
    train_flops_per_token,
)
from lmworks.train.planning.device_share import device_share
from lmworks.train.planning.layout import NUMBERS, Layout

SMALL = presets.llama(97, 64, 2, 4, 4, 176, 32)


def test_forward_and_backward_take_what_torch_counts():
    """But for the embedding's gradient, which is no product, and the first layer's: all inputs get one there too."""
    model = Transformer(SMALL).to("meta")
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 32, dtype=torch.int64, device="meta")).sum().backward()
    counted = counter.get_total_flops() / (2 * 32)
    # Attention's backward computes the scores once more in a fused kernel: at most a half more of its forward.
    scores = 4 * 64 * 32 * 2
    assert train_flops_per_token(SMALL, 32) <= counted + scores
    assert train_flops_per_token(SMALL, 32) == pytest.approx(counted, abs=scores)


@for_each("name", ["llama2-7b", "gpt2-124m"])
def test_operations_follow_the_formula_of_megatron(name):
    """Narayanan et al. 2021, appendix: without recomputation 72 B s l h² (1 + s / 6 h + V / 12 l h), for a feed-forward
    of 4 h; that of LLaMA has three matrices of nearly 8/3 h."""
    config = SIZES[name].config
    width, layers, vocabulary = config.embedding.width, len(config.decoder.blocks), config.embedding.vocabulary
    length = config.context_length
    formula = 72 * layers * width**2 * (1 + length / (6 * width) + vocabulary / (12 * layers * width))
    assert train_flops_per_token(config, length) == pytest.approx(formula, rel=0.01)


def test_a_step_has_the_tokens_of_all_replicas_and_micro_batches():
    layout = Layout(data=3, micro_batches=5, sequences=2, length=16, context=2)
    assert layout.devices == 6 and layout.tokens_per_step == 480 and layout.tokens_per_device == 16


@for_each("run", [run for run in RUNS if run.flops is not None])
def test_published_operations_are_6_n_d(run):
    assert run.six_n_d() == pytest.approx(run.flops, rel=0.01)


@for_each("size", ["llama2-7b", "llama2-13b", "llama2-70b", "llama3.1-405b"])
def test_published_hours_mean_a_plausible_utilisation(size):
    """LLaMA 3 405B: 38 to 43 % while it ran (Grattafiori et al. 2024, table 4); the hours hold its interruptions
    too."""
    (run,) = (run for run in RUNS if run.size == size)
    assert 0.35 < run.utilisation() < 0.5


def test_published_memory_lies_where_the_plan_says():
    """Where every second product was kept, between keeping none and all; with float8 and tensor parallelism, of which
    the plan knows no buffers, up to a third above it."""
    for run in MEMORY_RUNS:
        low, high = run.expected()
        if low < high:
            assert low < run.measured < high
        else:
            assert 0.65 * run.measured < low < run.measured


def test_bubbles_and_repetition_are_those_of_the_papers():
    assert bubble_share(Layout(pipeline=8, micro_batches=32)) == 7 / 32
    assert bubble_share(Layout(pipeline=8, micro_batches=32, chunks=4)) == 7 / 128
    assert bubble_share(Layout()) == 0
    assert [repeated_share(policy) for policy in ("nothing", "selective", "blocks")] == [0, 0, 1 / 3]


def test_a_device_is_known_by_its_name():
    assert find_device("a100-80gb").peak == 312e12
    with pytest.raises(LookupError, match="h100-80gb"):
        find_device("h100")


# ---------------------------------------------------------------------------------------------------------------------


def test_data_parallelism_sends_what_zero_says():
    """Rajbhandari et al. 2020, section 7: 2 Ψ without ZeRO and with stages 1 and 2, 3 Ψ with stage 3, for many devices;
    here (n − 1) / n of that, of values of 2 bytes. The ends of the model are gathered once, and not twice."""
    count, ends = count_parameters(SMALL), device_share(SMALL, Layout()).ends
    for stage, values in ((0, 2 * count), (1, 2 * count), (2, 2 * count), (3, 3 * count - ends)):
        sent = communication_bytes(SMALL, Layout(data=64, zero=stage, length=32))
        assert sent == {"data": pytest.approx(2 * values * 63 / 64)}
    accumulating = communication_bytes(SMALL, Layout(data=64, zero=1, micro_batches=8, length=32))
    assert accumulating == communication_bytes(SMALL, Layout(data=64, zero=1, length=32))
    again = communication_bytes(SMALL, Layout(data=64, zero=3, micro_batches=8, length=32))["data"]
    assert again == 8 * communication_bytes(SMALL, Layout(data=64, zero=3, length=32))["data"]


def test_tensor_parallelism_sends_what_megatron_says():
    """Narayanan et al. 2021, section 3.2: 8 b s h (t − 1) / t values for each layer and micro-batch; one all-reduce
    each at the embedding and the head on top."""
    layout = Layout(tensor=4, sequences=2, length=32, micro_batches=3)
    values = 2 * 32 * 64 * 3 / 4
    sent = communication_bytes(SMALL, layout)["tensor"]
    of_logits = 2 * 64 * 3 * 4 * 3 / 4  # three float32 of each token's logits
    assert sent == 3 * ((2 * 8 + 2 * 2) * values * NUMBERS["mixed"].activations + of_logits)


def test_pipeline_context_and_experts_send_what_they_hold():
    inner = communication_bytes(SIZES["gpt3-175b"].config, Layout(pipeline=4, micro_batches=8), rank=1)
    assert inner == {"pipeline": 8 * 2 * 2048 * 12_288 * 2}
    first = communication_bytes(SIZES["gpt3-175b"].config, Layout(pipeline=4, micro_batches=8), rank=0)
    table = 50_257 * 12_288 * 2  # of the tied embedding, whose gradients the two ends exchange
    assert first["pipeline"] == inner["pipeline"] / 2 + table
    chunks = communication_bytes(SIZES["gpt3-175b"].config, Layout(pipeline=4, micro_batches=8, chunks=3), rank=1)
    assert chunks["pipeline"] == 3 * inner["pipeline"]
    gathered = communication_bytes(SMALL, Layout(context=4, length=32))["context"]
    # To three others: tokens, there and back, layers, keys and values, bytes; and each token's position.
    assert gathered == 3 * (32 / 4) * (2 * 2 * (2 * 64) * 2 + 8)
    mixtral = SIZES["mixtral-8x7b"].config
    sent = communication_bytes(mixtral, Layout(data=8, expert=8, length=1024))
    assert sent["expert"] == pytest.approx(32 * (4 * 1024 * 2 * 4096 * 2 + 8 * 8) * 7 / 8)
    held = device_share(mixtral, Layout(data=8, expert=8))
    assert sent["data"] == pytest.approx(2 * 2 * held.dense * 7 / 8)  # each expert is on one device alone


def test_one_device_sends_nothing():
    assert communication_bytes(SMALL, Layout(length=32)) == {}
