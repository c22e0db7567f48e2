"""How well does a model learn tiny Shakespeare in 3 minutes, and in 15, on two cores?

    .venv/bin/python benchmarks/tiny_shakespeare.py [--minutes 3 15] [--json FILE] [--svg docs/tiny-shakespeare.svg]
    .venv/bin/python benchmarks/tiny_shakespeare.py --draw FILE    # the picture again, from the JSON

The text is Karpathy's (char-rnn), 1,115,394 characters, each a token. The first 90 % are trained on; validation is on
the whole last 10 %: the mean over every character but the first, in nats, of a model that sees what stands before it in
its window, and nothing before the window. nanoGPT's readme gives 1.88 nats for about 3 minutes on a laptop's processor
(4 layers of width 128, windows of 64), and 1.47 for about 3 minutes on an A100 (6 layers of width 384, windows of 256,
with dropout); both are estimates from random windows.

The model is a decoder with norms on queries and keys (Qwen3's), trained with Muon in bfloat16, its blocks compiled. Its
rate falls to zero within the minutes, which hold everything from the first step to the last validation; before them go
some steps from which their number is counted. There is no dropout: against overfitting, the text is cut into windows at
several places, so that a character is seen at several positions, and weights decay.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import tokenizers
import torch
from contenders.texts import DATA, tiny_shakespeare
from contenders.timed_run import Experiment, Outcome, run_for
from tokenizers import decoders, models

from lmworks.data import Loader, LoaderConfig, SourceConfig, TokenWriter
from lmworks.generate import Engine, Request, SamplingParameters
from lmworks.model.config import ModelConfig, Rope
from lmworks.model.initialisation import by_fan_in
from lmworks.model.model_costs import count_parameters
from lmworks.model.presets import qwen3
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train import AdamW, CausalLanguageModel, Linear, Muon, TrainConfig

PUBLISHED_NATS = 1.88  # nanoGPT's readme, on a laptop's processor
TRAINED = 0.9  # share of the text
CUTS = 4  # places at which the text is cut into windows


def character_tokenizer(text: str) -> Tokenizer:
    """Each character of the text is a token; ids are in the order of the characters."""
    backend = tokenizers.Tokenizer(models.BPE({letter: index for index, letter in enumerate(sorted(set(text)))}, []))
    backend.decoder = decoders.Fuse()
    return Tokenizer(backend)


def write_shards(folder: Path, tokenizer: Tokenizer, text: str, length: int) -> dict[str, SourceConfig]:
    """The text as token shards, once for each place at which its windows begin."""
    sources = {}
    for cut in range(CUTS):
        rest = text[cut * length // CUTS :]
        with TokenWriter(folder / f"cut-{cut}", tokenizer.hash, tokenizer.vocabulary_size) as writer:
            writer.add(tokenizer.encode(rest), hashlib.sha256(rest.encode()).hexdigest())
        sources[f"cut-{cut}"] = SourceConfig(str(folder / f"cut-{cut}"))
    return sources


def windows(sources: dict[str, SourceConfig], length: int, batch: int) -> LoaderConfig:
    return LoaderConfig(sources, length, batch, mode="concatenate", document_mask=False)


def model_of(vocabulary: int, options: argparse.Namespace) -> ModelConfig:
    heads = options.width // 32
    return qwen3(
        vocabulary, options.width, options.layers, heads, heads, 8 * options.width // 3 // 32 * 32, options.length,
        head_dim=32, rope=Rope(10_000.0), tied=True,
    )  # fmt: skip


def train_for(minutes: float, text: str, options: argparse.Namespace, folder: Path) -> Outcome:
    tokenizer, cut, length = character_tokenizer(text), int(TRAINED * len(text)), options.length
    sources = write_shards(folder / "trained", tokenizer, text[:cut], length)
    held_out = write_shards(folder / "held-out", tokenizer, text[cut:], length)["cut-0"]
    with Loader(windows({"held-out": held_out}, length, 16)) as loader:
        batches = [loader.batch(step) for step in range(loader.steps)]
    rest = AdamW(rate=options.rate, decay=0.0)
    experiment = Experiment(
        model=model_of(tokenizer.vocabulary_size, options),
        scheme=by_fan_in,
        tokenizer=tokenizer,
        objective=CausalLanguageModel(),
        loader=windows(sources, length, options.batch),
        held_out=batches,
        train=TrainConfig(
            Muon(rate=options.rate, decay=options.decay, rest=rest),
            Linear(),
            precision="bfloat16",
            compile=options.compile,
        ),
        minutes=minutes,
        validations=options.validations,
        seed=options.seed,
    )
    parameters = count_parameters(experiment.model)
    targets = sum(int(batch.mask.sum()) for batch in batches)
    print(f"\n{minutes:g} minutes, {parameters:,} parameters, {targets:,} targets held out")
    return run_for(experiment, folder, lambda line: print(f"  {line}", flush=True))


def sample(outcome: Outcome, seed: int) -> str:
    engine = Engine(outcome.checkpoint)
    prompt = tuple(outcome.checkpoint.tokenizer.encode("\n"))
    drawn = SamplingParameters(max_tokens=200, temperature=0.8, seed=seed)
    (completion,) = engine.generate([Request(prompt, sampling=drawn)])
    return completion.text


def draw(found: dict[str, Any], path: Path) -> None:
    """Validation and training nats over minutes of the clock, a colour for each run."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lmworks", "font.size": 10})
    figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained", facecolor="white")
    for run, color in zip(found["runs"], ("#0b6e8f", "#c2571a", "#5b7a2b", "#7a4fa3"), strict=False):
        minutes = [row["seconds"] / 60 for row in run["curve"]]
        label = f"{run['minutes']:g} minutes: {run['curve'][-1]['validation']:.3f}"
        axes.plot(minutes, [row["validation"] for row in run["curve"]], "o-", color=color, markersize=4, label=label)
        axes.plot(minutes, [row["training"] for row in run["curve"]], ":", color=color, linewidth=1)
    axes.axhline(PUBLISHED_NATS, color="#98a2b3", linewidth=1, linestyle="--")
    axes.text(axes.get_xlim()[1], PUBLISHED_NATS, "nanoGPT on a processor ", ha="right", va="bottom", color="#667085")
    axes.set(xlabel="minutes on two cores", ylabel="nats per character; dotted: training")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eaecf0")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with tinyshakespeare/input.txt.gz")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0, 15.0])
    parser.add_argument("--width", type=int, default=192, help="a multiple of 32, the size of a head")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--length", type=int, default=256, help="characters in a window")
    parser.add_argument("--batch", type=int, default=8, help="windows in a step")
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="the blocks")
    parser.add_argument("--validations", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="where to write what was found")
    parser.add_argument("--svg", type=Path, help="where to draw it")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="train nothing: draw what was found before")
    options = parser.parse_args()
    if options.draw:
        draw(json.loads(options.draw.read_text()), options.svg or Path("docs/tiny-shakespeare.svg"))
        return
    torch.set_num_threads(options.threads)
    text = tiny_shakespeare(options.data)
    settings = {
        name: getattr(options, name)
        for name in ("width", "layers", "length", "batch", "rate", "decay", "compile", "seed")
    }
    runs = []
    for minutes in options.minutes:
        with tempfile.TemporaryDirectory() as folder:
            outcome = train_for(minutes, text, options, Path(folder))
        last = outcome.curve[-1]
        print(
            f"  {last['validation']:.4f} nats ({last['validation'] - PUBLISHED_NATS:+.2f} to nanoGPT's on a processor) "
            f"in {outcome.seconds:.0f} s, {outcome.tokens:,} characters; {outcome.trial_seconds:.0f} s went before"
        )
        shown = sample(outcome, options.seed)
        print("\n".join(f"  | {line}" for line in shown.splitlines()))
        runs.append(
            {"minutes": minutes, "seconds": outcome.seconds, "steps": outcome.steps, "tokens": outcome.tokens}
            | {"parameters": count_parameters(outcome.checkpoint.config), "curve": outcome.curve, "sample": shown}
        )
    found = {"published": PUBLISHED_NATS, "threads": options.threads, "settings": settings, "runs": runs}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.svg:
        draw(found, options.svg)


if __name__ == "__main__":
    main()
