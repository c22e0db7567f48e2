"""Ranges of keys, as objectives state them and as patterns and padding narrow them, against the dense mask."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kit.tables import for_each
from lmworks.kernels.training_kernels import KeyRanges
from lmworks.model import config as configs
from lmworks.model import masks
from lmworks.model.config import Banded, Window, WindowAndGlobal
from lmworks.model.presets import bert, llama
from lmworks.model.stack import Stack
from lmworks.model.transformer import Transformer

BATCH = 2
Case = tuple[KeyRanges, configs.Pattern | None, Tensor, Tensor | None]


def _of_mask(
    rule: KeyRanges, pattern: configs.Pattern | None, positions: Tensor, real: Tensor | None
) -> KeyRanges | None:
    """The ranges by their definition, from the mask that a stack would make; None where a query does not see all keys
    between its first and its last. Queries of padding see themselves."""
    batch, length = positions.shape
    narrowed = rule if pattern is None else masks.both(rule, masks.at(positions, masks.pattern(pattern)))
    places = torch.arange(length)[None]
    mask = masks.dense(narrowed, batch, places, places)[:, 0]
    if real is not None:
        mask = mask & masks.padding(real)[:, 0]
        mask = mask & (real.bool()[:, :, None] | torch.eye(length, dtype=torch.bool))
    rows = mask.to(torch.uint8)
    first, last = rows.argmax(dim=-1), length - 1 - rows.flip(-1).argmax(dim=-1)
    return KeyRanges(first.int(), last.int()) if torch.equal(last - first + 1, mask.sum(dim=-1)) else None


@st.composite
def _lengths(draw: st.DrawFn, length: int) -> list[int]:
    """Of the documents of a row."""
    cuts = sorted(draw(st.sets(st.integers(1, length - 1), max_size=4))) if length > 1 else []
    return [end - start for start, end in zip([0, *cuts], [*cuts, length], strict=True)]


@st.composite
def _cases(draw: st.DrawFn, tidy: bool) -> Case:
    """Documents or prefixes, a pattern, positions and padding. Tidy: positions start afresh in documents if a pattern
    looks at them, and padding stands at the ends; otherwise anything."""
    length = draw(st.integers(1, 14))
    pattern = draw(st.none() | st.builds(Window, st.integers(1, 8)) | st.builds(Banded, st.integers(1, 4), st.just(2)))
    apart = draw(st.booleans())
    documents = [draw(_lengths(length)) if apart else [length] for _ in range(BATCH)]
    afresh = torch.stack([torch.cat([torch.arange(count) for count in row]) for row in documents])
    numbers = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in documents])
    kind = draw(st.sampled_from(("causal", "everything", "prefixes")))
    if kind == "prefixes":
        lengths = draw(st.lists(st.integers(0, length + 2), min_size=BATCH, max_size=BATCH))
        rule = masks.prefixes(numbers, afresh < torch.tensor(lengths)[:, None])
    else:
        rule = masks.documents(numbers, kind == "causal")
    positions = torch.arange(length).expand(BATCH, -1) + draw(st.integers(0, 5))
    if (apart or not tidy) and draw(st.booleans()):
        positions = afresh
    if not draw(st.booleans()):
        return rule, pattern, positions, None
    if not tidy:
        rows = st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=BATCH, max_size=BATCH)
        return rule, pattern, positions, torch.tensor(draw(rows))
    ends = st.lists(st.integers(0, length), min_size=2, max_size=2)
    bounds = torch.tensor([sorted(draw(ends)) for _ in range(BATCH)])
    real = (torch.arange(length) >= bounds[:, :1]) & (torch.arange(length) < bounds[:, 1:])
    if not apart:
        positions = (real.long().cumsum(dim=1) - 1).clamp(min=0)  # as the model counts them
    return rule, pattern, positions, real


def _same(found: KeyRanges, expected: KeyRanges | None) -> bool:
    return expected is not None and all(map(torch.equal, found, expected))


@given(_cases(tidy=True))
def test_ranges_are_narrowed_without_a_mask(case: Case) -> None:
    found = masks.key_ranges(*case)
    assert found is not None
    assert _same(found, _of_mask(*case))
    for places in found:
        assert places.dtype == torch.int32 and places.is_contiguous()


@given(_cases(tidy=False))
def test_ranges_are_those_of_the_mask_or_none(case: Case) -> None:
    """Whatever positions and padding."""
    found = masks.key_ranges(*case)
    assert found is None or _same(found, _of_mask(*case))


def test_what_is_no_range_stays_a_mask() -> None:
    everything, places = masks.documents(torch.zeros(1, 4), causal=False), torch.arange(4)[None]
    for case in (
        (everything, WindowAndGlobal(1, 1), places, None),
        (everything, None, places, torch.tensor([[True, False, True, True]])),
        (everything, Window(1), torch.tensor([[0, 1, 0, 1]]), None),
    ):
        assert masks.key_ranges(*case) is None and _of_mask(*case) is None


def test_padding_sees_itself() -> None:
    real = torch.arange(6)[None] < torch.tensor([[6], [4]])
    seen = masks.key_ranges(masks.documents(torch.zeros(2, 6), causal=False), None, torch.arange(6).expand(2, -1), real)
    assert seen is not None
    assert seen.first[1].tolist() == [0, 0, 0, 0, 4, 5]
    assert seen.last[1].tolist() == [3, 3, 3, 3, 4, 5]


def test_a_long_row_needs_no_of_mask() -> None:
    """Whose mask would be 10 GB."""
    length = 100_000
    numbers = (torch.arange(length) // 700)[None]
    rule = masks.documents(numbers, causal=True)
    found = masks.key_ranges(rule, Window(512), torch.arange(length)[None] % 700, torch.ones(1, length))
    assert found is not None
    assert found.first[0, [699, 700, 1400 + 650]].tolist() == [188, 700, 1400 + 139]
    assert found.last[0].tolist() == list(range(length))


@for_each("family", [llama, bert])
def test_training_takes_the_ranges(monkeypatch: pytest.MonkeyPatch, family: object) -> None:
    """And what a model gives and learns is as with the dense mask, but for the order of float32 sums."""
    causal = family is llama
    model = Transformer(llama(97, 32, 2, 2, 1, 64, 128) if causal else bert(97, 32, 2, 2, 128))
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids, numbers = torch.randint(97, (2, 20)), torch.arange(20).expand(2, -1) // torch.tensor([[20], [7]])
    rule = masks.documents(numbers, causal)
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
    monkeypatch.setattr(masks, "key_ranges", lambda *given: None)
    for ours, asked in zip(by_rules, gradients(), strict=True):
        torch.testing.assert_close(ours, asked, atol=1e-3, rtol=1e-4)
