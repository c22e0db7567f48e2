"""Environments: a tool that a policy calls."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from align.rl_cases import config_of, run_of
from byte_tokenizer import byte_tokenizer
from generate.engine_cases import tiny_llama
from lmworks.align import environments
from lmworks.align.environments import Episodes, episodes, limited_environment, tool_constraint, tool_environment
from lmworks.align.online_config import GRPOConfig, OnlineConfig
from lmworks.align.rewards import items_of
from lmworks.align.stage_online import check, load_policy, read_rows
from lmworks.artefact import StageContext
from lmworks.evaluate.metric import Item
from lmworks.generate.constraint import Regex
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from lmworks.records import Message
from lmworks.tokenizer.tool_calls import OWN_FORM
from lmworks.train.loop import train

TOOLS = environments.TOOLS["calculator"]


def test_a_call_is_run_and_words_end_the_episode():
    environment = tool_environment(TOOLS, OWN_FORM)
    asked = [Message("user", "12*12?")]
    call = OWN_FORM.write("calculator", json.dumps({"expression": "(12 * 12) / 5"}))
    turn = environment(asked, f"Let me see. {call}", None)
    assert turn == ((Message("tool", "28.8", name="calculator", tool_call_id="call00000"),), None, False)
    assert environment(asked, "It is 28.8.", None) == ((), None, True)
    ((failed,), *_) = environment(asked, OWN_FORM.write("calculator", "{}"), None)
    assert "TypeError" in failed.content
    ((none,), *_) = environment(asked, OWN_FORM.write("calculator", '{"expression": "2**99"}'), None)
    assert "no arithmetic" in none.content


def test_any_policy_writes_calls_that_run_under_the_constraint():
    """One of random weights, which would never write a call by itself."""
    config = llama(260, width=32, layers=1, heads=2, kv_heads=1, hidden=32, context_length=256, tied=True)
    tokenizer = byte_tokenizer({"eos_token": "<|im_end|>"})
    weights = initialise(Transformer(config), seed=1).state_dict()
    engine = Engine(assemble(config, weights, tokenizer), weights="float32")
    environment = tool_environment(TOOLS, OWN_FORM)
    calls = tool_constraint(TOOLS, OWN_FORM)
    sampling = SamplingParameters(200, temperature=1.0, constraint=replace(calls, required=True))
    done = engine.generate([Request((65, 66), sampling=replace(sampling, seed=seed)) for seed in (1, 2)])
    assert all(
        not environment([Message("user", "?")], one.text, None)[2] for one in done if one.finish_reason == "stop"
    )


def again(messages: Sequence[Message], completion: str, _: Item) -> tuple[tuple[Message, ...], float | None, bool]:
    """Asks once more, with capitals, and rewards vowels."""
    return (Message("user", "AGAIN"),), sum(map(completion.count, "aeiou")), len(messages) > 1


def test_a_step_learns_from_what_was_sampled_in_all_turns_alone(tmp_path):
    config = config_of(GRPOConfig(group_size=4), steps=1, length=200, environment=f"{__name__}:again")
    environment, letters = again, Regex("[a-z]{3}")
    run = run_of(tmp_path, config, None, episodes=Episodes(environment, constraint=letters))
    run.model.eval()
    batch = next(run.loader)
    decode = run.checkpoint.required_tokenizer.decode
    for ids, mask in zip(batch.ids, batch.mask, strict=True):
        said = decode(ids[mask].tolist()).replace("<|im_end|>", "")
        assert len(said) == 6 and said.islower() and "AGAIN" in decode(ids.tolist())
    assert run.loader.metrics["gap_max"] < 1e-5 and run.loader.metrics["reward/std"] > 0
    run.loader = replace(run.loader, step=0)
    before = [weight.clone() for weight in run.model.parameters()]
    assert train(run).step == 1 and not all(map(torch.equal, before, run.model.parameters()))
    with pytest.raises(LookupError, match="calculator"):
        episodes("abacus", lambda: OWN_FORM)


def test_an_environment_of_ones_own_gives_the_reward_of_rows_without_an_answer(tmp_path):
    rows, name = tmp_path / "rows.jsonl", "align.own_rewards:knows"
    rows.write_text('{"prompt": "Which number?", "secret": 7}\n')
    config = OnlineConfig((str(rows),), environment=name)
    check(config, tmp_path)  # of the stage, before it runs
    (item,) = items_of(read_rows(config, tmp_path))  # type: ignore[arg-type]
    environment = limited_environment(name, None, seconds=1.0)
    asked = [Message("user", "Which number?")]
    assert environment(asked, "7", item) == ((), 1.0, True) and environment(asked, "8", item) == ((), 0.0, True)
    for bad in ("hang", "raise"):
        reply, reward, over = environment(asked, bad, item)
        assert (reply, str(reward), over) == ((), "nan", True)
    assert environment(asked, "7", item)[1] == 1.0
    tools = episodes("align.own_rewards:SEARCH", lambda: OWN_FORM)
    assert tools.tools == (environments.CALCULATOR,) and tools.constraint is not None
    ((failed,), *_) = tools.environment(asked, OWN_FORM.write("search", "{}"), item)
    assert "TypeError" in failed.content


def test_a_base_without_a_template_gets_that_of_a_family(tmp_path):
    tiny_llama().save(tmp_path / "base")
    config, context = OnlineConfig(("rows.jsonl",), base=str(tmp_path / "base")), StageContext({}, tmp_path, tmp_path)
    with pytest.raises(ValueError, match="family=chatml"):
        load_policy(config, context)
    assert "im_start" in (load_policy(replace(config, family="chatml"), context).chat_template or "")


@pytest.mark.slow  # of an extra that the quick suite does not install
def test_reasoning_tasks_have_splits_that_share_no_item():
    pytest.importorskip("reasoning_gym", reason="the extra `reasoning` is not installed")
    from reasoning_gym import create_dataset

    from lmworks.align.reasoning_tasks import reasoning_rows
    from lmworks.align.rewards import RewardSum, items_of
    from lmworks.evaluate.metric import Response

    beside = [{row["question"] for row in create_dataset("chain_sum", size=50, seed=seed)} for seed in (7, 8)]
    assert len(beside[0] & beside[1]) == 49  # the trap
    train, test = (reasoning_rows("chain_sum", 50, split) for split in ("train", "test"))
    assert len(train) == 50 and not {row.prompt for row in train} & {row.prompt for row in test}
    small = {"min_digits": 1, "max_digits": 1, "max_terms": 2}
    test = reasoning_rows("chain_sum", 100, "test", **small)
    assert len({row.prompt for row in test}) == len(test) < 100
    rows = [test[0], reasoning_rows("countdown", 1, own_check=True)[0]]
    answer = json.loads(rows[1].answer)["entry"]["metadata"]["expression"]
    with RewardSum({"verifier": 1.0}) as reward:
        right = reward(items_of(rows), [Response(f"Answer: {rows[0].answer}"), Response(f"Answer: {answer}")])
        wrong = reward(items_of(rows), [Response(f"Answer: {rows[0].answer} or 3"), Response("Answer: 1")])
    assert right == [1.0, 1.0] and wrong == [0.0, 0.0]
    with pytest.raises(LookupError, match="chain_sum"):
        reasoning_rows("chainsum", 1)
    with pytest.raises(ValueError, match="terms"):
        reasoning_rows("chain_sum", 1, max_terms=0)
