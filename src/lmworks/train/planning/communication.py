"""Bytes that one device sends in a step, by part, for any layout. Free of torch.

Collectives are rings: an all-gather or a reduce-scatter of M bytes among n devices sends (n − 1) / n · M from each, an
all-reduce twice that (Patarasu & Yuan 2009). Whether it costs time depends on what it overlaps with.
"""

from lmworks.model import config as configs
from lmworks.train.parallel.config import head_reads_tokens
from lmworks.train.planning.device_share import DeviceShare, device_share
from lmworks.train.planning.layout import NUMBERS, Layout, Numbers

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
    share = device_share(config, layout, rank)
    parts = {
        "data": _data(share, numbers),
        "tensor": _tensor(share, numbers),
        "pipeline": _pipeline(share, numbers),
        "context": _context(share, numbers),
        "expert": _expert(share, numbers),
    }
    return {name: size for name, size in parts.items() if size}


def _ring(size: float, devices: int) -> float:
    """Sent by each of `devices` in an all-gather or a reduce-scatter of `size` bytes."""
    return size * (devices - 1) / devices


def _data(share: DeviceShare, numbers: Numbers) -> float:
    layout, total = share.layout, 0.0
    rounds = layout.micro_batches if layout.zero >= 2 else 1
    for count, devices in ((share.dense, layout.shards), (share.experts, layout.shards // layout.expert)):
        weights, gradients = _ring(count * numbers.weights, devices), _ring(count * numbers.gradients, devices)
        gathered = (gradients, weights, weights, 2 * rounds * weights)[layout.zero]
        total += rounds * gradients + gathered
    if layout.zero == 3:
        total -= rounds * _ring(share.ends * numbers.weights, layout.shards)
    return total


def _hidden_states(share: DeviceShare, numbers: Numbers) -> int:
    """Bytes of a micro-batch's."""
    return share.layout.tokens_per_device * share.config.embedding.width * numbers.activations


def _tensor(share: DeviceShare, numbers: Numbers) -> float:
    layout, all_reduces = share.layout, 0.0
    for block in share.blocks:
        sublayers = 3 if block.cross is not None else 2
        all_reduces += 2 * sublayers + (block.cross is not None)  # the gradient of what cross-attention reads
        if layout.recompute != "nothing":
            unread = block.norm_at in ("pre", "parallel")
            all_reduces += sublayers - unread * (0.5 if layout.sequence_parallel else 1)
    if layout.sequence_parallel:
        all_reduces += len(share.config.stacks) * (share.first + share.last) / 2
    all_reduces += share.first
    logits = 0.0
    if share.last and isinstance(share.config.head, configs.VocabularyHead):
        all_reduces += 1
        logits = 2 * _ring(layout.tokens_per_device * _OF_LOGITS, layout.tensor)
    reduced = 2 * _ring(_hidden_states(share, numbers), layout.tensor)
    return layout.micro_batches * (all_reduces * reduced + logits)


def _pipeline(share: DeviceShare, numbers: Numbers) -> float:
    layout = share.layout
    if layout.pipeline == 1:
        return 0.0
    size = _hidden_states(share, numbers) / (layout.tensor if layout.sequence_parallel else 1)
    # Interleaved, the last device sends to the first but for the last chunk, and the first back but for the first one.
    forward, backward = layout.chunks - share.last, layout.chunks - share.first
    total = layout.micro_batches * (forward + backward) * size
    if (share.first or share.last) and head_reads_tokens(share.config.head):
        table = share.config.embedding.vocabulary * share.config.embedding.width
        total += table * numbers.gradients / (layout.shards if layout.zero >= 2 else 1)
    return total


def _context(share: DeviceShare, numbers: Numbers) -> float:
    layout = share.layout
    values = sum(2 * block.attention.kv_heads * block.attention.head_dim for block in share.blocks)
    times = 2 + (layout.recompute != "nothing")
    sent = layout.tokens_per_device * (times * values * numbers.activations + _INDEX)
    return layout.micro_batches * sent * (layout.context - 1)


def _expert(share: DeviceShare, numbers: Numbers) -> float:
    networks = [block.feed_forward for block in share.blocks]
    mixtures = [network for network in networks if isinstance(network, configs.MixtureOfExperts)]
    repeated = share.layout.recompute != "nothing"
    sent = (4 + 2 * repeated) * sum(mixture.top_k for mixture in mixtures) * _hidden_states(share, numbers)
    counts = (1 + repeated) * sum(mixture.experts for mixture in mixtures) * _INDEX
    return share.layout.micro_batches * _ring(sent + counts, share.layout.expert)
