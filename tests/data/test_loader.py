"""The loader: every token once an epoch, and one stream for any world, any threads and any interruption."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kit.tables import for_each
from lmworks.data.batches import Batch
from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.loader import Loader
from token_cases import counted, write_dataset

LENGTH = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three sources of one vocabulary, in several shards; no number is a token of two of them."""
    root = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    for number, (name, documents, longest) in enumerate([("web", 60, 30), ("code", 25, 60), ("books", 3, 200)]):
        lengths = rng.integers(1, longest, documents).tolist()
        write_dataset(root / name, counted(lengths, first=number * 10_000), shard_tokens=100)
    return root


@pytest.fixture
def config(folders):
    sources = {name: SourceConfig(str(folders / name)) for name in ("web", "code", "books")}
    return LoaderConfig(sources=sources, length=LENGTH, batch=7, steps=40, seed=3)


def batches_of(config, rank=0, world_size=1, state=None) -> list[Batch]:
    with Loader(config, rank, world_size, state) as loader:
        return list(loader)


def joined(parts: list[Batch]) -> dict[str, list]:
    """The rows of all ranks, one rank after the other."""
    return {name: torch.cat([getattr(part, name) for part in parts]).tolist() for name in Batch.__slots__}


def stream(config, world_size=1, state=None) -> list[dict[str, list]]:
    ranks = [batches_of(config, rank, world_size, state) for rank in range(world_size)]
    return [joined(list(parts)) for parts in zip(*ranks, strict=True)]


@for_each(("mode", "document_mask"), [("pack", True), ("concatenate", True), ("concatenate", False)])
def test_a_run_without_steps_shows_every_token_once(config, mode, document_mask):
    config = replace(config, mode=mode, document_mask=document_mask, steps=None)
    with Loader(config) as loader:
        text = np.concatenate([dataset.read(0, dataset.tokens) for dataset in loader.datasets])
        firsts = np.concatenate([d.read(0, d.tokens)[d.offsets[:-1]] for d in loader.datasets])
        beginnings = [int(d.read(0, 1)[0]) for d in loader.datasets]
        batches = list(loader)
    ids = torch.cat([batch.ids[batch.documents >= 0] for batch in batches])
    assert sorted(ids.tolist()) == sorted(text.tolist())
    # Every token is predicted once, but the first of its document, or of its whole stream.
    targets = torch.cat([batch.targets[batch.mask] for batch in batches])
    unpredicted = set(firsts.tolist()) if document_mask else set(beginnings)
    assert sorted(targets.tolist()) == sorted(set(text.tolist()) - unpredicted)


@for_each("mode", ["pack", "concatenate"])
def test_only_masked_tokens_are_learned(tmp_path, mode):
    """The mask of the documents is that of the targets: with what the assistant says at odd places."""
    documents = counted([9, 40, 3, 25], first=1)
    write_dataset(tmp_path / mode, documents, [d % 2 == 1 for d in documents], shard_tokens=45)
    batches = batches_of(LoaderConfig({"chat": SourceConfig(str(tmp_path / mode))}, length=LENGTH, batch=2, mode=mode))
    learned = torch.cat([batch.targets[batch.mask] for batch in batches]).tolist()
    firsts = {int(document[0]) for document in documents}
    assert sorted(learned) == [token for token in range(1, 78) if token % 2 == 1 and token not in firsts]


@for_each("mode", ["pack", "concatenate"])
def test_worlds_threads_and_batches_ahead_change_nothing(config, mode):
    config = replace(config, mode=mode)
    whole = stream(config)
    for world_size, workers, ahead in ((1, 3, 2), (2, 1, 1), (3, 4, 16), (7, 1, 4)):
        assert stream(replace(config, workers=workers, ahead=ahead), world_size) == whole


def test_a_run_goes_on_in_other_worlds_with_other_threads(config):
    """World sizes 1, 2 and 3, each interrupted: the steps of all are those of the run that never stopped."""
    whole = stream(config)
    shown, state = [], None
    for world_size, workers, count in ((1, 1, 11), (2, 3, 13), (3, 2, 16)):
        loaders = [Loader(replace(config, workers=workers), rank, world_size, state) for rank in range(world_size)]
        for _ in range(count):
            shown.append(joined([next(loader) for loader in loaders]))
        states = [loader.state() for loader in loaders]
        assert all(found == states[0] for found in states)
        state = json.loads(json.dumps(states[0]))
        for loader in loaders:
            loader.close()
    assert shown == whole
    assert batches_of(config, state=state) == []


@for_each("world_size", [1, 3])
def test_a_run_that_is_extended_or_shortened_shows_what_it_would_have_shown(config, world_size):
    whole = stream(config)
    with Loader(config) as loader:
        next(loader)
        state = loader.state()
    longer = stream(replace(config, steps=60), world_size, state)
    assert len(longer) == 59 and longer[:39] == whole[1:]
    with Loader(replace(config, steps=60), state=state) as loader:
        later = loader.state() | {"step": 50}  # what came after the extension is met again at each later moment
    assert stream(replace(config, steps=60), world_size, later) == longer[49:]
    assert stream(replace(config, steps=3), world_size, state) == whole[1:3]
    with pytest.raises(ValueError, match=r"50.*49"):
        Loader(replace(config, steps=49), state=later)


@for_each(("change", "message"), [
    (lambda config: {"seed": 4}, "seed was 3, is 4"),
    (lambda config: {"sources": config.sources | {"web": config.sources["code"]}}, "sources was"),
    (lambda config: {"sources": dict(reversed(config.sources.items()))}, "sources was"),
])  # fmt: skip
def test_a_state_of_another_stream_is_refused(config, change, message):
    with Loader(config) as loader:
        state = loader.state()
    with pytest.raises(ValueError, match=message):
        Loader(replace(config, **change(config)), state=state)


def test_no_rank_is_left_without_a_sequence(config):
    one_epoch = replace(config, steps=None)
    *full, last = [len(batch) for batch in batches_of(one_epoch)]
    assert set(full) == {7} and 0 < last < 7
    with pytest.raises(ValueError, match=f"{last} sequences"):
        Loader(one_epoch, world_size=7)
    shorter = replace(one_epoch, steps=len(full))
    assert [len(batch) for batch in batches_of(shorter, 3, 7)] == [1] * len(full)
    with pytest.raises(ValueError, match="7 sequences"):
        Loader(config, world_size=8)
