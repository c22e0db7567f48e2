"""Parity with `transformers`: one small random model of theirs, loaded by us, and what must then be the same.

A `Case` names a class and a config of `transformers`. `Pair` builds it, with weights drawn so that every part matters:
biases and norm weights away from where they start, logits with a standard deviation of about one. Each check of
`CHECKS` gives an error, 0 where the answer is yes or no, and is asserted by `test_families.py` and printed by
`table.py`.

Errors of numbers are the largest absolute difference, in units of the standard deviation of what is compared (of the
loss: of itself). A single float32 sum of logits this size is off by some 1e-7 of it; a few layers of sums in another
order stay below 1e-5, and an error in the model, such as a norm's epsilon or one bias left out, lies far above.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
import transformers
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.config import MaskedLanguageModelHead
from lmworks.model.huggingface import to_our_names
from lmworks.model.kv_cache import KVCache
from lmworks.model.tensor_files import read_weights
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.byte_level import CONTROL, byte_level_bpe
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tokenizer_folder import read_json

Inputs = dict[str, Tensor]  # by our names: ids, attention_mask, decoder_ids, decoder_attention_mask

VOCABULARY = 267
LENGTH, TARGETS = 24, 17  # longer than the windows of all cases
SPECIAL_IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
STEPS = 12  # of generation, which passes every window again


@dataclass(frozen=True)
class Case:
    """A model of `transformers`, and what is known of it.

    model       its class; the config's class is asked of it.
    fields      of its config; `SPECIAL_IDS` and the size of the vocabulary are added.
    attention   the implementation to compare with: "eager" where the fast one leaves something out.
    ignored     regular expression: their tensors that hold nothing the forward uses.
    constant    regular expression: our parameters that are no parameters there, and so have no gradient.
    positions   they need the positions of padded texts as an argument, which otherwise count padding.
    sides       of padding, where positions are no argument.
    adapt       what a config cannot say is done to the model.
    rewritten   fields of config.json that we write in another way.
    """

    name: str
    model: str
    fields: Mapping[str, Any]
    attention: str = "sdpa"
    ignored: str = r"(?!)"
    constant: str = r"(?!)"
    positions: bool = False
    sides: tuple[str, ...] = ("right", "left")
    adapt: Callable[[Any], Any] = lambda model: model
    rewritten: tuple[str, ...] = ()

    @property
    def generates(self) -> bool:
        return self.model.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))

    @property
    def has_loss(self) -> bool:
        return self.generates or not self.model.endswith("Model")


class Pair:
    """Their model and ours, which was loaded from the folder that theirs wrote."""

    def __init__(self, case: Case, folder: Path) -> None:
        model_class = getattr(transformers, case.model)
        fields = {"vocab_size": VOCABULARY, **SPECIAL_IDS, **case.fields}
        torch.manual_seed(0)
        config = model_class.config_class(**fields, attn_implementation=case.attention)
        self.case, self.folder = case, folder
        self.theirs: Any = case.adapt(randomise(model_class(config))).eval()
        self.theirs.save_pretrained(folder / "theirs")
        tokenizer(fields).save(folder / "theirs")
        self.checkpoint: Checkpoint = load(folder / "theirs")
        self.ours: Transformer = self.checkpoint.model

    @cached_property
    def saved(self) -> Path:
        return self.checkpoint.save(self.folder / "ours")

    @cached_property
    def in_float64(self) -> tuple[Any, Transformer]:
        """Theirs and ours in float64. Theirs is built anew, for it has constants that are not saved with it."""
        with Float64():
            theirs = self.case.adapt(type(self.theirs)(copy.deepcopy(self.theirs.config))).double().eval()
            theirs.load_state_dict(self.theirs.state_dict())
        return theirs, load(self.folder / "theirs", torch.float64).model

    @property
    def crosses(self) -> bool:
        return len(self.ours.config.stacks) == 2

    def inputs(self, lengths: list[int] | None = None, side: str = "right") -> Inputs:
        """A batch of random ids; with `lengths`, padded on one `side` to the longest, and the encoder–decoder's targets
        too, in the opposite order."""
        generator, pad = torch.Generator().manual_seed(1), self.theirs.config.pad_token_id

        def draw(sizes: list[int], longest: int) -> tuple[Tensor, Tensor]:
            mask = torch.arange(longest) < torch.tensor(sizes)[:, None]
            mask = mask if side == "right" else mask.flip(1)
            ids = torch.randint(max(SPECIAL_IDS.values()) + 1, VOCABULARY, mask.shape, generator=generator)
            return ids.masked_fill(~mask, pad), mask

        sizes = lengths or [LENGTH] * 3
        ids, mask = draw(sizes, max(sizes))
        inputs = {"ids": ids} if lengths is None else {"ids": ids, "attention_mask": mask}
        if self.crosses:
            sizes = [TARGETS] * 3 if lengths is None else [min(size, TARGETS) for size in reversed(lengths)]
            ids, mask = draw(sizes, max(sizes))
            inputs |= {"decoder_ids": ids} if lengths is None else {"decoder_ids": ids, "decoder_attention_mask": mask}
        return inputs

    def their_arguments(self, inputs: Inputs) -> Inputs:
        arguments = {"input_ids": inputs["ids"]}
        if "attention_mask" in inputs:
            arguments["attention_mask"] = inputs["attention_mask"].long()
            if self.case.positions:
                arguments["position_ids"] = (inputs["attention_mask"].long().cumsum(1) - 1).clamp(min=0)
        if "decoder_ids" in inputs:
            arguments["decoder_input_ids"] = inputs["decoder_ids"]
        if "decoder_attention_mask" in inputs:
            arguments["decoder_attention_mask"] = inputs["decoder_attention_mask"].long()
        return arguments

    def their_output(self, inputs: Inputs, theirs: Any = None) -> Tensor:
        """What the model is for: its logits, or the last hidden states of a bare model; one score without its axis."""
        output = (theirs or self.theirs)(**self.their_arguments(inputs))
        output = output.last_hidden_state if "last_hidden_state" in output else output.logits
        return output.squeeze(-1) if output.shape[-1] == 1 else output

    def losses(self, theirs: Any, ours: Transformer) -> tuple[Tensor, Tensor]:
        """Theirs as they compute it from labels; ours as the cross-entropy of our logits, or the squared
        error of our scores. A bare model's is a sum."""
        inputs = self.inputs()
        if not self.case.has_loss:
            mix = torch.randn(ours.config.embedding.width, generator=torch.Generator().manual_seed(2))
            mix = mix.to(ours.tokens.dtype)
            return (self.their_output(inputs, theirs) @ mix).mean(), (ours(**inputs) @ mix).mean()
        arguments, ids = self.their_arguments(inputs), inputs["ids"]
        if self.crosses and self.case.generates:
            labels = arguments.pop("decoder_input_ids")
            start = torch.full_like(labels[:, :1], theirs.config.decoder_start_token_id)
            logits = ours(ids, torch.cat((start, labels[:, :-1]), dim=1))  # each label is predicted from those before
        elif self.case.generates:
            labels, logits = ids, ours(ids)[:, :-1]
        elif isinstance(ours.config.head, MaskedLanguageModelHead):
            labels, logits = ids.masked_fill(ids % 3 > 0, -100), ours(ids)
        elif theirs.config.num_labels == 1:
            targets = torch.linspace(-1, 1, len(ids), dtype=ours.tokens.dtype)
            return theirs(**arguments, labels=targets).loss, F.mse_loss(ours(**inputs), targets)
        else:
            labels, logits = torch.arange(len(ids)) % theirs.config.num_labels, ours(**inputs)
        targets = labels[:, 1:] if self.case.generates and not self.crosses else labels
        ours_loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
        return theirs(**arguments, labels=labels).loss, ours_loss


class Float64(TorchFunctionMode):
    """Whatever is cast to float32 within is cast to float64.

    Most models of theirs compute norms, rotations and softmaxes in float32 even where the weights are in float64, and
    so do some of ours. The difference would then be that of roundings, some 1e-6, behind which much can hide.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def lifted(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        func = Tensor.double if func is Tensor.float else func
        return func(*map(lifted, args), **{name: lifted(value) for name, value in (kwargs or {}).items()})


@torch.no_grad()
def randomise(model: Any) -> Any:
    """Matrices at a scale that keeps activations as they are; vectors (biases, norms) moved from where they start."""
    buffers = {name: tensor for name, tensor in model.named_buffers() if name in model.state_dict()}
    for tensor in [*model.parameters(), *(b for b in buffers.values() if b.is_floating_point())]:
        if tensor.dim() > 1 and tensor.shape[0] > 1:
            nn.init.normal_(tensor, std=tensor.shape[-1] ** -0.5)
        else:
            tensor.add_(torch.randn_like(tensor) * 0.2)
    return model


def tokenizer(fields: Mapping[str, Any]) -> Tokenizer:
    """Of single bytes, its special tokens at the ids that a config gives them."""
    ids = {fields[name]: name.removesuffix("_id") for name in SPECIAL_IDS}
    special = [f"<|{ids.get(number, number)}|>" for number in range(max(SPECIAL_IDS.values()) + 1)]
    roles = {name.removesuffix("_id"): special[fields[name]] for name in SPECIAL_IDS}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    kinds = [CONTROL] * len(special) + [1] * len(alphabet)
    return Tokenizer(byte_level_bpe([*special, *alphabet], (), kinds, "smollm"), roles)


# ---------------------------------------------------------------------------------------------------------------------
# Checks


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in standard deviations of `theirs`."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} is not {tuple(theirs.shape)}"
    return float((ours - theirs).abs().max() / theirs.std())


@torch.no_grad()
def logits(pair: Pair) -> float:
    """In float32, divided by the largest logit where that is over 1: with it grows the error of float32 itself.
    Switch's logits reach 4.9, and theirs are 1.7e-5 from what they are in float64, ours 1.9e-5."""
    inputs = pair.inputs()
    theirs = pair.their_output(inputs)
    assert theirs.std() > 0.1  # so that the tolerance is one of visible numbers
    return difference(pair.ours(**inputs), theirs) / max(float(theirs.abs().max()), 1.0)


@torch.no_grad()
def logits_in_float64(pair: Pair) -> float:
    inputs, (theirs, ours) = pair.inputs(), pair.in_float64
    with Float64():
        return difference(ours(**inputs), pair.their_output(inputs, theirs))


@torch.no_grad()
def loss(pair: Pair) -> float:
    theirs, ours = pair.losses(pair.theirs, pair.ours)
    return float((ours - theirs).abs() / theirs.abs())


def gradients(pair: Pair) -> float:
    """Of every parameter, in float64. Theirs are written to a folder as if they were weights, and go our weights' way,
    which only renames and cuts. In units of each gradient's largest entry, or of a thousandth of the model's largest:
    a key's bias, which the softmax takes out, has a gradient of rounding errors."""
    theirs, ours = (copy.deepcopy(model) for model in pair.in_float64)
    with Float64():
        for loss_of_one in pair.losses(theirs, ours):
            loss_of_one.backward()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    theirs.save_pretrained(pair.folder / "gradients")
    document = read_json(pair.folder / "gradients" / "config.json")
    expected = to_our_names(ours.config, document, read_weights(pair.folder / "gradients"))
    found = {name: p for name, p in ours.named_parameters() if not re.fullmatch(pair.case.constant, name)}
    largest = max(float(expected[name].abs().max()) for name in found)
    errors = []
    for name, parameter in found.items():
        assert parameter.grad is not None, f"{name} has no gradient"
        unit = max(float(expected[name].abs().max()), 1e-3 * largest)
        errors.append(float((parameter.grad - expected[name]).abs().max()) / unit)
    return max(errors)


@torch.no_grad()
def padding(pair: Pair) -> float:
    """Texts of unequal lengths, padded left and right: compared where tokens are real."""
    errors = []
    for side in pair.case.sides:
        inputs = pair.inputs([LENGTH, 9, 1], side)
        ours, theirs = pair.ours(**inputs), pair.their_output(inputs)
        real = inputs["decoder_attention_mask" if pair.crosses else "attention_mask"]
        per_token = theirs.shape[:2] == real.shape
        errors.append(difference(ours[real], theirs[real]) if per_token else difference(ours, theirs))
    return max(errors)


@torch.no_grad()
def generation(pair: Pair, steps: int = STEPS) -> float:
    """Greedy, ours in one ragged batch through the cache, theirs text by text: the number of texts that differ."""
    inputs = pair.inputs([LENGTH - 5, 9, 1])
    rows = [ids[mask].tolist() for ids, mask in zip(inputs["ids"], inputs["attention_mask"], strict=True)]
    their_model = copy.deepcopy(pair.theirs)
    settings = their_model.generation_config
    settings.eos_token_id = settings.forced_eos_token_id = None  # all go to the end
    lengths = {"max_new_tokens": steps, "min_new_tokens": None, "do_sample": False}
    theirs = [
        their_model.generate(torch.tensor([row]), attention_mask=torch.ones(1, len(row)).long(), **lengths)[0].tolist()
        for row in rows
    ]
    if not pair.crosses:
        ours = greedy(pair.ours, rows, steps)
    else:
        memory = pair.ours.encode(inputs["ids"], attention_mask=inputs["attention_mask"])
        start = pair.theirs.config.decoder_start_token_id
        ours = greedy(pair.ours, [[start]] * len(rows), steps, memory)
    return float(sum(a != b for a, b in zip(ours, theirs, strict=True)))


@torch.no_grad()
def greedy(model: Transformer, prompts: list[list[int]], steps: int, memory: Any = None) -> list[list[int]]:
    """The prompts and `steps` tokens after each, all prompts in one ragged batch through the cache."""
    rows, longest = [list(prompt) for prompt in prompts], max(map(len, prompts))
    cache, slots = KVCache(model.config, len(rows), longest + steps), torch.arange(len(rows))
    positions = torch.tensor([[*range(len(row)), *[-1] * (longest - len(row))] for row in rows])
    new = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    last = torch.tensor([len(row) - 1 for row in rows])
    for _ in range(steps):
        view = cache.view(slots, positions)
        hidden = model.hidden(new, cache=view) if memory is None else model.decode(new, memory, cache=view)
        chosen = model.logits(hidden[slots, last]).argmax(dim=-1)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            row.append(token)
        positions = torch.tensor([[len(row) - 1] for row in rows])
        new, last = chosen[:, None], torch.zeros_like(last)
    return rows


@torch.no_grad()
def saved_model(pair: Pair) -> float:
    """What we saved, loaded by `transformers`, with no tensor missing, left over or of another shape."""
    return _loaded_by_them(pair, pair.saved)


@torch.no_grad()
def written_anew(pair: Pair) -> float:
    """The same where we know the model's config but not the config.json it came from, so that we write all of it."""
    checkpoint = replace(pair.checkpoint, published=None)
    return _loaded_by_them(pair, checkpoint.save(pair.folder / "anew"))


def _loaded_by_them(pair: Pair, folder: Path) -> float:
    model_class = getattr(transformers, read_json(folder / "config.json")["architectures"][0])
    theirs, report = model_class.from_pretrained(
        folder, output_loading_info=True, attn_implementation=pair.case.attention
    )
    missing = [name for name in report.pop("missing_keys") if not re.fullmatch(pair.case.ignored, name)]
    assert not missing and not any(report.values()), (missing, report)
    inputs = pair.inputs()
    return difference(pair.their_output(inputs, theirs.eval()), pair.their_output(inputs))


def saved_weights(pair: Pair) -> float:
    """The tensors after theirs → ours → theirs, bit for bit, under the same names: how many differ."""
    ours, theirs = read_weights(pair.saved), read_weights(pair.folder / "theirs")
    theirs = {name: tensor for name, tensor in theirs.items() if not re.fullmatch(pair.case.ignored, name)}
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    return float(sum(not torch.equal(ours[name], theirs[name]) for name in theirs))


def saved_config(pair: Pair) -> float:
    """config.json and generation_config.json: how many of their fields are not the same in ours."""
    differing = []
    for file in ("config.json", "generation_config.json"):
        ours, theirs = (read_json(folder / file) for folder in (pair.saved, pair.folder / "theirs"))
        fields = theirs.keys() - set(pair.case.rewritten)
        differing += [(file, name, ours.get(name), theirs[name]) for name in fields if ours.get(name) != theirs[name]]
    assert not differing, differing
    return float(len(differing))


@dataclass(frozen=True)
class Check:
    measure: Callable[[Pair], float]
    tolerance: float
    applies: Callable[[Case], bool] = field(default=lambda case: True)


CHECKS: dict[str, Check] = {
    "logits fp32": Check(logits, 1e-5),
    "logits fp64": Check(logits_in_float64, 1e-10),
    "loss": Check(loss, 1e-5, lambda case: case.has_loss),
    "gradients fp64": Check(gradients, 1e-10),
    "padding": Check(padding, 1e-5),
    "cached generation": Check(generation, 0, lambda case: case.generates),
    "longer generation": Check(partial(generation, steps=20), 0, lambda case: case.generates),
    "saved model": Check(saved_model, 1e-6),  # where a tensor lies in memory may change how a kernel adds
    "written anew": Check(written_anew, 1e-6),
    "saved weights": Check(saved_weights, 0),
    "saved config": Check(saved_config, 0),
}
