"""The stage `align.online`: a model and prompts into a better policy, by the rewards of what it says itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lmworks.adapt.config import FullConfig
from lmworks.align.config import OnlineConfig
from lmworks.align.offline_settings import RATES
from lmworks.align.policy_gradient import PolicyOptimization
from lmworks.align.rewards import RewardSum
from lmworks.align.rollout_loader import Policy, Prompt, Reward, RolloutLoader
from lmworks.align.stage_offline import load_policy
from lmworks.artefact import StageContext, StageResult, hash_file, hash_json
from lmworks.data.conversations import as_messages, conversation_files
from lmworks.data.preference_rows import read_preference_rows
from lmworks.evaluate.metric import Item
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.download import digest_of_model, located
from lmworks.records import Verifiable
from lmworks.report import Section, Table
from lmworks.train.config import FinetuneConfig
from lmworks.train.dial import at_rate
from lmworks.train.finetune_settings import adapts, with_rank
from lmworks.train.parallel.ranks import device_of_rank, join
from lmworks.train.run import Run
from lmworks.train.run_report import doubt_of_steps
from lmworks.train.train_stages import train_and_deliver


def online(config: OnlineConfig, context: StageContext) -> StageResult:
    """The checkpoint of the one input, or `config.base`, learns from what it says to the prompts."""
    rows = read_rows(config, context.base)
    reward = weighted(config.rewards)
    checkpoint = load_policy(config, context)
    prompts = prompts_of(rows, checkpoint, config.length - config.completion)
    tokens = config.steps * config.prompts * config.algorithm.group_size * config.completion
    tuned = FinetuneConfig(method=with_rank(config.method, checkpoint, tokens), seed=config.seed)
    ranks = join(config.train.parallel)
    loader = RolloutLoader(config, prompts, reward, *ranks.rows)
    rate = config.rate or RATES[config.method.kind]
    run = Run(
        checkpoint,
        PolicyOptimization(config.algorithm, config.completion, config.temperature),
        loader,
        at_rate(config.train, rate),
        context.work / "run",
        device=device_of_rank(),
        progress=context.progress,
        seed=config.seed,
        ranks=ranks,
        adapt=adapts(tuned),
    )
    loader.policy = policy_of(run, config)
    result = train_and_deliver(run, context, tuned)
    doubts = " ".join(doubt_of_steps(config.steps, f"{len(prompts)} prompts", "more steps"))
    reasons = (
        ("prompts", f"{len(prompts):,}", f"of which {len(rows) - len(prompts):,} were too long and left out"),
        ("steps", config.steps, f"of {config.prompts} prompts with {config.algorithm.group_size} completions each"),
        ("rate", f"{rate:g}", "at its highest"),
    )
    section = Section("The run", doubts, (Table(("what", "value", "why"), reasons),))
    return replace(result, metrics={**result.metrics, **loader.metrics}, sections=(section, *result.sections))


def policy_of(run: Run, config: OnlineConfig) -> Policy:
    """The run's model with an engine; its reference is the model without its adapter, or a frozen copy."""
    reference = run.checkpoint.model
    if isinstance(config.method, FullConfig):
        frozen = replace(run.checkpoint, weights={name: w.clone() for name, w in reference.state_dict().items()})
        reference = frozen.model.to(run.weights.dtype)
    precision = "float32" if run.config.precision == "float32" else "bfloat16"
    options = {"slots": config.slots, "context_length": config.length, "weights": precision}
    return Policy.of(run.checkpoint, run.model, reference, **options)


def weighted(weights: Mapping[str, float]) -> Reward:
    """The sum of rewards by name, each with its weight; of a completion that one of them does not score, none. The
    errors are those of `RewardSum`."""
    return RewardSum(weights)


def read_rows(config: OnlineConfig, base: Path) -> list[Verifiable]:
    """Rows with prompts."""
    rows = read_preference_rows(conversation_files(config.rows, base, rows="rows"), (Verifiable,))
    return [row for row in rows if isinstance(row, Verifiable)]


def prompts_of(rows: Sequence[Verifiable], checkpoint: Checkpoint, most: int) -> list[Prompt]:
    """The prompts of at most `most` tokens, as the chat template writes them. ValueError without any."""
    found = []
    for number, row in enumerate(rows):
        ids = checkpoint.chat.render(as_messages(row.prompt, "user"), True, row.tools).ids
        if len(ids) <= most:
            references = (row.answer,) if row.answer else ()
            item = Item(str(number), row.prompt, references, fields={"verifier": row.verifier, "answer": row.answer})
            found.append(Prompt(tuple(ids), item))
    if not found:
        raise ValueError(f"no prompt has at most {most:,} tokens: raise length, or lower completion")
    return found


def check(config: OnlineConfig, base: Path) -> None:
    """Before any stage runs: the errors of `read_rows`, for names that are no rewards and a base that is not there."""
    read_rows(config, base)
    weighted(config.rewards)
    if config.base:
        located(config.base, base)


def outside_digest(config: OnlineConfig, base: Path) -> str:
    """SHA-256 of the files with rows, and of the base's."""
    files = [hash_file(path) for path in conversation_files(config.rows, base, rows="rows")]
    return hash_json([files, digest_of_model(located(config.base, base)) if config.base else ""])
