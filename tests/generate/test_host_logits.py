"""What leaves the model's device: rows that are not asked for do not, and of a bounded row only what may be drawn."""

import numpy as np
import pytest
import torch

from lmworks.generate import sampling
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.runner import LogitRows
from lmworks.generate.sampling import Sampled, sample, uniform

_VOCABULARY = 3000
_GREEDY = SamplingParameters()
_BOUNDED = [SamplingParameters(temperature=1.2, top_k=k, top_p=p) for k, p in ((40, 1.0), (7, 0.8), (1, 1.0))]
_WHOLE = [
    SamplingParameters(temperature=1.0, top_p=0.9),
    SamplingParameters(temperature=1.0, top_k=40, frequency_penalty=0.5),
    SamplingParameters(banned_tokens=(3,)),
    SamplingParameters(temperature=1.0, top_k=_VOCABULARY),
]


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all tensors that are copied, as if the logits were on another device."""
    shapes: list[tuple[int, ...]] = []

    def move(tensor: torch.Tensor) -> np.ndarray:
        shapes.append(tuple(tensor.shape))
        return tensor.clone().numpy()

    monkeypatch.setattr(sampling, "_is_there", lambda tensor: False)
    monkeypatch.setattr(sampling, "moved", move)
    return shapes


def _sample(logits: torch.Tensor, parameters: list[SamplingParameters]) -> Sampled:
    count = len(parameters)
    draws = [uniform(row, 1) for row in range(count)]
    return sample(LogitRows.from_logits(logits), parameters, [[1]] * count, [[5, 5]] * count, draws, [None] * count)


def _logits(count: int) -> torch.Tensor:
    return torch.randn(count, _VOCABULARY, generator=torch.Generator().manual_seed(0)) * 2


def test_greedy_rows_stay_where_they_are(moved: list[tuple[int, ...]]) -> None:
    logits = _logits(4)
    assert torch.equal(_sample(logits, [_GREEDY] * 4).ids, logits.argmax(-1))
    assert moved == [(4,)] * 4  # a few numbers of each row


def test_only_what_may_be_drawn_is_moved(moved: list[tuple[int, ...]]) -> None:
    _sample(_logits(6), [_GREEDY, *_BOUNDED, _GREEDY, _WHOLE[0]])
    assert sorted(moved) == [(1, _VOCABULARY), (3, 41), (3, 41), *[(6,)] * 4]


def test_the_tokens_are_the_same_from_every_device(
    monkeypatch: pytest.MonkeyPatch, moved: list[tuple[int, ...]]
) -> None:
    parameters = [_GREEDY, *_BOUNDED, *_WHOLE] * 5
    logits = _logits(len(parameters))
    found = _sample(logits, parameters)
    monkeypatch.undo()
    expected = _sample(logits, parameters)
    assert moved and all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_row_whose_edge_is_between_equal_logits_is_moved_as_a_whole(moved: list[tuple[int, ...]]) -> None:
    """Of equal ones the first belong to the k largest."""
    logits = torch.zeros(1, _VOCABULARY)
    found = {int(_sample_at(logits, part).ids) for part in (0.0, 0.3, 0.6, 0.9)}
    assert found == {0, 1, 2, 3} and (1, _VOCABULARY) in moved


def _sample_at(logits: torch.Tensor, draw: float) -> Sampled:
    parameters = SamplingParameters(temperature=1.0, top_k=4)
    return sample(LogitRows.from_logits(logits), [parameters], [[]], [[]], [draw], [None])
