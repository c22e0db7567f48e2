"""Likelihood of texts under a language model: perplexity, bits per byte, GPTScore (Fu et al. 2023).

metric("bits-per-byte", model=Engine(load("smollm2-135m-instruct"), weights="float32"))
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lmworks.evaluate.metric import Combine, Item, Metric, Response, Value, prompt_text, ratio
from lmworks.generate.perplexity import LanguageModelCost
from lmworks.generate.protocol import EngineProtocol, UnsupportedError
from lmworks.generate.scoring import document_start
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Message, Unscored

Sums = Callable[[Sequence[float], str], tuple[float, float]]  # of the ln p of a text's tokens, and the text

# The instruction T(aspect) of Fu et al. 2023, section 3.2; any other text is an instruction of its own.
ASPECTS = {
    "consistency": "Write a response that is factually consistent with the following text.",
    "relevance": "Write a response that is relevant to the following text.",
    "fluency": "Write a fluent and grammatical response to the following text.",
    "engagement": "Write an interesting response to the following text.",
    "translation": "Translate the following text into German, accurately and fluently.",
}


def exponential_ratio(sums: np.ndarray) -> np.ndarray:
    """e to the power of the first sum over the second, (..., 2) -> (...): perplexity of (nats, tokens)."""
    return np.exp(ratio(sums))


def bits_and_bytes(log_probabilities: Sequence[float], text: str) -> tuple[float, float]:
    """-Σ log2 p, and the bytes of the text in UTF-8, which no vocabulary changes."""
    return -math.fsum(log_probabilities) / math.log(2), float(len(text.encode()))


def perplexity(model: EngineProtocol | None = None, window: int | None = None, context: int = 1) -> Metric:
    """exp(-Σ ln p / tokens) over the texts of the responses.

    Without a `model`, by the log-probabilities that the responses have, such as a rolling request gives them. With one,
    by its own: no prompt is read, and a text is read in `rolling_windows` of `window` tokens (default: as many as the
    engine takes) with this `context`.
    """
    sums: Sums = lambda row, text: (-math.fsum(row), float(len(row)))  # noqa: E731
    return _of_texts("perplexity", sums, exponential_ratio, model, window, context)


def bits_per_byte(model: EngineProtocol | None = None, window: int | None = None, context: int = 1) -> Metric:
    """-Σ log2 p / bytes, by which models of different vocabularies compare; otherwise as `perplexity`."""
    return _of_texts("bits-per-byte", bits_and_bytes, ratio, model, window, context)


def _of_texts(
    name: str, sums: Sums, combine: Combine, model: EngineProtocol | None, window: int | None, context: int
) -> Metric:
    cost, signature = None, {}
    if model is not None:
        checkpoint, most = own_tokens(model)
        cost = LanguageModelCost(model, checkpoint.required_tokenizer, min(window or most, most - 1), context)
        windows = {"window": cost.window, "context": context, "stride": cost.window - context + 1}
        signature = {**signature_of(model), **windows, "start": document_start(checkpoint.required_tokenizer)}
        name = f"model-{name}"

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        texts = [response.text for response in responses]
        rows = cost.log_probabilities(texts) if cost else [response.log_probabilities for response in responses]
        missing = Unscored("no log-probability of a token of the text")
        return [sums(row, text) if row else missing for row, text in zip(rows, texts, strict=True)]

    return Metric(name, measure, higher_is_better=False, combine=combine, signature=signature)


def gptscore(model: EngineProtocol, aspect: str = "consistency") -> Metric:
    """Mean ln p of all tokens of the response, where an instruction asks for a response with this aspect: one of
    `ASPECTS`, or an instruction. The text that it is about is the item's contexts, or its prompt where it has none."""
    checkpoint, most = own_tokens(model)
    instruction = ASPECTS.get(aspect, aspect)

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        tokenizer = checkpoint.required_tokenizer
        sources = ["\n\n".join(item.contexts) or prompt_text(item.prompt) for item in items]
        asking = [f"{instruction}\n\n{source}" for source in sources]
        if checkpoint.chat_template:  # as a turn of the user, else as the beginning of a document
            chats = [checkpoint.chat.render([Message("user", text)], add_generation_prompt=True) for text in asking]
            contexts = [chat.ids for chat in chats]
        else:
            contexts = [(document_start(tokenizer), *tokenizer.encode(f"{text}\n\n")) for text in asking]
        answers = tokenizer.encode_batch([response.text for response in responses])
        pairs = list(zip(contexts, answers, strict=True))
        fitting = [place for place, (asked, ids) in enumerate(pairs) if ids and len(asked) + len(ids) <= most]
        scores = model.score([pairs[place][0] for place in fitting], [pairs[place][1] for place in fitting])
        found = {place: score.mean for place, score in zip(fitting, scores, strict=True)}
        missing = Unscored(f"the response is empty, or longer with its text than the model's {most} tokens")
        return [found.get(place, missing) for place in range(len(pairs))]

    return Metric("gptscore", measure, signature={**signature_of(model), "instruction": instruction})


def own_tokens(model: EngineProtocol) -> tuple[Checkpoint, int]:
    """The checkpoint of an engine, and the tokens of its context; UnsupportedError where it scores no tokens, or they
    are not known here."""
    model.capabilities.require("score")
    checkpoint, most = getattr(model, "checkpoint", None), model.capabilities.context_length
    if checkpoint is None or most is None:
        raise UnsupportedError("a likelihood needs the model's tokens: load its checkpoint into an Engine")
    return checkpoint, most


def signature_of(model: EngineProtocol) -> dict[str, Any]:
    """All that shapes the log-probabilities of an engine: the fingerprint covers weights, tokenizer and config."""
    checkpoint = own_tokens(model)[0]
    return {"model": checkpoint.fingerprint, "weights": getattr(model, "weights", ""), "chat": checkpoint.chat_template}
