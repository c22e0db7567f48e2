"""Reward models: the same scores as `transformers`, adapters that PEFT loads, what the report says, the metric."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import lmworks
from generate.engine_cases import tiny_llama
from kit.tables import for_each
from lmworks.adapt.task_head import with_head
from lmworks.align.config import RewardConfig
from lmworks.align.log_probabilities import sequences_of
from lmworks.align.online_config import OnlineConfig
from lmworks.align.reward_model import Reward, score
from lmworks.align.reward_report import Targets, reward_scores, targets_of
from lmworks.align.stage_online import reward_of
from lmworks.artefact import read_manifest
from lmworks.build import run_alone
from lmworks.data.token_groups import TokenGroup, join_groups
from lmworks.data.training_rows import group_completions, parse_preference_row
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.registry import metric
from lmworks.generate.protocol import UnsupportedError
from lmworks.generate.reward_scores import RewardModel
from lmworks.model.config import ScoreHead
from lmworks.records import Stepwise
from lmworks.tokenizer.chat_templates import chat_template

WORDS = ("dog", "cat", "sun", "red", "leave", "tree", "ship", "moon", "bread", "glass", "paper", "stone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward")
    tiny_llama(chat_template("chatml")).save(folder / "base")
    rows = [{"prompt": f"say {word}", "chosen": "aye", "rejected": "nay"} for word in WORDS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [
        {"prompt": word, "completions": ["one", "two" if n % 2 else "too", "end"], "labels": [True, bool(n % 2), True]}
        for n, word in enumerate(WORDS)
    ]
    (folder / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    return folder


def trained(folder, name, rows, *settings):
    given = [f'rows=["{folder / rows}"]', f"base={folder / 'base'}", "algorithm.kind=reward", "held_out=0.3", *settings]
    return run_alone("align.offline", folder / name, [], [], given, Console(quiet=True)).folder


@pytest.fixture(scope="module")
def judged(folder):
    return trained(folder, "judged", "pairs.jsonl", "epochs=8", "rate=0.01")


def test_transformers_and_peft_give_the_scores_of_the_adapter(folder, judged):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "base", num_labels=1)
    theirs = peft.PeftModel.from_pretrained(base, judged).eval()
    theirs.config.pad_token_id = theirs.base_model.model.config.pad_token_id = 0
    ids = [[9, 8, 7, 6, 5, 4, 3], [20, 21, 22]]
    batch = join_groups([TokenGroup([each]) for each in ids]).batch([0, 1])
    with torch.no_grad():
        expected = theirs(input_ids=batch.ids[:, 0], attention_mask=batch.attention_mask[:, 0].long()).logits[:, 0]
        found = score(lmworks.load(judged).model, sequences_of(batch))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_it_prefers_what_was_chosen_and_a_suite_may_ask_it(judged):
    answers = [Response("aye"), Response("nay"), Response(" ")]
    measured = metric("reward-model", reward=str(judged))
    good, bad, empty = measured.measure([Item(str(n), "say a new word") for n in range(3)], answers)
    assert good > bad + 1 and empty.reason
    assert measured.signature == metric("reward-model", reward=RewardModel(lmworks.load(judged))).signature
    numbers = read_manifest(judged).metrics
    assert numbers["held_out_accuracy"] == 1.0 and numbers["held_out_length_accuracy"] == 0.5
    with pytest.raises(UnsupportedError, match="method reward"):
        RewardModel(tiny_llama())


@pytest.mark.slow
def test_a_process_model_finds_the_wrong_step(folder):
    whole = trained(folder, "steps", "steps.jsonl", "method.kind=full", "epochs=30", "rate=0.003")
    model = RewardModel(lmworks.load(whole))
    right, wrong = (model.steps("bread", ["one", middle, "end"]) for middle in ("two", "too"))
    assert right[1] > 0 > wrong[1] and right[0] > 0 and wrong[2] > 0
    assert model.score([("bread", "one\ntwo\nend")])[0] == pytest.approx(right[2], abs=1e-5)


def test_steps_are_labelled_at_their_last_tokens_and_cut_ones_are_not():
    checkpoint, left_out = tiny_llama(chat_template("chatml")), []
    row = Stepwise("go", ("ab", "cde", "f"), (True, False, True))
    whole = group_completions([row], checkpoint.chat, 200, left_out)
    batch, text = whole.batch([0]), checkpoint.required_tokenizer
    ends = {side: batch.completion_mask[0, side].nonzero()[:, 0].tolist() for side in (0, 1)}
    prefix = [text.decode(batch.ids[0, 0, : place + 1].tolist(), False) for place in (ends[0][0], ends[1][0])]
    assert prefix[0].endswith("assistant\nab") and prefix[1].endswith("assistant\nab\ncde")
    assert ends[0][1] == whole.lengths[0] - 1
    cut = group_completions([row, row], checkpoint.chat, ends[1][0] + 1, left_out)
    assert cut.cut == 4 and cut.batch([0]).completion_mask[0].sum(-1).tolist() == [1, 1] and not left_out
    with pytest.raises(ValueError, match="a label for each"):
        group_completions([replace(row, labels=(True,))], checkpoint.chat, 200, left_out)


def test_a_row_says_by_how_much_its_chosen_completion_is_better():
    checkpoint = tiny_llama(chat_template("chatml"))
    model = with_head(checkpoint, ScoreHead(), 0).model
    given = [{"prompt": "say", "chosen": "aye", "rejected": "no"} | more for more in ({"margin": 1.5}, {})]
    rows: list[Any] = [parse_preference_row(row, "rows 1") for row in given]
    batch = group_completions(rows, checkpoint.chat, 200, []).batch([0, 1])
    (loss,) = Reward("pairwise", RewardConfig(center_rewards_coefficient=0.0)).losses(model, batch).values()
    chosen, rejected = score(model, sequences_of(batch))[:2].tolist()
    expected = sum(np.log1p(np.exp(-(chosen - rejected - margin))) for margin in (1.5, 0.0))  # as TRL's
    assert float(loss.sum.detach()) == pytest.approx(expected, rel=1e-5)


@for_each(("steps", "of_ensemble"), [(None, "mean"), ("min", "min"), ("last", "mean")])
def test_the_reward_of_a_run_is_that_of_its_models(steps, of_ensemble, tmp_path):
    for seed in (0, 1):
        with_head(tiny_llama(chat_template("chatml")), ScoreHead(), seed).save(tmp_path / str(seed))
    models = [RewardModel(lmworks.load(tmp_path / str(seed))) for seed in (0, 1)]
    given = {"reward_models": ("0", "1"), "reward_steps": steps, "reward_ensemble": of_ensemble}
    reward = reward_of(OnlineConfig(("rows.jsonl",), rewards={"reward-model": 2.0}, **given), tmp_path)
    assert reward is not None
    whole, parts = "one\ntwo", ["one", "two"]
    scores = [each.steps("go", parts) for each in models] if steps else [each.score([("go", whole)]) for each in models]
    one = [float({"min": np.min, "last": lambda of: of[-1], None: lambda of: of[0]}[steps](each)) for each in scores]
    expected = 2 * (min(one) if of_ensemble == "min" else np.mean(one))
    assert one[0] != one[1] and reward([Item("1", "go")], [Response(whole)]) == [pytest.approx(expected, abs=1e-6)]


def test_a_score_that_is_length_is_found_out():
    draw = np.random.default_rng(0)
    sizes = draw.integers(2, 30, (200, 2))
    masks = [[[False] + [True] * size for size in pair] for pair in sizes]
    groups = join_groups([TokenGroup([[5] * len(mask) for mask in pair], pair) for pair in masks])
    lengths = sizes.astype(np.float64)
    train = targets_of("pairwise", groups)
    scores = reward_scores("pairwise", train, train, lengths * 0.1)
    longer = np.where(sizes[:, 0] == sizes[:, 1], 0.5, sizes[:, 0] > sizes[:, 1]).mean()
    assert scores["accuracy"].value == pytest.approx(longer)
    assert scores["length_accuracy"].value == pytest.approx(max(longer, 1 - longer))
    assert scores["length_correlation"].value == pytest.approx(1)
    calibrated = draw.normal(size=(4000, 2))
    flip = draw.random(4000) > 1 / (1 + np.exp(calibrated[:, 1] - calibrated[:, 0]))
    calibrated[flip] = calibrated[flip, ::-1]
    of = Targets(calibrated, np.ones(4000), list(range(4000)))
    honest = reward_scores("pairwise", train, of, calibrated)
    assert honest["ece"].interval[0] == 0 and honest["ece"].value < 0.03
