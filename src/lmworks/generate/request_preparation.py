"""From a request to one in flight: rendered, checked, compiled, before any work is done for it."""

import secrets
import time
from collections.abc import Callable, Collection

from lmworks.generate.constrained_decoding import ConstraintCompiler
from lmworks.generate.protocol import Request
from lmworks.generate.request_state import LiveRequest
from lmworks.generate.stop_strings import StopMatcher
from lmworks.generate.token_text import TokenTexts
from lmworks.model.checkpoint import Checkpoint
from lmworks.tokenizer.incremental_detokenizer import Detokenizer


def prepare(
    request: Request,
    checkpoint: Checkpoint,
    context_length: int,
    adapters: Collection[str],
    constraints: Callable[[], ConstraintCompiler],
    token_texts: TokenTexts,
) -> LiveRequest:
    """The request as the batcher takes it; its clock starts here.

    ValueError for a prompt that does not fit into `context_length` (the message names the limit), for ids outside the
    vocabulary and for an adapter that is not among `adapters`; ConstraintError for a constraint that cannot be
    honoured. `constraints` is asked for a compiler only by a request that has one.
    """
    submitted = time.perf_counter()
    tokenizer, sampling = checkpoint.tokenizer, request.sampling
    prompt, source = request.prompt_ids, ()
    stop_ids = set(tokenizer.eos_ids)
    if request.messages:
        rendered = checkpoint.chat.render(request.messages, True, request.tools)
        prompt, stop_ids = tuple(rendered.ids), {*stop_ids, *rendered.stop_ids}
    if request.adapter not in adapters:
        raise ValueError(f"no adapter {request.adapter!r} is loaded; there is {sorted(adapters)[1:]}")
    if checkpoint.config.encoder is not None:
        source, prompt = prompt, (_decoder_start(checkpoint),)
    room = context_length - max(len(prompt), len(source))
    if room < 1:
        raise ValueError(
            f"the prompt has {max(len(prompt), len(source))} tokens, the context of this engine holds {context_length} "
            "for prompt and completion: shorten the prompt, or set a larger context_length (this "
            f"model: up to {checkpoint.config.context_length})"
        )
    _check_ids(request, (*prompt, *source), checkpoint.config.embedding.vocabulary)
    constraint = None if sampling.constraint is None else constraints().compile(sampling.constraint).start()
    return LiveRequest(
        id=request.id or secrets.token_hex(8),
        prompt_ids=prompt,
        source_ids=source,
        sampling=sampling,
        seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
        stop_ids=set() if sampling.ignore_eos and constraint is None else stop_ids,
        limit=min(sampling.max_tokens, context_length - len(prompt) if source else room),
        detokenizer=Detokenizer(tokenizer),
        matcher=StopMatcher(sampling.stop),
        token_texts=token_texts,
        adapter=request.adapter,
        priority=request.priority,
        client=request.client,
        deadline=request.deadline,
        constraint=constraint,
        submitted=submitted,
    )


def _check_ids(request: Request, prompt: Collection[int], vocabulary: int) -> None:
    named = {
        "the prompt": prompt,
        "logit_bias": request.sampling.logit_bias,
        "banned_tokens": request.sampling.banned_tokens,
        "forced_tokens": request.sampling.forced_tokens,
    }
    for name, tokens in named.items():
        if not all(0 <= token < vocabulary for token in tokens):
            raise ValueError(f"{name} holds token ids outside [0, {vocabulary})")


def _decoder_start(checkpoint: Checkpoint) -> int:
    """What an encoder–decoder's decoder begins with: as config.json says, else padding (T5), else BOS."""
    published, tokenizer = checkpoint.published or {}, checkpoint.tokenizer
    stated = checkpoint.generation.get("decoder_start_token_id", published.get("decoder_start_token_id"))
    for token in (stated, tokenizer.pad_id, tokenizer.bos_id):
        if token is not None:
            return token
    raise ValueError("nothing says what the decoder begins with: give the tokenizer a padding or BOS token")
