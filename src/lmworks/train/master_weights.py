"""The weights of a model in training: those it computes with, and those that the optimizers change.

In float32 they are the same. In bfloat16 or float16 the model holds its weights in that format, and the optimizers hold
float32 masters, of which the model's are roundings (Micikevicius et al. 2018, section 3.1). An update of 0.1 % is lost
on a bfloat16 weight, whose neighbours are 0.4 to 0.8 % away; on its master it is not.

On several processes each holds parts of the weights, or of their masters; the optimizers see what is there as plain
tensors and do not know.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lmworks.train.config import Precision
from lmworks.train.mixed_precision import DTYPES
from lmworks.train.optimizer_config import Optimizer
from lmworks.train.optimizers.adamw import AdamW
from lmworks.train.optimizers.build_optimizers import build_optimizers
from lmworks.train.parallel import ddp_zero1
from lmworks.train.parallel.fsdp import release
from lmworks.train.parallel.ranks import ALONE, Ranks
from lmworks.train.parallel.tensor_slice import (
    Pieces,
    Shard,
    find_holders,
    full_tensor_of,
    gather_whole,
    local,
    slice_of,
)


class Weights:
    """Gradients in, updates out.

        weights.clear()
        for micro_batch in micro_batches:
            (its loss / count of the whole step).backward()
            weights.accumulate()  # not needed where there is one
        weights.sum_over_ranks()  # nor this where there is one process
        norm = weights.gradient_norm()
        weights.update(multiplier, factor)

    masters     name → float32 weight, what this process updates of it.
    slices      name → which slice of the whole weight that is.
    optimizers  of the masters.
    summed      whether the backward of a part sums its gradients over the replicas, as with ZeRO 2 and 3.

    Building it turns all weights of `model` to the precision's dtype, in place; but those that ZeRO 2 or 3 divides are
    float32, and rounded when they are gathered.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, precision: Precision, ranks: Ranks = ALONE) -> None:
        self.model, self.ranks, self.dtype = model, ranks, DTYPES[precision]
        self.summed = ranks.replicas is not None and ranks.config.zero >= 2
        self._divided = ranks.replicas is not None and ranks.config.zero == 1
        self.low = precision != "float32" and not self.summed
        given = {name: p.detach() for name, p in model.named_parameters()}
        if not self.summed:
            model.to(self.dtype)
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.weights:
            raise ValueError("no weight of the model requires a gradient: there is nothing to train")
        if self.low:
            self.masters = {
                name: self._mine(name, local(given[name])).to(torch.float32, copy=self._divided)
                for name in self.weights
            }
        else:
            self.masters = {name: self._mine(name, local(weight)) for name, weight in self.weights.items()}
        self._name_of = {master: name for name, master in self.masters.items()}
        whole = {name: slice_of(weight) for name, weight in self.weights.items()}
        self.slices = {
            name: piece.rows(*self._rows(name, piece.size[0])) if self._divided else piece
            for name, piece in whole.items()
        }
        self._holders = find_holders(self.slices, ranks)
        self.optimizers = build_optimizers(optimizer, self.masters, self._full_tensor_of)
        self._rates = [[group["lr"] for group in built.param_groups] for built in self.optimizers]
        self._group_of = {  # the number of a weight's optimizer, and its settings in it
            self._name_of[master]: (number, group)
            for number, built in enumerate(self.optimizers)
            for group in built.param_groups
            for master in group["params"]
        }
        self._sums: dict[str, Tensor] = {}  # float32 gradients of the parts before this one, or of all ranks

    def _rows(self, name: str, rows: int) -> tuple[int, int]:
        """The first row of a weight that this process updates, and how many."""
        group = self.ranks.replicas_of(name)
        return (0, rows) if group is None or not self._divided else ddp_zero1.share(rows, group.size(), group.rank())

    def _mine(self, name: str, weight: Tensor) -> Tensor:
        return weight.narrow(0, *self._rows(name, len(weight))) if self._divided else weight

    def _by_replicas(self, names: Iterable[str]) -> dict[dist.ProcessGroup, list[str]]:
        """Names of weights by who holds the same and sees other tokens; those that nobody else holds are left out."""
        groups: dict[dist.ProcessGroup, list[str]] = {}
        for name in names:
            if (group := self.ranks.replicas_of(name)) is not None:
                groups.setdefault(group, []).append(name)
        return groups

    # -----------------------------------------------------------------------------------------------------------------
    # Gradients

    def clear(self) -> None:
        for weight in (*self.weights.values(), *self.masters.values()):
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
            gradient = _gradient(weight)
            if name in self._sums:
                self._sums[name] += gradient
            else:
                self._sums[name] = gradient.float()
            weight.grad = None

    def sum_over_ranks(self) -> None:
        """From gradients of this process's tokens to those of all, after the last part. All processes call it."""
        if self.ranks.replicas is None or self.summed:
            return
        self.accumulate()
        gradients = dict(self.gradients())
        for group, of_group in self._by_replicas(self.weights).items():
            names = ddp_zero1.agreed_names(gradients, of_group, group, self.ranks.device)
            for name in names:
                if name not in gradients:
                    gradients[name] = torch.zeros_like(local(self.weights[name]), dtype=torch.float32)
            if self._divided:
                for name in names:  # their memory goes as the shares come
                    self._sums.pop(name, None)
                    self.weights[name].grad = None
                shares = ddp_zero1.sum_and_divide((gradients.pop(name) for name in names), group)
                self._sums.update(zip(names, shares, strict=True))
            else:
                ddp_zero1.sum_gradients([gradients[name] for name in names], group)
                self._sums.update({name: gradients[name] for name in names})

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """(name, gradient of the whole step) of every weight that has one."""
        for name, weight in self.weights.items():
            if name in self._sums:
                yield name, self._sums[name]
            elif weight.grad is not None:
                yield name, _gradient(weight)

    def gradient_norm(self) -> Tensor:
        """The Euclidean norm of all gradients together, on all processes, () float32."""
        norms = [
            torch.linalg.vector_norm(gradient, dtype=torch.float32) / len(self._holders[name, self.slices[name]]) ** 0.5
            for name, gradient in self.gradients()
        ]
        zero = torch.zeros((), device=next(iter(self.masters.values())).device)
        norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else zero
        return norm if self.ranks.mesh is None else self.ranks.sum(norm.square()).sqrt()

    # -----------------------------------------------------------------------------------------------------------------
    # Updates

    @torch.no_grad()
    def update(self, multiplier: float, factor: float = 1.0) -> None:
        """One step of the optimizers, at `multiplier` times their rates, with gradients times `factor`."""
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier
        names, left = list[str](), list[tuple[str, Tensor]]()
        for name, gradient in self.gradients():
            names.append(name)
            number, group = self._group_of[name]
            optimizer, low = self.optimizers[number], self._mine(name, local(self.weights[name])) if self.low else None
            # A kernel, where there is one, also rounds; the gradient's memory is free then.
            if isinstance(optimizer, AdamW) and optimizer.update(group, self.masters[name], gradient, factor, low):
                self._drop_gradient(name)
            else:
                left.append((name, gradient))
        for bucket in ddp_zero1.buckets(left, itemgetter(1)) if self.low else [left]:  # float32 copies at a time
            for name, gradient in bucket:
                whole = gradient.float()
                self.masters[name].grad = whole if factor == 1 else whole.mul_(factor)
            for optimizer in self.optimizers:
                optimizer.step()
            for name, _ in bucket:
                if self.low:
                    self._mine(name, local(self.weights[name])).copy_(self.masters[name])
                self._drop_gradient(name)
        self._gather(names)

    def _drop_gradient(self, name: str) -> None:
        self.masters[name].grad = self.weights[name].grad = None
        self._sums.pop(name, None)

    def _gather(self, names: Iterable[str]) -> None:
        """The rows that other replicas updated."""
        if self._divided:
            for group, of_group in self._by_replicas(names).items():
                ddp_zero1.gather_weights([local(self.weights[name]) for name in of_group], group)

    @contextmanager
    def replaced_by(self, others: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside of the block the model computes with `others`, which are divided as the masters are, and after it with
        what it had, to the bit. All processes enter it."""
        with torch.no_grad():
            release(self.model)
            before = {name: local(weight).clone() for name, weight in self.weights.items()}
            for name, other in others.items():
                self._mine(name, local(self.weights[name])).copy_(other)
            self._gather(others)
        try:
            yield
        finally:
            with torch.no_grad():
                release(self.model)
                for name, weight in self.weights.items():
                    local(weight).copy_(before[name])

    def _full_tensor_of(self, master: Tensor, values: Tensor) -> tuple[Tensor, tuple[slice, ...]]:
        """The whole tensor of which the processes hold `values`, as they hold a master, and which part is here."""
        name = self._name_of[master]
        weight = self.weights[name]
        if self._divided and (group := self.ranks.replicas_of(name)) is not None:
            values = ddp_zero1.gather_rows(values, len(local(weight)), group)
        return full_tensor_of(values, weight), self.slices[name].slices

    # -----------------------------------------------------------------------------------------------------------------
    # State

    @property
    def names(self) -> set[str]:
        """The names of all trained weights, also of those that other processes hold."""
        return {name for name, _ in self._holders}

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The whole weights of which the processes hold `tensors`, `masters` or alike, as copies on the first one's
        CPU; nothing on the others. All processes call it."""
        return gather_whole(tensors, self._holders, self.ranks)

    def state(self) -> dict[str, Tensor]:
        """The optimizers' state, `NUMBER/KEY/WEIGHT` → tensor: names that no layout of ranks is part of."""
        return {
            f"{number}/{key}/{self._name_of[master]}": value
            for number, optimizer in enumerate(self.optimizers)
            for master, state in optimizer.state.items()
            for key, value in state.items()
            if isinstance(value, Tensor)
        }

    def shard_of_state(self) -> Shard:
        """The part of `state` that this process saves."""
        return self._owned({path: (path.split("/", 2)[2], value) for path, value in self.state().items()})

    def shard_of(self, tensors: Mapping[str, Tensor]) -> Shard:
        """The part of `tensors`, which are divided as the masters, that this process saves."""
        return self._owned({name: (name, value) for name, value in tensors.items()})

    def _owned(self, tensors: Mapping[str, tuple[str, Tensor]]) -> Shard:
        """The tensors that this process saves: the owner of a part of a weight its part, and the owner of the first
        part the numbers next to the weight."""
        owned, slices = {}, {}
        for key, (name, value) in tensors.items():
            piece = self.slices[name]
            of_weight = tuple(value.shape) == piece.size
            if self._holders[name, piece][0] == self.ranks.rank and (
                value.numel() if of_weight else not any(piece.start)
            ):
                owned[key] = value
                slices[key] = piece if of_weight else slice_of(value)
        return Shard(owned, slices)

    @torch.no_grad()
    def load(self, masters: Mapping[str, Tensor | Pieces], state: Mapping[str, Tensor | Pieces]) -> None:
        """Go on from saved masters and state, both whole: this process takes its parts. ValueError for those of another
        model or optimizer."""
        if differing := sorted(self.names ^ masters.keys()):
            raise ValueError(f"the saved weights are of another model: {', '.join(differing[:5])} differ")
        for name, master in self.masters.items():
            piece = self.slices[name]
            if tuple(masters[name].shape) != piece.whole:
                raise ValueError(f"the saved weights are of another model: the shape of {name} differs")
            master.copy_(masters[name][piece.slices])
            if self.low:
                self._mine(name, local(self.weights[name])).copy_(master)
        self._gather(self.weights)
        for optimizer in self.optimizers:
            optimizer.state.clear()
        for path, value in state.items():
            number, key, name = path.split("/", 2)
            if name not in self.masters:
                continue  # another process's
            if self._group_of[name][0] != int(number):
                raise ValueError(f"the saved state of {name} is another optimizer's")
            master, piece = self.masters[name], self.slices[name]
            values = value[piece.slices] if tuple(value.shape) == piece.whole else value[()]  # or a number
            self.optimizers[int(number)].state[master][key] = values.to(master.device, copy=True)


def _gradient(weight: Tensor) -> Tensor:
    """The gradient as this process holds it: of a divided weight, divided as that is."""
    gradient = weight.grad
    if isinstance(gradient, DTensor) and isinstance(weight, DTensor) and gradient.placements != weight.placements:
        gradient = gradient.redistribute(placements=weight.placements)  # summed, where each device has a summand
    assert gradient is not None
    return local(gradient)
