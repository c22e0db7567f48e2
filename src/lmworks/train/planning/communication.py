"""Bytes that one device sends in a step, by part, for any layout. Free of torch.

Collectives are rings: an all-gather or a reduce-scatter of M bytes among n devices sends (n − 1) / n · M from each, an
all-reduce twice that (Patarasu & Yuan 2009). Whether it costs time depends on what it overlaps with.
"""

from lmworks.model import config as configs
from lmworks.train.planning.layout import NUMBERS, Layout, Numbers, stage_blocks
from lmworks.train.planning.parameter_shards import head_reads_tokens, parameters_held, split

_INDEX = 8  # bytes of an int64
_OF_LOGITS = 3 * 4  # bytes for each token: the maximum, the sum of exponentials and the target's, in float32


def communication_bytes(
    config: configs.ModelConfig, layout: Layout, numbers: Numbers = NUMBERS["mixed"], rank: int = 0
) -> dict[str, float]:
    """Bytes that the device `rank` of the pipeline sends in one optimizer step.

    data      the sum of gradients: 2 Ψ for plain data parallelism and ZeRO 1 and 2; with ZeRO 3 the weights are
              gathered for the forward and for the backward of each micro-batch: 3 Ψ (Rajbhandari et al. 2020, section
              7), but embedding and head once for both. ZeRO 2 and 3 divide gradients after each micro-batch, the
              others after the last.
    tensor    for each micro-batch and layer two all-reduces of the hidden states forward and two backward (Shoeybi et
              al. 2019, section 3), one each at the embedding and the head, and a few numbers of each token's logits.
              Sequence parallelism replaces each of a layer by a reduce-scatter and an all-gather, of the same bytes
              (Korthikanti et al. 2022, section 4.2.2), and divides and joins each stack. Recomputing repeats the
              forward's, but for the last of a layer where nothing reads its output again. Not counted: the gradients
              of what all devices hold and use in part, such as the norms' of sequence parallelism.
    pipeline  hidden states to the next device and their gradients to the one before, once for each chunk (Narayanan et
              al. 2021, section 3.2); and the gradient of a token embedding that both ends hold, to the other end.
    context   keys and values gathered, and their gradients reduce-scattered (Grattafiori et al. 2024, section 3.3.2);
              recomputing gathers again. And the tokens' positions.
    expert    tokens to their experts and back, and the same for their gradients, in even use (Lepikhin et al. 2021);
              and how many there are for each.

    ValueError for a layout that does not fit the model.
    """
    blocks = stage_blocks(config, layout, rank)
    parts = {
        "data": _data(config, layout, numbers, rank),
        "tensor": _tensor(config, blocks, layout, numbers, rank),
        "pipeline": _pipeline(config, layout, numbers, rank),
        "context": _context(blocks, layout, numbers),
        "expert": _expert(config, blocks, layout, numbers),
    }
    return {name: size for name, size in parts.items() if size}


def _ring(size: float, devices: int) -> float:
    """Sent by each of `devices` in an all-gather or a reduce-scatter of `size` bytes."""
    return size * (devices - 1) / devices


def _data(config: configs.ModelConfig, layout: Layout, numbers: Numbers, rank: int) -> float:
    held = parameters_held(config, layout, rank)
    total = 0.0
    for count, devices in ((held.dense, layout.shards), (held.experts, layout.shards // layout.expert)):
        weights, gradients = _ring(count * numbers.weights, devices), _ring(count * numbers.gradients, devices)
        times = layout.micro_batches
        match layout.zero:
            case 0:
                total += 2 * gradients
            case 1:
                total += gradients + weights
            case 2:
                total += times * gradients + weights
            case 3:
                total += times * (gradients + 2 * weights)
    if layout.zero == 3:
        total -= times * _ring(held.ends * numbers.weights, layout.shards)
    return total


def _tensor(
    config: configs.ModelConfig, blocks: list[configs.Block], layout: Layout, numbers: Numbers, rank: int
) -> float:
    reduced = 2 * _ring(layout.tokens_per_device * config.embedding.width * numbers.activations, layout.tensor)
    times = 0.0
    for block in blocks:
        sublayers = 3 if block.cross is not None else 2
        times += 2 * sublayers + (block.cross is not None)  # the gradient of what cross-attention reads
        if layout.recompute != "nothing":
            unread = block.norm_at in ("pre", "parallel")
            times += sublayers - unread * (0.5 if layout.sequence_parallel else 1)
    if layout.sequence_parallel:
        times += len(config.stacks) * ((rank == 0) + (rank == layout.pipeline - 1)) / 2
    logits = 0.0
    if rank == layout.pipeline - 1 and isinstance(config.head, configs.VocabularyHead):
        times += 1
        logits = 2 * _ring(layout.tokens_per_device * _OF_LOGITS, layout.tensor)
    times += rank == 0
    return layout.micro_batches * (times * reduced + logits)


def _pipeline(config: configs.ModelConfig, layout: Layout, numbers: Numbers, rank: int) -> float:
    size = layout.tokens_per_device * config.embedding.width * numbers.activations
    size /= layout.tensor if layout.sequence_parallel else 1
    last = layout.pipeline - 1
    if not last:
        return 0.0
    # Interleaved, the last device sends to the first but for the last chunk, and the first back but for the first one.
    forward = layout.chunks - (rank == last)
    backward = layout.chunks - (rank == 0)
    total = layout.micro_batches * (forward + backward) * size
    if rank in (0, last) and head_reads_tokens(config.head):
        table = split(config.embedding.vocabulary, layout.tensor) * config.embedding.width
        total += table * numbers.gradients / (layout.shards if layout.zero >= 2 else 1)
    return total


def _context(blocks: list[configs.Block], layout: Layout, numbers: Numbers) -> float:
    values = sum(2 * split(b.attention.kv_heads, layout.tensor) * b.attention.head_dim for b in blocks)
    times = 2 + (layout.recompute != "nothing")
    sent = layout.tokens_per_device * (times * values * numbers.activations + _INDEX)
    return layout.micro_batches * sent * (layout.context - 1)


def _expert(config: configs.ModelConfig, blocks: list[configs.Block], layout: Layout, numbers: Numbers) -> float:
    mixtures = [b.feed_forward for b in blocks if isinstance(b.feed_forward, configs.MixtureOfExperts)]
    repeated = layout.recompute != "nothing"
    tokens = layout.tokens_per_device * sum(mixture.top_k for mixture in mixtures)
    sent = (4 + 2 * repeated) * tokens * config.embedding.width * numbers.activations
    counts = (1 + repeated) * sum(mixture.experts for mixture in mixtures) * _INDEX
    return layout.micro_batches * _ring(sent + counts, layout.expert)
