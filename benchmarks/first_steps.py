"""Which first weights and which peak rate let a small model learn in runs of minutes? The same run for each of them.

    .venv/bin/python benchmarks/first_steps.py [--families llama gpt2] [--rates 0.0023 0.005 0.0075] [--json FILE]

Classic books and Python's enhancement proposals, as in `objectives_on_text.py`; every 40th text is held out. Models of
the shape that `train.pretrain` would choose for `--parameters`, on as many tokens, in batches of the size that its rule
gives for all parameters, with AdamW, cosine and bfloat16. Only the scheme of first weights and the peak rate differ:
`published` is that of the family's authors, `by fan-in` that of `train.pretrain`. Nats are of all held-out texts, with
95 % intervals.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from contenders.texts import DATA
from objectives_on_text import VOCABULARY, Corpus, prepare, texts_of

from lmworks.data import Batch, Loader, LoaderConfig
from lmworks.model.checkpoint import assemble
from lmworks.model.config import ModelConfig
from lmworks.model.initialisation import PUBLISHED, Scheme, by_fan_in, initialise
from lmworks.model.model_costs import count_parameters
from lmworks.model.transformer import Transformer
from lmworks.records import Scored
from lmworks.train import AdamW, CausalLanguageModel, CheckpointConfig, Cosine, Run, TrainConfig, train, validate
from lmworks.train.planning.hyperparameters import RULES
from lmworks.train.planning.model_shape import choose_shape

LENGTH = 256
WARMUP = 10  # steps


def held_out_nats(
    corpus: Corpus,
    model: ModelConfig,
    scheme: Scheme,
    rate: float,
    held_out: Sequence[Batch],
    folder: Path,
    options: argparse.Namespace,
) -> Scored:
    parameters = count_parameters(model)
    batch = max(round(RULES["deepseek"].suggest(parameters, options.tokens).batch_tokens / LENGTH), 1)
    steps = round(options.tokens / LENGTH / batch)
    weights = initialise(Transformer(model), options.seed, scheme=scheme).state_dict()
    settings = TrainConfig(
        AdamW(rate=rate), Cosine(warmup=WARMUP), precision="bfloat16", checkpoint=CheckpointConfig(minutes=None)
    )
    objective = CausalLanguageModel()
    with Loader(LoaderConfig(corpus.sources, LENGTH, batch, steps=steps, seed=options.seed)) as loader:
        run = Run(assemble(model, weights, corpus.tokenizer), objective, loader, settings, folder, seed=options.seed)
        train(run)
        found = validate(run.model, objective, held_out, settings.micro_batch).total
    assert isinstance(found, Scored), found
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with classic-books and peps")
    parser.add_argument("--families", nargs="+", default=["llama", "gpt2"])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.0023, 0.005, 0.0075])
    parser.add_argument("--parameters", type=float, default=1e6)
    parser.add_argument("--tokens", type=float, default=2e6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="where to write what was found")
    options = parser.parse_args()
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        corpus = prepare(texts_of(options.data, 1), Path(name))
        held_out = [batch for batches in corpus.windows(LENGTH) for batch in batches]
        for family in options.families:
            model = choose_shape(options.parameters, family, VOCABULARY, LENGTH)
            print(f"{family}, {count_parameters(model):,} parameters, {options.tokens:,.0f} tokens", flush=True)
            for scheme_name, scheme in {"published": PUBLISHED[family], "by fan-in": by_fan_in}.items():
                for rate in options.rates:
                    folder = Path(name) / f"{family}-{scheme_name}-{rate}"
                    score = held_out_nats(corpus, model, scheme, rate, held_out, folder, options)
                    low, high = score.interval
                    found = f"{score.value:.3f} nats ({low:.3f} to {high:.3f})"
                    print(f"  {scheme_name:10} rate {rate:<7g} {found}", flush=True)
                    rows.append({
                        "family": family, "scheme": scheme_name, "rate": rate, "nats": score.value,
                        "interval": [low, high],
                    })  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
