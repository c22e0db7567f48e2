"""TRL's losses and gradients on two tiny models and fixed rows, in float64. `test_trl.py` compares ours with what is
recorded in `trl_losses.json`, and where TRL is installed with itself.

    python tests/parity/trl_losses.py     # records, where TRL is installed
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generate.engine_cases import checkpoint
from lmworks.adapt.task_head import with_head
from lmworks.data.token_groups import GroupBatch, TokenGroup, join_groups
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import ScoreHead
from lmworks.model.presets import llama

RECORDED = Path(__file__).with_suffix(".json")
LABELS = (1.0, 0.0, 0.0, 1.0, 0.0)
DPO = {
    "sigmoid": {"loss": "sigmoid"},
    "robust": {"loss": "robust", "label_smoothing": 0.2},
    "ipo": {"loss": "ipo"},
    "sigmoid_norm": {"loss": "sigmoid_norm"},
}
KTO = {"both": (LABELS, 1.0, 1.0), "weighted": (LABELS, 0.7, 1.5), "wanted": ((1.0,) * 5, 1.0, 1.0)}
REWARD = {"plain": (0.0, 0.0), "margin": (0.5, 0.0), "centred": (0.0, 0.01)}


def models() -> tuple[Checkpoint, Checkpoint]:
    """The policy, and its reference, which is another model."""
    sizes = {"vocabulary": 260, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 48}
    config = llama(**sizes, context_length=64, tied=False)
    return checkpoint(config, seed=3), checkpoint(config, seed=4)


def judge() -> Checkpoint:
    return with_head(models()[0], ScoreHead(), seed=5)


def pairs() -> GroupBatch:
    """Ragged pairs of 5 rows: prompts of 3 to 7 tokens, completions of 1 to 9."""
    generator, groups = torch.Generator().manual_seed(0), []
    for row in range(5):
        prompt, lengths = 3 + row, (1 + 2 * row, 6 - row)
        draw = [torch.randint(5, 255, (length,), generator=generator).tolist() for length in (prompt, *lengths)]
        ids = [draw[0] + draw[1], draw[0] + draw[2]]
        learned = [[False] * prompt + [True] * length for length in lengths]
        groups.append(TokenGroup(ids, learned))
    return join_groups(groups).batch(range(5))


def swapped(batch: GroupBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Of the pairs' first completions: each prompt with the completion of the next row; ids, mask of what is there,
    mask of the completion."""
    ids, rows = batch.ids[:, 0], []
    for row in range(len(ids)):
        other = (row + 1) % len(ids)
        rows.append((ids[row][: 3 + row], ids[other][batch.completion_mask[other, 0]]))
    longest = max(len(a) + len(b) for a, b in rows)
    made = [torch.zeros(len(rows), longest, dtype=torch.int64) for _ in range(3)]
    for row, (prompt, completion) in enumerate(rows):
        whole = torch.cat((prompt, completion))
        made[0][row, : len(whole)], made[1][row, : len(whole)] = whole, 1
        made[2][row, len(prompt) : len(whole)] = 1
    return made[0], made[1].bool(), made[2].bool()


def summary(loss: float, gradients: dict[str, Tensor]) -> dict[str, Any]:
    """The loss, and for each weight the norm of its gradient and its product with a fixed direction."""
    numbers = {}
    for name, gradient in gradients.items():
        direction = torch.cos(torch.arange(gradient.numel(), dtype=torch.float64)).view_as(gradient)
        numbers[name] = [float(gradient.double().norm()), float((gradient.double() * direction).sum())]
    return {"loss": loss, "gradients": numbers}


def of_trl() -> dict[str, Any]:
    """All cases as TRL computes them."""
    import datasets
    import transformers
    import trl

    from lmworks.model.huggingface import to_our_names

    def ours(model: Any, like: Checkpoint) -> dict[str, Tensor]:
        named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found = to_our_names(like.config, model.config.to_dict(), named)
        return {name: found[name] for name in found}

    def run(loss: Callable[..., Tensor], model: Any, like: Checkpoint, inputs: Any) -> dict[str, Any]:
        model.zero_grad(set_to_none=True)
        value = loss(model, dict(inputs), False)
        value.backward()
        return summary(float(value.detach()), ours(model, like))

    batch, (policy, reference), scorer = pairs(), models(), judge()
    found: dict[str, Any] = {"versions": {m.__name__: m.__version__ for m in (trl, transformers, torch)}}
    with tempfile.TemporaryDirectory() as folder:
        for name, made in (("policy", policy), ("reference", reference), ("judge", scorer)):
            made.save(Path(folder) / name)
        causal, double = transformers.AutoModelForCausalLM, {"dtype": torch.float64}
        tokenizer = transformers.AutoTokenizer.from_pretrained(Path(folder) / "policy")
        tokenizer.pad_token = "<|endoftext|>"
        common: dict[str, Any] = {
            "output_dir": folder, "bf16": False, "gradient_checkpointing": False, "report_to": "none", "use_cpu": True,
        }  # fmt: skip
        rows = {"prompt": ["a"] * 4, "chosen": ["b"] * 4, "rejected": ["c"] * 4}

        def both() -> tuple[Any, Any]:
            return tuple(causal.from_pretrained(Path(folder) / name, **double) for name in ("policy", "reference"))

        order = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
        flat = (batch.ids, batch.attention_mask, batch.completion_mask)
        ids, mask, completion = (each.flatten(0, 1)[order] for each in flat)
        for name, settings in DPO.items():
            model, frozen = both()
            smoothing = {"label_smoothing": settings.get("label_smoothing", 0.0)}
            args = trl.DPOConfig(**common, loss_type=settings["loss"], **smoothing)
            made = trl.DPOTrainer(
                model, frozen, args=args, train_dataset=datasets.Dataset.from_dict(rows), processing_class=tokenizer
            )
            inputs = {"input_ids": ids, "attention_mask": mask.long(), "completion_mask": completion.long()}
            found[f"dpo-{name}"] = run(made._compute_loss, made.model, policy, inputs)
        unpaired = {"prompt": ["a"] * 4, "completion": ["b"] * 4, "label": [True, False] * 2}
        other = swapped(batch)
        for name, (labels, wanted, unwanted) in KTO.items():
            model, frozen = both()
            args = trl.KTOConfig(**common, desirable_weight=wanted, undesirable_weight=unwanted)
            made = trl.KTOTrainer(
                model, frozen, args=args, train_dataset=datasets.Dataset.from_dict(unpaired), processing_class=tokenizer
            )
            inputs = {
                "input_ids": ids[:5], "attention_mask": mask[:5].long(), "completion_mask": completion[:5].long(),
                "KL_input_ids": other[0], "KL_attention_mask": other[1].long(), "KL_completion_mask": other[2].long(),
                "label": torch.tensor(labels).bool(),
            }  # fmt: skip
            found[f"kto-{name}"] = run(made._compute_loss, made.model, policy, inputs)
        classifier = transformers.AutoModelForSequenceClassification
        for name, (margin, centring) in REWARD.items():
            model = classifier.from_pretrained(Path(folder) / "judge", **double)
            model.config.pad_token_id = tokenizer.pad_token_id
            args = trl.RewardConfig(**common, center_rewards_coefficient=centring or None)
            made = trl.RewardTrainer(
                model, args=args, train_dataset=datasets.Dataset.from_dict(rows), processing_class=tokenizer
            )
            inputs = {"input_ids": ids.masked_fill(~mask, tokenizer.pad_token_id), "attention_mask": mask.long()}
            inputs |= {"margin": torch.full((5,), margin)} if margin else {}
            found[f"reward-{name}"] = run(made.compute_loss, made.model, scorer, inputs)
    return found


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in of_trl().items()]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
