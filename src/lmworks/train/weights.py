"""The weights of a model in training: those it computes with, and those that the optimizers change.

In float32 they are the same. In bfloat16 or float16 the model holds its weights in that format, and the optimizers hold
float32 masters, of which the model's are roundings (Micikevicius et al. 2018, section 3.1). An update of 0.1 % is lost
on a bfloat16 weight, whose neighbours are 0.4 to 0.8 % away; on its master it is not.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from lmworks.train import config as configs
from lmworks.train.optimizers.building import build_optimizers

DTYPES: dict[configs.Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
BUCKET = 2**22  # values whose float32 gradients exist at a time while low-precision weights are updated


class Weights:
    """Gradients in, updates out.

        weights.clear()
        for part in parts:
            (loss of part / count of the whole step).backward()
            weights.accumulate()  # not needed where there is one part
        norm = weights.gradient_norm()
        weights.update(multiplier, factor)

    masters     name → float32 weight: what a checkpoint holds.
    frozen      name → weight that is not trained, as it was given, on the CPU where the model's is a rounding of it:
                what a checkpoint holds of these.
    optimizers  of the masters.

    Building it turns all weights of `model` to the precision's dtype, in place.
    """

    def __init__(self, model: nn.Module, optimizer: configs.Optimizer, precision: configs.Precision) -> None:
        masters = {name: p.detach().float() for name, p in model.named_parameters() if p.requires_grad}
        if not masters:
            raise ValueError("no weight of the model requires a gradient: there is nothing to train")
        dtype = DTYPES[precision]
        self.low = precision != "float32"
        given = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
        model.to(dtype)
        self.frozen = {
            name: given[name].cpu() if self.low and given[name].dtype != dtype else p.detach()
            for name, p in model.named_parameters()
            if not p.requires_grad
        }
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.masters = masters if self.low else self.weights
        self.optimizers = build_optimizers(optimizer, self.masters)
        self._rates = [[group["lr"] for group in each.param_groups] for each in self.optimizers]
        self._sums: dict[str, Tensor] = {}  # float32 gradients of the parts before this one, of low precision

    # -----------------------------------------------------------------------------------------------------------------
    # Gradients

    def clear(self) -> None:
        for weight in self.weights.values():
            weight.grad = None
        self._sums.clear()

    def accumulate(self) -> None:
        """Take the gradients of a part. Those of low precision are summed in float32: a sum in bfloat16 would lose what
        is 256 times smaller than it."""
        if not self.low:
            return  # autograd adds
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            if name in self._sums:
                self._sums[name] += weight.grad
            else:
                self._sums[name] = weight.grad.float()
            weight.grad = None

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """(name, gradient of the whole step) of every weight that has one."""
        for name, weight in self.weights.items():
            gradient = self._sums.get(name, weight.grad)
            if gradient is not None:
                yield name, gradient

    def gradient_norm(self) -> Tensor:
        """The Euclidean norm of all gradients together, () float32."""
        norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for _, gradient in self.gradients()]
        if not norms:
            return torch.zeros(())
        return torch.linalg.vector_norm(torch.stack(norms))

    # -----------------------------------------------------------------------------------------------------------------
    # Updates

    @torch.no_grad()
    def update(self, multiplier: float, factor: float = 1.0) -> None:
        """One step of the optimizers, at `multiplier` times their rates, with gradients times `factor`."""
        for each, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(each.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier
        gradients = list(self.gradients())
        for bucket in _buckets(gradients) if self.low else [gradients]:
            for name, gradient in bucket:
                whole = gradient.float()
                self.masters[name].grad = whole if factor == 1 else whole.mul_(factor)
            for each in self.optimizers:
                each.step()
            if self.low:
                for name, _ in bucket:
                    self.masters[name].grad = None
                    self.weights[name].copy_(self.masters[name])
                    self.weights[name].grad = None
                    self._sums.pop(name, None)

    # -----------------------------------------------------------------------------------------------------------------
    # State

    def state(self) -> dict[str, Tensor]:
        """What the optimizers remember, `NUMBER/KEY/WEIGHT` → tensor: names that no layout of ranks is part of."""
        names = {master: name for name, master in self.masters.items()}
        return {
            f"{number}/{key}/{names[master]}": value
            for number, each in enumerate(self.optimizers)
            for master, state in each.state.items()
            for key, value in state.items()
            if isinstance(value, Tensor)
        }

    @torch.no_grad()
    def load(self, masters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        """Go on from saved masters and state. ValueError for those of another model or optimizer."""
        if masters.keys() != self.masters.keys():
            differing = sorted(masters.keys() ^ self.masters.keys())
            raise ValueError(f"the saved weights are of another model: {', '.join(differing[:5])} differ")
        for name, master in self.masters.items():
            master.copy_(masters[name])
            if self.low:
                self.weights[name].copy_(master)
        for each in self.optimizers:
            each.state.clear()
        owners = {name: number for number, each in enumerate(self.optimizers) for name in self._names_of(each)}
        for path, value in state.items():
            number, key, name = path.split("/", 2)
            if owners.get(name) != int(number):
                raise ValueError(f"the saved state of {name} is another optimizer's")
            master = self.masters[name]
            self.optimizers[int(number)].state[master][key] = value.to(master.device, copy=True)

    def _names_of(self, optimizer: torch.optim.Optimizer) -> list[str]:
        mine = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        return [name for name, master in self.masters.items() if id(master) in mine]


def _buckets(gradients: list[tuple[str, Tensor]]) -> Iterator[list[tuple[str, Tensor]]]:
    """Runs of gradients of at least `BUCKET` values, the last one excepted."""
    first, values = 0, 0
    for place, (_, gradient) in enumerate(gradients):
        values += gradient.numel()
        if values >= BUCKET or place == len(gradients) - 1:
            yield gradients[first : place + 1]
            first, values = place + 1, 0
