"""Runs of reinforcement learning: fixed points, the gap to the sampler, early_stopping, invariances, resumption."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from align.rl_cases import ascii_share, config_of, run_of
from generate.engine_cases import KINDS, make_engine
from kit.tables import for_each
from lmworks.adapt.config import FullConfig, LoraConfig
from lmworks.align.completions import Prompt
from lmworks.align.log_probabilities import Sequences, completion_log_probabilities
from lmworks.align.online_config import POLICY_GRADIENTS, GRPOConfig, OnlineDPOConfig, PPOConfig, StoppingConfig
from lmworks.align.policy_evaluation import validation_of_rollouts
from lmworks.align.stage_online import steps_within
from lmworks.config import from_mapping
from lmworks.evaluate.metric import Item
from lmworks.generate import Engine, Request
from lmworks.model.quantised_linear import has_adapter
from lmworks.train.loop import train
from lmworks.train.objectives.objective import select_rows
from lmworks.train.optimizer_config import AdamW
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.ranks import join
from lmworks.train.run_log import read_log
from objective_cases import TOLERANCE, means_and_gradients
from ranks import on_ranks

LORA = LoraConfig(r=4, lora_alpha=8)


def steps_of(folder: Path) -> list[dict]:
    return [line for line in read_log(folder / "log.jsonl") if line["kind"] == "step"]


@for_each("kind", KINDS)
@for_each("method", [FullConfig(), LORA])
def test_sampler_and_trainer_agree(kind, method, tmp_path):
    run = run_of(tmp_path, config_of(GRPOConfig(group_size=4, beta=0.1), method, steps=3))
    policy = run.loader.policy
    served = run.checkpoint if has_adapter(run.model) else run.checkpoint.with_model(run.model)
    policy.engine = make_engine(kind, served, slots=16, context_length=40)
    train(run)
    first, *others = steps_of(tmp_path)
    assert max(line["gap_max"] for line in (first, *others)) < 1e-5
    assert abs(first["kl"]) < 1e-6 and first["ratio_shift"] == 0 and abs(others[-1]["kl"]) > 1e-6  # k1
    assert 0 < first["entropy"] < np.log(260)


def batch_of(run) -> Sequences:
    run.model.eval()
    batch = next(run.loader)
    assert isinstance(batch, Sequences)
    return batch


ALGORITHMS = [GRPOConfig(name, group_size=4, beta=0.1, mask_truncated=False) for name in POLICY_GRADIENTS]


@for_each("algorithm", [*ALGORITHMS, PPOConfig(group_size=2)])
def test_padding_order_and_micro_batches_change_nothing(algorithm, tmp_path):
    run = run_of(tmp_path, config_of(algorithm))
    batch = batch_of(run)
    columns = {name: torch.nn.functional.pad(values, (0, 3)) for name, values in batch.columns.items()}
    padded = Sequences(
        *(torch.nn.functional.pad(each, (0, 3)) for each in (batch.ids, batch.mask)), batch.lengths, columns
    )
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
    means, gradients = means_and_gradients(run.model, run.objective, batch)
    for other in (padded, select_rows(batch, order)):
        found, theirs = means_and_gradients(run.model, run.objective, other)
        assert found == pytest.approx(means, abs=1e-5)
        for mine, its in zip(gradients, theirs, strict=True):
            assert mine is its is None or torch.allclose(mine, its, **TOLERANCE)
    counts = run.objective.counts(batch)
    run.model.zero_grad(set_to_none=True)
    for row in range(len(batch)):
        losses = run.objective.losses(run.model, select_rows(batch, slice(row, row + 1)))
        sum(loss.sum / counts[name] for name, loss in losses.items()).backward()
    for parameter, its in zip(run.model.parameters(), gradients, strict=True):
        assert parameter.grad is its is None or torch.allclose(parameter.grad, its, **TOLERANCE)


def test_a_name_given_in_a_recipe_stands_for_its_parts():
    config = from_mapping(type(config_of()), {"rows": ["x"], "algorithm": {"name": "rloo"}}).algorithm.resolved
    assert (config.advantage, config.ratio, config.reduction) == ("leave_one_out", "none", "constant")
    with pytest.raises(ValueError, match=r"algorithm\.num_iterations=1"):
        GRPOConfig("rloo", num_iterations=2)
    assert GRPOConfig("rloo", num_mini_batches=2, ratio="sequence").resolved.ratio == "sequence"


def test_raft_counts_what_it_imitates_alone(tmp_path):
    run = run_of(tmp_path, config_of(GRPOConfig("raft", group_size=4), prompts=2))
    batch = batch_of(run)
    (loss,) = run.objective.losses(run.model, batch).values()
    learned = batch.columns["advantages"] == 1
    assert batch.mask.any(-1).sum() == 2 and loss.count == int(learned.sum()) == int(batch.mask.sum())
    nats = -completion_log_probabilities(run.model, replace(batch, mask=learned)).sum() / learned.sum()
    assert float(loss.sum.detach()) / loss.count == pytest.approx(float(nats.detach()), rel=1e-5)  # as in fine-tuning


def test_a_completion_that_fills_its_room_loses_reward_evenly(tmp_path):
    """DAPO, equation 13, with L_max 8 and L_cache 4."""
    plain, soft = (run_of(tmp_path / str(n), config_of(overlong=n)) for n in (0, 4))
    draws = []
    for run in (plain, soft):
        run.model.eval()
        policy = run.loader.policy
        draws.append(run.loader.completions.draw([0, 1, 2], 0, 0, policy, policy.refresh(0)))
    lengths = [sum(one.sampled) for group in draws[0].groups for one in group]
    expected = [0 if n <= 4 else (4 - n) / 4 for n in lengths]
    assert -1 in expected and (draws[1].rewards - draws[0].rewards).flatten() == pytest.approx(expected)


@for_each(
    ("early_stopping", "name"),
    [
        (StoppingConfig(), "kl"),
        (StoppingConfig(kl=None), "distinct_2"),
        (StoppingConfig(kl=None, entropy=0.3, distinct_2=None), "entropy"),
    ],
)
def test_early_stopping_ends_a_run_that_collapses_and_saves_it(early_stopping, name, tmp_path):
    config = config_of(early_stopping=early_stopping, steps=30, train={"optimizer": AdamW(rate=3e-2, decay=0.0)})
    run = run_of(tmp_path, config)
    taken = train(run).step
    assert 0 < taken < 30 and run.checkpoints.steps()[-1] == taken == steps_of(tmp_path)[-1]["step"]
    assert any(name in line.get("text", "") for line in read_log(tmp_path / "log.jsonl"))
    again = run_of(tmp_path, config)
    assert train(again).step == taken and f"early_stopping.{name}" in again.stop


def test_early_stopping_lowers_the_rate_and_says_why(tmp_path):
    fades = iter(range(10**6))

    def reward(items, responses):  # a signal in the first batch alone
        return ascii_share(items, responses) if next(fades) < 1 else [0.5] * len(items)

    early_stopping = StoppingConfig(no_signal_batches=2, action="lower", patience=1)
    train(run_of(tmp_path, config_of(GRPOConfig(group_size=4), early_stopping=early_stopping, steps=6), reward))
    events = [line["text"] for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "event"]
    assert len(events) == 2 and "halved" in events[0] and "no signal" in events[0]
    free = [line["rate"] for line in steps_of(tmp_path)]
    assert free[3] < 0.6 * free[1]


@for_each("algorithm", [GRPOConfig(group_size=2), PPOConfig(), OnlineDPOConfig()])
def test_a_constant_reward_is_refused_before_the_first_step(algorithm, tmp_path):
    run = run_of(tmp_path, config_of(algorithm), lambda items, _: [1.0] * len(items))
    with pytest.raises(ValueError, match=r"is 1\.0 for all completions"):
        train(run)
    assert run.position.step == 0


class Parts:
    """Rewards of two parts, of which one says what is right, by each completion's number."""

    rule = "verifier"

    def __init__(self, verdicts, price=0.25):
        self.verdicts, self.price, self.parts, self.calls = iter(verdicts), price, {}, []

    def __call__(self, items, responses):
        own = [float(next(self.verdicts)) for _ in items]
        self.parts = {"verifier": own, "length": [2.0] * len(items)}
        self.calls.append(own)
        return [0.5 * value - self.price for value in own]


def test_what_passes_is_the_verifiers_own_value_whatever_it_weighs(tmp_path):
    run = run_of(tmp_path, config_of(GRPOConfig(group_size=4), prompts=3), Parts([1, 0, 0, 1, *[0] * 4, 0, 0, 0, 1]))
    batch_of(run)
    found = run.loader.metrics
    assert found["pass@1"] == found["reward/verifier"] == 0.25 and found["pass@4"] == pytest.approx(2 / 3)
    assert found["reward"] == pytest.approx(0.5 * 0.25 - 0.25) and found["reward/length"] == 2
    assert found["reward/verifier/std"] == pytest.approx(np.sqrt(0.25 * 0.75))
    assert found["frac_reward_zero_std"] == pytest.approx(1 / 3)


def test_numbers_are_of_what_is_learned_from_and_beside_them_of_what_was_drawn(tmp_path):
    algorithm = GRPOConfig("dapo", group_size=2, mask_truncated=False)
    reward = Parts([1, 1, 0, 1, 0, 0, 1, 0, 0, 1], price=0.0)  # two of three prompts are replaced, once
    run = run_of(tmp_path, config_of(algorithm, prompts=3), reward)
    batch_of(run)
    found = run.loader.metrics
    assert list(map(len, reward.calls)) == [6, 4]
    assert found["reward"] == 0.25 and found["reward/verifier"] == 0.5 and found["frac_reward_zero_std"] == 0
    assert found["drawn/reward"] == 0.25 and found["drawn/pass@1"] == 0.5 and found["pass@2"] == 1
    assert found["drawn/pass@2"] == found["drawn/frac_reward_zero_std"] == pytest.approx(2 / 3)
    assert 0 < run.loader.stall_share <= 1


def test_prompts_that_stay_without_a_signal_are_no_targets(tmp_path):
    algorithm = GRPOConfig("dapo", group_size=2, mask_truncated=False)
    run = run_of(tmp_path, config_of(algorithm, prompts=2), Parts([1, 0, 1, 1, *[1, 1] * 4]))
    batch = batch_of(run)
    assert batch.mask.any(-1).tolist() == [True, True, False, False]
    assert run.loader.metrics["frac_reward_zero_std"] == 0.5


def test_parts_of_a_batch_are_the_same_on_any_number_of_processes(tmp_path):
    loader = run_of(tmp_path, config_of(GRPOConfig(group_size=2, num_mini_batches=2), prompts=4)).loader

    def parts(rank: int, count: int) -> list[Counter]:
        own = replace(loader, ranks=SimpleNamespace(rows=(rank, count), total=list, most=list, any=bool))
        batches = next(own), next(own)
        return [Counter(tuple(ids[:n]) for ids, n in zip(b.ids.tolist(), b.lengths, strict=True)) for b in batches]

    alone, (first, second) = parts(0, 1), (parts(rank, 2) for rank in (0, 1))
    assert [one + other for one, other in zip(first, second, strict=True)] == alone and alone[0] != alone[1]


def test_held_out_prompts_are_answered_with_the_same_seeds_and_training_goes_on_as_without(tmp_path):
    runs = [run_of(tmp_path / name, config_of(GRPOConfig(group_size=2), LORA)) for name in ("plain", "validated")]
    heard, prompts = [], [Prompt((80, 81), Item("a", "PQ")), Prompt((82,), Item("b", "R"))]
    verdicts = Parts([1, *[0] * 15])
    held_out = replace(runs[1].loader.completions, prompts=prompts, reward=verdicts)
    validation = validation_of_rollouts(runs[1], held_out)
    scores = validation().metrics
    assert {name: score.value for name, score in scores.items()} == {
        "reward": pytest.approx(0.5 / 16 - 0.25), "pass@1": pytest.approx(1 / 16), "pass@8": 0.5}  # fmt: skip
    assert scores["pass@8"].n == 2
    listens = replace(held_out, reward=lambda *asked: heard.append(asked) or [0.0] * 16)
    validation = validation_of_rollouts(runs[1], listens)
    validation(), validation()
    assert heard[0] == heard[1] and len({response.text for response in heard[0][1]}) > 8
    one, other = (batch_of(run) for run in runs)
    assert torch.equal(one.ids, other.ids) and torch.equal(one.columns["sampled"], other.columns["sampled"])


def test_completions_that_are_all_cut_off_are_no_signal(tmp_path):
    algorithm = GRPOConfig("dapo", group_size=2, dynamic_sampling=False)
    run = run_of(
        tmp_path, config_of(algorithm, max_completion_length=2, early_stopping=StoppingConfig(no_signal_batches=1))
    )
    engine = run.loader.policy.engine

    def generate(requests):
        return [replace(each, finish_reason="length") for each in engine.generate(requests)]

    run.loader.policy.engine = SimpleNamespace(capabilities=engine.capabilities, generate=generate)
    with pytest.raises(ValueError, match=r"cut off at 2 tokens.*raise max_completion_length"):
        batch_of(run)
    run.loader.step = 1
    batch_of(run)
    assert run.loader.metrics["frac_reward_zero_std"] == 1 and "no signal" in run.loader.early_stopping.stop


@for_each("temperature", [1.0, 0.5])
def test_online_pairs_are_the_best_and_the_worst(temperature, tmp_path):
    config = config_of(OnlineDPOConfig(group_size=4), LORA, steps=2, temperature=temperature)
    train(run_of(tmp_path, config))
    first, second = steps_of(tmp_path)
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-5) and second["loss"] != first["loss"]


ON_RANKS = {
    "grpo": GRPOConfig(group_size=4),
    "reinforce": GRPOConfig("reinforce", group_size=4),
    "dapo": GRPOConfig("dapo", group_size=4, num_mini_batches=2),
    "ppo": PPOConfig(group_size=2, kl_target=0.01),
}
NUMBERS = ("loss", "gradient_norm", "reward", "targets", "length", "entropy")


def values(scores) -> list[float]:
    return [score.value for score in scores.values()]


def numbers_on_ranks(folder: str, name: str) -> list[float]:
    ranks = join(parallel := ParallelConfig(data=torch.distributed.get_world_size(), zero=1))
    run = run_of(Path(folder), config_of(ON_RANKS[name], prompts=4, steps=1, train={"parallel": parallel}), ranks=ranks)
    held_out = validation_of_rollouts(run, run.loader.completions)().metrics
    train(run)
    return [steps_of(Path(folder))[0][number] for number in NUMBERS] + values(held_out) if ranks.first else []


@pytest.mark.slow
@for_each("name", ON_RANKS)
def test_two_processes_sample_and_learn_what_one_does(name, tmp_path):
    """Compared by the gradient: Adam makes steps of rounding errors where it is 0."""
    two, _ = on_ranks(2, numbers_on_ranks, str(tmp_path / "two"), name)
    run = run_of(tmp_path / "one", config_of(ON_RANKS[name], prompts=4, steps=1))
    held_out = validation_of_rollouts(run, run.loader.completions)().metrics
    train(run)
    (one,) = steps_of(tmp_path / "one")
    assert two == pytest.approx([one[number] for number in NUMBERS] + values(held_out), rel=1e-4, abs=1e-5)


SCRIPT = """
import sys
from pathlib import Path
from align.rl_cases import config_of, run_of
from lmworks.adapt.config import FullConfig, LoraConfig
from lmworks.align.online_config import GRPOConfig, PPOConfig
from lmworks.train.loop import train
folder, kind, method = sys.argv[1:]
grpo = GRPOConfig(group_size=4, num_mini_batches=2, beta=0.1)
algorithm = PPOConfig(group_size=2, kl_target=0.01) if kind == "ppo" else grpo
method = LoraConfig(r=4, lora_alpha=8) if method == "lora" else FullConfig()
train(run_of(Path(folder), config_of(algorithm, method, steps=12), saves=3))
"""


@pytest.mark.slow
@for_each(("kind", "method"), [("grpo", "lora"), ("grpo", "full"), ("ppo", "lora")])
def test_a_killed_run_ends_as_an_undisturbed_one(kind, method, tmp_path):
    """Checkpoints fall between updates of one batch of rollouts, and the kill within the rollouts after them."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}

    def start(folder: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), kind, method], env=environment)

    assert start(tmp_path / "one").wait() == 0
    folder, log = tmp_path / "two", tmp_path / "two" / "log.jsonl"
    for step in (4, 8):
        process = start(folder)
        while process.poll() is None and not (log.exists() and any(line["step"] >= step for line in read_log(log))):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(folder).wait() == 0
    last = "checkpoints/step-00000012"
    files = [sorted((each / last).rglob("*.safetensors")) for each in (folder, tmp_path / "one")]
    assert files[0] and [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    numbers = [[line["reward"] for line in steps_of(each)] for each in (folder, tmp_path / "one")]
    assert numbers[0] == numbers[1] and len(numbers[0]) == 12


def test_sampling_leaves_the_model_in_training_mode(tmp_path):
    run = run_of(tmp_path, config_of())
    run.model.train()
    run.loader.policy.refresh(1)
    Engine(run.checkpoint, weights="float32").generate([Request(prompt_ids=[65])])
    assert all(module.training for module in run.model.modules())
    with torch.no_grad():
        run.model.tokens.add_(1.0)
    sampled = run.loader.policy.engine.checkpoint.model
    assert sampled.tokens is run.model.tokens and not sampled.training


@for_each("prompts", [-5.0, 0.5, 7.0, 31.9, 32.0, 400.0])
def test_planned_steps_take_the_prompts_that_time_is_left_for(prompts):
    together, steps = steps_within(prompts, 1, 8)
    assert 1 <= together <= 8
    assert steps >= 1
    assert together * steps <= max(prompts, 1.0) < together * (steps + 1) or prompts < 1
