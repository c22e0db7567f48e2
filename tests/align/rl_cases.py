"""Runs of reinforcement learning on a tiny model: what the tests of each algorithm start from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from generate.engine_cases import tiny_llama
from lmworks.adapt.config import FullConfig
from lmworks.align.completions import Prompt, SampledCompletions
from lmworks.align.environments import Episodes
from lmworks.align.online_config import GRPOConfig, OnlineConfig, PPOConfig
from lmworks.align.policy import policy_of
from lmworks.align.ppo import add_critic
from lmworks.align.rollout_loader import RolloutLoader
from lmworks.align.stage_online import adapted, objective_of
from lmworks.evaluate.metric import Item, Response
from lmworks.tokenizer.chat_templates import chat_template
from lmworks.train.config import CheckpointConfig, TrainConfig
from lmworks.train.optimizer_config import AdamW
from lmworks.train.parallel.ranks import ALONE, Ranks
from lmworks.train.run import Run


def ascii_share(items: Sequence[Item], responses: Sequence[Response]) -> list[float]:
    """The share of a completion's characters that are ASCII: what a random model sometimes does."""
    return [sum(letter < "\x80" for letter in each.text) / max(len(each.text), 1) for each in responses]


def config_of(algorithm: Any = None, method: Any = None, train: dict[str, Any] | None = None, **settings: Any):
    given = {"optimizer": AdamW(rate=1e-3, decay=0.0), "log": 1, "validate": None, **(train or {})}
    plain = {"steps": 4, "prompts": 3, "length": 40, "max_completion_length": 8, "slots": 16, **settings}
    return OnlineConfig(
        ("rows.jsonl",),
        algorithm=algorithm or GRPOConfig(group_size=4),
        method=method or FullConfig(),
        train=TrainConfig(**given),
        **plain,
    )


def run_of(
    folder: Path,
    config: OnlineConfig,
    reward: Any = ascii_share,
    ranks: Ranks = ALONE,
    saves: int = 0,
    episodes: Episodes | None = None,
) -> Run:
    """A run as the stage makes it, of prompts of a few bytes."""
    checkpoint = tiny_llama(chat_template("chatml"))
    prompts = [Prompt((65 + n, 66, 67)[: 1 + n % 3], Item(str(n), "ABC"[: 1 + n % 3])) for n in range(5)]
    played = None if episodes is None else (episodes, checkpoint.chat)
    loader = RolloutLoader(config, SampledCompletions(config, prompts, reward, played), ranks)
    if isinstance(config.algorithm, PPOConfig) and isinstance(config.method, FullConfig):
        add_critic(checkpoint.model)
    train = replace(config.train, checkpoint=CheckpointConfig(steps=saves or None))
    run = Run(
        checkpoint,
        objective_of(config, checkpoint, folder),
        loader,
        train,
        folder,
        seed=config.seed,
        early_stopping=loader.early_stopping,
        ranks=ranks,
        adapt=adapted(config, config.method),
    )
    loader.policy = policy_of(run, config, config.method)
    return run
