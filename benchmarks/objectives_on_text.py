"""Do GPT-2's, BERT's and T5's objectives learn from real text more than n-grams know? Each in some minutes.

    .venv/bin/python benchmarks/objectives_on_text.py [--minutes 5] [--only causal masked spans] [--json FILE]

The texts are classic books, in pieces of about 20,000 characters, and Python's enhancement proposals; every 40th text
is held out. A byte-level BPE of 2,048 tokens is learnt from the others. Three small models, with their families' first
weights, are trained on them with Muon in bfloat16, each for the minutes given: GPT-2 on the next token, BERT on masked
tokens (15 %, of which 80 % are hidden, 10 % replaced and 10 % kept), T5 1.1 on missing spans (15 %, three tokens long
on average). Each is compared, on the very targets of its own objective, with models that count n-grams in the same
training texts (`contenders/ngram.py`, `contenders/guesses.py`):

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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders.guesses import MissingSpans, of_masked, of_next_tokens
from contenders.ngram import Between, Ids, KneserNey
from contenders.texts import DATA, books, proposals
from contenders.timed_run import Experiment, Outcome, run_for

from lmworks.data import Batch, Loader, LoaderConfig, SourceConfig, TokenWriter
from lmworks.model.config import MaskedLanguageModelHead, ModelConfig, Norm
from lmworks.model.counting import count_parameters
from lmworks.model.initialisation import PUBLISHED
from lmworks.model.presets import bert, gpt2, t5_v1_1
from lmworks.records import Scored
from lmworks.statistics import ratio_score
from lmworks.tokenizer import BpeConfig, train_bpe
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train import AdamW, CausalLanguageModel, Linear, Muon, TrainConfig, validate
from lmworks.train.objectives import MaskedLanguageModel, SpanCorruption, Vocabulary
from lmworks.train.objectives.objective import Objective
from lmworks.train.objectives.span_corruption import sentinels_of
from lmworks.train.objectives.vocabulary import text_tokens

VOCABULARY, LENGTH, WIDTH = 2048, 256, 256
HELD_OUT = 40  # every so-manieth text
PIECE = 20_000  # characters of a book
MASK, SENTINELS = "[MASK]", tuple(f"<extra_id_{number}>" for number in range(32))
Nats = dict[str, list[float]]  # of a model: the sum over the targets of each held-out text


@dataclass(frozen=True)
class HeldOut:
    """A text that is not trained on, and the batches of its windows."""

    ids: Ids
    batches: list[Batch]


@dataclass(frozen=True)
class Corpus:
    """The ids of the texts that are trained on, the same as token shards, and the texts that are not; each text ends
    with a token that says so."""

    tokenizer: Tokenizer
    trained: list[Ids]
    sources: dict[str, SourceConfig]
    held_out: list[HeldOut]


def texts_of(data: Path, share: int) -> list[str]:
    """Pieces of books and whole proposals, of which every `share`-th is kept."""
    pieces = [piece for book in books(data).values() for piece in in_pieces(book)]
    return [*pieces, *proposals(data).values()][::share]


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
    held_out = []
    for number, text in enumerate(texts[::HELD_OUT]):
        alone, own = folder / f"held-out-{number}", np.array([*tokenizer.encode(text), tokenizer.eos_id])
        write(alone, tokenizer, [text], [own])
        with Loader(LoaderConfig({"text": SourceConfig(str(alone))}, LENGTH, 16)) as loader:
            batches = [loader.batch(step) for step in range(loader.steps)]
        # Of a window of one token nothing is asked: a batch of nothing else has no target.
        held_out.append(HeldOut(own, [batch for batch in batches if bool((batch.documents[:, 1] >= 0).any())]))
    return Corpus(tokenizer, ids, {"texts": SourceConfig(str(folder / "trained"))}, held_out)


def write(folder: Path, tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[Ids]) -> None:
    with TokenWriter(folder, tokenizer.hash, tokenizer.vocabulary_size) as writer:
        for text, tokens in zip(texts, ids, strict=True):
            writer.add(tokens, hashlib.sha256(text.encode()).hexdigest())


# ---------------------------------------------------------------------------------------------------------------------
# The three: a model, its objective, and what n-grams make of the same targets


def causal(corpus: Corpus) -> tuple[ModelConfig, str, Objective]:
    return gpt2(VOCABULARY, WIDTH, 4, 4, context_length=LENGTH), "gpt2", CausalLanguageModel()


def causal_baselines(corpus: Corpus, objective: Any) -> Nats:
    model = KneserNey(corpus.trained, VOCABULARY)
    return {"trigram": [float(of_next_tokens(model, text.ids).sum()) for text in corpus.held_out]}


def masked(corpus: Corpus) -> tuple[ModelConfig, str, Objective]:
    head = MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))
    model = bert(VOCABULARY, WIDTH, 4, 4, 4 * WIDTH, LENGTH, token_types=0, head=head)
    mask = corpus.tokenizer.special_ids[MASK]
    return model, "bert", MaskedLanguageModel(Vocabulary(mask, text_tokens(corpus.tokenizer)))


def masked_baselines(corpus: Corpus, objective: Any) -> Nats:
    model = Between(corpus.trained, VOCABULARY)
    found: Nats = {}
    for text in corpus.held_out:
        parts = [of_masked(model, objective.examples(batch, seed=0), objective) for batch in text.batches]
        for name in parts[0]:
            found.setdefault(name, []).append(sum(float(part[name].sum()) for part in parts))
    return found


def spans(corpus: Corpus) -> tuple[ModelConfig, str, Objective]:
    eos = corpus.tokenizer.eos_id
    assert eos is not None
    model = t5_v1_1(VOCABULARY, WIDTH, 3, 4, 2 * WIDTH, context_length=LENGTH)
    return model, "t5", SpanCorruption(sentinels_of(corpus.tokenizer), eos, start=eos)


def spans_baselines(corpus: Corpus, objective: Any) -> Nats:
    with Loader(LoaderConfig(corpus.sources, LENGTH, 64)) as loader:
        drawn = [objective.examples(loader.batch(step), seed=step) for step in range(loader.steps)]
    model = MissingSpans(KneserNey(corpus.trained, VOCABULARY), drawn, objective)
    found: Nats = {}
    for text in corpus.held_out:
        parts = [model.nats(objective.examples(batch, seed=0)) for batch in text.batches]
        for name in parts[0]:
            found.setdefault(name, []).append(sum(float(part[name].sum()) for part in parts))
    return found


OBJECTIVES = {
    "causal": (causal, causal_baselines),
    "masked": (masked, masked_baselines),
    "spans": (spans, spans_baselines),
}


# ---------------------------------------------------------------------------------------------------------------------
# Both sides on the same targets


def model_nats(outcome: Outcome, objective: Objective, corpus: Corpus) -> tuple[list[float], list[int]]:
    """Of the trained model: nats and targets of each held-out text."""
    model, nats, targets = outcome.checkpoint.model, [], []
    for text in corpus.held_out:
        found = validate(model, objective, text.batches)
        targets.append(sum(found.targets.values()))
        nats.append(found.total.value * targets[-1])
    return nats, targets


def compare(name: str, corpus: Corpus, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    make, count = OBJECTIVES[name]
    config, family, objective = make(corpus)
    baselines = count(corpus, objective)
    totals = {kind: sum(nats) for kind, nats in baselines.items()}
    best = min(totals, key=lambda kind: totals[kind])
    rest = AdamW(rate=options.rate, decay=0.0)
    train = TrainConfig(Muon(rate=options.rate, rest=rest), Linear(), precision="bfloat16", compile=options.compile)
    loader = LoaderConfig(corpus.sources, LENGTH, options.batch)
    batches = [batch for text in corpus.held_out for batch in text.batches]
    experiment = Experiment(
        config, PUBLISHED[family], corpus.tokenizer, objective, loader, batches, train, options.minutes,
        options.validations, options.seed,
    )  # fmt: skip
    print(f"\n{name}: {family}, {count_parameters(config):,} parameters", flush=True)
    outcome = run_for(experiment, folder, lambda line: print(f"  {line}", flush=True))
    mine, targets = model_nats(outcome, objective, corpus)
    signature = {"objective": name, "seed": options.seed, "tokenizer": corpus.tokenizer.hash}
    shown = {family: mine, **baselines}
    scores = {kind: ratio_score(nats, targets, signature) for kind, nats in shown.items()}
    less = ratio_score([b - m for b, m in zip(baselines[best], mine, strict=True)], targets, signature)
    for kind, score in scores.items():
        print(f"  {kind:20} {told(score)}" + ("  the best that counts" if kind == best else ""))
    print(
        f"  {family} needs fewer by  {told(less)}, {sum(targets):,} targets, {outcome.tokens:,} tokens seen", flush=True
    )
    return {
        "nats": {kind: numbers(score) for kind, score in scores.items()},
        "best": best, "difference": numbers(less), "targets": sum(targets), "texts": len(targets),
        "parameters": count_parameters(config), "curve": outcome.curve, "steps": outcome.steps,
        "tokens": outcome.tokens, "seconds": outcome.seconds,
    }  # fmt: skip


def told(score: Any) -> str:
    value, low, high, n = numbers(score)
    return f"{value:6.3f} nats ({low:.3f} to {high:.3f}; {n} texts)"


def numbers(score: Any) -> tuple[float, float, float, int]:
    assert isinstance(score, Scored)
    return score.value, *score.interval, score.n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with classic-books and peps")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, for each objective")
    parser.add_argument("--only", nargs="+", choices=tuple(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--share", type=int, default=1, help="take every so-manieth text alone")
    parser.add_argument("--batch", type=int, default=16, help="sequences in a step")
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--validations", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="where to write what was found")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = texts_of(options.data, options.share)
        corpus = prepare(texts, folder)
        size, held_out = sum(map(len, corpus.trained)), sum(len(text.ids) for text in corpus.held_out)
        print(f"{len(texts):,} texts, {size:,} tokens to train on, {held_out:,} in {len(corpus.held_out)} held out")
        found = {name: compare(name, corpus, options, folder / name) for name in options.only}
    if options.json:
        settings = {name: getattr(options, name) for name in ("minutes", "share", "batch", "rate", "seed", "threads")}
        options.json.write_text(json.dumps({"settings": settings, "objectives": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
