"""Next-sentence prediction together with masked language modelling (Devlin et al. 2019, section 3.1): does the second
text follow on the first?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmworks.config import within
from lmworks.data.batches import PADDING, Batch
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.heads import NextSentenceHead
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss, cross_entropy
from lmworks.train.objectives.masked import MaskedLanguageModel, MaskedTokens, encode
from lmworks.train.objectives.objective import OnHiddenStates, pieces_of
from lmworks.train.objectives.sequence_to_sequence import padded

Ids = NDArray[np.int64]
FOLLOWS, OTHER = 0, 1  # the columns of the head's logits, as in `transformers`


@dataclass(frozen=True, slots=True, eq=False)
class TextPairs(MaskedTokens):
    """Pairs of texts, [CLS] A [SEP] B [SEP]: masked tokens with rows of one pair each, `documents` 0, padding -1, and

    token_types  (pairs, length) int64: 1 in B and behind it
    relation     (pairs,) int64: `FOLLOWS` or `OTHER`
    """

    token_types: Tensor
    relation: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class NextSentence(OnHiddenStates[TextPairs]):
    """Each piece of a document is cut at a random place into A and B. In half of the pairs B is as many tokens, or all,
    of another document of the same dataset, from a random place on.

        loss = masked language model on both texts + cross-entropy of the relation

    A row of the batch makes as many pairs as it has pieces, each three tokens longer than its piece. What is no text at
    the edges of a document is left out, as its frame is another here; of fewer than two tokens no pair is made.

    masked    how tokens are hidden; its `duplicates` fix the pairs as well
    datasets  the loader's, `Loader.datasets`, in which other documents are found
    cls, sep  the tokens before A, and behind A and B
    other     share of the pairs in which B does not follow
    """

    masked: MaskedLanguageModel
    datasets: Sequence[TokenDataset]
    cls: int
    sep: int
    other: float = 0.5

    def __post_init__(self) -> None:
        within(0, 1, other=self.other)
        for dataset in self.datasets:
            if dataset.documents < 2:
                raise ValueError(f"{dataset.folder} has one document: there is no other from which B could be")
        text = self.masked.vocabulary.text
        if text[self.cls] or text[self.sep]:
            raise ValueError("cls and sep must be special tokens: as text they would be hidden")

    def examples(self, batch: Batch, seed: int) -> TextPairs:
        """ValueError where no other document holds text."""
        pairs: list[tuple[NDArray[Any], ...]] = []  # ids as seen and as they were, which are asked for, and token types
        relations = []
        for row, piece, key in pieces_of(batch):
            text = self._text(batch.ids[row, piece].numpy())
            if len(text) < 2:
                continue
            generator = self.masked.generator(seed, *key)
            cut, follows = int(generator.integers(1, len(text))), generator.random() >= self.other
            second = text[cut:]
            if not follows:
                second = self._from_another(key[0], int(batch.documents[row, piece.start]), len(second), generator)
            ids = np.concatenate([[self.cls], text[:cut], [self.sep], second, [self.sep]])
            hidden, chosen = self.masked.hide(ids, np.zeros_like(ids), generator)
            pairs.append((hidden, ids, chosen, np.arange(len(ids)) > cut + 1))
            relations.append(FOLLOWS if follows else OTHER)
        (ids, real), (targets, _), (mask, _), (types, _) = (padded([pair[n] for pair in pairs]) for n in range(4))
        positions, documents = torch.arange(ids.shape[1]).expand(len(ids), -1), torch.where(real, 0, PADDING)
        return TextPairs(ids, positions, documents, targets, mask.bool(), types, torch.tensor(relations).long())

    def _text(self, ids: Ids) -> Ids:
        positions = np.flatnonzero(self.masked.vocabulary.text[ids])
        return ids[positions[0] : positions[-1] + 1] if len(positions) else ids[:0]

    def _from_another(self, source: int, document: int, length: int, generator: np.random.Generator) -> Ids:
        """Up to `length` tokens of a document that is not number `document`; where it holds no text, of the next that
        does."""
        dataset = self.datasets[source]
        first = int(generator.integers(1, dataset.documents))
        for step in range(dataset.documents - 1):
            number = (document + 1 + (first - 1 + step) % (dataset.documents - 1)) % dataset.documents
            start, stop = dataset.offsets[number : number + 2].tolist()
            text = self._text(dataset.read(start, stop).astype(np.int64)) if stop > start else np.empty(0, np.int64)
            if len(text):
                begin = int(generator.integers(max(len(text) - length, 0) + 1))
                return text[begin : begin + length]
        raise ValueError(f"no other document of {dataset.folder} holds text")

    def counts(self, examples: TextPairs) -> Mapping[str, int]:
        return {**self.masked.counts(examples), "relation": len(examples.relation)}

    def hidden(self, model: Transformer, examples: TextPairs) -> Tensor:
        """ValueError for a model without two token types, or with a context shorter than the pairs."""
        if model.config.embedding.token_types < 2:
            raise ValueError("A and B are distinguished by token types: the model needs two of them")
        types = examples.token_types
        return encode(model, examples.ids, examples.positions, examples.documents, token_types=types)

    def losses_of(self, model: Transformer, hidden: Tensor, examples: TextPairs) -> Mapping[str, Loss]:
        """TypeError for a model without BERT's head of pre-training."""
        head = model.head
        if not isinstance(head, NextSentenceHead):
            raise TypeError(f"this objective needs a config.NextSentenceHead, the model's is {model.config.head}")
        relation = cross_entropy(head.relation(hidden), examples.relation)
        loss = Loss(relation.sum, len(relation.nats), {"nats": relation.nats.sum()})
        return {**self.masked.losses_of(model, hidden, examples), "relation": loss}
