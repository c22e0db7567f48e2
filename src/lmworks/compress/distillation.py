"""Distillation (Hinton et al. 2015) as an objective of the training loop: the next token as a teacher sees it, and what
stands in its layers: hidden states (Romero et al. 2015) and attention maps (Wang et al. 2020), of layers that are
matched evenly (Jiao et al. 2020, section 3.1)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.compress.block_calibration import Calls, blocks_of, recorded
from lmworks.compress.distillation_config import DistillationLoss
from lmworks.compress.distillation_losses import Likeliest, LossOfLogits, divergence, gathered, sum_over_logits
from lmworks.compress.teacher_columns import TeacherColumns
from lmworks.data.batches import Batch
from lmworks.model.attention import Attention
from lmworks.model.config import Rope
from lmworks.model.heads import LanguageModelHead, VocabularyProjection
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.objective import Objective
from lmworks.train.run import PROJECTIONS

_CAUSAL = CausalLanguageModel()
_HIDDEN = -1e4  # a score that leaves no probability, and no gradient that is no number
_Features = tuple[Tensor, VocabularyProjection]


@dataclass(frozen=True, slots=True)
class Distillation(Objective[Batch]):
    """The losses of `DistillationLoss`, at every place that the data asks about.

    teacher  a model of the same vocabulary, on the student's device, whose weights ask for no gradient; or what one
             said, stored; None where `loss` asks nothing of it. ValueError for a model that is not frozen.
    """

    loss: DistillationLoss
    teacher: Transformer | TeacherColumns | None = field(repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.teacher, Transformer) and any(w.requires_grad for w in self.teacher.parameters()):
            raise ValueError("a teacher learns nothing: freeze it by teacher.requires_grad_(False)")

    def counts(self, examples: Batch) -> Mapping[str, int]:
        return dict.fromkeys(("distillation", *self.loss_weights()), int(examples.mask.sum()))

    def loss_weights(self) -> Mapping[str, float]:
        of_layers = {name: getattr(self.loss, name) for name in ("hidden_states", "attention_maps")}
        return {name: weight for name, weight in of_layers.items() if weight}

    def losses(self, model: Transformer, examples: Batch) -> Mapping[str, Loss]:
        """TypeError for a model whose head does not predict tokens."""
        teacher, mask = self.teacher if isinstance(self.teacher, Transformer) else None, examples.mask
        teacher_output: Likeliest | _Features | None = None
        with recorded(self._watched(model)) as calls:
            hidden = _CAUSAL.hidden(model, examples)
        with recorded(self._watched(teacher)) as their_calls:
            if teacher is not None and self.loss.asks:
                # Frozen, it keeps nothing for a backward, and attention takes the kernel of training, which is faster.
                teacher_output = _features(teacher, _CAUSAL.hidden(teacher, examples)[mask])
        if isinstance(self.teacher, TeacherColumns):
            stored = self.teacher.rows(examples.sources, examples.sequences)
            teacher_output = Likeliest(*(column.to(mask.device)[mask] for column in stored))
        loss_of = next_token_loss(self.loss, examples.targets[mask], teacher_output)
        total, logged = sum_over_logits(*_features(model, hidden[mask]), loss_of)
        losses = {"distillation": Loss(total, int(mask.sum()), logged)}
        if self.loss.needs_layers:
            assert teacher is not None
            for name, nats in _layer_losses(self.loss, model, teacher, calls | their_calls, examples).items():
                losses[name] = Loss(getattr(self.loss, name) * nats, int(mask.sum()), {"nats": nats.detach()})
        return losses

    def _watched(self, model: Transformer | None) -> list[nn.Module]:
        """The blocks, and the attention of each, where the losses look at layers."""
        blocks = [] if model is None or not self.loss.needs_layers else blocks_of(model)
        return [module for block in blocks for module in (block.attention, block)]


def _features(model: Transformer, hidden: Tensor) -> _Features:
    """The vectors that a head projects to the vocabulary, (targets, width), and the projection."""
    head = model.head
    if not isinstance(head, LanguageModelHead):
        raise TypeError(f"distillation is of language models, and the model's head is {model.config.head}")
    return head.features(hidden), head.projection_to_vocabulary(model.tokens)


def next_token_loss(
    config: DistillationLoss, targets: Tensor, teacher_output: Likeliest | _Features | None
) -> LossOfLogits:
    """The loss of logits at the places of these `targets` (targets,), and the `teacher_output` at each; None where
    nothing is asked of it."""

    def loss_of(logits: Tensor, rows: slice) -> tuple[Tensor, Mapping[str, Tensor]]:
        temperature = config.temperature
        nats = F.cross_entropy(logits, targets[rows], reduction="none")
        if teacher_output is None or not config.teacher:
            return config.next_token * nats, {"next_token": nats.sum()}
        if isinstance(teacher_output, Likeliest):
            log_q = gathered((logits / temperature).log_softmax(-1), teacher_output.ids[rows])
            log_p = teacher_output.log_probabilities[rows].to(log_q)
        else:
            values, project = teacher_output
            teacher_logits = project(values[rows]).to(logits)
            both = min(logits.shape[-1], teacher_logits.shape[-1])  # one vocabulary may be padded to several sizes
            log_q, log_p = ((scores[:, :both] / temperature).log_softmax(-1) for scores in (logits, teacher_logits))
        divergences = divergence(log_q, log_p, config.beta)
        losses = config.next_token * nats + config.teacher * temperature**2 * divergences
        return losses, {"next_token": nats.sum(), "divergence": divergences.sum()}

    return loss_of


# ---------------------------------------------------------------------------------------------------------------------
# Layers


def matched_layers(student: int, teacher: int) -> list[int]:
    """The number of the teacher's layer for each of the student's; the last ones match. ValueError for a teacher with
    fewer."""
    if teacher < student:
        raise ValueError(f"a teacher of {teacher} layers cannot be matched by a student of {student}: leave layers out")
    return [-(-(layer + 1) * teacher // student) - 1 for layer in range(student)]


def prepare_student(model: Transformer, teacher: Transformer | None, loss: DistillationLoss, seed: int) -> Transformer:
    """The student, in place, with projections where the hidden states of the two have different widths: they are
    learned with it and not delivered. ValueError for layers that cannot be matched, or seen."""
    if not loss.needs_layers:
        return model
    if teacher is None:
        raise ValueError("columns hold a teacher's next tokens alone: set loss.hidden_states and attention_maps to 0")
    matched_layers(len(blocks_of(model)), len(blocks_of(teacher)))
    for attention in (block.attention.config for network in (model, teacher) for block in blocks_of(network)):
        plain = isinstance(attention.position, Rope | None) and not attention.pattern
        if loss.attention_maps and (not plain or attention.softcap or attention.sinks):
            raise ValueError("attention maps are of plain causal attention; leave loss.attention_maps at 0")
    student_width, width = model.config.embedding.width, teacher.config.embedding.width
    if loss.hidden_states and width != student_width:
        generator = torch.Generator().manual_seed(seed)
        layers = nn.ModuleList(nn.Linear(student_width, width, bias=False) for _ in blocks_of(model))
        for weight in layers.parameters():
            nn.init.normal_(weight, std=student_width**-0.5, generator=generator)
        model.add_module(PROJECTIONS.removesuffix("."), layers.to(model.tokens))
    return model


def _layer_losses(
    config: DistillationLoss, model: Transformer, teacher: Transformer, calls: Calls, examples: Batch
) -> dict[str, Tensor]:
    """Sums over the targets of the means over layers."""
    sums_by_loss: dict[str, list[Tensor]] = {}
    projections, mask = getattr(model, "projections", None), examples.mask
    documents, positions = examples.documents, torch.arange(mask.shape[1], device=mask.device)
    # (batch, length, length)
    visible = (documents[:, :, None] == documents[:, None]) & (positions <= positions[:, None])
    student_blocks, teacher_blocks = blocks_of(model), blocks_of(teacher)
    for layer, number in enumerate(matched_layers(len(student_blocks), len(teacher_blocks))):
        pair = student_blocks[layer], teacher_blocks[number]
        if config.hidden_states:
            student, target = (calls[block][1][mask] for block in pair)
            student = student if projections is None else projections[layer](student)
            sums_by_loss.setdefault("hidden_states", []).append(hidden_state_loss(student, target).sum())
        if config.attention_maps:
            maps = [attention_map(each.attention, calls[each.attention][0], visible[:, None]) for each in pair]
            sums_by_loss.setdefault("attention_maps", []).append(attention_loss(*maps)[mask].sum())
    return {name: torch.stack(sums).mean() for name, sums in sums_by_loss.items()}


def hidden_state_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared distance relative to the teacher's square, (…, width) each → (…,) float32 at least: they grow from
    layer to layer, and each is to count alike."""
    student, teacher = _wide(student), _wide(teacher)
    return (student - teacher).square().sum(-1) / teacher.square().sum(-1).clamp(min=1e-12)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of attention maps, (batch, heads, length, length) log-probabilities each → (batch, length),
    the mean over heads; where the numbers of heads differ, of the means of their maps."""
    if student.shape[1] != teacher.shape[1]:
        student, teacher = (maps.logsumexp(1, keepdim=True) - math.log(maps.shape[1]) for maps in (student, teacher))
    return divergence(student, teacher, beta=0).mean(1)


def attention_map(attention: Attention, call: tuple[Any, ...], visible: Tensor) -> Tensor:
    """ln of the shares that each query gives to keys, (batch, heads, length, length) float32 at least, of a call of
    `attention` and who sees whom, `visible` (batch, 1, length, length) bool."""
    query, key = attention.query_and_key(*call)
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = _wide(query @ key.transpose(-1, -2)) * attention.scale
    return scores.masked_fill(~visible, _HIDDEN).log_softmax(-1)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
