"""NEFTune (Jain et al. 2023, Algorithm 1): noise on the embeddings of the texts that are learned."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from lmworks.data.batches import Batch
from lmworks.train.objectives.row_random import generator_of, pieces_of


@dataclass(frozen=True, slots=True, eq=False)
class NoisyBatch(Batch):
    """A batch with `visits` (batch,) int64, the seed of what is drawn for each row."""

    visits: Tensor

    @classmethod
    def of(cls, batch: Batch, seed: int) -> "NoisyBatch":
        values = {each.name: getattr(batch, each.name) for each in fields(batch)}
        return cls(**values, visits=torch.full_like(batch.sources, seed))


def embedding_noise(batch: NoisyBatch, width: int, alpha: float) -> Tensor:
    """Uniform within ±alpha / √(L · width), (batch, length, width) float32, 0 at padding.

    L is the length of each document's part of a row. What is drawn belongs to the document, whatever stands next to it.
    """
    noise = np.zeros((*batch.ids.shape, width), np.float32)
    for row, (visit, source) in enumerate(zip(batch.visits.tolist(), batch.sources.tolist(), strict=True)):
        documents = batch.documents[row].cpu().numpy()
        for piece in pieces_of(documents):
            drawn = generator_of(visit, source, int(documents[piece.start])).uniform(-1, 1, noise[row, piece].shape)
            noise[row, piece] = drawn * alpha / drawn.size**0.5
    return torch.from_numpy(noise)
