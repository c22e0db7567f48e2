"""The stages `compress.quantise` and `compress.prune`, and what all stages of compression share: the base that is
loaded and checked, the texts to calibrate on, the folder that is written."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lmworks.adapt.adapter import load
from lmworks.artefact import StageContext, StageResult, hash_fraction
from lmworks.compress.bit_allocation import Choice, allot, measure_choices
from lmworks.compress.block_calibration import InputStatistics, decoder_of, read_calibration
from lmworks.compress.config import (
    FileFormat,
    GridConfig,
    PruneConfig,
    QuantiseConfig,
    QuantisedFileConfig,
    StructuredPruning,
)
from lmworks.compress.quantisation import Grids, Quantisation, check_floats, float_copy, planned
from lmworks.compress.quantisation import quantise as quantise_checkpoint
from lmworks.compress.sparsity import sparsify
from lmworks.compress.structured_pruning import check_structure, prune_structure
from lmworks.compress.survival import answers_section, total
from lmworks.config import ConfigError, assign, from_mapping, parse_assignment, to_mapping
from lmworks.corpus.documents import DOCUMENTS, corpus_shards
from lmworks.data.conversations import Dialogue, conversation_files, read_dialogues, turns_of
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.compressed_tensors import check_layers, packed_tensors
from lmworks.model.config import FeedForward
from lmworks.model.download import base_of_adapter, located
from lmworks.model.huggingface import to_their_names, write_config
from lmworks.model.model_costs import count_parameters
from lmworks.model.tensor_files import QuantisedWeights, tensor_file_bytes
from lmworks.model.transformer import empty_model
from lmworks.progress import Report, no_report
from lmworks.report import Figure, Section, Table, as_svg, new_axes
from lmworks.train.planning.units import readable_bytes
from lmworks.train.train_stages import find_base

MODEL = "model.gguf"
OUTLIER = 6.0  # a channel reaches so many times as far as the median channel of its layer
_SHOWN = 8  # layers


def load_base(config: Any, context: StageContext) -> Checkpoint:
    """The checkpoint to compress, each weight as it is stored. ValueError as of `check_base`."""
    return _checked(find_base(config.base, context), config)


def _checked(path: Path, config: Any) -> Checkpoint:
    if base_of_adapter(path) is not None:
        merged = f"{path.name}-merged"
        raise ValueError(
            f"{path} is an adapter, and what is made smaller is a whole model: merge it into its base first, by\n"
            f'  python -c \'import lmworks; lmworks.load("{path}").save("{merged}")\'\n'
            f"and give {merged}; in a recipe, set merge=true in train.finetune"
        )
    checkpoint = load(path, "stored")
    check_base(checkpoint, config)
    return checkpoint


def split_texts(inputs: Mapping[str, Path], share: float) -> tuple[list[str], list[str]]:
    """The texts of the inputs' documents: to calibrate on, and held out, a share by their hashes as in data.tokenize,
    for compress.compare. Both empty where no input has any."""
    texts: tuple[list[str], list[str]] = [], []
    stores = {name: folder for name, folder in inputs.items() if (folder / DOCUMENTS).is_dir()}
    for shard in corpus_shards(stores) if stores else ():
        for document in shard:
            texts[hash_fraction(document.hash) < share].append(document.text)
    return texts


def check_format(checkpoint: Checkpoint, format: FileFormat) -> None:  # noqa: A002 - the field's word
    """UnsupportedModel for a model that the format does not hold."""
    if format == "gguf":
        from lmworks.model.gguf_write import write_config as write_metadata

        write_metadata(checkpoint.config)
    elif format == "compressed-tensors":
        check_layers(checkpoint.config, write_config(checkpoint.config, checkpoint.published))


def write(checkpoint: Checkpoint, folder: Path, format: FileFormat) -> Path:  # noqa: A002
    """Write a folder, new or empty, with the checkpoint."""
    if folder.exists():
        folder.rmdir()
    if format != "gguf":
        return checkpoint.save(folder, packed=format == "compressed-tensors")
    from lmworks.model.gguf_write import save_gguf  # the library for it takes long to import

    return save_gguf(checkpoint, folder / MODEL, "BF16").parent


def file_bytes(folder: Path) -> int:
    """Bytes of the weights' files of a model's folder, or of a GGUF file."""
    files = [folder] if folder.is_file() else [*folder.glob("*.gguf"), *folder.glob("*.safetensors")]
    return sum(path.stat().st_size for path in files)


def check(config: Any, base: Path) -> None:
    """ValueError as of `check_base`, and the errors of reading rows."""
    if config.base:
        _checked(located(config.base, base), config)
    if isinstance(config, QuantiseConfig):
        _rows(config, base)


def check_base(checkpoint: Checkpoint, config: Any) -> None:
    """ValueError for what a stage of this config cannot make smaller, before there is work that would be lost."""
    check_floats(checkpoint, getattr(config, "requantise", None))
    if isinstance(config, QuantisedFileConfig):
        check_format(checkpoint, config.format)
        if isinstance(config, QuantiseConfig) and config.budget is not None:
            check_budget(checkpoint, config, config.budget)
    elif isinstance(config, PruneConfig) and isinstance(config.method, StructuredPruning):
        check_structure(checkpoint.config, config.method)


def _rows(config: QuantiseConfig, base: Path) -> list[Dialogue]:
    return [row for _, row in read_dialogues(conversation_files(config.rows, base, rows="rows"))] if config.rows else []


# ---------------------------------------------------------------------------------------------------------------------
# compress.quantise


def quantise(config: QuantiseConfig, context: StageContext) -> StageResult:
    """Post-training quantisation of the checkpoint of the one input, or `config.base`, calibrated on the documents of
    the others. ValueError as of `quantisation.quantise`, and for a budget that no file keeps to."""
    checkpoint = load_base(config, context)
    rows, grids, sections = _rows(config, context.base), None, list[Section]()
    texts: list[str | Sequence[int]] = [*split_texts(context.inputs, config.held_out)[0]]
    texts += [checkpoint.chat.render(turns_of(row)[0], tools=row.tools).ids for row in rows]
    if config.budget is not None:
        choices, grids = _under_budget(checkpoint, config, config.budget, texts, context.progress)
        sections.append(_bits_section(choices, grids, config.budget))
    quantised = quantise_checkpoint(checkpoint, config, texts, grids, context.progress)
    write(quantised.checkpoint, context.output, config.format)
    sections += [ranges_section(quantised.inputs)] if quantised.inputs else []
    metrics = {"bytes": file_bytes(context.output), "calibration": dict(quantised.seen)}
    metrics |= {"survival": total(quantised.left.values())} if quantised.left else {}
    if rows:
        section, metrics["answered_as_before"] = answers_section(rows, checkpoint, quantised.checkpoint)
        sections.insert(0, section)
    return StageResult(metrics, (_weights_section(quantised, config, grids), *sections))


def _under_budget(
    checkpoint: Checkpoint, config: QuantiseConfig, budget: int, texts: Sequence[str | Sequence[int]], progress: Report
) -> tuple[list[Choice], Grids]:
    """Choices of the matrices, and the grid of each layer for a file of at most `budget` bytes."""
    text = read_calibration(texts, checkpoint.required_tokenizer, config.calibration)
    offered = list(dict.fromkeys([config.grid, replace(config.grid, bits=8), None]))
    choices = measure_choices(float_copy(checkpoint.model), text, offered, progress)
    matrices = sum(min(choice.nbytes) for choice in choices)
    room = budget - planned_bytes(checkpoint, config) + matrices
    # In a file a matrix may take more than in memory: names, padding; and where its groups are wide, less.
    while (excess := planned_bytes(checkpoint, config, grids := allot(choices, room)) - budget) > 0:
        taken = sum(one.nbytes[one.grids.index(grids[one.names[0]])] for one in choices)
        room = max(taken - excess, matrices)
    return choices, grids


def check_budget(checkpoint: Checkpoint, config: QuantiseConfig, budget: int) -> None:
    """ValueError, with settings for a smaller file, where one with these settings has more bytes than the budget."""
    if (least := planned_bytes(checkpoint, config)) > budget:
        described = f"a file of {checkpoint.source} with these settings has {least:,} bytes"
        advice = _finer(config, budget, partial(planned_bytes, checkpoint))
        raise ValueError(f"{described}, and the budget is {budget:,}: {advice}")


def planned_bytes(checkpoint: Checkpoint, config: QuantisedFileConfig, grids: Grids | None = None) -> int:
    """Bytes of the files with these grids, whichever method rounds to them; without rounding anything."""
    smaller = planned(checkpoint, config, grids)
    if config.format == "gguf":
        from lmworks.model.gguf_write import gguf_bytes

        return gguf_bytes(smaller, "BF16")
    document = write_config(smaller.config, smaller.published)
    if config.format == "compressed-tensors":
        assert isinstance(smaller.weights, QuantisedWeights)
        return tensor_file_bytes(packed_tensors(smaller.config, document, smaller.weights)[0])
    floats = empty_model(smaller.config).state_dict()  # float32, as of `Checkpoint.model`
    return tensor_file_bytes(to_their_names(smaller.config, document, floats))


def _finer(config: QuantiseConfig, budget: int, size: Callable[[QuantiseConfig], int]) -> str:
    """Advice on settings for a file within the budget, which these do not reach."""
    offered = {
        "grid.bits=4": config.grid.bits > 4,
        "grid.symmetric=true": not config.grid.symmetric,
        "grid.group=128": config.format == "compressed-tensors" and config.grid.group < 128,
        "format=gguf": config.format != "gguf",
        "embedding=int4": config.embedding_format != "int4",
    }

    def bytes_with(settings: Sequence[str]) -> float:
        table = to_mapping(config)
        for path, value in map(parse_assignment, settings):
            assign(table, path, value)
        with suppress(ConfigError):  # of what the format does not hold
            return size(from_mapping(QuantiseConfig, table))
        return math.inf

    needed = [setting for setting, smaller in offered.items() if smaller]
    least = bytes_with(needed)
    for setting in needed[::-1]:
        rest = [other for other in needed if other != setting]
        needed = rest if bytes_with(rest) <= max(budget, least) else needed
    listed = ", ".join(needed)
    if least > budget:
        smallest = f"the smallest, with {listed}, has {least:,}" if listed else "no setting makes a smaller one"
        return f"{smallest}. Raise the budget to that, or prune or distil the model first"
    return f"set {listed}, with which it has {bytes_with(needed):,}, or raise the budget"


def _bits_section(choices: Sequence[Choice], chosen: Grids, budget: int) -> Section:
    def bits(grid: GridConfig | None) -> str:
        return "bfloat16" if grid is None else f"{grid.bits} bits"

    most_sensitive = sorted(choices, key=lambda one: max(one.harm), reverse=True)[:12]
    rows = tuple(
        (_together(one.names), *(f"{harm:.5f}" for harm in one.harm), bits(chosen[one.names[0]]))
        for one in most_sensitive
    )
    counts = Counter(bits(chosen[choice.names[0]]) for choice in choices)
    text = (
        f"By how many nats a token the loss of the calibration text rises when these matrices alone are rounded. For "
        f"{budget:,} bytes the sum is least with {', '.join(f'{count} in {kind}' for kind, count in counts.items())}."
    )
    columns = ("matrices", *map(bits, choices[0].grids), "chosen")
    return Section("Bits", text, (Table(columns, rows, "The most sensitive"),))


def _together(names: Sequence[str]) -> str:
    """Layers of one part of a block, the first by its whole name."""
    return ", ".join([names[0], *(name.rpartition(".")[2] for name in names[1:])])


def _weights_section(made: Quantisation, config: QuantiseConfig, grids: Grids | None) -> Section:
    """Section on the weights, with the relative error of each kind of layer; `grids` are those under a budget."""
    weights = made.checkpoint.weights
    assert isinstance(weights, QuantisedWeights)
    kinds: dict[str, list[tuple[float, str]]] = {}
    for name, error in made.errors.items():
        kinds.setdefault(name.rpartition(".")[2], []).append((error, name))
    rows = []
    for kind, pairs in kinds.items():
        mean, (largest, name) = sum(error for error, _ in pairs) / len(pairs), max(pairs)
        rows.append([kind, len(pairs), f"{100 * mean:.2g} %", f"{100 * largest:.2g} %", name])
        if made.left:
            shares = [made.left[f"{name}.weight"] for _, name in pairs if f"{name}.weight" in made.left]
            rows[-1].append(f"{total(shares):.3f}" if shares else "unchanged")
    parameters = sum(tensor.numel() for tensor in weights.values())
    widths = {config.grid.bits} if grids is None else {16 if grid is None else grid.bits for grid in grids.values()}
    bits = f"{' and '.join(map(str, sorted(widths)))} bits"
    form = " around 0" if config.grid.symmetric else ""
    form += "; simulated, held in the memory of 4 bits" if config.grid.bits < 4 else ""
    text = (
        f"{config.method.kind}, {bits} in groups of {config.grid.group}{form}: the weights take "
        f"{readable_bytes(weights.nbytes)}, {8 * weights.nbytes / parameters:.2f} bits for each of {parameters:,}, "
        f"with embedding and head in {config.embedding_format}."
    )
    measured = "weights"
    if made.seen:
        measured = f"outputs on {made.seen['tokens']:,} calibration tokens of {len(made.seen['documents'])} documents"
    caption = f"Squared error of their {measured}, as a share of the sum of squares"
    columns, alarms = ("layers", "count", "mean", "largest", "of"), tuple[str, ...]()
    if made.left:
        columns += ("left of the fine-tune",)
        caption += "; and the share of the fine-tune that survives, in the same terms"
        text += f" {total(made.left.values()):.1%} of the fine-tune is left: its base was quantised before."
    elif made.unmeasured:
        alarms = (f"the share of the fine-tune that survives was not measured: {made.unmeasured}",)
    return Section("Quantisation", text, (Table(columns, tuple(map(tuple, rows)), caption),), alarms=alarms)


def ranges_section(inputs: Mapping[str, InputStatistics]) -> Section:
    """The layers whose inputs reach furthest beyond their root mean square, and their outlier channels (Dettmers et al.
    2022, section 4), with a figure of the first."""
    shared: dict[int, tuple[InputStatistics, list[str]]] = {}  # of layers with one input
    for name, stats in inputs.items():
        shared.setdefault(id(stats.largest), (stats, []))[1].append(name)

    def reach(stats: InputStatistics) -> float:
        return float(stats.largest.max() / stats.mean_square.mean().sqrt())

    widest, rows = sorted(shared.values(), key=lambda pair: reach(pair[0]), reverse=True)[:_SHOWN], []
    for stats, names in widest:
        outliers = (stats.largest > OUTLIER * stats.largest.median()).nonzero()[:, 0]
        outliers = outliers[stats.largest[outliers].argsort(descending=True)].tolist()
        shown = ", ".join([*map(str, outliers[:4]), *(["…"] if len(outliers) > 4 else [])]) or "none"
        furthest, channels = float(stats.largest.max()), len(stats.largest)
        rows.append((_together(names), furthest, reach(stats), len(outliers), channels, shown))
    columns = ("layers", "largest |x|", "over RMS", "outliers", "channels", "which")
    text = (
        f"What comes into the linear layers on the calibration text, and how far it reaches beyond its root mean "
        f"square. An outlier channel, listed the furthest first, reaches more than {OUTLIER:g} times as far as the "
        "median channel of its layer; `--method smoothquant` moves its range into the weights."
    )
    figure, axes = new_axes("channel", "largest |x|")
    largest = widest[0][0].largest.tolist()
    axes.bar(range(len(largest)), largest, width=1.0, color="#0b6e8f")
    drawn = Figure(as_svg(figure), f"The range of each input channel of {rows[0][0]}")
    return Section("Activations", text, (Table(columns, tuple(rows), "The layers of the widest range"),), (drawn,))


# ---------------------------------------------------------------------------------------------------------------------
# compress.prune


def prune(
    checkpoint: Checkpoint, config: PruneConfig, texts: Sequence[str] = (), progress: Report = no_report
) -> tuple[Checkpoint, Mapping[str, Any]]:
    """The checkpoint without what `config.method` takes out, and what of the texts was seen. ValueError for no text
    where the method needs one, and as `prune_structure` and `sparsify`."""
    method, text = config.method, None
    criteria = set(method.criteria.values()) if isinstance(method, StructuredPruning) else {method.kind}
    if criteria != {"magnitude"}:
        text = read_calibration(texts, checkpoint.required_tokenizer, config.calibration)
    if isinstance(method, StructuredPruning):
        pruned = prune_structure(checkpoint, method, text, progress)
    else:
        pruned = sparsify(checkpoint, method, text, progress)
    return pruned, {} if text is None else text.seen()


def pruning(config: PruneConfig, context: StageContext) -> StageResult:
    """The checkpoint of the one input, or `config.base`, pruned by what the inputs' documents show of it."""
    base = load_base(config, context)
    texts, _ = split_texts(context.inputs, config.held_out)
    pruned, seen = prune(base, config, texts, context.progress)
    write(pruned, context.output, "float")
    before, after = _sizes(base), _sizes(pruned)
    changed = {name: value for name, value in before.items() if value != after[name]}
    rows = tuple((name.replace("_", " "), value, after[name]) for name, value in changed.items())
    zeros = f"Of {before['parameters']:,} parameters; zeros are stored and computed as all numbers are."
    text = "" if isinstance(config.method, StructuredPruning) else zeros
    section = Section("What was taken out", text, (Table(("what", "before", "after"), rows),))
    return StageResult({**after, "calibration": seen}, (section,))


def _sizes(checkpoint: Checkpoint) -> dict[str, int]:
    """Parameters, those that are 0, and the parts of the decoder; heads and neurons are those of its first layer."""
    decoder = decoder_of(checkpoint.config)
    attention, feed_forward = decoder.blocks[0].attention, decoder.blocks[0].feed_forward
    zeros = sum(int((weight == 0).sum()) for weight in checkpoint.model.parameters())
    sizes = {"parameters": count_parameters(checkpoint.config), "zeros": zeros, "layers": len(decoder.blocks)}
    sizes |= {"heads": attention.heads, "kv_groups": attention.kv_heads}
    return sizes | ({"neurons": feed_forward.hidden} if isinstance(feed_forward, FeedForward) else {})
