"""The prompts of text completions: their ids, and what `echo` repeats of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.generate.engine_worker import EngineWorker
from lmworks.generate.protocol import ContextLengthError, Token
from lmworks.generate.request_state import TokenTexts
from lmworks.generate.scoring import document_start
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.thread_offload import WorkQueue, run_off_loop
from lmworks.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model sees it. `tokens` and `values` are for `echo` with log-probabilities, else empty.

    The first token has no log-probability, since nothing stands before it: `values[0]` is None.
    """

    ids: tuple[int, ...]
    text: str
    tokens: tuple[Token, ...] = ()
    values: tuple[float | None, ...] = ()


async def read_prompts(
    worker: EngineWorker,
    prompts: Sequence[str | list[int]],
    *,
    echo: bool,
    room: int = 1,
    scoring: WorkQueue | None = None,
    alternatives: int = 0,
    adapter: str = "",
) -> list[Prompt]:
    """Ids of texts, or the texts of ids; with `scoring`, the answer repeats the prompts with log-probabilities.

    ContextLengthError for one that leaves no `room` in the context, before anything is done for the others.
    """
    read = await run_off_loop(sum(map(len, prompts)), _read, worker, prompts, echo)
    longest, most = max(len(ids) for ids, _ in read), worker.capabilities.context_length
    if most is not None and longest + room > most:
        raise ContextLengthError(
            f"a prompt has {longest} tokens{' and needs room for a completion' if room else ''}, this model's maximum "
            f"context length is {most} as it is served (serve.context_length): shorten it"
        )
    if scoring is None or not echo:
        return [Prompt(ids, text) for ids, text in read]
    return list(await asyncio.gather(*(_scored(worker, *prompt, scoring, alternatives, adapter) for prompt in read)))


def _read(worker: EngineWorker, prompts: Sequence[str | list[int]], echo: bool) -> list[tuple[tuple[int, ...], str]]:
    """The ids of each prompt, and with `echo` its text."""
    tokenizer, vocabulary = worker.checkpoint.required_tokenizer, worker.checkpoint.config.embedding.vocabulary
    encoded = [_ids(tokenizer, prompt, vocabulary) for prompt in prompts]
    if not echo:
        return [(ids, "") for ids in encoded]
    return [
        (ids, prompt if isinstance(prompt, str) else tokenizer.decode(ids, skip_special=False))
        for ids, prompt in zip(encoded, prompts, strict=True)
    ]


def _ids(tokenizer: Tokenizer, prompt: str | list[int], vocabulary: int) -> tuple[int, ...]:
    """An empty text is the start of a document, as in OpenAI's API."""
    if isinstance(prompt, str):
        return tuple(tokenizer.encode(prompt, special=True)) or (document_start(tokenizer),)
    if max(prompt) >= vocabulary:
        raise ApiError(400, f"prompt: token ids must lie in [0, {vocabulary})", "prompt", "invalid_value")
    return tuple(prompt)


async def _scored(
    worker: EngineWorker, ids: tuple[int, ...], text: str, scoring: WorkQueue, alternatives: int, adapter: str
) -> Prompt:
    (score,) = await scoring.run(worker.score, [ids[:1]], [ids[1:]], alternatives, adapter)
    texts, values = TokenTexts(worker.checkpoint.required_tokenizer), (None, *score.log_probabilities)
    candidates = [[(token, texts[token], value) for token, value in row] for row in score.alternatives]
    rows = zip(ids, values, [[], *candidates] if candidates else [[]] * len(ids), strict=True)
    tokens = tuple(Token(token, texts[token], value or 0.0, tuple(best)) for token, value, best in rows)
    return Prompt(ids, text, tokens, values)
