"""How long does a step of Muon take, beside that of `torch.optim.Muon`? On the projections of LLaMAs of some sizes.

    .venv/bin/python benchmarks/muon_step.py [--parameters 1e6 5e6 15e6 50e6] [--rounds 15]

Both have the same float32 weights and gradients, and the same sizes of updates. In turns; the median ratio, with its
lowest and highest. torch makes one product after the other; here matrices of one shape are orthogonalised together.
"""

import argparse
import time

import torch
from contenders.comparison import in_turns, ratios

from lmworks.model.model_costs import count_parameters
from lmworks.model.transformer import Transformer
from lmworks.train.optimizer_config import Muon
from lmworks.train.optimizers.build_optimizers import build_optimizers
from lmworks.train.planning.model_shape import choose_shape

RATE, MOMENTUM, DECAY = 0.01, 0.95, 0.1


def projections(model: Transformer) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if ".blocks." in name and weight.dim() == 2}


def optimizers(model: Transformer) -> dict[str, torch.optim.Optimizer]:
    """Each for copies of the projections, with one gradient for all steps."""
    generator = torch.Generator().manual_seed(0)
    gradients = {name: torch.randn(weight.shape, generator=generator) for name, weight in projections(model).items()}

    def copies() -> dict[str, torch.nn.Parameter]:
        weights = {name: torch.nn.Parameter(weight.detach().clone()) for name, weight in projections(model).items()}
        for name, weight in weights.items():
            weight.grad = gradients[name]
        return weights

    config = Muon(rate=RATE, momentum=MOMENTUM, decay=DECAY)
    (ours,) = build_optimizers(config, copies())
    settings = {"lr": RATE, "momentum": MOMENTUM, "weight_decay": DECAY, "adjust_lr_fn": "match_rms_adamw"}
    return {"lmworks": ours, "torch": torch.optim.Muon(list(copies().values()), **settings)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", nargs="+", type=float, default=[1e6, 5e6, 15e6, 50e6])
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for parameters in options.parameters:
        config = choose_shape(parameters, "llama", options.vocabulary, 512)
        model = Transformer(config)
        contenders, seconds = optimizers(model), {"lmworks": [], "torch": []}
        for turn, names in in_turns(list(contenders), options.rounds + 1):
            for name in names:
                began = time.perf_counter()
                contenders[name].step()
                if turn:  # the first one makes the state
                    seconds[name].append(time.perf_counter() - began)
        found = ratios(*([1 / each for each in seconds[name]] for name in ("torch", "lmworks")))
        size = f"{count_parameters(config):,} parameters, {len(projections(model))} matrices"
        print(f"{size}: {found.median:.2f} times as fast ({found.least:.2f} to {found.most:.2f})", flush=True)


if __name__ == "__main__":
    main()
