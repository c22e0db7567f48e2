"""The stage `align.online`: a model and prompts into a better policy, by the rewards of what it says itself."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from lmworks.adapt.config import FullConfig, Method
from lmworks.align.dpo import DPO
from lmworks.align.environments import episodes
from lmworks.align.offline_settings import RATES
from lmworks.align.online_config import STEPS, OnlineConfig, OnlineDPOConfig, PPOConfig
from lmworks.align.policy import Policy
from lmworks.align.policy_gradient import PolicyOptimization
from lmworks.align.ppo import ProximalPolicyOptimization, add_critic
from lmworks.align.rated_completions import RatedCompletions
from lmworks.align.rewards import RewardSum, items_of
from lmworks.align.rollout_loader import RolloutLoader
from lmworks.align.sampled_completions import Prompt, SampledCompletions
from lmworks.align.sft_replay import WithReplay, read_demonstrations, replay_validation, sft_groups
from lmworks.align.stage_offline import load_policy
from lmworks.artefact import StageContext, StageResult, hash_file, hash_json
from lmworks.config import to_mapping
from lmworks.data.conversations import as_messages, conversation_files
from lmworks.data.preference_rows import read_preference_rows
from lmworks.evaluate.metric import Item
from lmworks.generate.remote_engine import RemoteEngine
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.download import digest_of_model, located
from lmworks.model.transformer import Transformer
from lmworks.records import LeftOut, Rated, Verifiable
from lmworks.report import Section, Table
from lmworks.tokenizer.tool_calls import OWN_FORM, Tool
from lmworks.train.config import FinetuneConfig
from lmworks.train.dial import at_rate
from lmworks.train.finetune_settings import adapts, measured_steps, with_rank
from lmworks.train.objectives.objective import Objective
from lmworks.train.parallel.ranks import device_of_rank, join
from lmworks.train.run import CRITIC, Run
from lmworks.train.run_report import doubt_of_steps
from lmworks.train.train_stages import kept_settings, train_and_deliver

_USED = 0.85  # of the minutes: the rest is loading, validation and the machine's own pace


def online(config: OnlineConfig, context: StageContext) -> StageResult:
    """The checkpoint of the one input, or `config.base`, learns from what it says to the prompts, or from rated
    completions."""
    rows, algorithm = read_rows(config, context.base), config.algorithm
    checkpoint, left_out = load_policy(config, context), list[LeftOut]()
    tokens = (config.steps or STEPS) * config.prompts * algorithm.group_size * config.completion
    tuned = FinetuneConfig(method=with_rank(config.method, checkpoint, tokens), seed=config.seed)
    ranks, rate = join(config.train.parallel), config.rate or RATES[config.method.kind]
    if isinstance(rows[0], Rated):
        completions = RatedCompletions.of(config, rows, checkpoint, left_out)  # type: ignore[arg-type]
        prompts, lost = len(completions.completions), len(left_out)
    else:
        played, chat = None, checkpoint.chat
        if config.environment:
            played = episodes(config.environment, lambda: chat.tool_form), chat
            if played[0].constraint is not None and config.temperature != 1.0:
                raise ValueError(f"{config.environment} holds calls to their form at temperature 1: leave it out")
        tools = None if played is None else played[0].tools
        found = prompts_of(rows, checkpoint, config.length - config.completion, tools)  # type: ignore[arg-type]
        completions = SampledCompletions(config, found, RewardSum(config.rewards), played)
        prompts, lost = len(found), len(rows) - len(found)
    objective = objective_of(config, checkpoint, context.base)

    def run_on(steps: int, folder: Path, base: Checkpoint) -> Run:
        loader = RolloutLoader(replace(config, steps=steps), completions, ranks)
        if isinstance(algorithm, PPOConfig) and adapts(tuned) is None:
            add_critic(base.model)  # which the checkpoint's weights do not hold
        training = at_rate(config.train, rate)
        if config.held_out and training.validate is None:
            training = replace(training, validate=steps)  # the end; before the first step it is measured anyway
        run = Run(
            base,
            objective,
            loader,
            training,
            folder,
            device=device_of_rank(),
            progress=context.progress,
            seed=config.seed,
            ranks=ranks,
            adapt=adapted(config, tuned),
            compares=bool(config.held_out),
        )
        loader.policy = policy_of(run, config, tuned.method, isinstance(completions, RatedCompletions))
        if isinstance(completions, RatedCompletions):
            completions.measure(loader.policy)
        return run

    def derived() -> tuple[int, str]:
        if config.minutes is None or config.steps is not None:
            return config.steps or STEPS, "as set" if config.steps else "unless set"
        count = 1 + max(algorithm.updates, 2)  # all but the first are measured, rollouts among them
        base = checkpoint if adapts(tuned) else load_policy(config, context)  # whose weights change in the steps
        with tempfile.TemporaryDirectory() as folder:
            taken = [seconds for seconds, _ in measured_steps(run_on(count, Path(folder), base), count)]
        affordable = max(int(_USED * 60 * config.minutes / (sum(taken) / len(taken))), 1)
        if affordable > STEPS:
            return STEPS, f"unless set; {affordable:,} fit into {config.minutes:g} minutes"
        return affordable, f"so many fit into {config.minutes:g} minutes"

    steps, why = kept_settings(context, config.train.parallel, derived)
    run = run_on(steps, context.work / "run", checkpoint)
    if config.held_out:
        run.validate = replay_validation(run, sft_groups(config.held_out, config.length, checkpoint, context.base))
    result = train_and_deliver(run, context, tuned)
    loader = cast(RolloutLoader, run.loader)
    doubts = " ".join(doubt_of_steps(steps, f"{prompts} prompts", "more steps"))
    reasons = (
        ("prompts", f"{prompts:,}", f"beside {lost:,} rows that were too long and left out"),
        ("steps", steps, f"of {config.prompts} prompts with {algorithm.group_size} completions each; {why}"),
        ("rate", f"{rate:g}", "at its highest"),
        *((name, f"{value}", "") for name, value in to_mapping(loader.config.algorithm).items()),
    )
    section = Section("The run", doubts, (Table(("what", "value", "why"), reasons),))
    return replace(result, metrics={**result.metrics, **loader.metrics}, sections=(section, *result.sections))


def adapted(config: OnlineConfig, tuned: FinetuneConfig) -> Callable[[Transformer], Transformer] | None:
    """The function that puts the method, and a critic where there is one, into a model."""
    method = adapts(tuned)
    if method is None or not isinstance(config.algorithm, PPOConfig):
        return method
    return lambda model: add_critic(method(model))


def objective_of(config: OnlineConfig, checkpoint: Checkpoint, base: Path) -> Objective:
    """The algorithm's objective, with replay beside it where there is any."""
    match config.algorithm:
        case OnlineDPOConfig(dpo=settings):
            return DPO(settings)
        case PPOConfig() as algorithm:
            objective = ProximalPolicyOptimization(algorithm, config.temperature)
        case algorithm:
            objective = PolicyOptimization(algorithm, config.completion, config.temperature)
    if not config.replay:
        return objective
    groups = sft_groups(config.replay, config.length, checkpoint, base)
    return WithReplay(objective, groups, config.replay_rows, config.replay_weight)


def policy_of(run: Run, config: OnlineConfig, method: Method, fixed: bool) -> Policy:
    """The run's model with an engine; its reference is the model without its adapter, or a frozen copy."""
    reference = run.checkpoint.model
    if isinstance(config.method, FullConfig):
        weights = {name: w.clone() for name, w in reference.state_dict().items() if not name.startswith(CRITIC)}
        reference = replace(run.checkpoint, weights=weights).model.to(run.weights.dtype)
    device = run.model.tokens.device
    if fixed:
        return Policy(run.model, reference, None, device)
    if (remote := config.remote) is not None:
        engine = RemoteEngine(
            *(remote.url, remote.model),
            log_probabilities=True,
            token_ids=True,
            runtime_adapters=bool(remote.adapters),
            concurrency=remote.concurrency,
        )
        sends = (Path(remote.adapters), method, run.checkpoint) if remote.adapters else None
        return Policy(run.model, reference, engine, device, sends)
    precision = "float32" if run.config.precision == "float32" else "bfloat16"
    options = {"slots": config.slots, "context_length": config.length, "weights": precision}
    return Policy.of(run.checkpoint, run.model, reference, **options)


def read_rows(config: OnlineConfig, base: Path) -> list[Verifiable] | list[Rated]:
    """Rows with prompts, or rated completions. ValueError for both together, or none."""
    rows = read_preference_rows(conversation_files(config.rows, base, rows="rows"), (Verifiable, Rated))
    if not rows or len({type(row) for row in rows}) != 1:
        raise ValueError("a run learns from prompts, or from completions with a rating: give rows of one kind")
    if isinstance(rows[0], Rated) and isinstance(config.algorithm, OnlineDPOConfig):
        raise ValueError("rated completions make pairs for align.offline; online_dpo samples its own")
    if isinstance(rows[0], Rated) and config.environment:
        raise ValueError("rated completions were given before the run, and no environment replies: leave it out")
    return rows  # type: ignore[return-value]


def prompts_of(
    rows: Sequence[Verifiable], checkpoint: Checkpoint, most: int, tools: Sequence[Tool] | None = None
) -> list[Prompt]:
    """The prompts of at most `most` tokens, as the chat template writes them, with the rows' own `tools` unless others
    are given. ValueError without any."""
    found = []
    for number, row in enumerate(rows):
        ids = checkpoint.chat.render(as_messages(row.prompt, "user"), True, row.tools if tools is None else tools).ids
        if len(ids) <= most:
            references = (row.answer,) if row.answer else ()
            item = Item(str(number), row.prompt, references, fields={"verifier": row.verifier, "answer": row.answer})
            found.append(Prompt(tuple(ids), item))
    if not found:
        raise ValueError(f"no prompt has at most {most:,} tokens: raise length, or lower completion")
    return found


def check(config: OnlineConfig, base: Path) -> None:
    """Before any stage runs: the errors of `read_rows` and `read_demonstrations`, for names that are no rewards or no
    environment, rows that one cannot measure and a base that is not there."""
    rows = [row for row in read_rows(config, base) if isinstance(row, Verifiable)]
    RewardSum(config.rewards).check(items_of(rows))
    if config.environment:
        episodes(config.environment, lambda: OWN_FORM)
    for files in filter(None, (config.replay, config.held_out)):
        read_demonstrations(files, base)
    if config.base:
        located(config.base, base)


def outside_digest(config: OnlineConfig, base: Path) -> str:
    """SHA-256 of the files with rows, and of the base's."""
    named = {"rows": config.rows, "replay": config.replay, "held_out": config.held_out}
    paths = [path for name, files in named.items() if files for path in conversation_files(files, base, rows=name)]
    files = [hash_file(path) for path in paths]
    return hash_json([files, digest_of_model(located(config.base, base)) if config.base else ""])
