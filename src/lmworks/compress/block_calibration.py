"""Calibration block by block: what comes into every linear layer of a model, while the hidden states of one block are
all that is held.

    text = read_calibration(texts, checkpoint.required_tokenizer, CalibrationConfig())
    for block in calibrated_blocks(checkpoint.model, text):
        for name, inputs in block.statistics().items():
            ...  # change the block's weights by what it sees: the next one sees what it then gives

As in GPTQ and AWQ, a block is calibrated on what the blocks before it give once they are compressed. Memory: the hidden
states of all tokens before one block (`CalibrationText.activation_bytes`), which become those behind it in place, the
activations of one batch inside of it, and a matrix (columns, columns) for each different input of its layers.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lmworks.compress.config import CalibrationConfig
from lmworks.data.order import Permutation
from lmworks.generate.scoring import document_start
from lmworks.model.attention import Context
from lmworks.model.stack import Block
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.tokenizer import Tokenizer

See = Callable[[str, Tensor], None]  # the name of a linear layer, its inputs (tokens, columns)


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

    @property
    def tokens(self) -> int:
        return self.ids.numel()

    def activation_bytes(self, width: int) -> int:
        """Bytes of the float32 hidden states of all tokens at one block of a model of this width."""
        return 4 * width * self.tokens

    def seen(self) -> dict[str, object]:
        """For a manifest: tokens, sequences, and the documents by their hashes."""
        return {"tokens": self.tokens, "sequences": len(self.ids), "documents": list(self.documents)}


def read_calibration(texts: Sequence[str], tokenizer: Tokenizer, config: CalibrationConfig) -> CalibrationText:
    """Pieces of `config.length` tokens of the texts, each behind the token that begins a document, in an order of the
    seed: so much of the beginning of each that all are in it, or that there are enough; more of each where all are too
    few. Fewer tokens than one piece are a shorter one.

    ValueError where there is no text.
    """
    texts = [text for text in texts if text]
    if not texts:
        raise ValueError(
            "there is no calibration text: name documents like those the model will read (some 50 pages are enough), "
            "or take method rtn, which needs none"
        )
    start, wanted = document_start(tokenizer), config.sequences * config.length
    most = max(-(-wanted // len(texts)), config.length)
    ids, rest, documents = list[int](), list[int](), list[str]()
    for place in map(int, Permutation(len(texts), f"{config.seed} calibration")(np.arange(len(texts)))):
        if len(ids) >= wanted:
            break
        found = [start, *tokenizer.encode(texts[place])]
        ids += found[:most]
        rest += found[most:]
        documents.append(hashlib.sha256(texts[place].encode("utf-8", "surrogatepass")).hexdigest())
    ids = (ids + rest)[:wanted]
    length = min(config.length, len(ids))
    return CalibrationText(
        torch.tensor(ids[: len(ids) // length * length]).view(-1, length), tuple(documents), config.batch
    )


@dataclass
class InputStatistics:
    """Statistics of a linear layer's inputs over `tokens` tokens; tensors are float32.

    mean_absolute  (columns,): mean of |x|.
    mean_square    (columns,): mean of x², whose root times √tokens is Wanda's norm.
    largest        (columns,): largest |x|.
    second_moment  (columns, columns): mean of x xᵀ, half the Hessian of the squared error of the layer's outputs; None
                   where it was not asked for.
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
        """Further inputs (tokens, columns)."""
        new, absolute = len(inputs), inputs.abs()
        self.tokens += new
        share = new / self.tokens
        self.mean_absolute.lerp_(absolute.mean(0), share)
        self.mean_square.lerp_(inputs.square().mean(0), share)
        torch.maximum(self.largest, absolute.amax(0), out=self.largest)
        if self.second_moment is not None:
            self.second_moment.addmm_(inputs.T, inputs, beta=1 - share, alpha=share / new)

    def divide(self, scales: Tensor) -> None:
        """Become those of the inputs divided by `scales` (columns,)."""
        self.mean_absolute /= scales
        self.mean_square /= scales.square()
        self.largest /= scales
        if self.second_moment is not None:
            self.second_moment /= scales[:, None] * scales

    def vectors(self) -> "InputStatistics":
        """A copy without the matrix."""
        copies = (self.mean_absolute.clone(), self.mean_square.clone(), self.largest.clone())
        return InputStatistics(*copies, tokens=self.tokens)


@dataclass
class CalibratedBlock:
    """A block in its place, and what comes into it.

    name     of the module, such as `decoder.blocks.3`.
    hidden   its inputs: a tensor (batch, length, width) for each batch.
    context  of its attention.
    """

    number: int
    name: str
    block: Block
    hidden: list[Tensor]
    context: Context

    @torch.no_grad()
    def outputs(self, batch: Tensor) -> Tensor:
        """The outputs of the block as it is now: (batch, length, width) → the same shape."""
        return self.block(batch, self.context)

    def linears(self) -> dict[str, nn.Linear]:
        """The linear layers by their full names, without a router's, which decides and is small."""
        return {
            f"{self.name}.{name}": module for name, module in self.block.named_modules() if type(module) is nn.Linear
        }

    def observe(self, see: See) -> None:
        """Run all batches through the block; `see` gets what comes into each linear layer, batch by batch."""
        with ExitStack() as hooks:
            for name, layer in self.linears().items():
                handle = layer.register_forward_pre_hook(_hook(name, see))
                hooks.callback(handle.remove)
            for batch in self.hidden:
                self.outputs(batch)

    def statistics(self, moments: bool = True) -> dict[str, InputStatistics]:
        """Statistics of each linear layer that saw a token; layers with one input share the object. `moments`: with
        the matrices of second moments."""
        found: dict[str, InputStatistics] = {}
        last: list[tuple[Tensor, InputStatistics]] = []

        def see(name: str, inputs: Tensor) -> None:
            if last and last[0][0] is inputs:  # queries, keys and values have one input, gate and up another
                found[name] = last[0][1]
                return
            own = found.setdefault(name, InputStatistics.zeros(inputs.shape[-1], moments))
            last[:] = [(inputs, own)]
            if inputs.numel():
                own.add(inputs.flatten(0, -2).float())

        self.observe(see)
        return {name: own for name, own in found.items() if own.tokens}


def _hook(name: str, see: See) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        see(name, arguments[0])

    return hook


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
    it then has, and its outputs take the place of its inputs.

    ValueError for an encoder–decoder and for sequences longer than the model's context.
    """
    stack = model.decoder if model.encoder is None else model.encoder
    if stack is None or (model.encoder is not None and model.decoder is not None):
        raise ValueError("a model with an encoder and a decoder is not calibrated: there are methods without, as rtn")
    check_length(model, text)
    positions = torch.arange(text.ids.shape[1], device=model.tokens.device)[None]
    hidden = [model.embedding(ids.to(model.tokens.device), positions) for ids in text.ids.split(text.batch)]
    contexts = stack.layer_contexts(hidden[0][:1], positions)  # which any batch is broadcast to
    name = "decoder" if model.encoder is None else "encoder"
    for number, (block, context) in enumerate(zip(stack.blocks, contexts, strict=True)):
        assert isinstance(block, Block)
        given = CalibratedBlock(number, f"{name}.blocks.{number}", block, hidden, context)
        yield given
        for place, batch in enumerate(hidden):
            hidden[place] = given.outputs(batch)


def linear_names(model: Transformer) -> list[str]:
    """The linear layers of a model's blocks, by name: its projections, without routers and heads."""
    named = model.named_modules()
    return [name for name, module in named if type(module) is nn.Linear and not name.startswith("head.")]
