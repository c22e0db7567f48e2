"""The configs of online alignment, free of torch: policy gradients, PPO, online DPO, and what their runs need."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from lmworks.adapt.config import LoraConfig
from lmworks.align.config import AlignConfig, DPOConfig
from lmworks.config import at_least, below_one, positive, within
from lmworks.stage import MODEL, ROWS
from lmworks.train.config import TrainConfig
from lmworks.train.optimizer_config import AdamW, Linear

STEPS = 100  # at most, unless they are set
Advantage = Literal["group", "mean", "leave_one_out", "batch", "best"]
PolicyGradient = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce", "raft"]
# What a name stands for, next to what `grpo` does; a setting that is given replaces its part.
POLICY_GRADIENTS: dict[str, dict[str, Any]] = {
    "grpo": {"advantage": "group", "ratio": "token", "reduction": "sequence", "clip_low": 0.2, "clip_high": 0.2},
    "dr_grpo": {"advantage": "mean", "reduction": "constant"},
    "dapo": {"reduction": "token", "clip_high": 0.28, "dynamic_sampling": True, "mask_truncated": True},
    "gspo": {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    "cispo": {"ratio": "clipped_is_weight", "clip_high": 5.0, "reduction": "token"},
    "rloo": {"advantage": "leave_one_out", "ratio": "none", "reduction": "constant"},
    "reinforce": {"advantage": "batch", "ratio": "none", "reduction": "constant"},
    "raft": {"advantage": "best", "ratio": "none", "reduction": "token"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatesConfig:
    """Settings that policy gradients and PPO share.

    group_size      Completions of each prompt.
    num_iterations  How often each completion is learned from (μ; TRL's `num_ppo_epochs` of PPO).
    num_mini_batches  Steps of the optimizer that a batch of rollouts is divided into, each time.
    importance_cap  A token's loss weighs what it is likelier under the trainer's numbers than under the sampler's, at
                    most this much (truncated importance sampling, Yao et al. 2025): for bfloat16 and remote engines.
    """

    OTHER_NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = {  # TRL's, for the error that names ours
        "num_generations": ("group_size",),
        "num_ppo_epochs": ("num_iterations",),
        "epsilon": ("clip_low",),
        "epsilon_high": ("clip_high",),
        "cliprange": ("clip",),
        "cliprange_value": ("value_clip",),
        "vf_coef": ("value_weight",),
        "kl_coef": ("beta",),
    }
    group_size: int = 8
    num_iterations: int = 1
    num_mini_batches: int = 1
    importance_cap: float | None = None

    def __post_init__(self) -> None:
        positive(num_iterations=self.num_iterations, num_mini_batches=self.num_mini_batches)
        positive(importance_cap=self.importance_cap)
        within(1, 2**20, group_size=self.group_size)

    @property
    def updates(self) -> int:
        """Steps of the optimizer for each batch of rollouts."""
        return self.num_iterations * self.num_mini_batches


@dataclass(frozen=True, slots=True)
class GRPOConfig(UpdatesConfig):
    """Policy gradients on groups of completions: one tuple of choices, of which the published methods are names.

    name        `grpo` (Shao et al. 2024), `dr_grpo` (Liu et al. 2025), `dapo` (Yu et al. 2025), `gspo` (Zheng et al.
                2025), `cispo` (MiniMax 2025), `rloo` (Ahmadian et al. 2024), `reinforce` (Williams 1992), `raft` (best
                of a group, Dong et al. 2023): the defaults of what stands below.
    advantage   `group`, `mean`, `leave_one_out`, `batch` or `best`: see `align/advantages.py`.
    ratio       of the policy to the one that sampled: of each `token`; of a `sequence`, the geometric mean of its
                tokens' ratios; `clipped_is_weight`, a token's as a weight without a gradient; `none`, the plain
                gradient of ln π, which is right in the first of several updates alone (but for `best`, which imitates).
    clip_low    The ratio is held above 1 - clip_low,
    clip_high   and below 1 + clip_high; of `clipped_is_weight`, below clip_high.
    reduction   Mean over all tokens of the step (`token`), over sequences of their means (`sequence`), or of sums
                divided by the most tokens that a completion may have (`constant`).
    beta        Weight of the KL divergence to the reference; 0: measured on one group of each step.
    kl          Its estimator, in the loss: `k2` or `k3` (Schulman 2020); or `reward`, k1 as a part of the reward. As a
                loss k2 alone has the divergence's gradient, and that of k1 is noise around 0.
    dynamic_sampling  Prompts whose completions have all one reward are replaced by further ones, up to four times;
                those that remain are no targets.
    mask_truncated    Completions that the length ended teach nothing.
    """

    OTHER_NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = {**UpdatesConfig.OTHER_NAMES, "loss_type": ("name",)}
    name: PolicyGradient = "grpo"
    advantage: Advantage | None = None
    ratio: Literal["token", "sequence", "clipped_is_weight", "none"] | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    reduction: Literal["token", "sequence", "constant"] | None = None
    beta: float = 0.0
    kl: Literal["k2", "k3", "reward"] = "k3"
    dynamic_sampling: bool | None = None
    mask_truncated: bool | None = None
    kind: Literal["grpo"] = "grpo"

    def __post_init__(self) -> None:
        UpdatesConfig.__post_init__(self)
        within(2, 2**20, group_size=self.group_size)  # to compare completions
        at_least(0, beta=self.beta)
        if self.updates > 1 and self._part("ratio") == "none" and self._part("advantage") != "best":
            raise ValueError(
                f"{self.name} has no ratio, so that it takes one step with each batch of rollouts: set "
                "algorithm.num_iterations=1 and num_mini_batches=1, or algorithm.ratio=sequence, which corrects more"
            )

    def _part(self, key: str) -> Any:
        """A setting, as given or of the name."""
        given, defaults = getattr(self, key), {**POLICY_GRADIENTS["grpo"], **POLICY_GRADIENTS[self.name]}
        return defaults.get(key) if given is None else given

    @property
    def resolved(self) -> "GRPOConfig":
        """The config with its name's defaults filled in. Loaded configs hold the given settings alone: those of the
        default name would replace those of another."""
        return replace(self, **{key: self._part(key) for parts in POLICY_GRADIENTS.values() for key in parts})


@dataclass(frozen=True, slots=True)
class PPOConfig(UpdatesConfig):
    """Proximal policy optimisation (Schulman et al. 2017) with a critic, a value head on the policy's hidden states.

    clip          ε: the ratio is held between 1 - ε and 1 + ε.
    value_clip    The value is held so near to what it was in the rollouts; left out: free.
    value_weight  Of the critic's loss.
    gamma         γ, and
    lam           λ, of generalised advantage estimation (Schulman et al. 2016).
    beta          Weight of the KL divergence to the reference (k1) in each token's reward.
    kl_target     Nats a token: beta is moved so that the divergence comes there (Ziegler et al. 2019, section 2.2);
                  left out: beta is fixed.
    whiten        Advantages of a batch of rollouts get mean 0 and variance 1.
    """

    group_size: int = 1
    num_iterations: int = 4
    clip: float = 0.2
    value_clip: float | None = 0.2
    value_weight: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    beta: float = 0.05
    kl_target: float | None = None
    whiten: bool = True
    kind: Literal["ppo"] = "ppo"

    def __post_init__(self) -> None:
        UpdatesConfig.__post_init__(self)
        positive(clip=self.clip, value_clip=self.value_clip, value_weight=self.value_weight, kl_target=self.kl_target)
        within(0, 1, gamma=self.gamma, lam=self.lam)
        if self.beta < 0 or (self.kl_target is not None and not self.beta):
            raise ValueError(f"beta is 0 or more, and above 0 where kl_target moves it; got {self.beta}")

    @property
    def resolved(self) -> GRPOConfig:
        """The policy's loss; the critic's is separate."""
        clips: dict[str, Any] = {"clip_low": self.clip, "clip_high": self.clip}
        return GRPOConfig(reduction="token", importance_cap=self.importance_cap, **clips).resolved


@dataclass(frozen=True, slots=True)
class OnlineDPOConfig:
    """Direct preference optimisation on the policy's own completions (Guo et al. 2024): the best and the worst of each
    group, by the reward, are a pair. Groups of one reward make none.

    group_size  Completions of each prompt.
    dpo         The loss of a pair.
    """

    updates: ClassVar[int] = 1
    num_mini_batches: ClassVar[int] = 1
    group_size: int = 4
    dpo: DPOConfig = field(default_factory=DPOConfig)
    kind: Literal["online_dpo"] = "online_dpo"

    def __post_init__(self) -> None:
        within(2, 2**20, group_size=self.group_size)


@dataclass(frozen=True, slots=True)
class StoppingConfig:
    """Limits that a policy must not pass for `patience` batches of rollouts in a row; None: none.

    kl          Highest KL divergence to the reference, nats a token: the log's `kl`.
    entropy     Lowest entropy of the sampled tokens, as a share of what the first rollouts had.
    distinct_2  Lowest share of distinct pairs of neighbouring tokens in a batch of rollouts, the same.
    no_signal_batches  Most batches of rollouts in a row of which no completion is better than another.
    action      `stop` saves the run and ends it; `lower` halves the rate, and counts again.
    patience    One batch says little: `kl` is measured on one group of completions.
    """

    kl: float | None = 2.0
    entropy: float | None = 0.01
    distinct_2: float | None = 0.05
    no_signal_batches: int | None = 50
    action: Literal["stop", "lower"] = "stop"
    patience: int = 5

    def __post_init__(self) -> None:
        positive(kl=self.kl, no_signal_batches=self.no_signal_batches, patience=self.patience)


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """An OpenAI-compatible endpoint that samples, such as vLLM's, and returns token ids and log-probabilities.

    url          Such as http://localhost:8000/v1.
    model        Its name of the base.
    adapters     A folder that the endpoint reads, too: the policy's adapter is sent through it (vLLM's --enable-lora,
                 with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1), and the one before taken back. Left out, the endpoint
                 samples from the base to the end, and the algorithm's importance_cap corrects for the policy's way
                 from there.
    concurrency  Requests in flight.
    """

    url: str
    model: str
    adapters: str = ""
    concurrency: int = 32


@dataclass(frozen=True, slots=True)
class OnlineConfig(AlignConfig):
    """A model learns from the rewards of what it says itself to prompts (with the `answer`, for rewards that check it);
    or from rows with completions that are rated, a fixed set (offline reinforcement learning). It takes 100 steps, or
    fewer that fit into the minutes.

    rewards      Name of a reward → its weight in the sum; with weight 0 it is measured and logged alone. Left out:
                 `verbatim`, or, with an environment of your own, what that gives alone.
    reward_models  The models that the reward `reward-model` asks: folders that `lmworks align --method reward` made.
    reward_steps  How scores of the steps of a completion become one, for models that learned from steps: `min`, `mean`
                 or `last`; left out: the whole completion has a score.
    reward_ensemble  How scores of several models become one; `min` is what none of them overrates.
    algorithm    `grpo` (and its relatives), `ppo` or `online_dpo`, and its settings.
    prompts      Whose completions a batch of rollouts has, and one step, or several, learn from.
    max_completion_length  Most tokens of a completion; 0: 256, or half of `length` where that is less.
    overlong     Over so many last tokens of a completion's room its reward falls evenly, by 1 at the end (DAPO's soft
                 overlong punishment, section 3.4); 0: it does not.
    environment  Name of what replies to a completion until an episode is over: `calculator`, a tool that the policy may
                 call, or `module:name` of a function or of tools of yours (`align/environments.py`); "": nothing does.
                 Its rewards, where it gives any, stand in place of `rewards`.
    turns        Most completions of an episode.
    temperature  Of sampling; the policy's probabilities are those at this temperature.
    slots        Completions that are sampled at a time.
    early_stopping  Limits that end or slow a run that collapses.
    replay       Files with conversations or completions to learn from as well, against forgetting.
    replay_rows  Of these, in each step.
    replay_weight  Of their loss, in nats a token.
    held_out     The share of the prompts that is kept from training, at least 2 and at most 50 of them: the mean
                 reward, pass@1 and pass@8 of 8 completions each are measured before the first step, at every
                 `train.validate`, and at the end. Not of rated completions, nor where a remote engine is sent no
                 adapters.
    remote       The engine that samples, where it is not the one in this process.
    """

    OTHER_NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **AlignConfig.OTHER_NAMES,
        "reward_funcs": ("rewards",),
        "reward_weights": ("rewards",),
    }
    length: int = 512
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(AdamW(decay=0.0), Linear(), precision="bfloat16", log=1, validate=None)
    )
    rewards: Mapping[str, float] = field(default_factory=dict)
    reward_models: tuple[str, ...] = field(default=(), metadata=MODEL)
    reward_steps: Literal["min", "mean", "last"] | None = None
    reward_ensemble: Literal["mean", "min"] = "mean"
    algorithm: GRPOConfig | PPOConfig | OnlineDPOConfig = field(default_factory=GRPOConfig)
    prompts: int = 8
    max_completion_length: int = 0
    overlong: int = 0
    environment: str = ""
    turns: int = 4
    temperature: float = 1.0
    slots: int = 64
    early_stopping: StoppingConfig = StoppingConfig()
    replay: tuple[str, ...] = field(default=(), metadata=ROWS)
    replay_rows: int = 8
    replay_weight: float = 1.0
    held_out: float = 0.1
    remote: RemoteConfig | None = None

    def __post_init__(self) -> None:
        AlignConfig.__post_init__(self)
        positive(prompts=self.prompts, slots=self.slots, temperature=self.temperature, turns=self.turns)
        below_one(held_out=self.held_out)
        positive(replay_rows=self.replay_rows, replay_weight=self.replay_weight)
        if not self.max_completion_length:
            object.__setattr__(self, "max_completion_length", min(256, self.length // 2))
        if not 1 <= self.max_completion_length < self.length:
            raise ValueError(
                f"max_completion_length is between 1 and length - 1, got {self.max_completion_length} of {self.length}"
            )
        if self.overlong and (self.environment or not 0 < self.overlong <= self.max_completion_length):
            raise ValueError("overlong is at most max_completion_length, and not for an environment")
        if not self.rewards and ":" not in self.environment:
            object.__setattr__(self, "rewards", {"verbatim": 1.0})
        if self.rewards and not any(self.rewards.values()):
            raise ValueError("no reward has a weight: rewards={verbatim = 1.0}")
        if ("reward-model" in self.rewards) != bool(self.reward_models):
            raise ValueError("rewards.reward-model and reward_models, the folders of the models, belong together")
        if self.train.precision == "float16":
            raise ValueError("the engine samples in bfloat16 or float32: set train.precision to one of these")
        parallel, algorithm = self.train.parallel, self.algorithm
        if self.prompts < parallel.data or (self.replay and self.replay_rows < parallel.data):
            raise ValueError(
                f"each of {parallel.data} processes has a prompt, and a row of replay: raise prompts or replay_rows"
            )
        if isinstance(algorithm, OnlineDPOConfig) and (self.replay or parallel.devices > 1 or self.remote):
            raise ValueError("online_dpo is of one process, its own engine and no replay: leave those out")
        if self.remote is not None and (self.temperature != 1.0 or getattr(algorithm, "importance_cap", None) is None):
            raise ValueError(
                "a remote engine returns log-probabilities at temperature 1, and others than the trainer's: leave out "
                "temperature, and set algorithm.importance_cap=2"
            )
        if self.remote is not None and self.remote.adapters and not isinstance(self.method, LoraConfig):
            raise ValueError("remote.adapters sends the policy as an adapter: set method.kind=lora")
