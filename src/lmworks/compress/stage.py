"""The stages `compress.quantise` and `compress.prune`: a checkpoint, and texts, into a smaller checkpoint; and what the
other stages share.

Of the documents, a share is held out by their hashes, as data.tokenize does it: calibration and training see the
others, and compress.compare measures on these.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmworks.adapt.adapted_checkpoint import load
from lmworks.artefact import StageContext, StageResult
from lmworks.compress.activation_ranges import ranges_section
from lmworks.compress.bit_allocation import Choice, allot, measure_choices
from lmworks.compress.block_calibration import linears, read_calibration
from lmworks.compress.config import (
    CompareConfig,
    FileFormat,
    GridConfig,
    LSQConfig,
    PruneConfig,
    QuantiseConfig,
    RoundConfig,
    StructuredPruning,
)
from lmworks.compress.distillation_config import DistillConfig
from lmworks.compress.quantisation import Grids, Quantisation, check_floats, float_copy
from lmworks.compress.quantisation import quantise as quantise_checkpoint
from lmworks.compress.sparsity import sparsify
from lmworks.compress.structured_pruning import prune_structure
from lmworks.data.corpus import corpus_shards
from lmworks.data.store import DOCUMENTS
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.compressed_tensors import check_layers
from lmworks.model.config import FeedForward
from lmworks.model.download import digest_of_model, located
from lmworks.model.huggingface import write_config
from lmworks.model.model_costs import count_parameters
from lmworks.model.quantised_weights import QuantisedWeights, stored_bytes
from lmworks.progress import Report, no_report
from lmworks.report import Section, Table
from lmworks.train.planning.units import readable_bytes
from lmworks.train.train_stages import find_base

MODEL = "model.gguf"


def load_base(base: str, context: StageContext) -> Checkpoint:
    """The checkpoint to compress, each weight as it is stored."""
    return load(find_base(base, context), "stored")


def split_texts(inputs: Mapping[str, Path], share: float) -> tuple[list[str], list[str]]:
    """The texts of the inputs with documents: those to calibrate on, and those held out. Both empty where no input has
    any."""
    texts: tuple[list[str], list[str]] = [], []
    stores = {name: folder for name, folder in inputs.items() if (folder / DOCUMENTS).is_dir()}
    for shard in corpus_shards(stores) if stores else ():
        for document in shard:
            texts[int(document.hash[:13], 16) / 16**13 < share].append(document.text)
    return texts


def check_format(checkpoint: Checkpoint, format: FileFormat) -> None:  # noqa: A002 - the field's word
    """UnsupportedModel for a model that the format does not hold, before there is work that would be lost."""
    if format == "gguf":
        from lmworks.model.gguf_write import write_config as write_metadata

        write_metadata(checkpoint.config)
    elif format == "compressed-tensors":
        check_layers(checkpoint.config, write_config(checkpoint.config, checkpoint.published))


def write(checkpoint: Checkpoint, folder: Path, format: FileFormat) -> Path:  # noqa: A002
    """Write a new folder with the checkpoint."""
    if format != "gguf":
        return checkpoint.save(folder, packed=format == "compressed-tensors")
    from lmworks.model.gguf_write import save_gguf  # the library for it takes long to import

    return save_gguf(checkpoint, folder / MODEL, "BF16").parent


def deliver(checkpoint: Checkpoint, context: StageContext, format: FileFormat) -> None:  # noqa: A002
    """Write the checkpoint into the stage's output."""
    with tempfile.TemporaryDirectory(dir=context.work) as scratch:
        for path in write(checkpoint, Path(scratch) / "model", format).iterdir():
            shutil.move(path, context.output / path.name)


def file_bytes(folder: Path) -> int:
    """Bytes of the weights' files of a model's folder, or of a GGUF file."""
    files = [folder] if folder.is_file() else [*folder.glob("*.gguf"), *folder.glob("*.safetensors")]
    return sum(path.stat().st_size for path in files)


_WithBase = QuantiseConfig | LSQConfig | PruneConfig | DistillConfig | CompareConfig


def check(config: _WithBase, base: Path) -> None:
    """Before any stage runs: LookupError or FileNotFoundError when the base is not there."""
    if config.base:
        located(config.base, base)


def outside_digest(config: _WithBase, base: Path) -> str:
    """SHA-256 of the files of the base that the config names."""
    return digest_of_model(located(config.base, base)) if config.base else ""


# ---------------------------------------------------------------------------------------------------------------------
# compress.quantise


def quantise(config: QuantiseConfig, context: StageContext) -> StageResult:
    """Post-training quantisation of the checkpoint of the one input, or `config.base`, calibrated on the documents of
    the others. ValueError as of `quantisation.quantise`, and for a budget that no file keeps to."""
    checkpoint = load_base(config.base, context)
    check_floats(checkpoint, config.requantise)
    check_format(checkpoint, config.format)
    texts, grids, sections = split_texts(context.inputs, config.held_out)[0], None, list[Section]()
    if config.budget is not None:
        choices, grids = _under_budget(checkpoint, config, config.budget, texts, context)
        sections.append(_bits_section(choices, grids, config.budget))
    found = quantise_checkpoint(checkpoint, config, texts, grids, context.progress)
    deliver(found.checkpoint, context, config.format)
    sections += [ranges_section(found.inputs)] if found.inputs else []
    metrics = {"bytes": file_bytes(context.output), "calibration": dict(found.seen)}
    return StageResult(metrics, (_weights_section(found, config), *sections))


def _under_budget(
    checkpoint: Checkpoint, config: QuantiseConfig, budget: int, texts: Sequence[str], context: StageContext
) -> tuple[list[Choice], Grids]:
    """What each matrix may be, and the grid of each layer for a file of at most `budget` bytes."""
    model = float_copy(checkpoint.model)
    smallest = quantise_checkpoint(checkpoint, replace(config, method=RoundConfig())).checkpoint
    with tempfile.TemporaryDirectory(dir=context.work) as scratch:
        least = file_bytes(write(smallest, Path(scratch) / "model", config.format))
    if least > budget:
        finer = "" if config.embedding_format == "int4" else ", set embedding=int4"
        raise ValueError(
            f"no file of {checkpoint.source} has {budget:,} bytes: with {config.grid.bits} bits everywhere and an "
            f"embedding in {config.embedding_format} it has {least:,}. Raise the budget to that{finer}, or prune or "
            "distil the model first"
        )
    assert isinstance(smallest.weights, QuantisedWeights)
    matrices = sum(stored_bytes(smallest.weights.stored[f"{name}.weight"]) for name in linears(model))
    text = read_calibration(texts, checkpoint.required_tokenizer, config.calibration)
    grids = list(dict.fromkeys([config.grid, replace(config.grid, bits=8), None]))
    choices = measure_choices(model, text, grids, context.progress)
    return choices, allot(choices, budget - (least - matrices))


def _bits_section(choices: Sequence[Choice], chosen: Grids, budget: int) -> Section:
    def bits(grid: GridConfig | None) -> str:
        return "bfloat16" if grid is None else f"{grid.bits} bits"

    most_sensitive = sorted(choices, key=lambda one: max(one.harm), reverse=True)[:12]
    rows = tuple(
        (", ".join(one.names), *(f"{harm:.5f}" for harm in one.harm), bits(chosen[one.names[0]]))
        for one in most_sensitive
    )
    counts = Counter(bits(chosen[choice.names[0]]) for choice in choices)
    text = (
        f"By how many nats a token the loss of the calibration text rises when these matrices alone are rounded. For "
        f"{budget:,} bytes the sum is least with {', '.join(f'{count} in {kind}' for kind, count in counts.items())}."
    )
    columns = ("matrices", *map(bits, choices[0].grids), "chosen")
    return Section("Bits", text, (Table(columns, rows, "The most sensitive"),))


def _weights_section(found: Quantisation, config: QuantiseConfig) -> Section:
    """Section on the weights, with the relative error of each kind of layer."""
    weights = found.checkpoint.weights
    assert isinstance(weights, QuantisedWeights)
    kinds: dict[str, list[tuple[float, str]]] = {}
    for name, error in found.errors.items():
        kinds.setdefault(name.rpartition(".")[2], []).append((error, name))
    rows = tuple(
        (kind, len(pairs), sum(error for error, _ in pairs) / len(pairs), *max(pairs)) for kind, pairs in kinds.items()
    )
    parameters = sum(tensor.numel() for tensor in weights.values())
    form = " around 0" if config.grid.symmetric else ""
    form += "; simulated, held in the memory of 4 bits" if config.grid.bits < 4 else ""
    text = (
        f"{config.method.kind}, {config.grid.bits} bits in groups of {config.grid.group}{form}: the weights take "
        f"{readable_bytes(weights.nbytes)}, {8 * weights.nbytes / parameters:.2f} bits for each of {parameters:,}, "
        f"with embedding and head in {config.embedding_format}."
    )
    measured = "weights"
    if found.seen:
        measured = f"outputs on {found.seen['tokens']:,} calibration tokens of {len(found.seen['documents'])} documents"
    table = Table(
        ("layers", "count", "mean", "largest", "of"), rows, f"Squared error of their {measured}, of the whole"
    )
    return Section("Quantisation", text, (table,))


# ---------------------------------------------------------------------------------------------------------------------
# compress.prune


def prune(
    checkpoint: Checkpoint, config: PruneConfig, texts: Sequence[str] = (), progress: Report = no_report
) -> tuple[Checkpoint, Mapping[str, Any]]:
    """The checkpoint without what `config.method` takes out, and what of the texts was seen. ValueError for no text
    where the method needs one, and as `prune_structure` and `sparsify`."""
    text = None
    if not config.method.goes_by_weights:
        text = read_calibration(texts, checkpoint.required_tokenizer, config.calibration)
    if isinstance(config.method, StructuredPruning):
        pruned = prune_structure(checkpoint, config.method, text, progress)
    else:
        pruned = sparsify(checkpoint, config.method, text, progress)
    return pruned, {} if text is None else text.seen()


def pruning(config: PruneConfig, context: StageContext) -> StageResult:
    """The checkpoint of the one input, or `config.base`, pruned by what the inputs' documents show of it."""
    base = load_base(config.base, context)
    texts, _ = split_texts(context.inputs, config.held_out)
    pruned, seen = prune(base, config, texts, context.progress)
    deliver(pruned, context, "float")
    before, after = _sizes(base), _sizes(pruned)
    rows = tuple((name, f"{value:,}", f"{after[name]:,}") for name, value in before.items())
    text = "" if isinstance(config.method, StructuredPruning) else "Zeros are stored and computed as all numbers are."
    section = Section("What was taken out", text, (Table(("what", "before", "after"), rows),))
    return StageResult({**after, "calibration": seen}, (section,))


def _sizes(checkpoint: Checkpoint) -> dict[str, int]:
    """Parameters, those that are 0, and the parts of the decoder; heads and neurons are those of its first layer."""
    decoder = checkpoint.config.decoder
    assert decoder is not None
    attention, feed_forward = decoder.blocks[0].attention, decoder.blocks[0].feed_forward
    zeros = sum(int((weight == 0).sum()) for weight in checkpoint.model.parameters())
    found = {"parameters": count_parameters(checkpoint.config), "zeros": zeros, "layers": len(decoder.blocks)}
    found |= {"heads": attention.heads, "kv_groups": attention.kv_heads}
    return found | ({"neurons": feed_forward.hidden} if isinstance(feed_forward, FeedForward) else {})
