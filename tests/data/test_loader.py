"""The loader: every token once an epoch, and one stream for any world, any threads and any interruption."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.batches import Batch
from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.loader import Loader, describe_loader
from lmworks.data.token_shard import HEADER, ShardError
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


def batches_of(config, rank=0, world_size=1, state=None, count=None) -> list[Batch]:
    with Loader(config, rank, world_size, state) as loader:
        return [batch for batch, _ in zip(loader, range(count or loader.steps), strict=False)]


def joined(parts: list[Batch]) -> dict[str, list]:
    """The rows of all ranks, one rank after the other."""
    return {name: torch.cat([getattr(part, name) for part in parts]).tolist() for name in Batch.__slots__}


def stream(config, rank=0, world_size=1, state=None, count=None) -> list[dict[str, list]]:
    return [joined([batch]) for batch in batches_of(config, rank, world_size, state, count)]


# ---------------------------------------------------------------------------------------------------------------------
# What is shown


@pytest.mark.parametrize("mode", ["pack", "concatenate"])
@pytest.mark.parametrize("document_mask", [True, False])
def test_a_run_without_steps_shows_every_token_once(config, mode, document_mask):
    if mode == "pack" and not document_mask:
        return
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


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(2, 20), st.integers(1, 5), st.data())
def test_two_epochs_show_every_token_twice_in_another_order(tmp_path_factory, lengths, length, batch, data):
    folder = tmp_path_factory.mktemp("one")
    write_dataset(folder, counted(lengths, first=1), shard_tokens=40)
    mode = data.draw(st.sampled_from(["pack", "concatenate"]))
    one = LoaderConfig({"one": SourceConfig(str(folder))}, length, batch, mode=mode)
    with Loader(one) as loader:
        sequences = loader.plans[0].sequences
        assert loader.steps == -(-sequences // batch)
    two = replace(one, batch=sequences, steps=2)
    epochs = batches_of(two)
    for epoch in epochs:
        assert sorted(epoch.ids[epoch.documents >= 0].tolist()) == list(range(1, sum(lengths) + 1))
        assert sorted(epoch.sequences.tolist()) == list(range(sequences))
    if sequences > 20:
        assert epochs[0].sequences.tolist() != epochs[1].sequences.tolist()


def test_rows_are_what_the_fields_say(config):
    config = replace(config, steps=None)
    with Loader(config) as loader:
        for batch in loader:
            for row in range(len(batch)):
                dataset = loader.datasets[int(batch.sources[row])]
                for place in range(LENGTH):
                    document = int(batch.documents[row, place])
                    if document < 0:
                        assert not batch.mask[row, place]
                        continue
                    token = int(batch.ids[row, place])
                    begin, end = dataset.offsets[document], dataset.offsets[document + 1]
                    at = begin + int(np.flatnonzero(dataset.read(begin, end) == token)[0])
                    new = place == 0 or document != int(batch.documents[row, place - 1])
                    assert batch.positions[row, place] == (0 if new else batch.positions[row, place - 1] + 1)
                    assert bool(batch.mask[row, place]) == (at + 1 < end)
                    if at + 1 < end:
                        assert batch.targets[row, place] == int(dataset.read(at + 1, at + 2)[0])


@pytest.mark.parametrize("mode", ["pack", "concatenate"])
def test_only_masked_tokens_are_learned(tmp_path, mode):
    """The mask of the documents is that of the targets: with what the assistant says at odd places."""
    documents = counted([9, 40, 3, 25], first=1)
    write_dataset(tmp_path, documents, [d % 2 == 1 for d in documents], shard_tokens=45)
    config = LoaderConfig({"chat": SourceConfig(str(tmp_path))}, length=LENGTH, batch=2, mode=mode)
    batches = batches_of(config)
    learned = torch.cat([batch.targets[batch.mask] for batch in batches]).tolist()
    firsts = {int(document[0]) for document in documents}
    assert sorted(learned) == [token for token in range(1, 78) if token % 2 == 1 and token not in firsts]


def test_without_a_document_mask_a_row_is_a_stretch_of_the_stream(config):
    config = replace(config, mode="concatenate", document_mask=False)
    for batch in batches_of(config):
        real = batch.documents >= 0
        assert (batch.positions == torch.arange(LENGTH))[real].all()
        assert ((batch.targets == batch.ids + 1) | ~batch.mask).all()  # the numbers of a source run on
        assert (batch.mask[:, :-1] == real[:, 1:]).all()


# ---------------------------------------------------------------------------------------------------------------------
# One stream


@pytest.mark.parametrize("mode", ["pack", "concatenate"])
def test_ranks_in_order_show_the_stream_of_one(config, mode):
    config = replace(config, mode=mode)
    whole = stream(config)
    for world_size in (2, 3, 7):
        ranks = [batches_of(config, rank, world_size) for rank in range(world_size)]
        assert [joined(list(parts)) for parts in zip(*ranks, strict=True)] == whole


def test_threads_and_batches_ahead_change_nothing(config):
    whole = stream(config)
    for workers, ahead in ((1, 1), (3, 2), (4, 16)):
        assert stream(replace(config, workers=workers, ahead=ahead)) == whole


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
    assert state["step"] == 40
    with Loader(config, state=state) as loader:
        assert list(loader) == []


def test_a_state_of_another_stream_is_refused_and_the_difference_named(config, folders):
    with Loader(config) as loader:
        state = loader.state()
    other = dict(config.sources) | {"web": SourceConfig(str(folders / "code"))}
    swapped = dict(reversed(config.sources.items()))
    for changed, message in (
        (replace(config, seed=4), "seed was 3, is 4"),
        (replace(config, sources=other), r"sources\.web was \w{12}…, is \w{12}…$"),
        (replace(config, sources=swapped), "another order"),
        (
            replace(config, sources={n: replace(s, max_epochs=50.0) for n, s in config.sources.items()}),
            r"sources\.web, max_epochs was None, is 50",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            Loader(changed, state=state)
    with pytest.raises(ValueError, match="step 41 of a run of 40"):
        Loader(config, state=state | {"step": 41})
    Loader(replace(config, workers=3, ahead=1), state=state).close()


# ---------------------------------------------------------------------------------------------------------------------
# Mixture, figures, refusals


def test_sources_are_drawn_by_their_quotas_and_never_beyond_their_epochs(config):
    sources = dict(config.sources)
    sources["code"] = replace(sources["code"], max_epochs=1.5)
    with Loader(replace(config, sources=sources, temperature=3.0)) as loader:
        sizes = [plan.sequences for plan in loader.plans]
        batches = list(loader)
    drawn = torch.bincount(torch.cat([batch.sources for batch in batches])).tolist()
    assert drawn == list(loader.draws.quotas)
    assert sum(drawn) == 280
    assert drawn[1] == int(1.5 * sizes[1])
    free = [size ** (1 / 3) for size in (sizes[0], sizes[2])]
    assert drawn[0] / drawn[2] == pytest.approx(free[0] / free[1], abs=0.02)
    seen = [torch.cat([b.sequences[b.sources == source] for b in batches]).bincount() for source in range(3)]
    assert all(int(counts.max() - counts.min()) <= 1 for counts in seen)  # no sequence again before all others
    held, shown = (dict(zip(loader.names, table.rows, strict=True)) for table in describe_loader(loader).tables)
    assert [row[3] for row in held.values()] == [0, 0, 0]  # no token is lost
    assert [row[1] for row in shown.values()] == drawn and sum(row[2] for row in shown.values()) == pytest.approx(100)


def test_a_damaged_token_is_noticed_in_the_batch(tmp_path):
    write_dataset(tmp_path, counted([40]), vocabulary_size=40)
    path = tmp_path / "tokens-00000.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[: HEADER.itemsize + 1] + bytes([64]) + whole[HEADER.itemsize + 2 :])
    with Loader(LoaderConfig({"a": SourceConfig(str(tmp_path))}, LENGTH, batch=3)) as loader:
        with pytest.raises(ShardError, match=f"{tmp_path} holds the token 16384, the vocabulary has 40: .*verify"):
            next(loader)
        with pytest.raises(ShardError, match=r"tokens-00000\.bin is damaged"):
            loader.datasets[0].verify()


def test_what_cannot_be_loaded_is_refused(config, tmp_path):
    write_dataset(tmp_path / "other", counted([5]), vocabulary="cd" * 32)
    mixed = dict(config.sources) | {"other": SourceConfig(str(tmp_path / "other"))}
    few = {name: replace(source, max_epochs=0.5) for name, source in config.sources.items()}
    for build, message in (
        (lambda: Loader(replace(config, sources=mixed)), r"the ids of other .* another vocabulary"),
        (lambda: Loader(replace(config, sources=few)), r"asks for 280 sequences, .* raise max_epochs"),
        (lambda: Loader(config, rank=2, world_size=2), "rank 2 is outside a world of 2"),
        (lambda: Loader(config, world_size=8), "without any"),
        (lambda: Loader(config).batch(40), "step 40 of a run of 40"),
        (lambda: replace(config, document_mask=False), "needs document_mask"),
        (lambda: replace(config, sources=mixed | {"web": SourceConfig("x", 1.0)}), "only web have one"),
        (lambda: LoaderConfig({"a": SourceConfig("x", 1.0)}, temperature=2.0), "leave out one"),
    ):
        with pytest.raises((ValueError, IndexError), match=message):
            build()


def test_batches_are_cut_into_micro_batches(config):
    batch = batches_of(config, count=1)[0]
    assert joined([batch[:3], batch[3:]]) == joined([batch])
    assert joined([batch.to("cpu")]) == joined([batch])
    assert len(batch[:3]) == 3


def test_a_step_that_failed_is_given_again(config, monkeypatch):
    expected = stream(config, count=10)
    with Loader(config) as loader:
        given, make, failed = [], loader.batch, []

        def fails_once(step):
            if step == 3 and not failed:
                failed.append(step)
                raise OSError("the disk is gone for a moment")
            return make(step)

        monkeypatch.setattr(loader, "batch", fails_once)
        while len(given) < 10:
            try:
                given.append(joined([next(loader)]))
            except OSError:
                assert loader.state()["step"] == 3
    assert failed and given == expected
