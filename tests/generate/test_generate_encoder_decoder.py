"""Encoder–decoders in the engine against a loop over the plain model, which keeps nothing."""

import pytest
import torch
from search_oracle import beam_search, contrastive_search, encoder_decoder_logits

from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import BeamParameters, ContrastiveParameters, Request, SamplingParameters
from lmworks.generate.runner import LogitRows
from lmworks.generate.sampling import sample, uniform
from lmworks.model.checkpoint import Checkpoint
from slow_cases import slow

_START, _EOS = 256, 257
_SOURCES = ([5, 6, 7], [90], list(range(100, 140)))
_LENGTH = 24  # of a completion: several pages


@pytest.fixture(scope="module")
def checkpoint(tiny_encoder_decoder) -> Checkpoint:
    return tiny_encoder_decoder


@pytest.fixture(scope="module")
def engine(checkpoint) -> Engine:
    return Engine(checkpoint, slots=4, weights="float32")


@pytest.fixture(autouse=True)
def everything_is_given_back(engine):
    yield
    assert engine.batcher.cache.used == 0


@torch.inference_mode()
def _plain(checkpoint: Checkpoint, request: Request) -> list[int]:
    sampling, ids = request.sampling, list[int]()
    logits = encoder_decoder_logits(checkpoint.model, request.prompt_ids, _START)
    while len(ids) < sampling.max_tokens and _EOS not in ids:
        rows = LogitRows.from_logits(logits([ids]))
        draw = uniform(sampling.seed or 0, len(ids))
        ids.append(sample(rows, [sampling], [()], [ids], [draw], [None]).ids.item())
    return ids


@for_each("temperature", [0.0, 0.8])
def test_completions_are_those_of_a_plain_loop(engine, checkpoint, temperature: float) -> None:
    """Together and alone, so that no one sees another's source."""
    sampling = SamplingParameters(max_tokens=_LENGTH, temperature=temperature, seed=9)
    requests = [Request(tuple(source), sampling=sampling) for source in _SOURCES]
    expected = [_plain(checkpoint, request) for request in requests]
    assert len({tuple(ids) for ids in expected}) == 3, "else the source would not matter"
    completions = engine.generate(requests)
    assert [list(completion.ids) for completion in completions] == expected
    assert [completion.prompt_tokens for completion in completions] == [len(source) for source in _SOURCES]
    for request, ids in zip(requests, expected, strict=True):
        assert list(engine.generate([request])[0].ids) == ids


@pytest.mark.parametrize(
    "parameters", [BeamParameters(4, 4), BeamParameters(4, 4, 0.5, 2, 1.0, "bound"), *slow(BeamParameters(1))]
)
def test_beam_search_is_as_defined(engine, checkpoint, parameters: BeamParameters) -> None:
    bias, ended = {_EOS: 6.0}, 0
    for source in _SOURCES:
        logits = encoder_decoder_logits(checkpoint.model, source, _START)
        expected = beam_search(logits, 20, [_EOS], bias, parameters)[: parameters.n_best]
        request = Request(tuple(source), sampling=SamplingParameters(max_tokens=20, logit_bias=bias))
        found = engine.search(request, parameters)
        assert [completion.ids for completion in found] == [ids for ids, _ in expected]
        assert {completion.prompt_tokens for completion in found} == {len(source)}
        ended += sum(completion.finish_reason == "stop" for completion in found)
    assert ended or parameters.beams == 1


def test_beams_share_their_source_and_their_forward(engine, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches, encoded = engine.batcher.runner.model, [], []
    decode, encode = model.decode, model.encode
    monkeypatch.setattr(
        model, "decode", lambda ids, *rest, **more: batches.append(len(ids)) or decode(ids, *rest, **more)
    )
    monkeypatch.setattr(model, "encode", lambda ids: encoded.append(len(ids)) or encode(ids))
    request = Request((5, 6, 7), sampling=SamplingParameters(max_tokens=6, banned_tokens=(_EOS,)))
    engine.search(request, BeamParameters(4, stopping="bound"))
    assert (batches, encoded) == ([1, 4, 4, 4, 4, 4], [1])


def test_contrastive_search_is_as_defined(engine, checkpoint) -> None:
    model, source = checkpoint.model, [5, 6, 7]
    expected = contrastive_search(
        encoder_decoder_logits(model, source, _START),
        lambda ids: model.hidden(torch.tensor([source]), torch.tensor([[_START, *ids]]))[0],
        15, 4, 0.6,
    )  # fmt: skip
    request = Request(tuple(source), sampling=SamplingParameters(max_tokens=15, ignore_eos=True))
    assert list(engine.search(request, ContrastiveParameters(4, 0.6))[0].ids) == expected


def test_a_request_goes_on_after_others_took_its_pages(checkpoint) -> None:
    sampling = SamplingParameters(max_tokens=100, ignore_eos=True)
    requests = [Request((5, 6, 7), sampling=sampling), Request((90,), sampling=sampling)]
    sizes = {"slots": 2, "context_length": 128, "weights": "float32"}
    engine = Engine(checkpoint, **sizes, cache_tokens=128)
    found = engine.generate(requests)
    assert engine.batcher.scheduler.preemptions > 0
    expected = Engine(checkpoint, **sizes).generate(requests)
    assert [completion.ids for completion in found] == [completion.ids for completion in expected]


def test_what_is_stored_is_known_by_its_source(engine) -> None:
    """Whatever ids the requests have: the decoder's keys and values depend on what it attends to."""
    batcher = engine.batcher
    opened = [batcher.open((_START,), "", source) for source in ((5, 6), (5, 7), (5, 6))]
    assert opened[0].namespace == opened[2].namespace != opened[1].namespace
    for sequence in opened:
        batcher.cache.close(sequence)
