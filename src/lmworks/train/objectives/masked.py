"""Masked language modelling (Devlin et al. 2019, section 3.1): hidden tokens, from those on both sides of them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmworks.data.batches import PADDING, Batch
from lmworks.model import masks
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.corruption_vocabulary import Vocabulary
from lmworks.train.objectives.objective import TokenPrediction, generator_of, pieces_of


@dataclass(frozen=True, slots=True, eq=False)
class MaskedTokens:
    """A batch of which some tokens are hidden: `ids` (batch, length) int64 as the model sees them, `targets` as they
    were, `mask` (batch, length) bool where they are to be found; `positions` and `documents` as in `Batch`."""

    ids: Tensor
    positions: Tensor
    documents: Tensor
    targets: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class MaskedLanguageModel(TokenPrediction[MaskedTokens]):
    """Masked tokens: `rate` of a row's are chosen, by their exact number and at least one. Of the chosen ones, `masked`
    become the mask token, `random` another token of the vocabulary, and the rest stay as they are; all are predicted.

    What the data's own mask leaves out is about next tokens: it plays no part here.

    vocabulary  what is text, what hides it; with `words`, words are chosen instead of tokens, as many as fit into the
                rate (whole-word masking, as in the authors' later models)
    duplicates  a row is hidden in so many ways, fixed once for all, of which each visit shows one (BERT: 10); None: in
                another way at each visit (Liu et al. 2019, RoBERTa, section 4.1)
    apart       whether documents of a row see only themselves
    """

    splits_sequences: ClassVar[bool] = True
    predicted: ClassVar[str] = "masked"
    vocabulary: Vocabulary
    rate: float = 0.15
    masked: float = 0.8
    random: float = 0.1
    duplicates: int | None = None
    apart: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        check_rates(self.rate, self.masked, self.random)
        if self.duplicates is not None and self.duplicates < 1:
            raise ValueError(f"duplicates are 1 or more, or None for masks that change; got {self.duplicates}")

    def examples(self, batch: Batch, seed: int) -> MaskedTokens:
        ids, mask = batch.ids.numpy().copy(), np.zeros(batch.ids.shape, bool)
        for row, real, key in pieces_of(batch, apart=False):
            documents = batch.documents[row, real].numpy()
            ids[row, real], mask[row, real] = self.hide(ids[row, real], documents, self.generator(seed, *key))
        return MaskedTokens(torch.from_numpy(ids), batch.positions, batch.documents, batch.ids, torch.from_numpy(mask))

    def generator(self, seed: int, *key: int) -> np.random.Generator:
        """`generator_of`, or one of the few that a row has with `duplicates`."""
        generator = generator_of(seed, *key)
        return generator if self.duplicates is None else generator_of(int(generator.integers(self.duplicates)), *key)

    def hide(
        self, ids: NDArray[np.int64], documents: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """A row without padding as the model is to see it, and which of its tokens were chosen; all (n,)."""
        chosen = choose(ids, documents, self.vocabulary, self.rate, generator)
        tokens = ids[chosen]
        fates, others = generator.random(len(tokens)), self.vocabulary.draw(len(tokens), generator)
        seen = ids.copy()
        seen[chosen] = np.where(fates < self.masked + self.random, others, tokens)
        seen[chosen] = np.where(fates < self.masked, self.vocabulary.mask, seen[chosen])
        return seen, chosen

    def hidden(self, model: Transformer, examples: MaskedTokens) -> Tensor:
        """TypeError for a model that is no encoder."""
        return encode(model, examples.ids, examples.positions, examples.documents, self.apart)


def encode(
    model: Transformer,
    ids: Tensor,
    positions: Tensor,
    documents: Tensor,
    apart: bool = True,
    token_types: Tensor | None = None,
) -> Tensor:
    """An encoder's hidden states, (batch, length, width), of rows in which no token sees padding, nor with `apart` any
    of another document. All (batch, length). TypeError for a model that is no encoder, ValueError for rows beyond its
    context length."""
    if model.encoder is None or model.decoder is not None:
        raise TypeError("this objective looks both ways: it needs an encoder, such as presets.bert")
    if ids.shape[1] > model.config.context_length:
        raise ValueError(
            f"a row is {ids.shape[1]} tokens long, the model reads {model.config.context_length}: "
            "give the loader a smaller length"
        )
    together = documents if apart else documents == PADDING  # equal where tokens see each other
    rule = masks.documents(together, causal=False) if bool((together != together[:, :1]).any()) else None
    return model.hidden(ids, positions=positions, token_types=token_types, rule=rule)


def check_rates(rate: float, masked: float, random: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(f"rate, the share of tokens that are chosen, lies between 0 and 1, got {rate:g}")
    if min(masked, random) < 0 or masked + random > 1 + 1e-9:
        raise ValueError(f"masked and random are shares of the chosen tokens, got {masked:g} and {random:g}")


def choose(
    ids: NDArray[np.int64],
    documents: NDArray[np.int64],
    vocabulary: Vocabulary,
    rate: float,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which tokens of a row without padding are chosen, (n,) bool; none where the row holds no text.

    Of words, in random order, each that still fits is taken; the first one in any case.
    """
    text = vocabulary.text[ids]
    chosen = np.zeros(len(ids), bool)
    if not text.any():
        return chosen
    count = max(round(rate * int(text.sum())), 1)
    if vocabulary.words is None:
        chosen[generator.permutation(np.flatnonzero(text))[:count]] = True
        return chosen
    words = vocabulary.words.numbers(ids, documents)
    sizes = np.bincount(words, weights=text).astype(np.int64)
    taken = np.zeros(len(sizes), bool)
    total = 0
    for word in generator.permutation(np.flatnonzero(sizes)).tolist():
        if total == 0 or total + sizes[word] <= count:
            taken[word] = True
            total += sizes[word]
        if total >= count:
            break
    return taken[words] & text
