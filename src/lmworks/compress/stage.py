"""The stages of compression: a checkpoint, and texts, into a smaller checkpoint.

Of the documents, a share is held out by their hashes, as data.tokenize does it: calibration and training see the
others, and compress.compare measures on these.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lmworks.adapt.adapted_checkpoint import load
from lmworks.artefact import StageContext, StageResult
from lmworks.compress.activation_ranges import ranges_section
from lmworks.compress.bit_allocation import Choice, allot, measure_choices
from lmworks.compress.block_calibration import linear_names, read_calibration
from lmworks.compress.config import FileFormat, GridConfig, LSQConfig, QuantiseConfig, RoundConfig, SmoothQuantConfig
from lmworks.compress.quantisation import Grids, Quantisation, check_floats, float_copy
from lmworks.compress.quantisation import quantise as quantise_checkpoint
from lmworks.compress.smoothquant import rounding_section
from lmworks.data.corpus import corpus_shards
from lmworks.data.store import DOCUMENTS
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.compressed_tensors import check_layers
from lmworks.model.download import digest_of_model, located
from lmworks.model.huggingface import write_config
from lmworks.model.quantised_weights import QuantisedWeights, stored_bytes
from lmworks.report import Section, Table
from lmworks.train.planning.units import readable_bytes
from lmworks.train.train_stages import find_base

MODEL = "model.gguf"


def quantise(config: QuantiseConfig, context: StageContext) -> StageResult:
    """Post-training quantisation of the checkpoint of the one input, or `config.base`, calibrated on the documents of
    the others. ValueError as of `quantisation.quantise`, and for a budget that no file keeps to."""
    checkpoint = load_base(config.base, context)
    check_floats(checkpoint, config.requantise)
    check_format(checkpoint, config.format)
    texts = split_texts(context.inputs, config.held_out)[0]
    grids, sections = None, list[Section]()
    if config.budget is not None:
        grids, section = _grids_under_budget(checkpoint, config, texts, context)
        sections.append(section)
    found = quantise_checkpoint(checkpoint, config, texts, grids, context.progress)
    deliver(found.checkpoint, context, config.format)
    if found.inputs:
        sections.append(ranges_section(found.inputs))
    if isinstance(config.method, SmoothQuantConfig) and checkpoint.config.encoder is None:
        text = read_calibration(texts, checkpoint.required_tokenizer, config.calibration)
        models = {"before": float_copy(checkpoint.model), "smoothed": found.checkpoint.model}
        sections.append(rounding_section(models, text))
    sections.insert(0, _section(found, config))
    metrics = {"bytes": file_bytes(context.output), "calibration": dict(found.seen)}
    return StageResult(metrics=metrics, sections=tuple(sections))


def load_base(base: str, context: StageContext) -> Checkpoint:
    """The checkpoint to compress, each weight as it is stored."""
    return load(find_base(base, context), "stored")


def split_texts(inputs: Mapping[str, Path], share: float) -> tuple[list[str], list[str]]:
    """The texts of the inputs with documents: those to calibrate on, and those held out. Both empty where no input has
    any."""
    kept: list[str] = []
    held_out: list[str] = []
    stores = {name: folder for name, folder in inputs.items() if (folder / DOCUMENTS).is_dir()}
    for shard in corpus_shards(stores) if stores else ():
        for document in shard:
            (held_out if int(document.hash[:13], 16) / 16**13 < share else kept).append(document.text)
    return kept, held_out


def deliver(checkpoint: Checkpoint, context: StageContext, format: FileFormat) -> None:  # noqa: A002 - the field's word
    """Write the checkpoint into the stage's output."""
    folder = context.work / "finished"
    shutil.rmtree(folder, ignore_errors=True)  # of a kill
    write(checkpoint, folder, format)
    for path in folder.iterdir():
        shutil.move(path, context.output / path.name)
    folder.rmdir()


def check_format(checkpoint: Checkpoint, format: FileFormat) -> None:  # noqa: A002
    """UnsupportedModel for a model that the format does not hold, before there is work that would be lost."""
    if format == "gguf":
        from lmworks.model.gguf_write import write_config as write_metadata

        write_metadata(checkpoint.config)
    elif format == "compressed-tensors":
        check_layers(checkpoint.config, write_config(checkpoint.config, checkpoint.published))


def write(checkpoint: Checkpoint, folder: Path, format: FileFormat) -> None:  # noqa: A002
    """Write a new folder with the checkpoint."""
    if format == "gguf":
        from lmworks.model.gguf_write import save_gguf  # the library for it takes long to import

        folder.mkdir(parents=True)
        save_gguf(checkpoint, folder / MODEL, "BF16")
    else:
        checkpoint.save(folder, packed=format == "compressed-tensors")


def file_bytes(folder: Path) -> int:
    """Bytes of the weights' files of a model's folder, or of a GGUF file."""
    files = [folder] if folder.is_file() else [*folder.glob("*.gguf"), *folder.glob("*.safetensors")]
    return sum(path.stat().st_size for path in files)


# ---------------------------------------------------------------------------------------------------------------------


def _grids_under_budget(
    checkpoint: Checkpoint, config: QuantiseConfig, texts: Sequence[str], context: StageContext
) -> tuple[Grids, Section]:
    """The grid of each layer for a file of at most `config.budget` bytes, and a section about them."""
    assert config.budget is not None
    model = float_copy(checkpoint.model)
    smallest = quantise_checkpoint(checkpoint, replace(config, method=RoundConfig())).checkpoint
    trial = context.work / "smallest"
    shutil.rmtree(trial, ignore_errors=True)
    write(smallest, trial, config.format)
    least = file_bytes(trial)
    shutil.rmtree(trial)
    assert isinstance(smallest.weights, QuantisedWeights)
    layers = {f"{name}.weight" for name in linear_names(model)}
    matrices = sum(stored_bytes(value) for name, value in smallest.weights.stored.items() if name in layers)
    if least > config.budget:
        finer = "" if config.embedding_format == "int4" else ", set embedding=int4"
        raise ValueError(
            f"no file of {checkpoint.source} has {config.budget:,} bytes: with {config.grid.bits} bits everywhere and "
            f"an embedding in {config.embedding_format} it has {least:,}. Raise the budget to that{finer}, or prune or "
            "distil the model first"
        )
    text = read_calibration(texts, checkpoint.required_tokenizer, config.calibration)
    grids = list(dict.fromkeys([config.grid, replace(config.grid, bits=8), None]))
    choices = measure_choices(model, text, grids, context.progress)
    chosen = allot(choices, config.budget - (least - matrices))
    return chosen, _budget_section(choices, chosen, config)


def _budget_section(choices: Sequence[Choice], chosen: Grids, config: QuantiseConfig) -> Section:
    rows = []
    for choice in sorted(choices, key=lambda one: max(one.harm), reverse=True)[:12]:
        harms = (f"{harm:.5f}" for harm in choice.harm[:-1])
        rows.append((", ".join(choice.names), *harms, _bits(chosen[choice.names[0]])))
    counts = Counter(_bits(chosen[choice.names[0]]) for choice in choices)
    grids = choices[0].grids[:-1]
    columns = ("matrices", *(f"harm of {_bits(grid)}" for grid in grids), "chosen")
    summary = ", ".join(f"{count} in {kind}" for kind, count in counts.items())
    text = (
        f"The loss of the calibration text, in nats a token, when these matrices alone are rounded; the most sensitive "
        f"first. For {config.budget:,} bytes the sum is least with {summary}."
    )
    return Section("Bits", text, (Table(columns, tuple(rows)),))


def _bits(grid: GridConfig | None) -> str:
    return "bfloat16" if grid is None else f"{grid.bits} bits"


def _section(found: Quantisation, config: QuantiseConfig) -> Section:
    """Section on the weights, with the relative error of each kind of layer."""
    weights = found.checkpoint.weights
    assert isinstance(weights, QuantisedWeights)
    kinds: dict[str, list[tuple[float, str]]] = {}
    for name, error in found.errors.items():
        kinds.setdefault(name.rpartition(".")[2], []).append((error, name))
    measured = "weights" if isinstance(config.method, RoundConfig) else "outputs on the calibration text"
    rows = tuple(
        (kind, len(pairs), sum(error for error, _ in pairs) / len(pairs), *max(pairs)) for kind, pairs in kinds.items()
    )
    parameters = sum(tensor.numel() for tensor in weights.values())
    form = " around 0" if config.grid.symmetric else ""
    form += "; simulated, held in the memory of 4 bits" if config.grid.bits < 4 else ""
    each = 8 * weights.nbytes / parameters
    text = (
        f"{config.method.kind}, {config.grid.bits} bits in groups of {config.grid.group}{form}: the weights take "
        f"{readable_bytes(weights.nbytes)}, {each:.2f} bits for each of {parameters:,}, with embedding and head in "
        f"{config.embedding_format}."
    )
    if found.seen:
        text += (
            f" Calibrated on {found.seen['tokens']:,} tokens of {len(found.seen['documents'])} documents, which the "
            "manifest names."
        )
    columns = ("layers", "count", "mean", "largest", "of")
    table = Table(columns, rows, f"Squared error of their {measured}, of the whole")
    return Section("Quantisation", text, (table,))


def check(config: QuantiseConfig | LSQConfig, base: Path) -> None:
    """Before any stage runs: LookupError or FileNotFoundError when the base is not there."""
    if config.base:
        located(config.base, base)


def outside_digest(config: QuantiseConfig | LSQConfig, base: Path) -> str:
    """SHA-256 of the files of the base that the config names."""
    return digest_of_model(located(config.base, base)) if config.base else ""
