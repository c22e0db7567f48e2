"""ln p(continuation | context) under a language model, with each shared context computed once.

A context is a sequence in the engine's cache, and its continuations are forks of it: they share its pages, and what an
earlier call or a completion has left in the cache is found again. So scores come from the same weights, kernels and
rounding as completions.

    context         c0 c1 c2        its last row predicts a0 and b0
    continuation a           a0 a1  predict a1, a2
    continuation b           b0     predicts b1

Logits are computed only where a continuation token is predicted, a bounded number at a time, and normalised only for
the token that is scored (logit minus logsumexp).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmworks.generate.engine_step import Batcher
from lmworks.generate.job import Job, Steps
from lmworks.generate.paged_cache import PAGE, CachedSequence, OutOfPagesError
from lmworks.generate.protocol import ContextLengthError, Score
from lmworks.generate.runner import Work
from lmworks.generate.sampling import alternatives_of
from lmworks.model.checkpoint import Checkpoint
from lmworks.tokenizer.tokenizer import Tokenizer

BATCH_TOKENS = 512  # of one forward
LOGIT_ROWS = 256  # rows of logits held at once: 256 x 49152 float32 are 48 MiB


@dataclass(slots=True)
class _Stretch:
    """Tokens of one sequence that are to be run, and what the last of them predict.

    predictions   for each of the last tokens, the (pair, token) that are scored by its logits.
    ends          nothing comes behind it in its sequence.
    """

    sequence: CachedSequence
    ids: list[int]
    predictions: list[list[tuple[int, int]]] = field(default_factory=list)
    ends: bool = False


def document_start(tokenizer: Tokenizer) -> int:
    """The id of the token after which a document starts: `<|endoftext|>` where there is one, else BOS, else EOS.

    GPT-2's successors put `<|endoftext|>` between the documents of pre-training, and keep it when chat tuning makes
    BOS the token that opens a turn (SmolLM2-Instruct: `<|im_start|>`), after which no document ever starts. LLaMA's
    relatives put BOS there. ValueError when the tokenizer has none of the three.
    """
    for token in (tokenizer.special_ids.get("<|endoftext|>"), tokenizer.bos_id, tokenizer.eos_id):
        if token is not None:
            return token
    raise ValueError("this tokenizer has no token that starts a document: give a context that is not empty")


def check_pairs(
    checkpoint: Checkpoint,
    batcher: Batcher,
    context_ids: Sequence[Sequence[int]],
    continuation_ids: Sequence[Sequence[int]],
    adapter: str,
) -> list[tuple[int, ...]]:
    """The contexts of the pairs. An empty one stands for the start of a document: it is replaced by the single token
    `document_start`. Others are taken as they are, without an added token.

    ValueError when the two lists differ in length, a pair is longer than the model and the cache allow, an id lies
    outside the vocabulary, or no such adapter is loaded.
    """
    config, vocabulary = checkpoint.config, batcher.runner.vocabulary
    if config.encoder is not None:
        raise ValueError("an encoder–decoder has no score of a continuation without a source; use its model")
    if len(context_ids) != len(continuation_ids):
        raise ValueError(f"{len(context_ids)} contexts for {len(continuation_ids)} continuations: give one for each")
    start = (document_start(checkpoint.required_tokenizer),)
    contexts = [tuple(context) or start for context in context_ids]
    # A continuation copies the page in which its context ends.
    longest = min(config.context_length, (batcher.cache.pages - 1) * PAGE)
    for pair, (context, continuation) in enumerate(zip(contexts, continuation_ids, strict=True)):
        if len(context) + len(continuation) > longest:
            raise ContextLengthError(
                f"pair {pair} has {len(context)} + {len(continuation)} tokens, this model's maximum context length is "
                f"{longest}: shorten the context"
            )
    if not all(0 <= token < vocabulary for ids in {*contexts, *map(tuple, continuation_ids)} for token in ids):
        raise ValueError(f"a context or a continuation holds token ids outside [0, {vocabulary})")
    if adapter not in batcher.adapters:
        raise ValueError(f"no adapter {adapter!r} is loaded")
    return contexts


def score_pairs(
    batcher: Batcher,
    job: Job[Any],
    contexts: Sequence[tuple[int, ...]],
    continuations: Sequence[Sequence[int]],
    alternatives: int,
    adapter: str,
) -> Steps[list[Score]]:
    """ln p of each token of each continuation, given its context as `check_pairs` gives it; one `Score` for each pair.

    With `alternatives`, also so many of the most probable tokens at each place. `adapter` is the name of one that the
    engine has loaded. An empty continuation scores as the empty product: no tokens, total 0.

    FloatingPointError for logits that are not finite. Where the cache is full, requests that run are preempted, and
    other scores and searches moved out of it until their turn.
    """
    pairs_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for pair, context in enumerate(contexts):
        if continuations[pair]:
            pairs_of[context].append(pair)
    scoring = _Scoring(batcher, job, alternatives, [[] for _ in contexts], [[] for _ in contexts])
    for batch in _batches(pairs_of, continuations, batcher.cache.pages):  # first the contexts, then what follows them
        roots = [job.add(batcher.open(context, adapter)) for context in batch]
        firsts = [[[(pair, continuations[pair][0]) for pair in pairs]] for pairs in batch.values()]
        asked = zip(roots, batch, firsts, strict=True)
        yield from scoring.run([_Stretch(root, list(context[root.length :]), first) for root, context, first in asked])
        stretches: list[_Stretch] = []
        for root, pairs in zip(roots, batch.values(), strict=True):
            for pair in pairs:
                *ids, _ = continuations[pair]
                targets = [[(pair, target)] for target in continuations[pair][1:]]
                stretches += [_Stretch(job.fork(root), ids, targets, ends=True)] if ids else []
        yield from scoring.run(stretches)
        job.keep(())
    return [Score(tuple(values), tuple(best)) for values, best in zip(scoring.values, scoring.best, strict=True)]


def _batches(
    pairs_of: dict[tuple[int, ...], list[int]], continuations: Sequence[Sequence[int]], pages: int
) -> Iterator[dict[tuple[int, ...], list[int]]]:
    """Contexts that share a forward: at most `BATCH_TOKENS` tokens, or one; and no more than leave room in the cache,
    which holds them to the end, for the longest of their continuations."""
    batch: dict[tuple[int, ...], list[int]] = {}
    tokens = held = longest = 0
    for context, pairs in pairs_of.items():
        context_pages = -(-len(context) // PAGE)
        most = 1 + -(-max(len(continuations[pair]) for pair in pairs) // PAGE)  # one to copy what is not full
        if batch and (tokens + len(context) > BATCH_TOKENS or held + context_pages + max(longest, most) > pages):
            yield batch
            batch, tokens, held, longest = {}, 0, 0, 0
        batch[context] = pairs
        tokens, held, longest = tokens + len(context), held + context_pages, max(longest, most)
    if batch:
        yield batch


@dataclass(slots=True)
class _Scoring:
    """The scores of pairs so far: for each pair and token ln p, and the most probable tokens at its place."""

    batcher: Batcher
    job: Job[Any]
    alternatives: int
    values: list[list[float]]
    best: list[list[tuple[tuple[int, float], ...]]]

    def run(self, stretches: list[_Stretch]) -> Steps[None]:
        """Forwards over the stretches until nothing is left of them."""
        while stretches:
            works, predictions = self._next_works(stretches)
            rows, _ = yield works
            for stretch in stretches:
                if stretch.ends and not stretch.ids:  # so that a long list needs no more pages than its longest few
                    self.job.close(stretch.sequence)
            where = [(row, pair, token) for row, targets in enumerate(predictions) for pair, token in targets]
            if where:
                numbers, pairs, tokens = zip(*where, strict=True)
                picked = rows.logits[list(numbers), list(tokens)] - rows.log_normaliser[list(numbers)]
                for pair, value in zip(pairs, picked.tolist(), strict=True):
                    self.values[pair].append(value)
                if self.alternatives:
                    best = alternatives_of([self.alternatives] * len(rows.logits), rows)
                    for row, pair in zip(numbers, pairs, strict=True):
                        self.best[pair].append(tuple(best[row]))
            del rows, _  # they are large, and the next turn may be far
            stretches = [stretch for stretch in stretches if stretch.ids]

    def _next_works(self, stretches: list[_Stretch]) -> tuple[list[Work], list[list[tuple[int, int]]]]:
        """The next works, as many tokens as a forward takes, and the tokens that their rows predict."""
        works: list[Work] = []
        predictions: list[list[tuple[int, int]]] = []
        tokens, grid = 0, self.batcher.runner.grid
        for stretch in stretches:
            room = min(BATCH_TOKENS - tokens, LOGIT_ROWS - len(predictions))
            if room <= 0:
                break
            count = min(len(stretch.ids), room if grid is None else grid - stretch.sequence.length % grid)
            targets = stretch.predictions[: max(0, len(stretch.predictions) - (len(stretch.ids) - count))]
            try:
                works.append(self.job.work(stretch.sequence, stretch.ids[:count], len(targets), preempt=not works))
            except OutOfPagesError:
                if not works:
                    raise
                break  # the works before it go first
            stretch.ids, stretch.predictions = stretch.ids[count:], stretch.predictions[len(targets) :]
            predictions.extend(targets)
            tokens += count
        return works, predictions
