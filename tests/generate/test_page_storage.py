"""Pages moved as a whole, whatever they hold."""

import torch

from lmworks.generate.page_storage import PageTensors


def _numbered(pages: int = 5) -> torch.Tensor:
    """Page n holds n + 1."""
    return (torch.arange(pages) + 1).to(torch.bfloat16)[:, None, None].repeat(1, 3, 4)


def _held(tensor: torch.Tensor) -> list[float]:
    assert all(len(page.unique()) == 1 for page in tensor)
    return tensor[:, 0, 0].tolist()


def test_pages_of_one_group_are_moved_and_those_of_others_stay() -> None:
    full, other_full, windowed = _numbered(), _numbered(), _numbered()
    pages = PageTensors([[full, other_full], [windowed]])
    pages.copy(0, 2, 0)
    assert _held(full) == _held(other_full) == [3, 2, 3, 4, 5] and _held(windowed) == [1, 2, 3, 4, 5]
    content = pages.read([(0, 1), (1, 4)])
    pages.clear([(0, 1), (0, 3), (1, 4)])
    assert _held(full) == _held(other_full) == [3, 0, 3, 0, 5] and _held(windowed) == [1, 2, 3, 4, 0]
    pages.restore([(0, 3), (1, 0)], content)
    assert _held(full) == _held(other_full) == [3, 0, 3, 2, 5] and _held(windowed) == [5, 2, 3, 4, 0]
