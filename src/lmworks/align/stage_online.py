"""The stage `align.online`: a model and prompts into a better policy, by the rewards of what it says itself."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from lmworks.adapt.adapter import load
from lmworks.adapt.config import FullConfig, Method
from lmworks.align.completions import Prompt, RatedCompletions, SampledCompletions
from lmworks.align.dpo import Pairs
from lmworks.align.environments import Episodes, episodes
from lmworks.align.grpo import PolicyOptimization
from lmworks.align.log_probabilities import check_temperature
from lmworks.align.online_config import STEPS, OnlineConfig, OnlineDPOConfig, PPOConfig
from lmworks.align.policy import policy_of
from lmworks.align.policy_evaluation import (
    COMPLETIONS,
    suite_section,
    validation_of_rollouts,
)
from lmworks.align.ppo import add_critic
from lmworks.align.reward_report import held_out_section
from lmworks.align.rewards import RewardSum, items_of
from lmworks.align.rollout_loader import RolloutLoader
from lmworks.align.rollout_report import rollouts_section
from lmworks.align.sft_replay import WithReplay, read_demonstrations
from lmworks.align.stage_offline import METHODS, RATES, SHOWN, load_policy
from lmworks.artefact import StageContext, StageResult, hash_json
from lmworks.config import to_mapping
from lmworks.data.conversations import as_messages, conversation_files
from lmworks.data.training_rows import group_completions, read_preference_rows, split_rows
from lmworks.evaluate.metric import Metric
from lmworks.evaluate.model_rewards import ensemble, process_model, reward_model
from lmworks.evaluate.suite_comparison import run_suites
from lmworks.generate.reward_scores import RewardModel
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.download import located
from lmworks.progress import no_report
from lmworks.records import Rated, RejectedRecord, Verifiable
from lmworks.report import Table
from lmworks.tokenizer.tool_calls import OWN_FORM, Tool, ToolForm
from lmworks.train.fit import Adapt, Report, adapts, fit, new_run
from lmworks.train.held_out import samples_of
from lmworks.train.objectives.objective import Objective
from lmworks.train.parallel.ranks import ALONE, Ranks, join
from lmworks.train.run import Run
from lmworks.train.run_log import LOG
from lmworks.train.run_report import doubt_of_steps, run_section
from lmworks.train.settings import USED, at_rate, kept_settings, measured_steps, rows_together, with_rank
from lmworks.train.train_stages import find_base

_HELD_OUT, _EACH_MINUTE = 50, 2.5  # prompts at most
_FEW_STEPS = 4  # where fewer of all prompts fit into the minutes, a step has fewer prompts


def online(config: OnlineConfig, context: StageContext) -> StageResult:
    """The checkpoint of the one input, or `config.base`, learns from what it says to the prompts, or from rated
    completions. The errors are those of `read_rows` and `suite.evaluate`."""
    began = time.perf_counter()
    rows, algorithm = read_rows(config, context.base), config.algorithm
    checkpoint, left_out = load_policy(config, context), list[RejectedRecord]()
    check_temperature(checkpoint.model, config.temperature)
    tokens = (config.steps or STEPS) * config.prompts * algorithm.group_size * config.max_completion_length
    method, ranks = with_rank(config.method, checkpoint, tokens), join(config.train.parallel)
    rate, progress = config.rate or RATES[config.method.kind], context.progress if ranks.first else no_report
    if config.suites and ranks.first:
        run_suites(config, context, find_base(config.base, context), "before")
    held_out: list[Prompt] = []
    if isinstance(rows[0], Rated):
        completions = RatedCompletions.of(config, rows, checkpoint, left_out)  # type: ignore[arg-type]
        prompts, lost = len(completions.completions), len(left_out)
        lengths = [len(completion.ids) for group in completions.completions for completion in group]
    else:
        chat = checkpoint.chat
        played = (episodes_of(config, lambda: chat.tool_form), chat) if config.environment else None
        tools = None if played is None else played[0].tools
        whole = prompts_of(rows, checkpoint, config.length - config.max_completion_length, tools)  # type: ignore[arg-type]
        changes = config.remote is None or config.remote.adapters  # or what is sampled stays as it was
        most = max(min(_HELD_OUT, int(_EACH_MINUTE * (config.minutes or _HELD_OUT))), 2)
        learned, held_out = split_rows(whole, config.held_out if changes else 0.0, lambda row: row.prompt, 2, most)
        completions = SampledCompletions(config, learned, reward_of(config, context.base), played)
        prompts, lost = len(learned), len(rows) - len(whole)
        lengths = [config.length if played else len(row.ids) + config.max_completion_length for row in learned]
    micro_batch = micro_batch_of(config, lengths)
    objective = objective_of(config, checkpoint, context.base, ranks)

    def run_on(config: OnlineConfig, base: Checkpoint, folder: Path | None = None) -> Run:
        loader, steps = RolloutLoader(config, completions, ranks, progress=progress), config.steps or STEPS
        if isinstance(algorithm, PPOConfig) and adapts(method, config.seed) is None:
            add_critic(base.model)  # which the checkpoint's weights do not hold
        training = replace(at_rate(config.train, rate), micro_batch=micro_batch)
        if held_out and training.validate is None:
            training = replace(training, validate=steps)  # the end; before the first step it is measured anyway
        adapt, compares = adapted(config, method), bool(held_out)
        run = new_run(context, base, objective, loader, training, adapt, ranks, compares, folder)
        run.early_stopping = loader.early_stopping
        loader.policy = policy_of(run, config, method, completions.fixed)
        if isinstance(completions, RatedCompletions):
            completions.measure(loader.policy)
        return run

    def trial(steps: int, few: int, folder: Path) -> Run:
        # On weights of its own where these change.
        base = load_policy(config, context) if isinstance(method, FullConfig) else checkpoint
        return run_on(replace(config, steps=steps, prompts=few), base, folder)

    def derived() -> tuple[int, int, str]:
        if config.minutes is None or config.steps is not None:
            return config.steps or STEPS, config.prompts, "as set" if config.steps else "unless set"
        count = 1 + algorithm.updates  # all but the first are measured, a rollout among them
        few = config.prompts if completions.fixed else ranks.config.data  # as measuring is of the minutes, too
        taken = [seconds for seconds, _ in measured_steps(partial(trial, count, few), count)]
        of_prompt = sum(taken) / len(taken) / few  # seconds
        left = USED * 60 * config.minutes - (time.perf_counter() - began)
        evaluated = 2 * len(held_out) * COMPLETIONS / algorithm.group_size  # before and after, as prompts of a step
        fitting, affordable = steps_within(left / of_prompt - evaluated, few, config.prompts)
        why = f"at most {STEPS}; {affordable:,} fit into {config.minutes:g} minutes with measuring and evaluations"
        return min(affordable, STEPS), fitting, why

    if not isinstance(completions, RatedCompletions):
        size = f"{config.prompts} prompts with {algorithm.group_size} completions each"
        progress(0, None, "batches", note=f"the first rollouts, {size}; their rewards: {_weights(config)}")
    steps, together, why = kept_settings(context, ranks, derived)
    run = run_on(replace(config, steps=steps, prompts=together), checkpoint)
    if held_out and isinstance(completions, SampledCompletions):
        run.validate = validation_of_rollouts(run, replace(completions, prompts=held_out))
        if config.train.parallel.generates:
            run.sample = samples_of(run, list(dict.fromkeys(row.ids for row in held_out))[:SHOWN])
    loader = cast(RolloutLoader, run.loader)
    count = len({row.ids for row in held_out})
    bounds = f"at least 2 and at most {_HELD_OUT}, or {_EACH_MINUTE:g} a minute; {COMPLETIONS} completions of each row"
    apart = f"rows of {count} prompts, held_out={config.held_out:g}: {bounds}"
    reasons = (
        ("prompts", f"{prompts:,}", f"without {lost:,} rows that were too long"),
        ("held out", f"{len(held_out):,}", "as completions are given" if completions.fixed else apart),
        ("steps", steps, f"of {together} prompts with {algorithm.group_size} completions each; {why}"),
        ("micro-batch", micro_batch, "as set" if config.train.micro_batch else "completions in a forward, at most"),
        ("rate", f"{rate:g}", "at its highest"),
    )
    settings = {"rewards": "ratings" if completions.fixed else _weights(config), **to_mapping(loader.config.algorithm)}
    chosen = tuple((name, str(value)) for name, value in settings.items() if value is not None)
    doubts = doubt_of_steps(steps, f"{prompts} prompts", "more steps")

    def report() -> Report:
        numbers = {**loader.metrics, "held_out": len(held_out), "rollout_share": loader.stall_share}
        yield run_section(reasons, doubts, tables=(Table(("the algorithm", "value"), chosen),)), numbers
        if held_out:
            yield held_out_section(context.output / LOG, f"{len(held_out):,} rows")
        yield rollouts_section(context.output / LOG), {}
        if config.suites:
            yield suite_section(config, context, find_base(config.base, context))

    return fit(run, context, method, report=report())


def steps_within(prompts: float, few: int, most: int) -> tuple[int, int]:
    """Prompts of a step, from `few` to `most`, and how many steps, at least one, take at most so many `prompts`."""
    together = min(max(int(prompts / _FEW_STEPS), few), most)
    return together, max(int(prompts / together), 1)


def micro_batch_of(config: OnlineConfig, lengths: Sequence[int]) -> int:
    """Completions, or pairs, of a forward, by the tokens of each with its prompt; of a group all, where it has room."""
    if config.train.micro_batch is not None:
        return config.train.micro_batch
    if isinstance(config.algorithm, OnlineDPOConfig):
        return rows_together(2 * np.array(lengths))
    together, size = rows_together(np.array(lengths)), config.algorithm.group_size
    return max(together - together % size, min(together, size))


def _weights(config: OnlineConfig) -> str:
    """The rewards in a user's words."""
    return ", ".join(f"{name}={weight:g}" for name, weight in config.rewards.items()) or "those of the environment"


def adapted(config: OnlineConfig, method: Method) -> Adapt | None:
    """The function that puts the method, and a critic where there is one, into a model."""
    adapt = adapts(method, config.seed)
    if adapt is None or not isinstance(config.algorithm, PPOConfig):
        return adapt
    return lambda model: add_critic(adapt(model))


def objective_of(config: OnlineConfig, checkpoint: Checkpoint, base: Path, ranks: Ranks = ALONE) -> Objective:
    """The algorithm's objective, with replay next to it where there is any, which the processes divide."""
    if isinstance(config.algorithm, OnlineDPOConfig):
        return Pairs(config.algorithm.dpo, config.temperature)
    objective = PolicyOptimization(config.algorithm, config.max_completion_length, config.temperature)
    if not config.replay:
        return objective
    groups = group_completions(read_demonstrations(config.replay, base), checkpoint.chat, config.length, [])
    return WithReplay(objective, groups, config.replay_rows, config.replay_weight, ranks.rows)


def read_rows(config: OnlineConfig, base: Path) -> list[Verifiable] | list[Rated]:
    """Rows with prompts, or rated completions. ValueError for both together, or none."""
    rows = read_preference_rows(conversation_files(config.rows, base, rows="rows"), (Verifiable, Rated), METHODS)
    if not rows or len({type(row) for row in rows}) != 1:
        problem = f"{'both are' if rows else 'there is no row'} in {', '.join(config.rows)}"
        kinds = "a run learns from prompts, or from completions with a rating"
        raise ValueError(f"{kinds}, and {problem}: name files with rows of one kind by `--data`, the setting rows")
    rolls_out = config.environment or config.remote or config.overlong or config.reward_models
    if isinstance(rows[0], Rated) and (rolls_out or isinstance(config.algorithm, OnlineDPOConfig)):
        raise ValueError(
            "rated completions are learned from by grpo and ppo as they are: leave out environment, remote, overlong "
            "and reward_models"
        )
    return rows  # type: ignore[return-value]


def episodes_of(config: OnlineConfig, form: Callable[[], ToolForm]) -> Episodes:
    """The episodes of the environment. LookupError where there is none of its name, ValueError for a constraint that
    the sampler cannot keep."""
    environment = episodes(config.environment, form)
    if environment.constraint is not None and (config.temperature != 1.0 or config.remote is not None):
        raise ValueError(f"{config.environment} holds calls to their form, which takes temperature 1 and no remote")
    return environment


def reward_of(config: OnlineConfig, base: Path, loads: bool = True) -> RewardSum | None:
    """The weighted sum, None for the environment's alone; reward models in it are a stand-in unless they are loaded."""
    if not config.reward_models:
        return RewardSum(config.rewards, base=base) if config.rewards else None
    given, steps = Metric("reward-model", lambda *_: []), config.reward_steps
    if loads:
        models = [RewardModel(load(located(name, base))) for name in config.reward_models]
        members = [reward_model(model) if steps is None else process_model(model, steps) for model in models]
        given = ensemble(given.name, members, config.reward_ensemble)
    return RewardSum(config.rewards, {given.name: given}, base=base)


def prompts_of(
    rows: Sequence[Verifiable], checkpoint: Checkpoint, most: int, tools: Sequence[Tool] | None = None
) -> list[Prompt]:
    """The prompts of at most `most` tokens, as the chat template writes them, with the rows' own `tools` unless others
    are given. ValueError without any."""
    prompts = []
    for row, item in zip(rows, items_of(rows), strict=True):
        ids = checkpoint.chat.render(as_messages(row.prompt, "user"), True, row.tools if tools is None else tools).ids
        prompts += [Prompt(tuple(ids), item)] if len(ids) <= most else []
    if not prompts:
        raise ValueError(f"no prompt has at most {most:,} tokens: raise length, or lower max_completion_length")
    return prompts


def check(config: OnlineConfig, base: Path) -> None:
    """Before any stage runs: the errors of `read_rows` and `read_demonstrations`, for names that are no rewards or no
    environment, and rows that one cannot measure."""
    rows = [row for row in read_rows(config, base) if isinstance(row, Verifiable)]
    if (reward := reward_of(config, base, loads=False)) is not None:
        with reward:
            reward.check(items_of(rows))
    if config.environment:
        episodes_of(config, lambda: OWN_FORM)
    if config.replay:
        read_demonstrations(config.replay, base)


def outside_digest(config: OnlineConfig, base: Path) -> str:
    """The sources of rewards of one's own, as text."""
    files = [base / name.rpartition(":")[0] for name in config.rewards if ".py:" in name]
    return hash_json([file.read_text("utf-8") for file in files])
