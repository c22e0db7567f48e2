"""Training runs whose cost was published, to hold the plan against: operations, device hours, memory. Free of torch.

`docs/scaling_laws.py` prints them beside what is computed here. Figures were looked up in the source named, or, where
`remembered` says so, written down from memory of it.
"""

from dataclasses import dataclass

from lmworks.model.presets.sizes import SIZES
from lmworks.train.planning.compute import DEVICES, train_flops_per_token
from lmworks.train.planning.layout import Layout
from lmworks.train.planning.memory import expected_memory
from lmworks.train.planning.scaling_laws import training_flops


@dataclass(frozen=True)
class Run:
    """`flops` and `device_hours` as published, None where they were not; `size` is a name of `presets.sizes`."""

    size: str
    tokens: float
    length: int
    flops: float | None
    device: str | None
    device_hours: float | None
    source: str
    remembered: str = ""

    def six_n_d(self) -> float:
        """6 · parameters · tokens."""
        from lmworks.model.model_costs import count_parameters

        return training_flops(count_parameters(SIZES[self.size].config), self.tokens)

    def computed_flops(self) -> float:
        """With the products of queries and keys, from the config."""
        return self.tokens * train_flops_per_token(SIZES[self.size].config, self.length)

    def utilisation(self) -> float | None:
        """Share of the device's peak, over all its published hours (Chowdhery et al. 2022, appendix B)."""
        if self.device is None or self.device_hours is None:
            return None
        return self.computed_flops() / (self.device_hours * 3600 * DEVICES[self.device].peak)


_GPT3 = "Brown et al. 2020, table D.1"
_LLAMA1 = "Touvron et al. 2023, table 15"
_LLAMA2 = "the model card of Llama 2"
_LLAMA31 = "the model card of Llama 3.1"
_A100, _H100 = "a100-80gb", "h100-80gb"

RUNS = (
    Run("gpt3-1.3b", 300e9, 2048, 2.38e21, None, None, _GPT3, "the operations"),
    Run("gpt3-13b", 300e9, 2048, 2.31e22, None, None, _GPT3, "the operations"),
    Run("gpt3-175b", 300e9, 2048, 3.14e23, None, None, _GPT3),
    Run("llama-7b", 1.0e12, 2048, None, _A100, 82_432, _LLAMA1, "hours and tokens"),
    Run("llama-65b", 1.4e12, 2048, None, _A100, 1_022_362, _LLAMA1, "hours and tokens"),
    Run("llama2-7b", 2.0e12, 4096, None, _A100, 184_320, _LLAMA2),
    Run("llama2-13b", 2.0e12, 4096, None, _A100, 368_640, _LLAMA2),
    Run("llama2-70b", 2.0e12, 4096, None, _A100, 1_720_320, _LLAMA2),
    Run("llama3.1-8b", 15e12, 8192, None, _H100, 1.46e6, _LLAMA31),
    Run("llama3.1-70b", 15e12, 8192, None, _H100, 7.0e6, _LLAMA31),
    Run("llama3.1-405b", 15.6e12, 8192, 3.8e25, _H100, 30.84e6, f"{_LLAMA31}; Grattafiori et al. 2024, section 3.3"),
)


@dataclass(frozen=True)
class MemoryRun:
    """A layout and the peak in GiB that was read on a device. `lower` and `upper` are layouts that keep less and more
    than the run did, where it kept something between the policies known here."""

    title: str
    size: str
    lower: Layout
    upper: Layout
    measured: float
    source: str

    def expected(self) -> tuple[float, float]:
        """GiB by both layouts."""
        config = SIZES[self.size].config
        return (
            expected_memory(config, self.lower).total / 2**30,
            expected_memory(config, self.upper).total / 2**30,
        )


def _titan(
    title: str, size: str, sequences: int, length: int, measured: float, table: int, *, every_second: bool = False,
    **degrees: int,
) -> MemoryRun:  # fmt: skip
    """`every_second` product was kept: more than with "blocks", less than with "selective"."""
    layout = {"zero": 3, "logits": "whole", "sequences": sequences, "length": length, **degrees}
    policies = ("blocks", "selective" if every_second else "blocks")
    lower, upper = (Layout(**layout, recompute=policy) for policy in policies)  # type: ignore[arg-type]
    return MemoryRun(title, size, lower, upper, measured, f"torchtitan, benchmark of December 2024, table {table}")


_8B, _70B = "llama3.1-8b", "llama3.1-70b"
MEMORY_RUNS = (
    _titan("8 devices, selective", _8B, 2, 8192, 82.4, 1, every_second=True, data=8),
    _titan("the same, compiled", _8B, 2, 8192, 77.0, 1, every_second=True, data=8),
    _titan("128 devices, selective", _8B, 2, 8192, 67.0, 3, every_second=True, data=128),
    _titan("the same, compiled", _8B, 2, 8192, 62.0, 3, every_second=True, data=128),
    _titan("8 devices, compiled, float8", _8B, 1, 32_768, 83.9, 2, data=8),
    _titan("4 × 2 by context, compiled, float8", _8B, 1, 65_536, 84.2, 2, data=4, context=2),
    _titan("2 × 4 by context, compiled, float8", _8B, 1, 131_072, 84.0, 2, data=2, context=4),
    _titan("32 × 8 by tensor, compiled, float8", _70B, 16, 8192, 71.9, 4, data=32, tensor=8, sequence_parallel=True),
    _titan("the same, asynchronous", _70B, 16, 8192, 67.6, 4, data=32, tensor=8, sequence_parallel=True),
)
