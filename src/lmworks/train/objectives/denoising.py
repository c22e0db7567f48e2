"""BART's denoising (Lewis et al. 2020, section 2.2): a whole text, from one that was damaged in any way."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lmworks.data.batching import Batch
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.noising import Noise
from lmworks.train.objectives.objective import Objective
from lmworks.train.objectives.rewriting import Rewritings, rewriting_losses, rewritings, texts_of


@dataclass(frozen=True, slots=True)
class Denoising(Objective[Rewritings]):
    """A text goes through each `noise` in turn, and is written down as it was.

    noise  BART-large: (SentencePermutation(ends), TextInfilling()) (section 5)
    mask   the token that hides others
    bos    begins source and target; None: nothing does
    eos    ends both, and begins what the decoder reads, as in BART
    apart  whether each document of a row is a text of its own; without, the row is one
    """

    noise: tuple[Noise, ...]
    mask: int
    bos: int | None
    eos: int
    apart: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        if not self.noise:
            raise ValueError("nothing is to be restored: name a noise, such as TextInfilling()")
        if self.mask in (self.bos, self.eos):
            raise ValueError("the token that hides others must be another than those that begin or end a text")

    def examples(self, batch: Batch, seed: int) -> Rewritings:
        frame = [token for token in (self.bos, self.eos) if token is not None]
        begin = frame[:-1]
        pairs = []
        for ids, generator in texts_of(batch, seed, self.apart, frame):
            if not len(ids):
                continue  # of a document that was its frame
            noisy = ids
            for noise in self.noise:
                noisy = noise(noisy, self.mask, generator) if len(noisy) else noisy
            pairs.append(tuple(np.array([*begin, *text, self.eos]) for text in (noisy, ids)))
        return rewritings(pairs, start=self.eos)

    def counts(self, examples: Rewritings) -> Mapping[str, int]:
        return {"rewritten": int(examples.mask.sum())}

    def losses(self, model: Transformer, examples: Rewritings) -> Mapping[str, Loss]:
        """See `rewriting_losses`."""
        return rewriting_losses(model, examples, self.label_smoothing, self.z_loss)
