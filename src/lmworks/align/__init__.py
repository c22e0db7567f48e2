"""Alignment: from what people, judges and programs prefer to a better policy."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.align.advantages import group_advantages
    from lmworks.align.collected_rows import preference_rows, thumbed_rows
    from lmworks.align.config import DPOConfig, KTOConfig, OfflineConfig, RewardConfig
    from lmworks.align.kto import KTO
    from lmworks.align.log_probabilities import Sequences, completion_log_probabilities, reference_sums
    from lmworks.align.online_config import GRPOConfig, OnlineConfig
    from lmworks.align.policy import Policy
    from lmworks.align.policy_gradient import PolicyOptimization, kl_estimate, policy_loss
    from lmworks.align.ppo import generalised_advantages
    from lmworks.align.preference_losses import Pairs
    from lmworks.align.reward_model import Reward, score
    from lmworks.align.rollout_loader import RolloutLoader
    from lmworks.align.sampled_completions import Prompt, SampledCompletions

__getattr__, __all__ = lazy_exports(__name__, __file__)
