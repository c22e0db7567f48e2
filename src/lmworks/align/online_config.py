"""The configs of online alignment, free of torch: policy gradients, PPO, online DPO, and what their runs need."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from lmworks.adapt.config import LoraConfig, Method
from lmworks.align.config import DPOConfig, check_run
from lmworks.train.config import TrainConfig
from lmworks.train.config_checks import positive, within
from lmworks.train.optimizer_config import AdamW, Linear

STEPS = 100  # at most, unless they are set
Advantage = Literal["group", "mean", "leave_one_out", "batch", "best"]
PolicyGradient = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce", "raft"]
# What a name stands for, beside what `grpo` does; a setting that is given replaces its part.
POLICY_GRADIENTS: dict[str, dict[str, Any]] = {
    "grpo": {
        "advantage": "group",
        "ratio": "token",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "reduction": "sequence",
        "dynamic_sampling": False,
        "mask_truncated": False,
    },
    "dr_grpo": {"advantage": "mean", "reduction": "constant"},
    "dapo": {"reduction": "token", "clip_high": 0.28, "dynamic_sampling": True, "mask_truncated": True},
    "gspo": {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    "cispo": {"ratio": "truncated", "clip_high": 5.0, "reduction": "token"},
    "rloo": {"advantage": "leave_one_out", "ratio": "none", "reduction": "constant"},
    "reinforce": {"advantage": "batch", "ratio": "none", "reduction": "constant"},
    "raft": {"advantage": "best", "ratio": "none", "reduction": "token"},
}


@dataclass(frozen=True, slots=True)
class GRPOConfig:
    """Policy gradients on groups of completions: one tuple of choices, of which the published methods are names.

    name        `grpo` (Shao et al. 2024), `dr_grpo` (Liu et al. 2025), `dapo` (Yu et al. 2025), `gspo` (Zheng et al.
                2025), `cispo` (MiniMax 2025), `rloo` (Ahmadian et al. 2024), `reinforce` (Williams 1992), `raft` (best
                of a group, Dong et al. 2023): the defaults of what stands below.
    group_size  Completions of each prompt.
    advantage   `group`, `mean`, `leave_one_out`, `batch` or `best`: see `align/advantages.py`.
    ratio       of the policy to the one that sampled: of each `token`; of a `sequence`, the geometric mean of its
                tokens' ratios; `truncated`, a weight without a gradient; `none`, the plain gradient of ln π.
    clip_low    The ratio is held above 1 - clip_low,
    clip_high   and below 1 + clip_high; of `truncated`, below clip_high.
    reduction   Mean over all tokens of the step (`token`), over sequences of their means (`sequence`), or of sums
                divided by the most tokens that a completion may have (`constant`).
    beta        Weight of the KL divergence to the reference; 0: measured on one group of each step.
    kl          Its estimator, in the loss: `k1`, `k2`, `k3` (Schulman 2020); or `reward`, k1 as a part of the reward.
                As a loss k2 alone has the divergence's gradient; that of k1 is noise around 0.
    dynamic_sampling  Prompts whose completions have all one reward are replaced by further ones.
    mask_truncated    Completions that the length ended teach nothing.
    updates     Steps of the optimizer for each batch of rollouts,
    epochs      in which each completion is seen so often.
    importance_cap    A token's loss weighs what it is likelier under the trainer's numbers than under the sampler's,
                at most this much (truncated importance sampling, Yao et al. 2025): for bfloat16 and remote engines.
    kind        `grpo`; or `ppo` or `online_dpo`, with settings of their own.
    """

    name: PolicyGradient = "grpo"
    group_size: int = 8
    advantage: Advantage | None = None
    ratio: Literal["token", "sequence", "truncated", "none"] | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    reduction: Literal["token", "sequence", "constant"] | None = None
    beta: float = 0.0
    kl: Literal["k1", "k2", "k3", "reward"] = "k3"
    dynamic_sampling: bool | None = None
    mask_truncated: bool | None = None
    updates: int = 1
    epochs: int = 1
    importance_cap: float | None = None
    kind: Literal["grpo"] = "grpo"

    def __post_init__(self) -> None:
        if self.name not in POLICY_GRADIENTS:
            raise ValueError(f"name must be one of {', '.join(POLICY_GRADIENTS)}, got {self.name!r}")
        _check_updates(self.updates, self.epochs, self.importance_cap)
        if self.group_size < 2:
            raise ValueError(f"a group has 2 completions or more, to compare them: got group_size={self.group_size}")
        if self.beta < 0:
            raise ValueError(f"beta is 0 or more, got {self.beta}")
        if self.beta and self.kl == "k1":
            raise ValueError("k1 in the loss has a gradient of mean 0, which holds nothing: set kl=k2, k3 or reward")

    @property
    def resolved(self) -> "GRPOConfig":
        """The config with its name's defaults filled in. Loaded configs hold the given settings alone: those of the
        default name would replace those of another."""
        parts = {**POLICY_GRADIENTS["grpo"], **POLICY_GRADIENTS[self.name]}
        return replace(self, **{key: value for key, value in parts.items() if getattr(self, key) is None})


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """Proximal policy optimisation (Schulman et al. 2017) with a critic, a value head on the policy's hidden states.

    group_size    Completions of each prompt.
    clip          ε: the ratio is held between 1 - ε and 1 + ε.
    value_clip    The value is held so near to what it was in the rollouts; left out: free.
    value_weight  Of the critic's loss.
    discount      γ, and
    trace         λ, of generalised advantage estimation (Schulman et al. 2016).
    beta          Weight of the KL divergence to the reference (k1) in each token's reward.
    kl_target     Nats a token: beta is moved so that the divergence comes there (Ziegler et al. 2019, section 2.2);
                  left out: beta is fixed.
    whiten        Advantages of a batch of rollouts get mean 0 and variance 1.
    updates       Steps of the optimizer for each batch of rollouts,
    epochs        in which each completion is seen so often.
    importance_cap  As of `grpo`: most that a token weighs for what the sampler computed otherwise.
    kind          `ppo`; or another method's, with settings of its own.
    """

    group_size: int = 1
    clip: float = 0.2
    value_clip: float | None = 0.2
    value_weight: float = 0.1
    discount: float = 1.0
    trace: float = 0.95
    beta: float = 0.05
    kl_target: float | None = None
    whiten: bool = True
    updates: int = 4
    epochs: int = 4
    importance_cap: float | None = None
    kind: Literal["ppo"] = "ppo"

    def __post_init__(self) -> None:
        positive(
            group_size=self.group_size,
            clip=self.clip,
            value_clip=self.value_clip,
            value_weight=self.value_weight,
            kl_target=self.kl_target,
        )
        within(0, 1, discount=self.discount, trace=self.trace)
        _check_updates(self.updates, self.epochs, self.importance_cap)
        if self.beta < 0 or (self.kl_target is not None and not self.beta):
            raise ValueError(f"beta is 0 or more, and above 0 where kl_target moves it; got {self.beta}")


@dataclass(frozen=True, slots=True)
class OnlineDPOConfig:
    """Direct preference optimisation on the policy's own completions (Guo et al. 2024): the best and the worst of each
    group, by the reward, are a pair. Groups of one reward make none.

    group_size  Completions of each prompt.
    dpo         The loss of a pair.
    kind        `online_dpo`; or another method's, with settings of its own.
    """

    updates: ClassVar[int] = 1
    epochs: ClassVar[int] = 1
    group_size: int = 4
    dpo: DPOConfig = field(default_factory=DPOConfig)
    kind: Literal["online_dpo"] = "online_dpo"

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"a pair is chosen from 2 completions or more: got group_size={self.group_size}")


def _check_updates(updates: int, epochs: int, cap: float | None) -> None:
    positive(updates=updates, epochs=epochs, importance_cap=cap)
    if updates % epochs:
        raise ValueError(f"updates is a multiple of epochs, so that each has as many: got {updates} and {epochs}")


Online = GRPOConfig | PPOConfig | OnlineDPOConfig


@dataclass(frozen=True, slots=True)
class BrakesConfig:
    """Limits that a policy must not pass; None: none.

    kl          Highest KL divergence to the reference, nats a token (k3).
    entropy     Lowest entropy of the sampled tokens, nats a token.
    distinct_2  Lowest share of distinct pairs of neighbouring tokens in a batch of rollouts.
    silent_steps  Most batches of rollouts in a row of which no completion is better than another.
    action      `stop` saves the run and ends it; `lower` halves the rate, and does not look again
                for `patience` batches of rollouts.
    patience    See there.
    """

    kl: float | None = 5.0
    entropy: float | None = None
    distinct_2: float | None = None
    silent_steps: int | None = 50
    action: Literal["stop", "lower"] = "stop"
    patience: int = 5

    def __post_init__(self) -> None:
        positive(kl=self.kl, silent_steps=self.silent_steps, patience=self.patience)


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """An OpenAI-compatible endpoint that samples, such as vLLM's, and returns token ids and log-probabilities.

    url          Such as http://localhost:8000/v1.
    model        Its name of the base.
    adapters     A folder that the endpoint reads, too: the policy's adapter is sent through it (vLLM's --enable-lora,
                 with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1). Left out, the endpoint samples from the base to the end, and
                 the algorithm's importance_cap corrects for the policy's way from there.
    concurrency  Requests in flight.
    """

    url: str
    model: str
    adapters: str = ""
    concurrency: int = 32


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """A model learns from the rewards of what it says itself.

    rows         Files with prompts (and, for rewards that check it, the `answer`), or folders or globs of them; or with
                 completions that are rated, a fixed set which is learned from instead (offline reinforcement learning).
    base         The model, where no input is one: the name of a pulled model, a Hugging Face folder or a .gguf file. It
                 is the reference, too.
    rewards      Name of a reward → its weight in the sum; with weight 0 it is measured and logged alone.
    algorithm    `grpo` (and its relatives), `ppo` or `online_dpo`, and its settings.
    method       What is trained: an adapter (`lora`), or all weights (`full`).
    steps        Of the optimizer; left out: 100, or fewer that fit into the minutes.
    minutes      How long the run may take on this machine.
    prompts      Whose completions a step (or the `updates` of one batch of rollouts) learns from.
    length       Most tokens of prompt and completion.
    completion   Most tokens of a completion.
    environment  Name of what replies to a completion until an episode is over: `calculator`, a tool that the policy may
                 call, or `module:name` of a function (`align/environments.py`); "": nothing does. Its rewards, where it
                 gives any, stand in place of `rewards`.
    turns        Most completions of an episode.
    temperature  Of sampling; the policy's probabilities are those at this temperature.
    slots        Completions that are sampled at a time.
    rate         Peak learning rate; left out: of the method.
    seed         Of the order, of what is sampled, and of an adapter's first weights.
    brakes       What stops or slows a run that collapses.
    replay       Files with conversations or completions to go on learning beside, against forgetting.
    replay_rows  Of these, in each step.
    replay_weight  Of their loss, in nats a token.
    held_out     Files with conversations or completions whose loss is measured before the first step, at every
                 `train.validate`, and at the end.
    remote       The engine that samples, where it is not the one in this process.
    train        The loop.
    """

    rows: tuple[str, ...] = ()
    base: str = ""
    rewards: Mapping[str, float] = field(default_factory=lambda: {"verbatim": 1.0})
    algorithm: Online = field(default_factory=GRPOConfig)
    method: Method = field(default_factory=lambda: LoraConfig(lora_alpha=32))
    steps: int | None = None
    minutes: float | None = None
    prompts: int = 8
    length: int = 512
    completion: int = 256
    environment: str = ""
    turns: int = 4
    temperature: float = 1.0
    slots: int = 64
    rate: float | None = None
    seed: int = 0
    brakes: BrakesConfig = BrakesConfig()
    replay: tuple[str, ...] = ()
    replay_rows: int = 8
    replay_weight: float = 1.0
    held_out: tuple[str, ...] = ()
    remote: RemoteConfig | None = None
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(AdamW(decay=0.0), Linear(), precision="bfloat16", log=1, validate=None)
    )

    def __post_init__(self) -> None:
        positive(steps=self.steps, prompts=self.prompts, slots=self.slots, rate=self.rate, temperature=self.temperature)
        positive(minutes=self.minutes, turns=self.turns, replay_rows=self.replay_rows, replay_weight=self.replay_weight)
        within(2, 2**20, length=self.length)
        if not 1 <= self.completion < self.length:
            raise ValueError(f"completion is between 1 and length - 1 tokens, got {self.completion} of {self.length}")
        if not self.rows:
            raise ValueError('name the files with prompts: rows=["rows.jsonl"]')
        if not any(self.rewards.values()):
            raise ValueError("no reward has a weight: rewards={verbatim = 1.0}")
        check_run(self.method, self.train)
        parallel, algorithm = self.train.parallel, self.algorithm
        if self.minutes is not None and self.steps is None and parallel.devices > 1:
            raise ValueError("minutes are measured on one process: with several, set steps instead")
        if self.prompts < parallel.data:
            raise ValueError(f"each of {parallel.data} processes samples for a prompt at least: raise prompts")
        if isinstance(algorithm, OnlineDPOConfig) and (self.replay or parallel.devices > 1 or self.remote):
            raise ValueError("online_dpo is of one process, its own engine and no replay: leave those out")
        self._check_remote()

    def _check_remote(self) -> None:
        if self.remote is None:
            return
        if self.temperature != 1.0:
            raise ValueError("an endpoint returns log-probabilities at temperature 1: leave out temperature")
        if getattr(self.algorithm, "importance_cap", None) is None:
            raise ValueError("a remote engine computes other numbers than the trainer: set algorithm.importance_cap=2")
        if self.remote.adapters and not isinstance(self.method, LoraConfig):
            raise ValueError("remote.adapters sends the policy as an adapter: set method.kind=lora")
