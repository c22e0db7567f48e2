"""Compression: from a checkpoint to a smaller one that the engine runs faster, with what it lost measured."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.compress.block_calibration import CalibrationText, calibrated_blocks, read_calibration
    from lmworks.compress.config import (
        AWQConfig,
        CalibrationConfig,
        GPTQConfig,
        GridConfig,
        PruneConfig,
        QuantiseConfig,
        RoundConfig,
        SmoothQuantConfig,
        Sparsity,
        StructuredPruning,
    )
    from lmworks.compress.distillation import Distillation
    from lmworks.compress.distillation_config import DistillationLoss, DistillConfig, OnPolicyConfig, TeacherConfig
    from lmworks.compress.quantisation import Quantisation, quantise
    from lmworks.compress.stage import prune
    from lmworks.compress.stage_distil import new_student
    from lmworks.compress.structured_pruning import keep_layers

__getattr__, __all__ = lazy_exports(__name__, __file__, called=True)
