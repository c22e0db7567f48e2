"""Models with adapters next to their weights: in one batch, each token uses its own adapter, or none.

The base is computed once for all tokens, and then, for each adapter in the batch, its change is added to the outputs
of its tokens (Chen et al. 2023, "Punica", batch the base and group the rest in the same way). The outputs of other
tokens are not touched: without an adapter they are, bit for bit, what the base gives.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.adapt.lora import HEAD, Lora, LowRank, check_fits, check_plain, untie
from lmworks.model.config import MaskedLanguageModelHead
from lmworks.model.heads import LanguageModelHead, VocabularyProjection
from lmworks.model.transformer import Transformer, sharing_copy

_TILE = 8  # rows of one product
Groups = list[tuple[int, Tensor]]


class AdapterIndex:
    """Which adapter each token of the next forward uses. All adapted layers of a model hold the same one, and the
    runner of the model sets it: the forward itself knows nothing of adapters. One thread at a time.

    fixed   what counts outside of `using`; None: no token has an adapter.
    """

    def __init__(self, fixed: Tensor | None = None) -> None:
        self._index = fixed
        self._groups: dict[torch.Size, Groups] = {}

    @contextmanager
    def using(self, index: Tensor) -> Iterator[None]:
        """Within the `with`, forwards use these adapters.

        `index` is int64, on the model's device: the number of an adapter in the list that `with_lora` was given, -1 for
        none. Its shape is that of the ids, (batch, length), where either may be 1 for all alike: an encoder–decoder
        takes (batch, 1). A head that is given only some rows (rows, width) takes (rows,), so a runner that picks rows
        before the head sets the index twice.
        """
        before, self._index, self._groups = self._index, index, {}
        try:
            yield
        finally:
            self._index, self._groups = before, {}

    def groups(self, shape: torch.Size) -> Groups:
        """The adapters of tokens that lie in a tensor of this shape (without the width), each with the numbers (n,) of
        its tokens in it. ValueError when the index was made for another shape."""
        if self._index is None:
            return []
        if shape not in self._groups:  # the same for all layers: a device is waited for once
            self._groups[shape] = self._find(self._index, shape)
        return self._groups[shape]

    @staticmethod
    def _find(index: Tensor, shape: torch.Size) -> Groups:
        fits = index.dim() in (0, len(shape)) and all(
            a in (1, b) for a, b in zip(index.shape, shape[len(shape) - index.dim() :], strict=True)
        )
        if not fits:
            raise ValueError(f"an adapter index {tuple(index.shape)} does not fit tokens {tuple(shape)}")
        expanded = index.expand(shape).flatten()
        return [
            (number, (expanded == number).nonzero().squeeze(1)) for number in expanded.unique().tolist() if number != -1
        ]

    def __deepcopy__(self, memo: object) -> "AdapterIndex":
        """Itself: who runs a copy of a model sets the index that it has."""
        return self


class Changes(nn.Module):
    """The changes that several adapters make to one layer; None for an adapter that leaves it alone.

    The matrices are buffers that are not saved: an adapted model has the base's `state_dict`.
    """

    def __init__(self, changes: Sequence[LowRank | None], index: AdapterIndex, like: Tensor) -> None:
        super().__init__()
        self.index, self.scales = index, [None if change is None else change.scale for change in changes]
        for number, change in enumerate(changes):
            if change is not None:
                self.register_buffer(f"a{number}", change.a.to(like), persistent=False)
                self.register_buffer(f"b{number}", change.b.to(like), persistent=False)

    def forward(self, input: Tensor, output: Tensor) -> Tensor:  # noqa: A002, as in nn.Linear
        """`input` (…, in), the base's `output` (…, out) → `output` with the changes added in place."""
        rows, flat = input.flatten(0, -2), output.flatten(0, -2)  # (tokens, in), (tokens, out): views
        for number, places in self.index.groups(input.shape[:-1]):
            if not 0 <= number < len(self.scales):
                raise ValueError(f"there is no adapter {number}: the model has {len(self.scales)}, counted from 0")
            if (scale := self.scales[number]) is not None:
                a, b = self.get_buffer(f"a{number}"), self.get_buffer(f"b{number}")
                flat.index_add_(0, places, low_rank(rows[places], a, b, scale))
        return output


def low_rank(rows: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale · B A x of each row x: `rows` (n, in), a (r, in), b (out, r) → (n, out).

    In tiles of equal size, two at least, because a product of other sizes may add in another order: what a token gets
    must not depend on how many others use its adapter.
    """
    count = len(rows)
    tiles = max(2, -(-count // _TILE))
    tiled = F.pad(rows, (0, 0, 0, tiles * _TILE - count)).view(tiles, _TILE, -1)
    inner = torch.bmm(tiled, a.t().expand(tiles, -1, -1)) * scale  # (tiles, _TILE, r)
    return torch.bmm(inner, b.t().expand(tiles, -1, -1)).flatten(0, 1)[:count]


class AdaptedLinear(nn.Linear):
    """A linear layer and what adapters add to it; the parameters are the base's own."""

    def __init__(self, base: nn.Linear, changes: Sequence[LowRank | None], index: AdapterIndex) -> None:
        nn.Module.__init__(self)  # no weights are drawn
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.changes = Changes(changes, index, base.weight)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name that nn.Linear gives it
        """(…, in) → (…, out)."""
        return self.changes(input, super().forward(input))


class AdaptedHead(LanguageModelHead):
    """A language model head and what adapters add to its logits, before their cap."""

    def __init__(self, base: LanguageModelHead, changes: Sequence[LowRank | None], index: AdapterIndex) -> None:
        nn.Module.__init__(self)
        assert base.projection is not None
        self.config, self.projection, self.bias = base.config, base.projection, base.bias
        self.changes = Changes(changes, index, base.projection.weight)

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        features = self.features(hidden)
        plain = super().projection_to_vocabulary(tokens)
        return plain.capped(self.changes(features, plain._replace(softcap=None)(features)))

    def projection_to_vocabulary(self, tokens: Tensor) -> VocabularyProjection:
        raise TypeError("an adapted head is more than one projection: merge the adapter first, or call the head")


def with_lora(model: Transformer, loras: Sequence[Lora], index: AdapterIndex) -> Transformer:
    """The model with adapters next to its weights, which it shares with `model`; `index` says who uses which.

        index = AdapterIndex()
        adapted = with_lora(model, [french, formal], index)
        with index.using(torch.tensor([[0], [1], [-1]])):  # a text in French, a formal one, one as the base would
            logits = adapted(ids)

    ValueError for an adapter of another model; for one of layers that do not see all tokens in their order (experts,
    routers, heads that pool), for DoRA and one of the embedding: `merge` takes those; and for a model that has
    adapters already.
    """
    adapted = sharing_copy(model)
    names = dict.fromkeys(name for lora in loras for name in lora.changes)
    for lora in loras:
        check_fits(lora, model.config)
        check_plain(lora)
    for name in names:
        changes = [lora.changes.get(name) for lora in loras]
        if name == HEAD and isinstance(adapted.head, LanguageModelHead):
            untie(adapted)
            adapted.head = AdaptedHead(adapted.head, changes, index).train(model.training)
            continue
        base = adapted.get_submodule(name)
        of_pooled = name.startswith("head.") and not isinstance(model.config.head, MaskedLanguageModelHead)
        if type(base) is not nn.Linear or of_pooled or ".experts." in name:
            raise ValueError(
                f"{name} is a {type(base).__name__} that cannot have an adapter for each token: give all adapters to "
                "one call, and `merge` those of experts, routers and pooling heads"
            )
        adapted.set_submodule(name, AdaptedLinear(base, changes, index).train(model.training))
    return adapted


def apply(model: Transformer, lora: Lora) -> Transformer:
    """The model with one adapter next to its weights, which every token uses."""
    return with_lora(model, [lora], AdapterIndex(torch.tensor(0, device=model.tokens.device)))
