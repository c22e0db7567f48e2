"""What each format of weights costs and loses: bytes, speed, bits per byte, and which layers feel it most.

    python benchmarks/weight_formats.py BOOKS [--minutes 8] [--pieces 120] [--faq CSV]

BOOKS is a folder of texts (.md.gz, .txt, .md). A decoder over bytes is trained on all but two of them, for so many
minutes, because the weights of the default model are of 4 bits already: their loss would say nothing. It is held in
bfloat16, and then in every other format; the loss is measured on pieces of the two books it has not seen, with 95 %
intervals by bootstrap over pieces, the difference to bfloat16 paired. The same for MiniLM (the memory is that of its
program): how often the right answer is the nearest, for the questions of a FAQ given as --faq CSV.
"""

import argparse
import csv
import gzip
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers
import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import decoders, models, pre_tokenizers

import lmworks
from lmworks.generate import Engine, Request, SamplingParameters, TextEncoder
from lmworks.kernels.program import Program
from lmworks.kernels.weight_formats import Format
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from lmworks.statistics import bootstrap_interval
from lmworks.tokenizer.tokenizer import Tokenizer

FORMATS = ("float32", "bfloat16", "int8", "int4")
ENCODER_FORMATS = ("float32", "bfloat16", "int8")
LENGTH, BATCH, LEARNING_RATE, WARM_UP = 512, 8, 2e-3, 50
HELD_OUT = 2  # books, the last by name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("books", type=Path)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--pieces", type=int, default=120, help="held-out pieces of 512 bytes")
    parser.add_argument("--faq", type=Path, help="a CSV with the columns question and answer, for MiniLM")
    arguments = parser.parse_args()
    books = [_text(path) for path in sorted(arguments.books.iterdir()) if path.suffix in (".gz", ".md", ".txt")]
    books = [book for book in books if len(book) > 50_000]
    checkpoint = train("".join(books[:-HELD_OUT]).encode(), arguments.minutes)
    pieces = _pieces("".join(books[-HELD_OUT:]).encode(), arguments.pieces)
    report_formats(checkpoint, pieces)
    report_sensitivity(checkpoint, pieces[:40])
    if arguments.faq is not None:
        report_encoder(arguments.faq)


def train(corpus: bytes, minutes: float) -> Checkpoint:
    """A decoder over bytes, 6 layers of width 256, trained with AdamW on random pieces; its weights in bfloat16."""
    config = llama(260, width=256, layers=6, heads=4, kv_heads=2, hidden=704, context_length=LENGTH + 128, tied=False)
    model = initialise(Transformer(config), seed=0)
    data = torch.frombuffer(bytearray(corpus), dtype=torch.uint8).long()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    end, began, step = time.monotonic() + 60 * minutes, time.monotonic(), 0
    while (now := time.monotonic()) < end:
        left = (end - now) / (end - began)  # the rate falls along half a cosine of the time
        rate = LEARNING_RATE * min(1, (step + 1) / WARM_UP) * (0.05 + 0.95 * 0.5 * (1 - math.cos(math.pi * left)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(0, len(data) - LENGTH - 1, (BATCH,), generator=generator)
        batch = torch.stack([data[start : start + LENGTH + 1] for start in starts])  # (batch, length + 1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    print(
        f"trained {step} steps of {BATCH} x {LENGTH} bytes; the last loss is {loss.item() / math.log(2):.3f} bits/byte"
    )
    rounded = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    return assemble(config, rounded, byte_tokenizer(), source="bytes", dtype=torch.bfloat16)


def byte_tokenizer() -> Tokenizer:
    """256 byte tokens and the end of a text."""
    backend = tokenizers.Tokenizer(
        models.BPE({c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken("<|endoftext|>", special=True)])
    return Tokenizer(backend, {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"})


def report_formats(checkpoint: Checkpoint, pieces: Sequence[list[int]]) -> None:
    print(f"\n{'weights':10}{'MB':>7}{'speed':>8}{'bits per byte':>28}{'more than bfloat16':>30}   n = {len(pieces)}")
    engines = {name: Engine(checkpoint, slots=1, weights=name) for name in FORMATS}  # type: ignore[arg-type]
    exact = bits(engines["bfloat16"], pieces)
    seconds = decoding_seconds(engines)
    for name, engine in engines.items():
        values = bits(engine, pieces)
        size = engine.batcher.runner.sizes["weights"] / 1e6
        more = values - exact
        print(
            f"{name:10}{size:7.1f}{seconds['bfloat16'] / seconds[name]:7.2f}x"
            f"{values.mean():10.4f} [{_interval(values)}]{more.mean():+12.4f} [{_interval(more)}]"
        )


def report_sensitivity(checkpoint: Checkpoint, pieces: Sequence[list[int]]) -> None:
    """Each layer alone, and the head, as int4; everything else as bfloat16."""
    exact = bits(Engine(checkpoint, slots=1, weights="bfloat16"), pieces)
    layers = range(len(checkpoint.config.decoder.blocks))  # type: ignore[union-attr]
    names = [f"decoder.blocks.{layer}." for layer in layers] + ["embedding.tokens", "head.projection"]
    print("\nmore bits per byte when this alone is int4")
    for name in names:

        def rule(weight: str, name: str = name) -> Format:
            return "int4" if weight.startswith(name) else "bfloat16"

        more = bits(Engine(checkpoint, slots=1, weights=rule), pieces) - exact
        print(f"  {name:22}{more.mean():+9.5f} [{_interval(more)}]")


def report_encoder(path: Path) -> None:
    """MiniLM: questions and answers of a FAQ, each question's nearest answer among all of them."""
    rows = [row for row in csv.DictReader(io.StringIO(_text(path))) if row["question"] and row["answer"]]
    checkpoint = lmworks.load("all-minilm-l6-v2")
    plain = TextEncoder(checkpoint, weights="float32").encode([row["question"] for row in rows], "query")
    print(f"\nMiniLM      MB    cosine to float32    right answer nearest   n = {len(rows)}")
    for name in ENCODER_FORMATS:
        encoder = TextEncoder(checkpoint, weights=name)
        questions = encoder.encode([row["question"] for row in rows], "query")
        answers = encoder.encode([row["answer"] for row in rows], "passage")
        found = (questions @ answers.T).argmax(1) == np.arange(len(rows))
        cosine = (questions * plain).sum(1)
        size = encoder.model.nbytes / 1e6 if isinstance(encoder.model, Program) else math.nan
        print(f"{name:10}{size:5.1f}{cosine.mean():20.5f}{found.mean():15.3f} [{_interval(found.astype(float))}]")


def bits(engine: Engine, pieces: Sequence[list[int]]) -> np.ndarray:
    """Bits per byte of each piece, (pieces,)."""
    scores = engine.score([[]] * len(pieces), pieces)
    return np.array([-score.mean / math.log(2) for score in scores])


def decoding_seconds(engines: dict[str, Engine]) -> dict[str, float]:
    """The median of three rounds of 200 tokens for each, taken in turns."""
    sampling = SamplingParameters(max_tokens=200, ignore_eos=True, speculate=False)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(3):
        for name, engine in engines.items():
            began = time.perf_counter()
            engine.generate([Request(tuple(b"It was "), sampling=sampling)])
            times[name].append(time.perf_counter() - began)
    return {name: float(np.median(values)) for name, values in times.items()}


def _interval(values: np.ndarray) -> str:
    low, high = bootstrap_interval(values[:, None], lambda sample: sample[..., 0].mean(axis=1), of_items=True)
    return f"{low:.4f}, {high:.4f}"


def _text(path: Path) -> str:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return raw.decode("utf-8", "replace")


def _pieces(text: bytes, count: int) -> list[list[int]]:
    """Pieces of `LENGTH` bytes, evenly spread over the text."""
    starts = np.linspace(0, len(text) - LENGTH, count).astype(int)
    return [list(text[start : start + LENGTH]) for start in starts]


if __name__ == "__main__":
    main()
