"""What a model in training says: short continuations, one token at a time.

The engine of `generate` serves; this shows whoever trains a model, without it, what the model has learnt.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from lmworks.model.cache import KVCache
from lmworks.model.transformer import Transformer


@torch.no_grad()
def continue_text(
    model: Transformer,
    ids: Sequence[int],
    tokens: int,
    stop: Collection[int] = (),
    temperature: float = 0.0,
    seed: int = 0,
) -> list[int]:
    """Up to `tokens` ids that the decoder `model` gives after `ids`, without the one of `stop` that ended them.

    Each is drawn from softmax(logits / temperature), with a generator of its own; at 0 it is the likeliest. Fewer are
    given where the context of the model is full. ValueError for no ids, or for a model that is no language model.
    """
    if not ids:
        raise ValueError("a continuation needs a token to begin from")
    weight = model.tokens
    length = min(len(ids) + tokens, model.config.context_length)
    cache = KVCache(model.config, 1, length, weight.dtype, weight.device)
    slot, new = torch.zeros(1, dtype=torch.int64, device=weight.device), list(ids)
    said: list[int] = []
    generator = torch.Generator().manual_seed(seed)
    # Each length would be compiled anew where the blocks are.
    with torch.compiler.set_stance("force_eager"):
        while len(ids) + len(said) < length:
            start = len(ids) + len(said) - len(new)
            view = cache.view(slot, torch.arange(start, start + len(new), device=weight.device)[None])
            hidden = model.hidden(torch.tensor([new], device=weight.device), cache=view)[:, -1]  # (1, width)
            new = [_draw(model.logits(hidden)[0], temperature, generator)]
            if new[0] in stop:
                break
            said += new
    return said


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    """`logits` (vocabulary,)."""
    if not temperature:
        return int(logits.argmax())
    chances = (logits.cpu().float() / temperature).softmax(dim=-1)
    return int(torch.multinomial(chances, 1, generator=generator))
