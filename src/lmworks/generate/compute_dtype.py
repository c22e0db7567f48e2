"""The dtype that a processor multiplies fastest."""

from pathlib import Path

import torch

# What /proc/cpuinfo calls an instruction that multiplies bfloat16: x86 (AVX-512, AMX) and ARM.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def default_dtype(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> torch.dtype:
    """bfloat16 on CUDA and on a CPU that multiplies it in hardware, float32 elsewhere.

    A CPU without such instructions emulates bfloat16, which is several times slower than float32. Linux lists them in
    /proc/cpuinfo; where that file does not exist the answer is float32, which is right everywhere.
    """
    if device.type == "cuda":
        return torch.bfloat16
    if not cpuinfo.exists():
        return torch.float32
    names = ("flags", "Features")
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    flags = next((value.split() for name, _, value in lines if name.strip() in names), [])
    return torch.bfloat16 if _BFLOAT16_FLAGS.intersection(flags) else torch.float32
