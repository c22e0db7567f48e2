"""One training step after the other, of lmworks or of transformers, or the matrix products of a step and nothing else,
as a contender of `training_speed.py`.

A line with a number of steps comes in, a line of JSON with their seconds, the peak memory and the last loss goes out.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from worker import resident_bytes, use_processors

VOCABULARY, LENGTH = 8192, 512
SIZES = {"15M": (384, 6, 6, 1024, 8), "50M": (640, 10, 10, 1728, 4)}  # width, layers, heads, hidden, sequences
Step = Callable[[], float]


def lmworks(family: str, size: str, ids: Tensor, precision: str, compiled: bool, policy: str) -> Step:
    from lmworks.model.initialisation import PUBLISHED, initialise
    from lmworks.model.presets import gpt2, llama
    from lmworks.model.transformer import Transformer
    from lmworks.train.activation_checkpointing import blocks, checkpoint_activations
    from lmworks.train.losses import token_cross_entropy
    from lmworks.train.master_weights import Weights
    from lmworks.train.optimizer_config import AdamW

    width, layers, heads, hidden, _ = SIZES[size]
    config = (
        llama(VOCABULARY, width, layers, heads, heads, hidden, LENGTH)
        if family == "llama"
        else gpt2(VOCABULARY, width, layers, heads, context_length=LENGTH)
    )
    model = checkpoint_activations(initialise(Transformer(config), 0, scheme=PUBLISHED[family]).train(), policy)  # type: ignore[arg-type]
    weights = Weights(model, AdamW(rate=1e-3), precision)  # type: ignore[arg-type]
    if compiled:
        for block in blocks(model):
            block.compile()
    inputs, targets = ids[:, :-1], ids[:, 1:].flatten()
    head: Any = model.head

    def step() -> float:
        weights.clear()
        features = head.features(model.hidden(inputs)).flatten(0, 1)
        loss = token_cross_entropy(features, head.projection_to_vocabulary(model.tokens), targets)
        (loss.sum / len(targets)).backward()
        weights.update(1.0, min(1.0, 1.0 / float(weights.gradient_norm())))
        return float(loss.sum.detach()) / len(targets)

    return step


def transformers(family: str, size: str, ids: Tensor, precision: str, compiled: bool, attention: str) -> Step:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    width, layers, heads, hidden, _ = SIZES[size]
    if family == "llama":
        config = LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=heads, intermediate_size=hidden, max_position_embeddings=LENGTH,
            tie_word_embeddings=False, use_cache=False, attn_implementation=attention,
        )  # fmt: skip
        model: Any = LlamaForCausalLM(config)
    else:
        config = GPT2Config(
            vocab_size=VOCABULARY, n_embd=width, n_layer=layers, n_head=heads, n_positions=LENGTH, use_cache=False,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation=attention,
        )  # fmt: skip
        model = GPT2LMHeadModel(config)
    pure = precision == "pure-bfloat16"  # weights and optimizer state in bfloat16, which lmworks does not offer
    model = model.to(torch.bfloat16 if pure else torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(model) if compiled else model
    inputs = ids[:, :-1].contiguous()
    targets = ids[:, 1:].contiguous()

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = forward(input_ids=inputs, labels=targets, shift_labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def products(family: str, size: str, ids: Tensor) -> Step:
    """The products of all matrices of the model with bfloat16 activations, forward and backward: what a step cannot do
    without, at the rate that this machine reaches on these shapes."""
    width, layers, _, hidden, _ = SIZES[size]
    shapes = [(width, width)] * 4
    shapes += (
        [(hidden, width)] * 2 + [(width, hidden)] if family == "llama" else [(4 * width, width), (width, 4 * width)]
    )
    shapes = layers * shapes + [(VOCABULARY, width)]
    tokens = ids[:, 1:].numel()
    numbers = {columns: torch.randn(tokens, columns).bfloat16() for shape in shapes for columns in shape}
    matrices = [torch.randn(shape).bfloat16() for shape in shapes]

    def step() -> float:
        for matrix in matrices:
            rows, columns = matrix.shape
            torch.nn.functional.linear(numbers[columns], matrix)
            numbers[rows] @ matrix
            numbers[rows].T @ numbers[columns]
        return 0.0

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=("lmworks", "transformers", "products"), required=True)
    parser.add_argument("--family", choices=("llama", "gpt2"), required=True)
    parser.add_argument("--size", choices=tuple(SIZES), required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--recompute", default="nothing")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    use_processors(options.threads)
    torch.set_num_threads(options.threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    generator = torch.Generator().manual_seed(0)
    sequences = SIZES[options.size][-1]
    ids = torch.randint(VOCABULARY, (sequences, LENGTH + 1), generator=generator)
    began = time.perf_counter()
    arguments = (options.family, options.size, ids, options.precision, options.compile)
    match options.library:
        case "lmworks":
            step = lmworks(*arguments, options.recompute)
        case "transformers":
            step = transformers(*arguments, options.attention)
        case _:
            step = products(*arguments[:3])
    loss = step()
    step()
    print(json.dumps({"first": time.perf_counter() - began, "loss": loss}), file=answers, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            loss = step()
        seconds = time.perf_counter() - began
        told = {"seconds": seconds, "peak": resident_bytes("VmHWM"), "loss": loss}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
