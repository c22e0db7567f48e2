"""The numbers that a model is trained in."""

import torch

from lmworks.train.config import Precision

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
