"""Dynamic loss scaling for float16 (Micikevicius et al. 2018, section 3.2; Narang et al.'s automatic choice).

float16 has no numbers between 0 and 6e-8. A loss times a large factor has gradients times that factor, which are not
rounded away; they are divided by it in float32. A factor too large gives infinities: that step is left out.
"""

from dataclasses import dataclass

import torch

from lmworks.train.config import Precision

LARGEST, SMALLEST = 2.0**24, 1.0
PATIENCE = 1000  # steps without an infinity after which the factor doubles


@dataclass
class LossScale:
    """`value` multiplies the loss; 1 for ever where `dynamic` is False."""

    dynamic: bool
    value: float = 1.0
    good: int = 0

    @classmethod
    def of(cls, precision: str) -> "LossScale":
        return cls(True, 2.0**16) if precision == "float16" else cls(False)

    def overflowed(self, norm: float) -> bool:
        """Told the scaled gradients' norm of each step: whether the step is to be left out."""
        if not self.dynamic:
            return False
        if norm - norm != 0 and self.value > SMALLEST:  # inf or NaN, which a smaller factor may mend
            self.value, self.good = max(self.value / 2, SMALLEST), 0
            return True
        self.good += 1
        if self.good >= PATIENCE:
            self.value, self.good = min(self.value * 2, LARGEST), 0
        return False


DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
