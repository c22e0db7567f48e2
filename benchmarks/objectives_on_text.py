"""Do GPT-2's, BERT's and T5's objectives learn from real text more than n-grams know? Each in some minutes.

    .venv/bin/python benchmarks/objectives_on_text.py [--minutes 5] [--only causal masked spans] [--json FILE]

The texts are classic books, in pieces of about 20,000 characters, and Python's enhancement proposals; every 40th text
is held out. A byte-level BPE of 2,048 tokens is learnt from the others. Three small models, with first weights by their
fan-in, are trained on them with Muon in bfloat16, each for the minutes given: GPT-2 on the next token, BERT on masked
tokens (15 %, of which 80 % are hidden, 10 % replaced and 10 % kept), T5 on missing spans (15 %, three tokens long on
average). BERT has rotary positions and its norms first, as ModernBERT (Warner et al. 2024): with learned positions
and norms last it knew little but the frequencies after 2.5 million tokens, 5.7 nats where this one had 4.2 after 1.8,
both with BERT's first weights.
T5 has rotary positions too, and its scores are divided by sqrt(head dimension), which T5 leaves to first weights of its
queries: so small that a step of one size for all matrices is too large for them.

Each is compared, on the very targets of its own objective, with models that count n-grams in the same training texts
(`contenders/ngram.py`, `contenders/guesses.py`):

    causal  an interpolated Kneser-Ney trigram model; it sees across the borders of the network's windows
    masked  the best of four: frequencies, the Kneser-Ney bigram of the left neighbour, that of the right one, and both
            neighbours: counts of (left, w, right), discounted, over p(w | left) p(right | w) / Σ. A masked neighbour is
            unknown. Of a token that is not hidden, all four are told by Bayes' rule what a kept or replaced one says
    spans   the best of two: a Kneser-Ney trigram of the targets as they are written, and the trigram of the texts after
            all that stands to the left of a token, times how often a span goes on. Both get sentinels for nothing: the
            first is certain, and every other one, as the end, is "the span ends"

Nats are means over all targets of the held-out texts, with 95 % intervals over texts; the difference is paired.
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders.guesses import MissingSpans, of_masked, of_next_tokens
from contenders.ngram import Between, Ids, KneserNey
from contenders.texts import DATA, books, proposals
from contenders.timed_run import Experiment, Outcome, run_for
from torch import Tensor

from lmworks.data import Batch, Loader, LoaderConfig, SourceConfig, TokenWriter
from lmworks.model.config import LanguageModelHead, MaskedLanguageModelHead, ModelConfig, Norm, Rope, Stack
from lmworks.model.initialisation import by_fan_in
from lmworks.model.model_costs import count_parameters
from lmworks.model.presets import bert, gpt2, t5
from lmworks.records import Scored
from lmworks.statistics import ratio_score
from lmworks.tokenizer import BpeConfig, train_bpe
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train import AdamW, CausalLanguageModel, Linear, Muon, TrainConfig
from lmworks.train.objectives import MaskedLanguageModel, SpanCorruption, Vocabulary
from lmworks.train.objectives.corruption_vocabulary import text_tokens
from lmworks.train.objectives.objective import count_rows
from lmworks.train.objectives.span_corruption import sentinels_of
from lmworks.train.validation import sums_of

VOCABULARY = 2048
STEP_TOKENS = 2048  # tokens in a step, in sequences of an objective's own length
HELD_OUT = 40  # every so-manieth text
PIECE = 20_000  # characters of a book
MASK, SENTINELS = "[MASK]", tuple(f"<extra_id_{number}>" for number in range(32))
Nats = dict[str, list[float]]  # of a model: the sum over the targets of each held-out text


@dataclass(frozen=True)
class Corpus:
    """ids of the texts that are trained on, and of those that are held out, each with a token at its end that says so;
    the first as token shards in `sources`, and each of the others as a source of its own."""

    tokenizer: Tokenizer
    trained: list[Ids]
    held_out: list[Ids]
    sources: dict[str, SourceConfig]
    held_out_sources: dict[str, SourceConfig]

    def windows(self, length: int) -> list[list[Batch]]:
        """All sequences of each held-out text. They come from one loader, so that each has random numbers of its own.

        No batch is of one window alone, which may be a text's last token or two, of which nothing is asked.
        """
        rows = STEP_TOKENS // length
        with Loader(LoaderConfig(self.held_out_sources, length, rows)) as loader:
            whole = joined(list(loader))
        texts = [picked(whole, whole.sources == number) for number in range(len(self.held_out))]
        starts = [[*range(0, max(len(text) - 1, 1), rows), len(text)] for text in texts]
        return [[text[slice(*ends)] for ends in pairwise(cuts)] for text, cuts in zip(texts, starts, strict=True)]


def joined(batches: Sequence[Batch]) -> Batch:
    return Batch(*(torch.cat([getattr(batch, each.name) for batch in batches]) for each in fields(Batch)))


def picked(batch: Batch, rows: Tensor) -> Batch:
    return Batch(*(getattr(batch, each.name)[rows] for each in fields(Batch)))


@dataclass(frozen=True)
class Task:
    """A model, named by its family, and its objective, on sequences of so many tokens."""

    family: str
    model: ModelConfig
    objective: Any
    length: int


def texts_of(data: Path, share: int) -> list[str]:
    """Pieces of books and whole proposals, of which every `share`-th is kept; what is left of a book is dropped where
    it is shorter than a hundredth of a piece."""
    pieces = [piece for book in books(data).values() for piece in in_pieces(book)]
    return [text for text in (*pieces, *proposals(data).values()) if len(text) >= PIECE // 100][::share]


def in_pieces(book: str) -> list[str]:
    """Cut where a paragraph ends, once a piece is long enough."""
    pieces = [""]
    for paragraph in book.split("\n\n"):
        if len(pieces[-1]) >= PIECE:
            pieces.append("")
        pieces[-1] += paragraph + "\n\n"
    return pieces


def prepare(texts: Sequence[str], folder: Path) -> Corpus:
    trained = [text for number, text in enumerate(texts) if number % HELD_OUT]
    special = ("<|endoftext|>", MASK, *SENTINELS)
    tokenizer = train_bpe(trained, BpeConfig(VOCABULARY, special_tokens=special)).tokenizer
    ids = [np.array([*found, tokenizer.eos_id]) for found in tokenizer.encode_batch(trained)]
    write(folder / "trained", tokenizer, trained, ids)
    held_out, sources = [], {}
    for number, text in enumerate(texts[::HELD_OUT]):
        held_out.append(np.array([*tokenizer.encode(text), tokenizer.eos_id]))
        write(folder / f"text-{number}", tokenizer, [text], held_out[-1:])
        sources[f"text-{number}"] = SourceConfig(str(folder / f"text-{number}"))
    return Corpus(tokenizer, ids, held_out, {"texts": SourceConfig(str(folder / "trained"))}, sources)


def write(folder: Path, tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[Ids]) -> None:
    with TokenWriter(folder, tokenizer.hash, tokenizer.vocabulary_size) as writer:
        for text, tokens in zip(texts, ids, strict=True):
            writer.add(tokens, hashlib.sha256(text.encode()).hexdigest())


# ---------------------------------------------------------------------------------------------------------------------
# The three: a model, its objective, and what n-grams make of the same targets


def causal(corpus: Corpus) -> Task:
    model = gpt2(VOCABULARY, 192, 4, 4, context_length=256)
    return Task("gpt2", model, CausalLanguageModel(), 256)


def causal_baselines(corpus: Corpus, task: Task, windows: Sequence[Sequence[Batch]]) -> Nats:
    model = KneserNey(corpus.trained, VOCABULARY)
    return {"trigram": [float(of_next_tokens(model, text).sum()) for text in corpus.held_out]}


def masked(corpus: Corpus) -> Task:
    norm, length = Norm("layer", 1e-12), 64
    published = bert(VOCABULARY, 128, 4, 4, 512, length, token_types=0, head=MaskedLanguageModelHead("gelu", norm))
    assert published.encoder is not None
    (block, *_) = published.encoder.blocks
    block = replace(block, norm_at="pre", attention=replace(block.attention, position=Rope(10_000.0)))
    encoder = replace(published.encoder, blocks=(block,) * len(published.encoder.blocks), final_norm=norm)
    model = replace(published, encoder=encoder, embedding=replace(published.embedding, positions=None))
    mask = corpus.tokenizer.special_ids[MASK]
    objective = MaskedLanguageModel(Vocabulary(mask, text_tokens(corpus.tokenizer)))
    return Task("bert", model, objective, length)


def masked_baselines(corpus: Corpus, task: Task, windows: Sequence[Sequence[Batch]]) -> Nats:
    model = Between(corpus.trained, VOCABULARY)
    return summed(windows, task, lambda examples: of_masked(model, examples, task.objective))


def spans(corpus: Corpus) -> Task:
    eos = corpus.tokenizer.eos_id
    assert eos is not None
    objective = SpanCorruption(sentinels_of(corpus.tokenizer), eos, start=eos)
    published = t5(VOCABULARY, 128, 3, 4, 256, head_dim=32, context_length=64, activation="gelu_tanh", gated=True)
    assert published.encoder is not None and published.decoder is not None
    encoder, decoder = rotary(published.encoder), rotary(published.decoder)
    model = replace(published, encoder=encoder, decoder=decoder, head=LanguageModelHead(tied=True))
    return Task("t5", model, objective, 64)


def rotary(stack: Stack) -> Stack:
    """T5's, with the positions and the scores of most later models."""
    (block, *_) = stack.blocks
    attention, cross = replace(block.attention, scale=None, position=Rope(10_000.0)), block.cross
    block = replace(block, attention=attention, cross=cross and replace(cross, scale=None))
    return replace(stack, blocks=(block,) * len(stack.blocks), relative_bias=None)


def spans_baselines(corpus: Corpus, task: Task, windows: Sequence[Sequence[Batch]]) -> Nats:
    with Loader(LoaderConfig(corpus.sources, task.length, STEP_TOKENS // task.length)) as loader:
        drawn = [task.objective.examples(loader.batch(step), seed=step) for step in range(loader.steps)]
    model = MissingSpans(KneserNey(corpus.trained, VOCABULARY), drawn, task.objective)
    return summed(windows, task, model.nats)


def summed(windows: Sequence[Sequence[Batch]], task: Task, count: Callable[[Any], Mapping[str, Any]]) -> Nats:
    """Over the targets of each text, by kind."""
    found: Nats = {}
    for batches in windows:
        parts = [count(task.objective.examples(batch, seed=0)) for batch in batches]
        for kind in parts[0]:
            found.setdefault(kind, []).append(sum(float(part[kind].sum()) for part in parts))
    return found


OBJECTIVES = {
    "causal": (causal, causal_baselines),
    "masked": (masked, masked_baselines),
    "spans": (spans, spans_baselines),
}


# ---------------------------------------------------------------------------------------------------------------------
# Both sides on the same targets


@torch.no_grad()
def model_nats(outcome: Outcome, task: Task, windows: Sequence[Sequence[Batch]]) -> tuple[list[float], list[int]]:
    """Of the trained model: nats and targets of each held-out text."""
    nats, targets = [], []
    for batches in windows:
        examples = [task.objective.examples(batch, seed=0) for batch in batches]
        found = [sums_of(outcome.checkpoint.model, task.objective, each) for each in examples if count_rows(each)]
        pairs = [pair for losses in found for pair in losses.values()]  # each of these objectives has one loss
        nats.append(sum(nats for nats, _ in pairs))
        targets.append(sum(count for _, count in pairs))
    return nats, targets


def trained(
    corpus: Corpus, task: Task, held_out: Sequence[Batch], options: argparse.Namespace, folder: Path
) -> Outcome:
    rest = AdamW(rate=options.rate, decay=0.0)
    experiment = Experiment(
        model=task.model,
        scheme=by_fan_in,
        tokenizer=corpus.tokenizer,
        objective=task.objective,
        loader=LoaderConfig(corpus.sources, task.length, STEP_TOKENS // task.length),
        held_out=held_out,
        train=TrainConfig(Muon(rate=options.rate, rest=rest), Linear(), precision="bfloat16", compile=options.compile),
        minutes=options.minutes,
        validations=options.validations,
        seed=options.seed,
    )
    return run_for(experiment, folder, lambda line: print(f"  {line}", flush=True))


def compare(name: str, corpus: Corpus, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    make, count = OBJECTIVES[name]
    task = make(corpus)
    windows = corpus.windows(task.length)
    print(f"\n{name}: {task.family}, {count_parameters(task.model):,} parameters, {task.length} tokens", flush=True)
    baselines = count(corpus, task, windows)
    best = min(baselines, key=lambda kind: sum(baselines[kind]))
    outcome = trained(corpus, task, [batch for batches in windows for batch in batches], options, folder)
    mine, targets = model_nats(outcome, task, windows)
    signature = {"objective": name, "seed": options.seed, "tokenizer": corpus.tokenizer.hash}
    rows = {}
    for kind, nats in {task.family: mine, **baselines}.items():
        score = ratio_score(nats, targets, signature)
        less = ratio_score([n - m for n, m in zip(nats, mine, strict=True)], targets, signature)
        rows[kind] = {"nats": numbers(score), "more": numbers(less)}
        more = "" if kind == task.family else f"  {task.family} needs fewer by {told(less)}"
        print(f"  {kind:20}{told(score)}{more}{', the best that counts' if kind == best else ''}")
    print(f"  {sum(targets):,} targets in {len(targets)} texts, {outcome.tokens:,} tokens trained on", flush=True)
    return {
        "rows": rows, "best": best, "targets": sum(targets), "texts": len(targets), "steps": outcome.steps,
        "parameters": count_parameters(task.model), "curve": outcome.curve, "tokens": outcome.tokens,
        "seconds": outcome.seconds,
    }  # fmt: skip


def told(score: Any) -> str:
    value, low, high = numbers(score)
    return f"{value:.3f} nats ({low:.3f} to {high:.3f})"


def numbers(score: Any) -> tuple[float, float, float]:
    assert isinstance(score, Scored)
    return score.value, *score.interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with classic-books and peps")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, for each objective")
    parser.add_argument("--only", nargs="+", choices=tuple(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--share", type=int, default=1, help="take every so-manieth text alone")
    parser.add_argument("--rate", type=float, default=8e-3)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False, help="the blocks")
    parser.add_argument("--validations", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="where to write what was found")
    options = parser.parse_args()
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = texts_of(options.data, options.share)
        corpus = prepare(texts, folder)
        size, held_out = sum(map(len, corpus.trained)), sum(map(len, corpus.held_out))
        print(f"{len(texts):,} texts, {size:,} tokens to train on, {held_out:,} in {len(corpus.held_out)} held out")
        found = {name: compare(name, corpus, options, folder / name) for name in options.only}
    if options.json:
        settings = {name: getattr(options, name) for name in ("minutes", "share", "rate", "compile", "seed", "threads")}
        options.json.write_text(json.dumps({"settings": settings, "objectives": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
