"""The stage `compress.prune`: a checkpoint into a smaller or a sparser one."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmworks.artefact import StageContext, StageResult
from lmworks.compress.block_calibration import read_calibration
from lmworks.compress.pruning_config import PruneConfig, StructuredPruning
from lmworks.compress.sparsity import sparsify
from lmworks.compress.stage import deliver, load_base, split_texts
from lmworks.compress.structured_pruning import prune_structure
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import FeedForward
from lmworks.model.model_costs import count_parameters
from lmworks.progress import Report, no_report
from lmworks.report import Section, Table


def prune(
    checkpoint: Checkpoint, config: PruneConfig, texts: Sequence[str] = (), progress: Report = no_report
) -> tuple[Checkpoint, Mapping[str, Any]]:
    """The checkpoint without what `config.method` takes out, and what of the texts was seen. ValueError for no text
    where the method needs one, and as `prune_structure` and `sparsify`."""
    text = None
    if not config.method.goes_by_weights:
        text = read_calibration(texts, checkpoint.required_tokenizer, config.calibration)
    function = prune_structure if isinstance(config.method, StructuredPruning) else sparsify
    return function(checkpoint, config.method, text, progress), {} if text is None else text.seen()  # type: ignore[arg-type]


def pruning(config: PruneConfig, context: StageContext) -> StageResult:
    """The checkpoint of the one input, or `config.base`, pruned by what the inputs' documents show of it."""
    base = load_base(config.base, context)
    texts, _ = split_texts(context.inputs, config.held_out)
    pruned, seen = prune(base, config, texts, context.progress)
    deliver(pruned, context, "float")
    before, after = sizes(base), sizes(pruned)
    rows = tuple((name, f"{value:,}", f"{after[name]:,}") for name, value in before.items())
    text = "" if isinstance(config.method, StructuredPruning) else "Zeros are stored and computed as all numbers are."
    section = Section("What was taken out", text, (Table(("what", "before", "after"), rows),))
    return StageResult({**after, "calibration": seen}, (section,))


def sizes(checkpoint: Checkpoint) -> dict[str, int]:
    """Parameters, those that are 0, and the parts of the decoder; heads and neurons are those of its first layer."""
    decoder = checkpoint.config.decoder
    assert decoder is not None
    attention, feed_forward = decoder.blocks[0].attention, decoder.blocks[0].feed_forward
    zeros = sum(int((weight == 0).sum()) for weight in checkpoint.model.parameters())
    found = {"parameters": count_parameters(checkpoint.config), "zeros": zeros, "layers": len(decoder.blocks)}
    found |= {"heads": attention.heads, "kv_groups": attention.kv_heads}
    return found | ({"neurons": feed_forward.hidden} if isinstance(feed_forward, FeedForward) else {})
