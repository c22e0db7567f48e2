"""Full fine-tuning, of all weights or of those that patterns name: the base of every comparison.

add_full(model, FullConfig(freeze=(r"embedding\\..*", r"decoder\\.blocks\\.[0-9]\\..*")))      # the upper layers
add_full(model, FullConfig(train=(r".*\\.bias",)))                     # BitFit (Ben Zaken et al. 2022, section 3)
add_full(model, FullConfig(train=(r".*norm\\.weight",)))               # norms alone
"""

import re
from collections.abc import Iterable

from torch import Tensor, nn

from lmworks.adapt.config import FullConfig
from lmworks.model import config as configs
from lmworks.model.transformer import Transformer, sharing_copy

_TOKENS, _TIED_HEAD = "embedding.tokens.weight", "head.projection.weight"


def add_full(model: Transformer, config: FullConfig) -> Transformer:
    """A copy that trains its own copies of the weights that `config` trains, and shares the others, frozen.

    ValueError for a pattern that names no weight, for patterns that leave nothing to train, and for those that train a
    tied head without the token embedding, which is the same matrix, or the other way round.
    """
    names = {id(weight): name for name, weight in model.named_parameters()}
    tied = _is_tied(model.config.head)
    all_names = [*names.values(), *([_TIED_HEAD] if tied else [])]
    trained = _matched(config.train, "train", all_names) - _matched(config.freeze, "freeze", all_names)
    if not trained:
        raise ValueError(f"freeze {config.freeze} leaves nothing to train of {config.train}")
    if tied and (_TOKENS in trained) != (_TIED_HEAD in trained):
        trained_name, frozen_name = (_TOKENS, _TIED_HEAD) if _TOKENS in trained else (_TIED_HEAD, _TOKENS)
        raise ValueError(
            f"{trained_name} is trained and {frozen_name} is not, but this model's head is tied: they are one matrix. "
            "Name both in `train`, or both in `freeze`"
        )

    def convert(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            return tensor
        trains = names[id(tensor)] in trained
        return nn.Parameter(tensor.detach().clone() if trains else tensor.detach(), requires_grad=trains)

    return sharing_copy(model, convert)


def _matched(patterns: Iterable[str], field: str, names: list[str]) -> set[str]:
    matched_names: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if re.fullmatch(pattern, name)}
        if not matched:
            kinds = dict.fromkeys(re.sub(r"\d+", "N", name) for name in names)
            raise ValueError(f"{field}: {pattern!r} is the whole name of no weight; there are {', '.join(kinds)}")
        matched_names |= matched
    return matched_names


def _is_tied(head: configs.Head | None) -> bool:
    """The head projects with the token embedding."""
    match head:
        case configs.MultiTokenHead():
            return head.next.tied
        case configs.LanguageModelHead():
            return head.tied
        case _:
            return isinstance(head, configs.VocabularyHead)
