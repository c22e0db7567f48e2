"""The stages `train.pretrain` and `train.finetune`: token shards into a checkpoint."""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmworks.adapt.adapted_checkpoint import load, stays_beside
from lmworks.adapt.adapter import load_adapter, save_adapter
from lmworks.adapt.adapter_merge import merge_adapter
from lmworks.adapt.config import FullConfig
from lmworks.adapt.qlora import quantise_base
from lmworks.artefact import MANIFEST, StageContext, StageResult, hash_json, read_manifest, write_json
from lmworks.config import from_mapping, to_mapping
from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.loader import Loader
from lmworks.data.token_dataset import INDEX, TokenDataset
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.config import LanguageModelHead
from lmworks.model.download import ADAPTER, MODELS, digest_of_model, located
from lmworks.model.initialisation import by_fan_in, initialise
from lmworks.model.multi_token_heads import with_further_tokens
from lmworks.model.tokenizer_lookup import find_tokenizer, locate_tokenizer, own_chat_template
from lmworks.model.transformer import Transformer
from lmworks.report import Section, Table
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tokenizer_folder import read_chat_template
from lmworks.train.config import FinetuneConfig, PretrainConfig, TrainConfig
from lmworks.train.derived_settings import MEASURED_SEQUENCES, Derived, at_rate, derive
from lmworks.train.finetune_settings import Reasons, adapts, derive_finetune, seconds_per_sequence
from lmworks.train.general_questions import forgetting_section, general_answers
from lmworks.train.held_out import (
    beginnings_of,
    check_held_out,
    held_out_batches,
    row_batches,
    samples_of,
    validation_on,
)
from lmworks.train.loop import train
from lmworks.train.mixed_precision import DTYPES
from lmworks.train.objective_config import MultiToken, check_stacks
from lmworks.train.objectives.from_config import build_objective
from lmworks.train.objectives.objective import Objective
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.ranks import device_of_rank, join
from lmworks.train.planning.measured_throughput import kept_calibration, measured_speed
from lmworks.train.run import Run
from lmworks.train.run_log import LOG
from lmworks.train.run_report import NOT_HELD_OUT, curve_section, derived_section, doubt_of_steps
from lmworks.train.sweep.config import SweepConfig

Adapt = Callable[[Transformer], Transformer]  # gives the model to train, see `Run.adapt`
Deliver = Callable[[Run, Mapping[str, Tensor], Path], None]  # writes a new folder, given what `Run.trained` gave
_DERIVED = "derived.json"
_TOKENIZER = "tokenizer.json"
_MODEL = "model.safetensors"


def pretrain(config: PretrainConfig, context: StageContext, derived: Derived | None = None) -> StageResult:
    """A new model. What the target gave is kept in `context.work`: a run that continues does not measure the machine
    again. `derived` stands for it where it is known already.

    ValueError or LookupError for inputs that do not go together.
    """
    shards, held_out = find_shards(context)
    tokenizer, template = find_vocabulary(config.tokenizer, context, shards)
    derived = derived or _derived(config, tokenizer, tokens_of(shards), context)
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
    result = _train(checkpoint, objective, loader, held_out, settings, context)
    return replace(result, sections=(derived_section(derived, config), *result.sections))


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
    checkpoint = _load_base(config, context)
    stacks = "–".join(name for name in ("encoder", "decoder") if getattr(checkpoint.config, name) is not None)
    check_stacks(config.objective, stacks, f"the base {checkpoint.source}")
    if config.base in MODELS:  # an adapter's folder then names it as it is called on every machine
        checkpoint = replace(checkpoint, source=config.base)
    check_vocabulary(checkpoint.required_tokenizer, shards)
    if written := {name: found for name, folder in shards.items() if (found := read_chat_template(folder)) is not None}:
        if len(set(written.values())) > 1:
            raise ValueError(f"the conversations of {', '.join(written)} are written by different chat templates")
        # The model is served as it was taught.
        checkpoint = replace(checkpoint, chat_template=next(iter(written.values())))
    if config.base_format != "float":  # the last of these: a replaced checkpoint has its weights as they were
        checkpoint = checkpoint.with_model(quantise_base(checkpoint, config.base_format))
    config, reasons = derived_finetune(config, checkpoint, shards, context, longest, adapt)
    assert config.length and config.batch and config.steps
    _longest_conversation(shards | held_out, config.length)
    sources = sources_of(shards, config.weights)
    loader = LoaderConfig(sources, length=config.length, batch=config.batch, steps=config.steps, seed=config.seed)
    objective = build_objective(config.objective, checkpoint.required_tokenizer, config.length, config.neftune)
    result = _train(checkpoint, objective, loader, held_out, config.train, context, config, adapt, deliver)
    remedies = f"more rows, more epochs (and minutes), or a {'smaller batch' if config.batch > 1 else 'shorter length'}"
    doubts = " ".join(doubt_of_steps(config.steps, "these texts", remedies, few=10))
    alarms = () if held_out else (NOT_HELD_OUT,)
    section = Section("The run", doubts, (Table(("what", "value", "why"), reasons),), alarms=alarms)
    return replace(result, sections=(section, *result.sections))


def _load_base(config: FinetuneConfig, context: StageContext) -> Checkpoint:
    """The checkpoint to continue from; weights that stay as they are need no float32 next to those that the run
    computes with."""
    path, dtype = find_base(config.base, context), DTYPES[config.train.precision]
    _check_mergeable(path)
    if config.base_format == "float":
        return load(path, torch.float32 if config.merge or isinstance(config.method, FullConfig) else dtype)
    return replace(load(path, "stored"), dtype=dtype)  # nothing is converted as it is loaded


def derived_finetune(
    config: FinetuneConfig,
    checkpoint: Checkpoint,
    shards: Mapping[str, Path],
    context: StageContext,
    longest: int = 0,
    adapt: Adapt | None = None,
    seconds: Callable[[FinetuneConfig], float] | None = None,
) -> tuple[FinetuneConfig, Reasons]:
    """The config with what it leaves out, and why, which is shown before the run begins, and kept for when it goes
    on; `longest` and `seconds` as in `derive_finetune`, by default those of a run of fine-tuning."""
    datasets = [TokenDataset(folder) for folder in shards.values()]

    def loader(length: int, batch: int = 1) -> LoaderConfig:
        return LoaderConfig(sources_of(shards, config.weights), length=length, batch=batch, seed=config.seed)

    def count(length: int) -> int:
        with Loader(loader(length)) as once:
            return sum(plan.sequences for plan in once.plans)

    def seconds_of(found: FinetuneConfig) -> float:
        base = checkpoint if adapts(found) else _load_base(found, context)  # whose weights change in the steps
        batches = loader(found.length or 0, found.train.micro_batch or 0)
        return seconds_per_sequence(base, found, batches, context.progress, adapt)

    def make() -> list[Any]:
        lengths = np.concatenate([dataset.lengths for dataset in datasets])
        learned = sum(dataset.learned_tokens for dataset in datasets)
        found, reasons = derive_finetune(config, checkpoint, lengths, learned, count, seconds or seconds_of, longest)
        for what, value, why in reasons:
            # A unit of its own, or the time until the first step would be taken for that of a batch.
            context.progress(0, None, "settings", 0, f"{what} {value}: {why}")
        return [to_mapping(found), reasons]

    settings, reasons = kept_settings(context, config.train.parallel, make)
    return from_mapping(type(config), settings), tuple(map(tuple, reasons))


def check(config: PretrainConfig | FinetuneConfig | SweepConfig, base: Path) -> None:
    """Before any stage runs: LookupError or FileNotFoundError when the base, or the tokenizer, is not there."""
    match config:
        case PretrainConfig(tokenizer=name) | SweepConfig(tokenizer=name) if name:
            locate_tokenizer(name, base)
        case FinetuneConfig(base=name) if name:
            _check_mergeable(located(name, base))


def _check_mergeable(base: Path) -> None:
    if stays_beside(base):
        raise ValueError(f"{base}: a prefix or bottlenecks cannot be merged, to continue from there: name their base")


def outside_digest(config: PretrainConfig | FinetuneConfig | SweepConfig, base: Path) -> str:
    """SHA-256 of what no input records: the tokenizer named, or the base's files."""
    match config:
        case PretrainConfig(tokenizer=name) | SweepConfig(tokenizer=name) if name:
            found = find_tokenizer(name, base)
            return hash_json([found.tokenizer.hash, own_chat_template(found.path)])
        case FinetuneConfig(base=name) if name:
            return digest_of_model(located(name, base))
        case _:
            return ""


def _train(
    checkpoint: Checkpoint,
    objective: Objective,
    config: LoaderConfig,
    held_out: Mapping[str, Path],
    settings: TrainConfig,
    context: StageContext,
    tuned: FinetuneConfig | None = None,
    adapt: Adapt | None = None,
    deliver: Deliver | None = None,
) -> StageResult:
    ranks = join(settings.parallel)
    with Loader(config, *ranks.rows) as loader:
        folder, seed = context.work / "run", config.seed
        run = Run(
            *(checkpoint, objective, loader, settings, folder),
            device=device_of_rank(),
            progress=context.progress,
            seed=seed,
            ranks=ranks,
            adapt=adapt or (None if tuned is None else adapts(tuned)),
            compares=tuned is not None,
        )
        run.peak_flops = _peak_flops(run, config.length)
        observe(run, held_out, config)
        return train_and_deliver(run, context, tuned, deliver)


def observe(run: Run, held_out: Mapping[str, Path], config: LoaderConfig, objective: Objective | None = None) -> None:
    """Give the run what it validates on, by its own objective unless another is given, and what it continues."""
    masked = all(TokenDataset(folder).masked for folder in held_out.values())
    if held_out:
        batches = row_batches(held_out.values(), config.length) if masked else held_out_batches(held_out, config)
        run.validate = validation_on(run, batches, held_out, objective)
    beginnings = beginnings_of(held_out.values(), config.length // 2)
    if run.config.samples:
        beginnings = [run.checkpoint.required_tokenizer.encode(text) for text in run.config.samples]
    if beginnings and run.config.parallel.generates and run.checkpoint.config.encoder is None:
        run.sample = samples_of(run, beginnings)


def _peak_flops(run: Run, length: int) -> float | None:
    """Operations a second of this model's matrix products on this machine, where that was measured before."""
    dtype = "float32" if run.config.precision == "float32" else "bfloat16"
    device = torch.device(run.device).type
    kept = kept_calibration(run.checkpoint.config, MEASURED_SEQUENCES, length, dtype, device)
    return None if kept is None else kept.products


def train_and_deliver(
    run: Run, context: StageContext, tuned: FinetuneConfig | None = None, deliver: Deliver | None = None
) -> StageResult:
    """All steps that are left; then the model, or the adapter of `tuned`, or what `deliver` makes, and the log into the
    output. `run.folder` is `context.work / "run"`."""
    head, encoder = run.checkpoint.config.head, run.checkpoint.config.encoder
    asks = tuned is not None and deliver is None and isinstance(head, LanguageModelHead) and encoder is None
    before = general_answers(run.model, run.checkpoint) if asks and run.config.parallel.devices == 1 else []
    position = train(run)
    trained = run.trained()
    with run.weights.replaced_by(run.average.weights) if run.average.weights else nullcontext():
        after = general_answers(run.model, run.checkpoint, before) if before else []
    if not run.ranks.first:
        return StageResult()
    # The work folder keeps the run: after a kill it is gone on from its last checkpoint, which is its end, and what was
    # delivered half is made again.
    finished = context.work / "finished"
    if finished.exists():  # of a kill
        shutil.rmtree(finished)
    folder, dtype = finished / "model", torch.bfloat16 if run.config.precision == "bfloat16" else torch.float32
    if deliver is not None:
        deliver(run, trained, folder)
    elif tuned is None or isinstance(tuned.method, FullConfig):
        replace(run.finished(trained), dtype=dtype).save(folder)
    elif tuned.merge:
        adapter = save_adapter(finished / "adapter", run.model, tuned.method, run.checkpoint, trained)
        merged = merge_adapter(load_adapter(adapter, run.checkpoint))
        run.checkpoint.with_model(merged.to(dtype)).save(folder)
    else:
        save_adapter(folder, run.model, tuned.method, run.checkpoint, trained)
        tokenizer = run.checkpoint.required_tokenizer
        tokenizer.save(folder, run.checkpoint.chat_template, run.checkpoint.max_length)
    for path in folder.iterdir():
        shutil.move(path, context.output / path.name)
    shutil.copyfile(context.work / "run" / LOG, context.output / LOG)
    shutil.rmtree(finished)
    section, metrics = curve_section(context.output / LOG, run.objective.unit)
    metrics |= {
        "steps": position.step,
        "targets": position.targets,
        "parameters": sum(weight.numel() for weight in trained.values()),
    }
    general, numbers = forgetting_section(before, after) if before else (None, {})
    sections = (section,) if general is None else (general, section)
    return StageResult(metrics=metrics | numbers, sections=sections, digests={LOG: None})


def _derived(config: PretrainConfig, tokenizer: Tokenizer, available: int, context: StageContext) -> Derived:
    def make() -> dict[str, Any]:
        measure = partial(measured_speed, progress=context.progress)
        return to_mapping(derive(config, tokenizer.vocabulary_size, available, measure))

    return from_mapping(Derived, kept_settings(context, config.train.parallel, make))


def kept_settings(context: StageContext, parallel: ParallelConfig, make: Callable[[], Any]) -> Any:
    """Settings that `make` derives, as JSON in the work folder, where every rank and a resumed run read them."""
    kept, ranks = context.work / _DERIVED, join(parallel)
    if ranks.first and not kept.exists():
        write_json(kept, make())
    ranks.wait()
    return json.loads(kept.read_text("utf-8"))


def find_shards(context: StageContext) -> tuple[dict[str, Path], dict[str, Path]]:
    """The inputs with token shards: those to train on, and those that were held out. ValueError where there are none to
    train on, or a text is in both."""
    shards, held_out = {}, {}
    for name, folder in context.inputs.items():
        if (folder / INDEX).exists():
            (held_out if _setting(folder, "part", "training") == "held_out" else shards)[name] = folder
    if not shards:
        raise ValueError("there are no token shards to train on: read from a stage data.tokenize with part=training")
    check_held_out(shards, held_out)
    return shards, held_out


def _setting(folder: Path, name: str, otherwise: str) -> str:
    """A setting of the stage that made the shards in this folder."""
    return read_manifest(folder).config.get(name, otherwise) if (folder / MANIFEST).exists() else otherwise


def tokens_of(shards: Mapping[str, Path]) -> int:
    """Tokens of all these shards together."""
    return sum(TokenDataset(folder).tokens for folder in shards.values())


def find_base(name: str, context: StageContext) -> Path:
    """The checkpoint of the one input that has one, or the model of this name. ValueError where there are none or
    several."""
    found = [each for each in context.inputs.values() if (each / _MODEL).exists() or (each / ADAPTER).exists()]
    found += [located(name, context.base)] if name else []
    if len(found) != 1:
        raise ValueError(
            f"expected one checkpoint to continue from, an input's or the setting base, found {len(found)}"
        )
    return found[0]


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
    found = find_tokenizer(sources[0], context.base)
    check_vocabulary(found.tokenizer, shards)
    return found.tokenizer, own_chat_template(found.path)


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
