"""Ranges of keys, computed from the rules, against those that the dense mask shows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lmworks.kernels.training_kernels import KeyRanges
from lmworks.model import config as configs
from lmworks.model import contiguous_masks, masks
from lmworks.model.config import Banded, Window, WindowAndGlobal
from lmworks.model.presets import bert, llama
from lmworks.model.stack import Stack
from lmworks.model.transformer import Transformer

BATCH = 2
Case = tuple[masks.Predicate, configs.Pattern | None, Tensor, Tensor | None]


def _square(
    rule: masks.Predicate, pattern: configs.Pattern | None, positions: Tensor, real: Tensor | None
) -> KeyRanges | None:
    """The runs by their definition, from the mask that a stack would make."""
    batch, length = positions.shape
    if pattern is not None:
        rule = masks.both(rule, masks.at(positions, masks.pattern(pattern)))
    places = torch.arange(length)[None]
    mask = masks.dense(rule, batch, places, places)
    return contiguous_masks.of_mask(mask if real is None else mask & masks.padding(real), batch, real)


@st.composite
def _lengths(draw: st.DrawFn, length: int) -> list[int]:
    """Of the documents of a row."""
    cuts = sorted(draw(st.sets(st.integers(1, length - 1), max_size=4))) if length > 1 else []
    return [end - start for start, end in zip([0, *cuts], [*cuts, length], strict=True)]


@st.composite
def _cases(draw: st.DrawFn, tidy: bool) -> Case:
    """A rule, a pattern, positions and padding. Tidy: documents that follow each other, whose positions start afresh
    if a pattern looks at them, and padding at the ends; otherwise anything. What all see begins documents."""
    length = draw(st.integers(1, 14))
    rule = draw(st.sampled_from((masks.causal, masks.everything, None)))
    if rule is None:
        rule = masks.prefix_lm(torch.tensor(draw(st.lists(st.integers(0, length + 2), min_size=BATCH, max_size=BATCH))))
    pattern = draw(st.none() | st.builds(Window, st.integers(1, 8)) | st.builds(Banded, st.integers(1, 4), st.just(2)))
    documents = [draw(_lengths(length)) for _ in range(BATCH)]
    afresh = torch.stack([torch.cat([torch.arange(count) for count in row]) for row in documents])
    numbers = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in documents])
    rows = st.lists(st.lists(st.integers(0, 2), min_size=length, max_size=length), min_size=BATCH, max_size=BATCH)
    apart = draw(st.booleans())
    if not tidy:
        numbers = torch.tensor(draw(rows)) if draw(st.booleans()) else numbers
    if draw(st.booleans()):
        begins = (afresh if apart else torch.arange(length).expand(BATCH, -1)) < draw(st.integers(0, 4))
        rule = masks.SeenByAll(begins if tidy else torch.tensor(draw(rows)) > 0)
    if apart:
        parts = (rule, masks.documents(numbers))
        rule = masks.both(*(parts if draw(st.booleans()) else reversed(parts)))
    positions = torch.arange(length).expand(BATCH, -1) + draw(st.integers(0, 5))
    if (apart or not tidy) and draw(st.booleans()):
        positions = afresh
    if not draw(st.booleans()):
        return rule, pattern, positions, None
    if not tidy:
        return rule, pattern, positions, torch.tensor(draw(rows)) > 0
    ends = st.lists(st.integers(0, length), min_size=2, max_size=2)
    bounds = torch.tensor([sorted(draw(ends)) for _ in range(BATCH)])
    real = (torch.arange(length) >= bounds[:, :1]) & (torch.arange(length) < bounds[:, 1:])
    if not apart:
        positions = (real.long().cumsum(dim=1) - 1).clamp(min=0)  # as the model counts them
    return rule, pattern, positions, real


def _same(found: KeyRanges, expected: KeyRanges | None) -> bool:
    return expected is not None and all(map(torch.equal, found, expected))


@given(_cases(tidy=True))
def test_ranges_follow_from_rules(case: Case) -> None:
    found = contiguous_masks.key_ranges(*case)
    assert found is not None
    assert _same(found, _square(*case))
    for places in found:
        assert places.dtype == torch.int32 and places.is_contiguous()


@given(_cases(tidy=False))
def test_ranges_are_those_of_the_mask_or_none(
    case: tuple[masks.Predicate, configs.Pattern | None, Tensor, Tensor | None],
) -> None:
    """Whatever documents, positions and padding; where there are none, the mask is asked."""
    found = contiguous_masks.key_ranges(*case)
    assert found is None or _same(found, _square(*case))


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [
        (masks.documents(torch.tensor([[0, 1, 0, 0]])), None),
        (masks.causal, WindowAndGlobal(1, 1)),
        (lambda row, query, key: (key == 0) | (key == query), None),
    ],
)
def test_what_is_not_a_run_stays_a_mask(rule: masks.Predicate, pattern: configs.Pattern | None) -> None:
    case = (rule, pattern, torch.arange(4)[None], None)
    assert contiguous_masks.key_ranges(*case) is None and _square(*case) is None


def test_padding_sees_itself() -> None:
    real = torch.arange(6)[None] < torch.tensor([[6], [4]])
    seen = contiguous_masks.key_ranges(masks.everything, None, torch.arange(6).expand(2, -1), real)
    assert seen is not None
    assert seen.first[1].tolist() == [0, 0, 0, 0, 4, 5]
    assert seen.last[1].tolist() == [3, 3, 3, 3, 4, 5]


def test_a_long_row_needs_no_square() -> None:
    """Whose mask would be 10 GB."""
    length = 100_000
    numbers = (torch.arange(length) // 700)[None]
    rule = masks.both(masks.causal, masks.documents(numbers))
    found = contiguous_masks.key_ranges(rule, Window(512), torch.arange(length)[None] % 700, torch.ones(1, length))
    assert found is not None
    assert found.first[0, [699, 700, 1400 + 650]].tolist() == [188, 700, 1400 + 139]
    assert found.last[0].tolist() == list(range(length))


@pytest.mark.parametrize("family", [llama, bert])
def test_training_asks_the_rules_first(monkeypatch: pytest.MonkeyPatch, family: object) -> None:
    """And what a model gives and learns is as with the runs of the mask."""
    causal = family is llama
    model = Transformer(llama(97, 32, 2, 2, 1, 64, 128) if causal else bert(97, 32, 2, 2, 128))
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids, numbers = torch.randint(97, (2, 20)), torch.arange(20).expand(2, -1) // torch.tensor([[20], [7]])
    documents = masks.documents(numbers)
    rule = masks.both(masks.causal, documents) if causal else documents
    stack = model.decoder or model.encoder
    assert isinstance(stack, Stack)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model.hidden(ids, rule=rule).square().sum().backward()
        model.hidden(ids, attention_mask=numbers == 0)[numbers == 0].square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    with monkeypatch.context() as without_a_mask:
        without_a_mask.setattr(stack, "_mask", None)
        by_rules = gradients()
    monkeypatch.setattr(contiguous_masks, "key_ranges", lambda *given: None)
    for ours, asked in zip(by_rules, gradients(), strict=True):
        assert torch.equal(ours, asked)
