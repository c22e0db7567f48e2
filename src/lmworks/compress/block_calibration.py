"""Calibration block by block: what comes into every linear layer of a model, while the hidden states of one block are
all that is held.

    text = read_calibration(texts, checkpoint.required_tokenizer, CalibrationConfig())
    for block in calibrated_blocks(checkpoint.model, text):
        for name, inputs in block.statistics().items():
            ...  # change the block's weights by what it sees: the next one sees what it then gives

As in GPTQ and AWQ, a block is calibrated on what the compressed blocks before it give. Memory: the float32 hidden
states of all tokens before one block, which become those behind it in place, the activations of one batch inside of it,
and a matrix (columns, columns) for each different input of its layers.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lmworks.compress.config import CalibrationConfig
from lmworks.data.shuffle import Permutation
from lmworks.generate.scoring import document_start
from lmworks.model.attention import Context
from lmworks.model.config import ModelConfig, Stack
from lmworks.model.stack import Block
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.tokenizer import Tokenizer

Calls = dict[nn.Module, tuple[tuple[Any, ...], Any]]


@dataclass(frozen=True)
class CalibrationText:
    """Text of a calibration.

    ids        (sequences, length) int64.
    documents  SHA-256 of the texts that they are from.
    batch      sequences that run through a block together.
    """

    ids: Tensor
    documents: tuple[str, ...]
    batch: int = 4

    def seen(self) -> dict[str, Any]:
        """For a manifest: tokens, sequences, and the documents by their hashes."""
        return {"tokens": self.ids.numel(), "sequences": len(self.ids), "documents": list(self.documents)}


def read_calibration(
    texts: Sequence[str | Sequence[int]], tokenizer: Tokenizer, config: CalibrationConfig
) -> CalibrationText:
    """Pieces of `config.length` tokens of the texts, or of their ids, in an order of the seed: so much of the beginning
    of each that all are in it, or that there are enough; more of each where all are too few. Fewer tokens than one
    piece are a shorter one. ValueError where there is no text."""
    texts = [text for text in texts if text]
    if not texts:
        raise ValueError(
            "there is no calibration text: name documents like those the model will read (some 50 pages are enough), "
            "or take a method that needs none: rtn, or to prune, magnitude"
        )
    start, wanted = document_start(tokenizer), config.sequences * config.length
    most = max(-(-wanted // len(texts)), config.length)
    ids, rest, documents = list[int](), list[int](), list[str]()
    for number in Permutation(len(texts), f"{config.seed} calibration")(np.arange(len(texts))).tolist():
        if len(ids) >= wanted:
            break
        text = texts[number]
        tokens = [start, *tokenizer.encode(text)] if isinstance(text, str) else list(text)
        ids += tokens[:most]
        rest += tokens[most:]
        documents.append(hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest())
    ids = (ids + rest)[:wanted]
    length = min(config.length, len(ids))
    rows = torch.tensor(ids[: len(ids) // length * length]).view(-1, length)
    return CalibrationText(rows, tuple(documents), config.batch)


@dataclass
class InputStatistics:
    """Statistics of a linear layer's inputs over `tokens` tokens; tensors are float32.

    mean_absolute  (columns,): mean of |x|.
    mean_square    (columns,): mean of x².
    largest        (columns,): largest |x|.
    second_moment  (columns, columns): mean of x xᵀ; None where it was not asked for.
    """

    mean_absolute: Tensor
    mean_square: Tensor
    largest: Tensor
    second_moment: Tensor | None = None
    tokens: int = 0

    @classmethod
    def zeros(cls, columns: int, moments: bool) -> "InputStatistics":
        mean_absolute, mean_square, largest = torch.zeros(3, columns)
        return cls(mean_absolute, mean_square, largest, torch.zeros(columns, columns) if moments else None)

    def add(self, inputs: Tensor) -> None:
        """Further inputs (tokens, columns), in place."""
        new, absolute = len(inputs), inputs.abs()
        self.tokens += new
        share = new / self.tokens
        self.mean_absolute.lerp_(absolute.mean(0), share)
        self.mean_square.lerp_(inputs.square().mean(0), share)
        torch.maximum(self.largest, absolute.amax(0), out=self.largest)
        if self.second_moment is not None:
            self.second_moment.addmm_(inputs.T, inputs, beta=1 - share, alpha=share / new)

    def divided(self, scales: Tensor) -> "InputStatistics":
        """Those of the inputs divided by `scales` (columns,)."""
        moment = None if self.second_moment is None else self.second_moment / (scales[:, None] * scales)
        vectors = self.mean_absolute / scales, self.mean_square / scales.square(), self.largest / scales
        return InputStatistics(*vectors, moment, self.tokens)


@dataclass
class CalibratedBlock:
    """A block, and what comes into it.

    number  from 0.
    name    of the module, such as `decoder.blocks.3`.
    hidden  its inputs: a tensor (batch, length, width) for each batch.
    rest    this block and those behind it, each with the context of its attention.
    """

    number: int
    name: str
    hidden: list[Tensor]
    rest: Sequence[tuple[Block, Context]]

    @property
    def block(self) -> Block:
        return self.rest[0][0]

    def linears(self) -> dict[str, nn.Linear]:
        return linears(self.block, f"{self.name}.")

    @torch.no_grad()
    def statistics(self, moments: bool = True) -> dict[str, InputStatistics]:
        """Statistics of each linear layer that saw a token, with second moments or without; layers with one input
        share the object."""
        names: dict[nn.Module, str] = {layer: name for name, layer in self.linears().items()}
        by_layer: dict[str, InputStatistics] = {}
        (block, context), last = self.rest[0], list[Any]()

        def see(layer: nn.Module, given: tuple[Any, ...], _: Tensor) -> None:
            if not last or given[0] is not last[0]:  # queries, keys and values have one input, gate and up another
                columns = given[0].shape[-1]
                of_input = by_layer.setdefault(names[layer], InputStatistics.zeros(columns, moments))
                of_input.add(given[0].flatten(0, -2).float())
                last[:] = given[0], of_input
            by_layer[names[layer]] = last[1]

        with watched(names, see):
            for batch in self.hidden:
                block(batch, context)
        return by_layer


@contextmanager
def watched(modules: Iterable[nn.Module], see: Callable[[nn.Module, tuple[Any, ...], Any], None]) -> Iterator[None]:
    """While it is open, `see` gets each of the modules, what it is called with, and what it gives."""
    handles = [module.register_forward_hook(see) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded(modules: Iterable[nn.Module]) -> Iterator[Calls]:
    """While it is open, what each module was last called with, and gave."""
    calls: Calls = {}
    with watched(modules, lambda module, given, output: calls.update({module: (given, output)})):
        yield calls


def linears(module: nn.Module, prefix: str = "") -> dict[str, nn.Linear]:
    """The linear layers of blocks by their names: projections, without routers, which are small, and heads."""
    named = {f"{prefix}{name}": layer for name, layer in module.named_modules() if type(layer) is nn.Linear}
    return {name: layer for name, layer in named.items() if not name.startswith("head.")}


def blocks_of(model: Transformer) -> list[Block]:
    """The decoder's blocks; ValueError as of `decoder_of`."""
    decoder_of(model.config)
    return list(model.decoder.blocks)  # type: ignore[arg-type, union-attr]


def decoder_of(config: ModelConfig) -> Stack:
    """The config of the decoder; ValueError for a model without one."""
    if config.decoder is None:
        raise ValueError("only a decoder is compressed so: the model has none")
    return config.decoder


def check_length(model: Transformer, text: CalibrationText) -> None:
    """ValueError for sequences longer than the model's context."""
    if text.ids.shape[1] > model.config.context_length:
        raise ValueError(
            f"sequences of {text.ids.shape[1]} tokens are longer than the model's context of "
            f"{model.config.context_length}: set calibration.length to that"
        )


@torch.no_grad()
def calibrated_blocks(model: Transformer, text: CalibrationText) -> Iterator[CalibratedBlock]:
    """The blocks of a model with one stack, in order. Each is run again after it was handed out, with the weights that
    it then has. ValueError for an encoder–decoder and for sequences longer than the model's context."""
    name, stack = ("decoder", model.decoder) if model.encoder is None else ("encoder", model.encoder)
    if stack is None or (model.encoder is not None and model.decoder is not None):
        raise ValueError("a model with an encoder and a decoder is not calibrated: there are methods without, as rtn")
    check_length(model, text)
    positions = torch.arange(text.ids.shape[1], device=model.tokens.device)[None]
    hidden = [model.embedding(ids.to(model.tokens.device), positions) for ids in text.ids.split(text.batch)]
    contexts = stack.layer_contexts(hidden[0][:1], positions)  # which any batch is broadcast to
    rest: Any = list(zip(stack.blocks, contexts, strict=True))
    for number, (block, context) in enumerate(rest):
        yield CalibratedBlock(number, f"{name}.blocks.{number}", hidden, rest[number:])
        for index, batch in enumerate(hidden):
            hidden[index] = block(batch, context)
