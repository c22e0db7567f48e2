"""ln p(continuation | context) under a language model, with each shared context computed once.

A context is a sequence in the engine's cache, and its continuations are forks of it: they share its pages, and what an
earlier call or a completion has left in the cache is found again. So scores come from the same weights, kernels and
rounding as completions.

    context         c0 c1 c2        its last row predicts a0 and b0
    continuation a           a0 a1  predict a1, a2
    continuation b           b0     predicts b1

Logits are computed only where a continuation token is predicted, a bounded number at a time, and normalised only for
the token that is scored (logit minus logsumexp). The work comes in parts, so that others can
use the machine in between.
"""

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from lmworks.generate.cache_lease import CacheLease
from lmworks.generate.engine_step import Batcher
from lmworks.generate.paged_cache import PAGE, CachedSequence, OutOfPagesError
from lmworks.generate.protocol import ContextLengthError, Score
from lmworks.generate.runner import Work
from lmworks.generate.sampling import alternatives_of
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

    def cut(self, tokens: int) -> tuple[int, list[list[tuple[int, int]]]]:
        """The number of the next `tokens` with predictions, and these; what was cut is no longer in the stretch."""
        left = len(self.ids) - tokens
        wanted = max(0, len(self.predictions) - left)
        taken, self.predictions = self.predictions[:wanted], self.predictions[wanted:]
        self.ids = self.ids[tokens:]
        return wanted, taken


@dataclass(slots=True)
class _Found:
    """The score of one pair so far: for each token ln p, and the most probable tokens at its place."""

    values: list[float] = field(default_factory=list)
    alternatives: list[tuple[tuple[int, float], ...]] = field(default_factory=list)


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


@torch.inference_mode()
def score_in_parts(
    batcher: Batcher,
    context_ids: Sequence[Sequence[int]],
    continuation_ids: Sequence[Sequence[int]],
    document_start: int,
    max_length: int,
    alternatives: int = 0,
    adapter: str = "",
) -> Generator[None, None, list[Score]]:
    """ln p of each token of each continuation, given its context; one `Score` for each pair.

    With `alternatives`, also so many of the most probable tokens at each place. `adapter` is the name of one that the
    engine has loaded.

    An empty context stands for the start of a document: it is replaced by the single token `document_start`. Other
    contexts are taken as they are, without an added token. An empty continuation scores as the empty product: no
    tokens, total 0.

    Raises ValueError, before any work, when the two lists differ in length, a pair is longer than `max_length` tokens,
    or an id lies outside the vocabulary; FloatingPointError for logits that are not finite. Where the cache is full,
    requests that run are preempted, and other scores and searches moved out of it while they pause.

    There is a pause after each forward, in which the weights must not change.
    """
    if len(context_ids) != len(continuation_ids):
        raise ValueError(f"{len(context_ids)} contexts for {len(continuation_ids)} continuations: give one for each")
    contexts = [tuple(context) or (document_start,) for context in context_ids]
    for pair, (context, continuation) in enumerate(zip(contexts, continuation_ids, strict=True)):
        if len(context) + len(continuation) > max_length:
            raise ContextLengthError(
                f"pair {pair} has {len(context)} + {len(continuation)} tokens, this model's maximum context length is "
                f"{max_length}: shorten the context"
            )
    vocabulary = batcher.runner.vocabulary
    if not all(0 <= token < vocabulary for ids in {*contexts, *map(tuple, continuation_ids)} for token in ids):
        raise ValueError(f"a context or a continuation holds token ids outside [0, {vocabulary})")
    if adapter not in batcher.adapters:
        raise ValueError(f"no adapter {adapter!r} is loaded")
    pairs_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for pair, context in enumerate(contexts):
        if continuation_ids[pair]:
            pairs_of[context].append(pair)
    found = [_Found() for _ in contexts]
    for batch in _batches(pairs_of, continuation_ids, batcher.cache.pages):
        yield from _score_batch(batcher, batch, continuation_ids, found, alternatives, adapter)
    return [Score(tuple(one.values), tuple(one.alternatives)) for one in found]


def _batches(
    pairs_of: dict[tuple[int, ...], list[int]], continuations: Sequence[Sequence[int]], pages: int
) -> Iterator[dict[tuple[int, ...], list[int]]]:
    """Contexts that share a forward: at most `BATCH_TOKENS` tokens, or one; and no more than leave room in the cache,
    which holds them to the end, for the longest of their continuations."""
    batch: dict[tuple[int, ...], list[int]] = {}
    tokens = held = longest = 0
    for context, pairs in pairs_of.items():
        own = -(-len(context) // PAGE)
        most = 1 + -(-max(len(continuations[pair]) for pair in pairs) // PAGE)  # one to copy what is not full
        if batch and (tokens + len(context) > BATCH_TOKENS or held + own + max(longest, most) > pages):
            yield batch
            batch, tokens, held, longest = {}, 0, 0, 0
        batch[context] = pairs
        tokens, held, longest = tokens + len(context), held + own, max(longest, most)
    if batch:
        yield batch


def _score_batch(
    batcher: Batcher,
    batch: dict[tuple[int, ...], list[int]],
    continuations: Sequence[Sequence[int]],
    found: list[_Found],
    alternatives: int,
    adapter: str,
) -> Generator[None, None, None]:
    """First the contexts, then their continuations."""
    namespace, (number, _) = batcher.namespace(adapter), batcher.adapters[adapter]
    with batcher.lease() as tree:
        roots = [tree.add(batcher.cache.open(context, namespace, number)) for context in batch]
        stretches: list[_Stretch] = []
        for root, (context, pairs) in zip(roots, batch.items(), strict=True):
            first = [(pair, continuations[pair][0]) for pair in pairs]
            stretches.append(_Stretch(root, list(context[root.length :]), [first]))
        yield from _run(batcher, tree, stretches, found, alternatives)
        stretches = []
        for root, pairs in zip(roots, batch.values(), strict=True):
            for pair in pairs:
                ids = list(continuations[pair])
                if len(ids) > 1:
                    targets = [[(pair, target)] for target in ids[1:]]
                    stretches.append(_Stretch(tree.fork(root), ids[:-1], targets, ends=True))
        yield from _run(batcher, tree, stretches, found, alternatives)


def _run(
    batcher: Batcher, tree: CacheLease, stretches: list[_Stretch], found: list[_Found], alternatives: int
) -> Generator[None, None, None]:
    """Forwards over the stretches until nothing is left of them."""
    while stretches:
        works, predictions = _next_works(batcher, tree, stretches)
        rows, _ = batcher.compute(works)
        for stretch in stretches:
            if stretch.ends and not stretch.ids:  # so that a long list needs no more pages than its longest few
                tree.close(stretch.sequence)
        where = [(row, pair, token) for row, targets in enumerate(predictions) for pair, token in targets]
        if where:
            numbers, pairs, tokens = zip(*where, strict=True)
            picked = rows.logits[list(numbers), list(tokens)] - rows.log_normaliser[list(numbers)]
            for pair, value in zip(pairs, picked.tolist(), strict=True):
                found[pair].values.append(value)
            if alternatives:
                best = alternatives_of([alternatives] * len(rows.logits), rows)
                for row, pair in zip(numbers, pairs, strict=True):
                    found[pair].alternatives.append(tuple(best[row]))
        del rows  # the logits are large, and a pause may be long
        stretches = [stretch for stretch in stretches if stretch.ids]
        yield


def _next_works(
    batcher: Batcher, tree: CacheLease, stretches: list[_Stretch]
) -> tuple[list[Work], list[list[tuple[int, int]]]]:
    """As many tokens as a forward takes, from the front, and what their rows predict."""
    works: list[Work] = []
    predictions: list[list[tuple[int, int]]] = []
    tokens, grid = 0, batcher.runner.grid
    for stretch in stretches:
        room = min(BATCH_TOKENS - tokens, LOGIT_ROWS - len(predictions))
        if room <= 0:
            break
        count = min(len(stretch.ids), room)
        if grid is not None:
            count = min(len(stretch.ids), grid - stretch.sequence.length % grid)
        try:
            (batcher.cache if works else tree).reserve(stretch.sequence, count)
        except OutOfPagesError:
            if not works:
                raise
            break  # the works before it go first
        ids = stretch.ids[:count]
        wanted, taken = stretch.cut(count)
        works.append(Work(stretch.sequence, ids, wanted))
        predictions.extend(taken)
        tokens += count
    return works, predictions
