"""Groups of sequences in batches: whole, in an order that nothing but the seed decides, with their numbers."""

import json
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.data.config import GroupLoaderConfig
from lmworks.data.group_loader import GroupLoader
from lmworks.data.token_groups import TokenGroup, join_groups
from lmworks.train.objectives.objective import select_rows

# Group g has 1 to 3 sequences; sequence k of it holds the id 10 · g + k + 1 once or more, and learns all but the first.
SIZES = [1 + number % 3 for number in range(23)]


def group(number: int) -> TokenGroup:
    ids = [[10 * number + k + 1] * (1 + (number + k) % 5) for k in range(SIZES[number])]
    learned = [[place > 0 for place in range(len(row))] for row in ids]
    return TokenGroup(ids, learned, {"reference": [-(10.0 * number + k + 1) for k in range(SIZES[number])]})


GROUPS = join_groups(map(group, range(23)))


def loader(batch=4, steps=None, seed=0, groups=GROUPS, length=64, **settings):
    return GroupLoader(GroupLoaderConfig(length, batch, steps, seed), groups, **settings)


def shown(batch):
    """The groups of a batch, once it is clear that they are whole and that what belongs to their tokens is theirs."""
    numbers = []
    for ids, mask, learned, reference in zip(
        batch.ids, batch.attention_mask, batch.completion_mask, batch.columns["reference"], strict=True
    ):
        number = (int(ids[0, 0]) - 1) // 10
        expected = group(number)
        size = len(expected.ids)
        assert [row[real].tolist() for row, real in zip(ids[:size], mask[:size], strict=True)] == expected.ids
        assert [row[real].tolist() for row, real in zip(learned[:size], mask[:size], strict=True)] == expected.learned
        assert reference[:size].tolist() == expected.columns["reference"]
        assert not ids[~mask].any() and not learned[~mask].any()
        assert not mask[size:].any() and not reference[size:].any()
        numbers.append(number)
    return numbers


def test_an_epoch_shows_each_group_once_and_whole_and_the_next_in_another_order():
    seen = [shown(batch) for batch in loader()]
    assert [len(numbers) for numbers in seen] == [4] * 5 + [3]
    assert sorted(chain(*seen)) == list(range(23))
    epochs = [shown(batch) for batch in loader(batch=23, steps=2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) and epochs[0] != epochs[1]
    assert shown(next(loader(batch=23, steps=1, seed=1))) != epochs[0]


@for_each("world_size", [2, 3, 4])
def test_ranks_divide_the_batch_between_groups_and_change_nothing_else(world_size):
    for step in range(5):
        parts = [loader(rank=rank, world_size=world_size, steps=5).batch(step) for rank in range(world_size)]
        assert list(chain(*map(shown, parts))) == shown(loader().batch(step))


@given(st.integers(0, 12), st.integers(13, 40))
def test_a_run_is_resumed_from_a_saved_position_also_with_more_steps(stop, steps):
    first, again = loader(steps=13), loader(steps=steps)
    for _ in range(stop):
        next(first)
    assert again.restore(json.loads(json.dumps(first.state()))) == stop
    assert shown(next(again)) == shown(loader(steps=steps).batch(stop))


def test_a_micro_batch_holds_whole_groups():
    batch = loader(batch=5).batch(0)
    parts = [select_rows(batch, slice(start, start + 2)) for start in (0, 2, 4)]
    assert list(chain(*map(shown, parts))) == shown(batch)
    assert sum(part.tokens for part in parts) == batch.tokens == int(batch.lengths.sum())
