"""Tokens of a completion: their texts, their alternatives, and how they come in deltas."""

import pytest
import tokenizers
import torch
from sampling_oracle import adjusted
from tokenizers import decoders, models

from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.generate.request_state import TokenTexts
from lmworks.tokenizer.tokenizer import Tokenizer

_TOLERANCE = 5e-5  # as in test_engine.py: the order of float32 sums


@pytest.fixture(scope="module")
def engine(tiny_llama) -> Engine:
    return Engine(tiny_llama, slots=4, weights="float32")


_SAMPLINGS = (
    SamplingParameters(max_tokens=12, alternatives=5, ignore_eos=True),
    SamplingParameters(max_tokens=12, temperature=1.5, seed=2, ignore_eos=True),
    SamplingParameters(
        max_tokens=12,
        temperature=1.0,
        seed=3,
        alternatives=20,
        presence_penalty=2.0,
        logit_bias={7: 9.0},
        top_k=3,
        ignore_eos=True,
    ),
    SamplingParameters(max_tokens=12, alternatives=1, repetition_penalty=3.0, ignore_eos=True),
)


@torch.inference_mode()
def test_alternatives_are_the_top_of_the_models_own_distribution(engine, tiny_llama) -> None:
    """Whatever bias, penalties and temperature do, and whatever the neighbours in the batch ask for."""
    requests = [Request((1, 2, 3 + n), sampling=sampling) for n, sampling in enumerate(_SAMPLINGS)]
    for request, completion in zip(requests, engine.generate(requests), strict=True):
        assert completion.tokens is not None
        logits = tiny_llama.model(torch.tensor([[*request.prompt_ids, *completion.ids]]))[0]
        expected = logits[len(request.prompt_ids) - 1 : -1].log_softmax(-1)
        assert tuple(token.id for token in completion.tokens) == completion.ids
        assert tuple(token.log_probability for token in completion.tokens) == completion.log_probabilities
        for token, row in zip(completion.tokens, expected, strict=True):
            assert token.log_probability == pytest.approx(row[token.id].item(), abs=_TOLERANCE)
            values, ids = row.topk(request.sampling.alternatives)
            assert [other for other, _, _ in token.alternatives] == ids.tolist()
            assert [value for _, _, value in token.alternatives] == pytest.approx(values.tolist(), abs=_TOLERANCE)
            for other, text, _ in token.alternatives:
                assert text == tiny_llama.tokenizer.decode([other], skip_special=False)


@for_each(
    "sampling",
    [
        SamplingParameters(max_tokens=25, ignore_eos=True, frequency_penalty=2.0),
        SamplingParameters(max_tokens=25, ignore_eos=True, presence_penalty=2.0, frequency_penalty=0.5),
        SamplingParameters(max_tokens=25, ignore_eos=True, presence_penalty=-2.0, logit_bias={9: 6.0, 200: -50.0}),
    ],
)
@torch.inference_mode()
def test_penalties_count_the_completion_alone_along_the_naive_loop(engine, tiny_llama, sampling) -> None:
    prompt = (5, 5, 5, 9, 14, 43, 14)
    (completion,) = engine.generate([Request(prompt, sampling=sampling)])
    ids: list[int] = []
    for _ in range(25):
        logits = tiny_llama.model(torch.tensor([[*prompt, *ids]]))[0, -1].numpy()
        ids.append(int(adjusted(logits, sampling, list(prompt), ids).argmax()))
    assert completion.ids == tuple(ids)
    (plain,) = engine.generate([Request(prompt, sampling=SamplingParameters(max_tokens=25, ignore_eos=True))])
    assert plain.ids != completion.ids, "the parameters decide something here"


def test_deltas_join_to_the_completion_text_and_tokens(engine) -> None:
    # a stop string keeps text back, so some deltas carry tokens alone
    sampling = SamplingParameters(max_tokens=40, temperature=1.0, seed=5, alternatives=2, stop=("\x00" * 9,))
    for seed in range(6):
        deltas = list(engine.stream(Request((*"日本".encode(), seed), sampling=sampling)))
        completion = deltas[-1].completion
        assert completion is not None and completion.tokens is not None
        assert "".join(delta.text for delta in deltas) == completion.text
        assert sum((delta.tokens for delta in deltas), ()) == completion.tokens
        assert len(completion.tokens) == completion.completion_tokens
        assert all(delta.text or delta.tokens or delta.completion for delta in deltas), "nothing empty is sent"


def test_a_token_shows_its_own_bytes(tiny_llama) -> None:
    texts = TokenTexts(tiny_llama.tokenizer)
    ids = tiny_llama.tokenizer.encode("a 日\n")
    assert [texts[token] for token in ids] == ["a", " ", "\ufffd", "\ufffd", "\ufffd", "\n"]
    assert texts[tiny_llama.tokenizer.eos_id] == "<|im_end|>"
    assert texts[100_000] == "", "an embedding may have more rows than the tokenizer has tokens"


def test_a_sentencepiece_token_keeps_its_space() -> None:
    """Such decoders drop the space before the first word of a text, which is not the first word of a completion."""
    vocabulary = {"<unk>": 0, "▁the": 1, "the": 2, "▁": 3, "<0xC3>": 4, "<0xA9>": 5}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    texts = TokenTexts(Tokenizer(backend))
    assert [texts[token] for token in range(1, 6)] == [" the", "the", " ", "\ufffd", "\ufffd"]
