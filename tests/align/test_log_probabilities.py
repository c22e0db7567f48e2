"""Log-probabilities of completions: packed without padding, with a prompt that neighbours share."""

import torch

from generate.engine_cases import tiny_llama
from kit.tables import for_each
from lmworks.align import log_probabilities
from lmworks.align.log_probabilities import Sequences, completion_log_probabilities


@for_each("together", [4096, 25])
def test_packed_sequences_are_as_alone(together, monkeypatch):
    """By values, and by gradients with one weight for each token."""
    monkeypatch.setattr(log_probabilities, "TOGETHER", together)
    model, draw = tiny_llama().model, torch.Generator().manual_seed(0)
    ids = torch.randint(0, 250, (7, 30), generator=draw)
    ids[1:3, :9], ids[4, :5] = ids[0, :9], ids[3, :5]
    starts, ends = [9, 9, 9, 5, 5, 1, 0], [20, 30, 12, 18, 5, 4, 9]  # one of them has no completion
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        mask[row, start:end] = True
    mask[1, 15:18] = False  # what an environment said
    weights = torch.randn(ids.shape, generator=draw) * mask
    weights[:, 0] = 0

    def gradients() -> torch.Tensor:
        return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])

    assert model.decoder is not None and model.decoder.shares_prefixes(model.tokens)
    found = completion_log_probabilities(model, Sequences(ids, mask, torch.tensor(ends)))
    (found * weights).sum().backward()
    packed = gradients()
    model.zero_grad()
    alone = torch.zeros_like(found)
    for row, end in enumerate(ends):
        alone[row, 1:end] = (
            model(ids[row : row + 1, :end])[0, :-1].log_softmax(-1).gather(-1, ids[row, 1:end, None])[:, 0]
        )
    (alone * weights).sum().backward()
    torch.testing.assert_close(found * (weights != 0), alone * (weights != 0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed, gradients(), atol=1e-4, rtol=1e-4)
    with torch.no_grad():  # the same kernels: ratios of one policy are 1
        assert torch.equal(completion_log_probabilities(model, Sequences(ids, mask, torch.tensor(ends))), found)
