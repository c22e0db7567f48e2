"""How each kind of positions does past the length it was trained on: prints a table, draws docs/extrapolation.svg.

python docs/extrapolation.py

One tiny decoder per method, equal in all else, learns to predict bytes of the standard library's source in texts of 64
bytes, and is then measured at each position of held-out texts of 512. It takes eighteen minutes on one busy core. The
numbers are those of one seed; the source differs between versions of Python, and so do the numbers, a little.
"""

import math
import sysconfig
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.model import config as configs
from lmworks.model.initialisation import initialise
from lmworks.model.positions import ntk_theta
from lmworks.model.transformer import Transformer

LENGTH, REACH = 64, 512  # trained on, measured up to
FACTOR = REACH / LENGTH
WIDTH, LAYERS, HEADS, HEAD_DIM = 96, 3, 3, 32
STEPS, BATCH, WARM_UP, LEARNING_RATE = 1000, 32, 100, 3e-3
TEXTS = 256  # held-out texts
SPANS = [(32, 64), (64, 128), (128, 256), (256, 512)]  # positions of the table's columns

Position = (
    configs.Learned
    | configs.Sinusoidal
    | configs.Rope
    | configs.RelativeBias
    | configs.Shaw
    | configs.TransformerXL
    | configs.Alibi
    | None
)
ROPE = configs.Rope(10_000.0)
TRAINED: dict[str, Position] = {
    "none": None,
    "learned": configs.Learned(LENGTH),
    "sinusoidal": configs.Sinusoidal(),
    "RoPE": ROPE,
    "T5 bias": configs.RelativeBias(buckets=32, max_distance=LENGTH // 2),
    "Shaw": configs.Shaw(max_distance=16),
    "Transformer-XL": configs.TransformerXL(),
    "ALiBi": configs.Alibi(),
}
# What can be done to the model with RoPE once it is trained.
AFTERWARDS = {
    "RoPE, linear": (replace(ROPE, scaling=configs.LinearScaling(FACTOR)), None),
    "RoPE, NTK": (configs.Rope(ntk_theta(ROPE.theta, FACTOR, HEAD_DIM)), None),
    "RoPE, YaRN": (replace(ROPE, scaling=configs.YarnScaling(FACTOR, LENGTH)), None),
    "RoPE, window": (ROPE, configs.Window(LENGTH)),
}


def decoder(position: Position, pattern: configs.Pattern | None = None) -> configs.ModelConfig:
    """A pre-norm decoder over bytes; `position` goes where its kind belongs."""
    own = absolute = shared = None
    match position:
        case configs.Learned() | configs.Sinusoidal():
            absolute = position
        case configs.RelativeBias():
            shared = position
        case _:
            own = position
    norm = configs.Norm("layer", 1e-5)
    block = configs.Block(
        configs.Attention(HEADS, HEADS, HEAD_DIM, position=own, pattern=pattern),
        configs.FeedForward(4 * WIDTH, "gelu"),
        norm,
        "pre",
    )
    return configs.ModelConfig(
        configs.Embedding(256, WIDTH, positions=absolute, scale=math.sqrt(WIDTH)),
        encoder=None,
        decoder=configs.Stack((block,) * LAYERS, causal=True, final_norm=norm, relative_bias=shared),
        head=configs.LanguageModelHead(tied=True),
        context_length=LENGTH,
    )


def corpus() -> tuple[Tensor, Tensor]:
    """Bytes to train on and held-out bytes (every tenth file), int64."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    parts = [b"".join(f.read_bytes() for i, f in enumerate(files) if (i % 10 == 0) == held) for held in (False, True)]
    train, held_out = (torch.frombuffer(bytearray(part), dtype=torch.uint8).long() for part in parts)
    return train, held_out


def texts(source: Tensor, count: int, length: int, generator: torch.Generator) -> Tensor:
    """(count, length + 1): bytes, and the one to be predicted after the last."""
    starts = torch.randint(len(source) - length, (count, 1), generator=generator)
    return source[starts + torch.arange(length + 1)]


def bits(model: Transformer, ids: Tensor) -> Tensor:
    """Negative log2-likelihood of each next byte: (texts, length + 1) → (texts, length)."""
    return F.cross_entropy(model(ids[:, :-1]).transpose(1, 2), ids[:, 1:], reduction="none") / math.log(2)


def train(config: configs.ModelConfig, source: Tensor) -> Transformer:
    """The same texts in the same order, whatever the config."""
    model = initialise(Transformer(config), seed=0).train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        decay = 0.5 + 0.5 * math.cos(math.pi * step / STEPS)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * decay
        loss = bits(model, texts(source, BATCH, LENGTH, generator)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def measure(model: Transformer, held_out: Tensor) -> Tensor:
    """Bits of each byte, (texts, positions), on the same texts for every model; a learned table ends at its length."""
    ids = texts(held_out, TEXTS, REACH, torch.Generator().manual_seed(2))
    learned = model.config.embedding.positions
    ids = ids[:, : learned.length + 1] if isinstance(learned, configs.Learned) else ids
    return torch.cat([bits(model, part) for part in ids.split(32)])


def experiment() -> dict[str, tuple[int, Tensor]]:
    """Parameters and bits per byte (texts, positions) by method."""
    source, held_out = corpus()
    results, models = {}, {}
    for name, position in TRAINED.items():
        models[name] = train(decoder(position), source)
        results[name] = sum(p.numel() for p in models[name].parameters()), measure(models[name], held_out)
        print(f"{name}: {results[name][1][:, :LENGTH].mean():.3f} bits per byte within {LENGTH}", flush=True)
    for name, (position, pattern) in AFTERWARDS.items():
        changed = Transformer(decoder(position, pattern)).eval()
        changed.load_state_dict(models["RoPE"].state_dict())
        results[name] = results["RoPE"][0], measure(changed, held_out)
    return results


def table(results: dict[str, tuple[int, Tensor]]) -> str:
    """Markdown: mean bits per byte, with the half-width of its 95 % interval over the texts."""
    rows = [
        "| method | parameters | " + " | ".join(f"{start} to {end - 1}" for start, end in SPANS) + " |",
        "|---" * (2 + len(SPANS)) + "|",
    ]
    for name, (parameters, losses) in results.items():
        cells = []
        for start, end in SPANS:
            means = losses[:, start:end].mean(dim=1)
            half = 1.96 * means.std() / math.sqrt(TEXTS)
            cells.append(f"{means.mean():.2f} ± {half:.2f}" if end <= losses.shape[1] else "–")
        rows.append(f"| {name} | {parameters:,} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def smooth(losses: Tensor) -> tuple[list[float], list[float]]:
    """Positions and bits per byte: means over the texts and over stretches of positions."""
    length, curve = losses.shape[1], losses.mean(dim=0)
    borders = sorted({round(length ** (n / 54)) for n in range(55)})
    stretches = list(pairwise(borders))
    return [math.sqrt(a * b) for a, b in stretches], [curve[a:b].mean().item() for a, b in stretches]


def spread(heights: list[float], gap: float) -> list[float]:
    """Moves labels up until each is `gap` above the one below it; the order stays."""
    moved, below = heights[:], -math.inf
    for index in sorted(range(len(heights)), key=heights.__getitem__):
        below = moved[index] = max(heights[index], below + gap)
    return moved


def draw(results: dict[str, tuple[int, Tensor]], path: Path) -> None:
    """Left the methods as trained, right the model with RoPE and what can be done to it afterwards."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lmworks", "font.size": 10})
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained", facecolor="white")
    titles = [f"trained on {LENGTH} bytes", "RoPE, changed after training"]
    for axes, title, names in zip(panels, titles, [TRAINED, ("RoPE", *AFTERWARDS)], strict=True):
        curves = {name: smooth(results[name][1]) for name in names}
        labels = spread([curve[-1] for _, curve in curves.values()], gap=0.2)
        for (name, (positions, curve)), height in zip(curves.items(), labels, strict=True):
            (line,) = axes.plot(positions, curve, linewidth=1.8)
            style = {"color": line.get_color(), "va": "center", "fontweight": "bold", "fontsize": 9}
            if positions[-1] > LENGTH:
                axes.text(REACH * 1.03, height, name, **style)
            else:
                axes.plot(positions[-1], curve[-1], "o", color=line.get_color(), markersize=5)
                axes.text(LENGTH * 0.95, 1.88, f"{name}: its table ends", ha="right", **style)
        axes.axvline(LENGTH, color="#98a2b3", linewidth=1, linestyle="--")
        axes.set_xscale("log", base=2)
        axes.set_xticks([1 << n for n in range(10)], [str(1 << n) for n in range(10)])
        axes.set(title=title, xlabel="position", xlim=(2, REACH), ylim=(1.8, 6.2))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eaecf0")
    panels[0].set_ylabel("bits per byte")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    measured = experiment()
    print(table(measured))
    draw(measured, Path(__file__).with_name("extrapolation.svg"))
