"""The stages `train.pretrain` and `train.finetune`: token shards into a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmworks.adapt.adapter import load, stays_beside
from lmworks.adapt.config import FullConfig
from lmworks.adapt.qlora import quantise_base
from lmworks.adapt.task_head import with_further_tokens
from lmworks.artefact import MANIFEST, StageContext, StageResult, read_manifest
from lmworks.config import from_mapping, to_mapping
from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.loader import Loader
from lmworks.data.token_dataset import INDEX, TokenDataset
from lmworks.model.checkpoint import Checkpoint, DType, assemble
from lmworks.model.download import ADAPTER, MODELS, located
from lmworks.model.initialisation import by_fan_in, initialise
from lmworks.model.tokenizer_lookup import find_tokenizer, own_chat_template
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tokenizer_folder import read_chat_template
from lmworks.train.config import FinetuneConfig, PretrainConfig
from lmworks.train.derived_settings import MEASURED_SEQUENCES, Derived, derive
from lmworks.train.fit import Adapt, Deliver, adapts, fit, new_run
from lmworks.train.held_out import check_held_out, observe
from lmworks.train.mixed_precision import DTYPES
from lmworks.train.objective_config import MultiToken, check_stacks
from lmworks.train.objectives.from_config import build_objective
from lmworks.train.parallel.ranks import Ranks, join
from lmworks.train.planning.measured_throughput import kept_calibration, measured_speed
from lmworks.train.run import Run
from lmworks.train.run_report import NOT_HELD_OUT, derived_section, doubt_of_steps, run_section
from lmworks.train.settings import Reasons, at_rate, derive_finetune, kept_settings, measured_steps

_TOKENIZER = "tokenizer.json"
_MODEL = "model.safetensors"


def pretrain(config: PretrainConfig, context: StageContext, derived: Derived | None = None) -> StageResult:
    """A new model. What the target gave is kept in `context.work`: a run that continues does not measure the machine
    again. `derived` stands for it where it is known already.

    ValueError or LookupError for inputs that do not go together.
    """
    shards, held_out = find_shards(context)
    tokenizer, template = find_vocabulary(config.tokenizer, context, shards)
    ranks = join(config.train.parallel)
    if derived is None:
        measure, available = partial(measured_speed, progress=context.progress), tokens_of(shards)
        make = partial(derive, config, tokenizer.vocabulary_size, available, measure)
        derived = from_mapping(Derived, kept_settings(context, ranks, lambda: to_mapping(make())))
    shape = derived.model
    if isinstance(config.objective, MultiToken):
        shape = with_further_tokens(shape, config.objective.depth)
    model = initialise(Transformer(shape), config.seed, scheme=by_fan_in)
    checkpoint = assemble(shape, model.state_dict(), tokenizer, template)
    loader = LoaderConfig(
        sources_of(shards, config.weights),
        length=config.length - (config.objective.kind == "denoising"),  # whose texts get an end
        batch=derived.batch,
        steps=derived.steps,
        mode=config.mode,
        seed=config.seed,
    )
    settings = replace(
        at_rate(config.train, derived.rate), schedule=replace(config.train.schedule, warmup=derived.warmup)
    )
    objective = build_objective(config.objective, tokenizer, config.length)
    run = new_run(context, checkpoint, objective, Loader(loader, *ranks.rows), settings, ranks=ranks)
    run.peak_flops = _peak_flops(run)
    observe(run, held_out)
    return fit(run, context, report=[(derived_section(derived, config), {})])


def finetune(
    config: FinetuneConfig,
    context: StageContext,
    adapt: Adapt | None = None,
    deliver: Deliver | None = None,
) -> StageResult:
    """The checkpoint of one input, or `config.base`, continues with other shards; `adapt` and `deliver` take the place
    of what the method makes of the model and of the run. ValueError for shards of another vocabulary than the
    checkpoint's."""
    shards, held_out = find_shards(context)
    longest = _longest_conversation(shards | held_out, config.length)
    checkpoint = _load_tuned(config, context)
    stacks = "–".join(name for name in ("encoder", "decoder") if getattr(checkpoint.config, name) is not None)
    check_stacks(config.objective, stacks, f"the base {checkpoint.source}")
    check_vocabulary(checkpoint.required_tokenizer, shards)
    if templates := {name: text for name, at in shards.items() if (text := read_chat_template(at)) is not None}:
        if len(set(templates.values())) > 1:
            raise ValueError(f"the conversations of {', '.join(templates)} are written by different chat templates")
        # The model is served as it was taught.
        checkpoint = replace(checkpoint, chat_template=next(iter(templates.values())))
    if config.base_format != "float":  # the last of these: a replaced checkpoint has its weights as they were
        checkpoint = checkpoint.with_model(quantise_base(checkpoint, config.base_format))
    ranks = join(config.train.parallel)

    def run_on(config: FinetuneConfig, base: Checkpoint, folder: Path | None = None) -> Run:
        assert config.length and config.batch
        sources = sources_of(shards, config.weights)
        loader = Loader(LoaderConfig(sources, config.length, config.batch, config.steps, seed=config.seed), *ranks.rows)
        objective = build_objective(config.objective, base.required_tokenizer, config.length, config.neftune)
        method = adapt or adapts(config.method, config.seed)
        return new_run(context, base, objective, loader, config.train, method, ranks, compares=True, folder=folder)

    def trial(config: FinetuneConfig, folder: Path) -> Run:
        whole = isinstance(config.method, FullConfig)  # whose weights change in these steps
        return run_on(config, _load_tuned(config, context) if whole else checkpoint, folder)

    config, reasons = derived_finetune(config, checkpoint, shards, context, ranks, trial, longest)
    assert config.length and config.batch and config.steps
    _longest_conversation(shards | held_out, config.length)
    run = run_on(config, checkpoint)
    run.peak_flops = _peak_flops(run)
    observe(run, held_out)
    remedies = f"more rows, more epochs (and minutes), or a {'smaller batch' if config.batch > 1 else 'shorter length'}"
    doubts = doubt_of_steps(config.steps, "these texts", remedies, few=10)
    section = run_section(reasons, doubts, () if held_out else (NOT_HELD_OUT,))
    return fit(run, context, config.method, config.merge, deliver, [(section, {})])


def load_base(name: str, context: StageContext, dtype: DType = torch.float32) -> Checkpoint:
    """The checkpoint as of `find_base`; a pulled model has its name as source, as an adapter's folder names it on every
    machine."""
    checkpoint = load(find_base(name, context), dtype)
    return replace(checkpoint, source=name) if name in MODELS else checkpoint


def _load_tuned(config: FinetuneConfig, context: StageContext) -> Checkpoint:
    """The checkpoint to continue from; weights that stay as they are need no float32 next to those that the run
    computes with."""
    _check_mergeable(find_base(config.base, context))
    dtype = DTYPES[config.train.precision]
    if config.base_format == "float":
        whole = config.merge or isinstance(config.method, FullConfig)
        return load_base(config.base, context, torch.float32 if whole else dtype)
    return replace(load_base(config.base, context, "stored"), dtype=dtype)  # nothing is converted as it is loaded


def derived_finetune(
    config: FinetuneConfig,
    checkpoint: Checkpoint,
    shards: Mapping[str, Path],
    context: StageContext,
    ranks: Ranks,
    trial: Callable[[FinetuneConfig, Path], Run],
    longest: int = 0,
) -> tuple[FinetuneConfig, Reasons]:
    """The config with what it leaves out, and why, which is shown before the run begins, and kept for when it goes
    on. `trial` gives a run in a folder, of three steps of a micro-batch each, that is measured where minutes decide;
    `longest` as in `derive_finetune`."""
    datasets = [TokenDataset(folder) for folder in shards.values()]

    def count(length: int) -> int:
        with Loader(LoaderConfig(sources_of(shards, config.weights), length, batch=1, seed=config.seed)) as once:
            return sum(plan.sequences for plan in once.plans)

    def seconds(config: FinetuneConfig) -> float:
        size = config.train.micro_batch or 1
        config = replace(config, batch=size, steps=3, epochs=None, train=replace(config.train, micro_batch=None))
        return min(seconds for seconds, _ in measured_steps(partial(trial, config))) / size

    def make() -> list[Any]:
        lengths = np.concatenate([dataset.lengths for dataset in datasets])
        learned = sum(dataset.learned_tokens for dataset in datasets)
        complete, reasons = derive_finetune(config, checkpoint, lengths, learned, count, seconds, longest)
        for what, value, why in reasons:
            # A unit of its own, or the time until the first step would be taken for that of a batch.
            context.progress(0, None, "settings", 0, f"{what} {value}: {why}")
        return [to_mapping(complete), reasons]

    settings, reasons = kept_settings(context, ranks, make)
    return from_mapping(type(config), settings), tuple(map(tuple, reasons))


def check(config: FinetuneConfig, base: Path) -> None:
    """ValueError for a base that cannot be merged, LookupError or FileNotFoundError for one that is not there."""
    if config.base:
        _check_mergeable(located(config.base, base))


def _check_mergeable(base: Path) -> None:
    if stays_beside(base):
        raise ValueError(f"{base}: a prefix or bottlenecks cannot be merged, to continue from there: name their base")


def _peak_flops(run: Run) -> float | None:
    """Operations a second of this model's matrix products on this machine, where that was measured before."""
    dtype = "float32" if run.config.precision == "float32" else "bfloat16"
    device, length = torch.device(run.device).type, run.loader.config.length
    measured = kept_calibration(run.checkpoint.config, MEASURED_SEQUENCES, length, dtype, device)
    return None if measured is None else measured.products


def find_shards(context: StageContext) -> tuple[dict[str, Path], dict[str, Path]]:
    """The inputs with token shards: those to train on, and those that were held out. ValueError where there are none to
    train on, or a text is in both."""
    shards, held_out = {}, {}
    for name, folder in context.inputs.items():
        if (folder / INDEX).exists():
            setting = read_manifest(folder).config if (folder / MANIFEST).exists() else {}  # of the stage that made it
            (held_out if setting.get("part") == "held_out" else shards)[name] = folder
    if not shards:
        raise ValueError("there are no token shards to train on: read from a stage data.tokenize with part=training")
    check_held_out(shards, held_out)
    return shards, held_out


def tokens_of(shards: Mapping[str, Path]) -> int:
    """Tokens of all these shards together."""
    return sum(TokenDataset(folder).tokens for folder in shards.values())


def find_base(name: str, context: StageContext) -> Path:
    """The checkpoint of the one input that has one, or the model of this name. ValueError where there are none or
    several."""
    paths = [folder for folder in context.inputs.values() if (folder / _MODEL).exists() or (folder / ADAPTER).exists()]
    paths += [located(name, context.base)] if name else []
    if len(paths) != 1:
        raise ValueError(
            f"expected one checkpoint to continue from, an input's or the setting base, found {len(paths)}"
        )
    return paths[0]


def find_vocabulary(name: str, context: StageContext, shards: Mapping[str, Path]) -> tuple[Tokenizer, str | None]:
    """The tokenizer of the one input that has one, or the one of this name, and its chat template if there is one.
    ValueError where there are none or several, or the shards are of another."""
    # An input's path starts where lmworks was called, not at the recipe.
    sources = [str(folder.absolute()) for folder in context.inputs.values() if (folder / _TOKENIZER).exists()]
    sources += [name] if name else []
    if len(sources) != 1:
        raise ValueError(
            f"expected one vocabulary, that of the shards, and found {len(sources)}: read from the stage that trained "
            "it, or set tokenizer to a pulled model, a folder or a file"
        )
    named = find_tokenizer(sources[0], context.base)
    check_vocabulary(named.tokenizer, shards)
    return named.tokenizer, own_chat_template(named.path)


def check_vocabulary(tokenizer: Tokenizer, shards: Mapping[str, Path]) -> None:
    """ValueError for shards of another vocabulary."""
    for name, folder in shards.items():
        if TokenDataset(folder).index.vocabulary != tokenizer.hash:
            raise ValueError(f"the shards {name} are of another vocabulary than the tokenizer: make them with this one")


def _longest_conversation(folders: Mapping[str, Path], length: int | None) -> int:
    """Tokens of the longest, 0 where there is none. ValueError for one of more than `length`: no turn is to be cut."""
    longest = 0
    for name, dataset in ((name, TokenDataset(folder)) for name, folder in folders.items()):
        if dataset.masked:
            longest = max(longest, int(dataset.lengths.max()))
            if length and (long := int((dataset.lengths > length).sum())):
                raise ValueError(
                    f"{long:,} of the {dataset.documents:,} conversations of {name} have more than length={length} "
                    f"tokens, up to {dataset.lengths.max():,}, and would be cut inside a turn: set length={length} in "
                    "the stage data.tokenize, which cuts them after an answer, or a larger length here, where the "
                    "model has one"
                )
    return longest


def sources_of(folders: Mapping[str, Path], weights: Mapping[str, float]) -> dict[str, SourceConfig]:
    """The loader's sources. ValueError for weights of others."""
    if unknown := weights.keys() - folders.keys():
        raise ValueError(f"weights are of {', '.join(sorted(unknown))}, the inputs are {', '.join(folders)}")
    return {name: SourceConfig(str(folder), weights.get(name)) for name, folder in folders.items()}
