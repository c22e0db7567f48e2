"""Held-out token shards in training: validation on them, and continuations of their texts."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmworks.data.batches import Batch, make_batch
from lmworks.data.best_fit_packing import Plan
from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.loader import Loader
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.kv_cache import KVCache
from lmworks.model.transformer import Transformer
from lmworks.statistics import sign
from lmworks.tokenizer.token_bytes import token_bytes
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train.objectives.objective import Objective
from lmworks.train.run import Run
from lmworks.train.validation import Validation, validate

SEQUENCES = 64  # at most; of a larger held-out part, the first ones of its order
_TEXTS = 200  # at most, where each is a sequence of its own
_ROWS = 8  # of a batch that is read
_BEGINNINGS = 3  # that are continued
_SHOWN = 16  # tokens of a text that has no question
CONTINUED = 40  # tokens that the model adds
TEMPERATURE = 0.7  # at 0, a model that has learnt little says the same word again and again


@torch.no_grad()
def continue_text(
    model: Transformer,
    ids: Sequence[int],
    tokens: int,
    stop: Collection[int] = (),
    temperature: float = 0.0,
    seed: int = 0,
) -> list[int]:
    """Up to `tokens` ids that the decoder `model` gives after `ids`, without the one of `stop` that ended them.

    Each is drawn from softmax(logits / temperature), with a generator of its own; at 0 it is the likeliest. Fewer are
    given where the context of the model is full. ValueError for no ids, or for a model that is no language model.
    """
    if not ids:
        raise ValueError("a continuation needs a token to begin from")
    weight = model.tokens
    length = min(len(ids) + tokens, model.config.context_length)
    cache = KVCache(model.config, 1, length, weight.dtype, weight.device)
    slot, new = torch.zeros(1, dtype=torch.int64, device=weight.device), list(ids)
    continuation: list[int] = []
    generator = torch.Generator().manual_seed(seed)
    # Each length would be compiled again where the blocks are.
    with torch.compiler.set_stance("force_eager"):
        while len(ids) + len(continuation) < length:
            start = len(ids) + len(continuation) - len(new)
            view = cache.view(slot, torch.arange(start, start + len(new), device=weight.device)[None])
            hidden = model.hidden(torch.tensor([new], device=weight.device), cache=view)[:, -1]  # (1, width)
            logits = model.logits(hidden)[0]  # (vocabulary,)
            new = [int(logits.argmax())]
            if temperature:
                chances = (logits.cpu().float() / temperature).softmax(dim=-1)
                new = [int(torch.multinomial(chances, 1, generator=generator))]
            if new[0] in stop:
                break
            continuation += new
    return continuation


def check_held_out(shards: Mapping[str, Path], held_out: Mapping[str, Path]) -> None:
    """ValueError where a held-out text is trained on too, by their hashes: what is learnt by heart scores well."""
    hashes_of = {name: np.unique(np.concatenate(list(_hashes(folder)))) for name, folder in held_out.items()}
    for trained, folder in shards.items():
        for name, of_held_out in hashes_of.items():
            # A shard at a time: of a large corpus, all hashes together would take gigabytes.
            common = [np.intersect1d(of_held_out, hashes) for hashes in _hashes(folder)]
            if count := len(np.unique(np.concatenate(common))):
                raise ValueError(
                    f"{count:,} of the {len(of_held_out):,} texts of {name} are in {trained}, which is trained on: "
                    "give both stages data.tokenize the same held_out, one with part=training and one with "
                    "part=held_out"
                )


def _hashes(folder: Path) -> Iterator[NDArray[np.uint64]]:
    """The first 64 bits of each document's hash, by shard: no two of a hundred million are likely to agree."""
    yield np.empty(0, np.uint64)
    for shard in TokenDataset(folder).shards:
        yield shard.hashes[:, :8].copy().view(np.uint64).ravel()


def held_out_batches(folders: Mapping[str, Path], config: LoaderConfig) -> list[Batch]:
    """The first sequences of held-out shards, by name, as a loader of `config` cuts them."""
    sources = {name: SourceConfig(str(folder)) for name, folder in folders.items()}
    with Loader(replace(config, sources=sources, steps=None, batch=_ROWS, seed=0)) as loader:
        return [loader.batch(step) for step in range(min(loader.steps, SEQUENCES // _ROWS))]


def row_batches(folders: Iterable[Path], length: int) -> list[Batch]:
    """The first texts of held-out shards, each alone in a sequence that ends with it, at `length` tokens at most: of
    dialogues, one of which is what an interval's items should be."""
    batches: list[Batch] = []
    first = np.zeros(1, np.int64)
    for dataset in map(TokenDataset, folders):
        for number, size in enumerate(np.minimum(dataset.lengths, length)[: _TEXTS - len(batches)]):
            plan = Plan(int(size), first + number, first, first + size, np.array([0, 1]))
            batches.append(make_batch([dataset], [plan], first, first))
    return batches


def observe(run: Run, held_out: Mapping[str, Path], objective: Objective | None = None) -> None:
    """Give a run on token shards what it validates on, one sequence at a time and by its own objective unless another
    is given, and what it continues."""
    config, tokenizer = run.loader.config, run.checkpoint.required_tokenizer
    if held_out:
        datasets = {name: TokenDataset(folder) for name, folder in held_out.items()}
        masked = all(dataset.masked for dataset in datasets.values())
        batches = row_batches(held_out.values(), config.length) if masked else held_out_batches(held_out, config)
        prints = {name: dataset.fingerprint for name, dataset in datasets.items()}
        data = {"tokenizer": tokenizer.hash, "data": prints, "sequences": sum(map(len, batches))}
        sizes = bytes_of_token(tokenizer, run.checkpoint.config.embedding.vocabulary)
        run.validate = validation_of(run, batches, data, objective, 1, sizes)
    beginnings = beginnings_of(held_out.values(), config.length // 2)
    if run.config.samples:
        beginnings = [tokenizer.encode(text) for text in run.config.samples]
    if beginnings and run.config.parallel.generates and run.checkpoint.config.encoder is None:
        run.sample = samples_of(run, beginnings)


def validation_of(
    run: Run,
    batches: Iterable[Any],
    data: Mapping[str, Any],
    objective: Objective | None = None,
    micro_batch: int | None = None,
    bytes_of_token: Tensor | None = None,
) -> Callable[[], Validation]:
    """A function that validates the run's model on these batches, which it reads each time, by the run's objective
    unless another is given. `data` says what they are, for the signature; the rest as of `validate`."""
    signature = sign({"model": run.checkpoint.config, **data, "precision": run.config.precision})
    sums = run.loss_sums if objective is None else None  # another's needs the whole model in each process

    def validation() -> Validation:
        measured = objective or run.objective
        return validate(run.model, measured, batches, micro_batch, bytes_of_token, run.device, signature, sums)

    return validation


def samples_of(run: Run, beginnings: Sequence[Sequence[int]]) -> Callable[[], list[tuple[str, str]]]:
    """A function that continues each beginning with the run's model: (beginning, continuation) in words."""
    tokenizer, spoken = run.checkpoint.required_tokenizer, run.checkpoint.chat_template is not None
    stop = run.checkpoint.chat.stop_ids if spoken else tokenizer.eos_ids

    def samples() -> list[tuple[str, str]]:
        continuations = [
            continue_text(run.model, ids, CONTINUED, stop, TEMPERATURE, seed) for seed, ids in enumerate(beginnings)
        ]
        shown = [_last_turn(tokenizer, ids) if spoken else tokenizer.decode(ids, False) for ids in beginnings]
        return [(text, tokenizer.decode(answer, False)) for text, answer in zip(shown, continuations, strict=True)]

    return samples


def _last_turn(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The question of a prompt, without earlier turns and the tokens that frame it, where its template has such."""
    special = set(tokenizer.special_ids.values())
    pieces = [
        tokenizer.decode(list(piece)).strip() for frames, piece in groupby(ids, special.__contains__) if not frames
    ]
    turns = [piece for piece in pieces if piece]
    return turns[-2] if len(turns) > 1 else tokenizer.decode(ids, False)


def beginnings_of(folders: Iterable[Path], most: int) -> list[list[int]]:
    """The beginnings of the first held-out texts, in at most `most` tokens: a conversation up to the first token that
    is to be learnt, which is its question, any other text with its first tokens."""
    beginnings: list[list[int]] = []
    for dataset in map(TokenDataset, folders):
        for start, stop in pairwise(dataset.offsets.tolist()):
            if len(beginnings) == _BEGINNINGS:
                return beginnings
            learned = dataset.mask(start, stop).nonzero()[0]
            length = int(learned[0]) if len(learned) and learned[0] else min(_SHOWN, stop - start, most)
            if len(learned) and 0 < length <= most:
                beginnings.append(dataset.read(start, start + length).tolist())
    return beginnings


def bytes_of_token(tokenizer: Tokenizer, vocabulary: int) -> Tensor | None:
    """(vocabulary,) int64: the bytes of text of each token; None for a tokenizer whose tokens are not plain bytes."""
    try:
        spelled = token_bytes(tokenizer)
    except ValueError:
        return None
    sizes = torch.zeros(vocabulary, dtype=torch.int64)
    sizes[: len(spelled)] = torch.tensor([len(text) for text in spelled])
    return sizes
