"""Greedy decoding and beam search against `transformers`, on tiny random models that were saved by us and loaded there.

Since version 5 it has neither diverse beam search nor contrastive search (their code is fetched from its hub), so that
those are compared with their definitions, in `tests/generate/`.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import BeamParameters, Completion, Request, SamplingParameters
from lmworks.model.checkpoint import assemble
from lmworks.model.config import LanguageModelHead
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bart, llama, t5, t5_v1_1
from lmworks.model.transformer import Transformer

transformers = pytest.importorskip("transformers")

_VOCABULARY, _EOS, _PAD, _NEW = 267, 2, 2, 16
_CONFIGS = {
    "llama": llama(_VOCABULARY, 64, 3, 4, 2, 96, 128, tied=True),
    "t5": t5(_VOCABULARY, 64, 2, 4, 96, head_dim=16, context_length=128),
    "t5 1.1, tied": replace(
        t5_v1_1(_VOCABULARY, 64, 2, 4, 96, head_dim=16, context_length=128), head=LanguageModelHead(tied=True)
    ),
    "bart": bart(_VOCABULARY, 64, 2, 4, 96, context_length=128),
}
_PROMPTS = ([5, 6, 7], [90], list(range(100, 140)))
_STOPPING = {"estimate": False, "bound": "never", "first": True}


class _Pair:
    """Our engine and their model of the same folder."""

    def __init__(self, name: str, tokenizer, folder) -> None:
        config = _CONFIGS[name]
        model = initialise(Transformer(config), seed=1, std=0.3)
        if name == "t5":
            model.tokens.data *= 2  # its logits are scaled by width ** -0.5
        checkpoint = assemble(config, model.state_dict(), tokenizer)
        folder = checkpoint.save(folder)
        kind = "AutoModelForCausalLM" if name == "llama" else "AutoModelForSeq2SeqLM"
        self.theirs = getattr(transformers, kind).from_pretrained(folder).eval()
        self.engine = Engine(checkpoint, weights="float32")
        self.crosses = name != "llama"

    def generate(self, prompt: list[int], bias: float, **arguments) -> tuple[list[tuple[int, ...]], Tensor | None]:
        """Their texts, cut behind the end token, and the scores of a beam search. `bias` is added to the end token's
        score, as `logit_bias` is here: without it, random models hardly ever end."""
        changed = torch.zeros(_VOCABULARY)
        changed[_EOS] = bias
        output = self.theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=_NEW,
            do_sample=False,
            eos_token_id=_EOS,
            pad_token_id=_PAD,
            logits_processor=transformers.LogitsProcessorList([lambda _, scores: scores + changed]),
            return_dict_in_generate=True,
            output_scores=True,
            **({"decoder_start_token_id": _PAD} if self.crosses else {}),
            **arguments,
        )
        texts = [row[1 if self.crosses else len(prompt) :].tolist() for row in output.sequences]
        cut = [tuple(text[: text.index(_EOS) + 1] if _EOS in text else text) for text in texts]
        return cut, getattr(output, "sequences_scores", None)


@pytest.fixture(scope="module", params=list(_CONFIGS))
def pair(request: pytest.FixtureRequest, tiny_tokenizer, tmp_path_factory: pytest.TempPathFactory) -> _Pair:
    return _Pair(request.param, tiny_tokenizer, tmp_path_factory.mktemp("generate") / request.param)


def _request(prompt: list[int], bias: float) -> Request:
    biases = {_EOS: bias} if bias else {}
    return Request(tuple(prompt), sampling=SamplingParameters(max_tokens=_NEW, logit_bias=biases))


def _score(completion: Completion, length_penalty: float, bias: float) -> float:
    assert completion.ids is not None and completion.log_probabilities is not None
    total = sum(completion.log_probabilities) + bias * (completion.ids[-1] == _EOS)
    return total / len(completion.ids) ** length_penalty


@for_each("bias", [0.0, 6.0])
def test_greedy_texts_are_the_same(pair: _Pair, bias: float) -> None:
    for prompt in _PROMPTS:
        (completion,) = pair.engine.generate([_request(prompt, bias)])
        assert pair.generate(prompt, bias)[0] == [completion.ids]


_QUICK = (("estimate", 2, 1.0), ("bound", 3, -0.5), ("first", 4, 0.0))  # each value once; the slow suite has all pairs


@pytest.mark.parametrize(
    ("stopping", "beams", "length_penalty"),
    [
        pytest.param(stopping, *sizes, marks=[] if (stopping, *sizes) in _QUICK else [pytest.mark.slow])
        for stopping in _STOPPING
        for sizes in ((2, 1.0), (4, 0.0), (5, 2.0), (3, -0.5))
    ],
)
def test_the_n_best_are_the_same(pair: _Pair, stopping, beams: int, length_penalty: float) -> None:
    ended = 0
    for bias in (0.0, 6.0):
        for prompt in _PROMPTS:
            texts, scores = pair.generate(
                prompt, bias, num_beams=beams, num_return_sequences=beams, length_penalty=length_penalty,
                early_stopping=_STOPPING[stopping],
            )  # fmt: skip
            parameters = BeamParameters(beams, beams, length_penalty, stopping=stopping)
            found = pair.engine.search(_request(prompt, bias), parameters)
            assert [completion.ids for completion in found] == texts
            # float32 sums of some ten log-probabilities, in another order
            ours = [_score(completion, length_penalty, bias) for completion in found]
            assert scores is not None and ours == pytest.approx(scores.tolist(), rel=1e-4, abs=1e-4)
            ended += sum(completion.finish_reason == "stop" for completion in found)
    assert ended >= 3, "else nothing is known of what ends"
