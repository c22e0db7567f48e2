"""Adapters in training: what is learned, saved and resumed. That PEFT has the same gradients, tests/parity proves."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from small_models import MIXTRAL, TIED, build, random_ids, random_lora

from lmworks.adapt import (
    LoraConfig,
    add_adapter,
    lora_of,
    merge,
    merge_adapter,
    read_lora,
    trainable_lora,
    write_lora,
)
from lmworks.data.loader import Loader
from lmworks.model.multi_token_heads import with_further_tokens
from lmworks.train.config import CheckpointConfig, TrainConfig
from lmworks.train.loop import step, train
from lmworks.train.losses import token_log_probabilities
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.optimizer_config import AdamW
from lmworks.train.run import Run
from lmworks.train.run_log import read_log
from training_cases import loader_config, new_checkpoint, write_text_dataset

WITH_HEAD = LoraConfig(r=4, target_modules=("query", "up", "projection"))


@pytest.mark.parametrize(
    ("config", "excluded"),
    [(TIED, ()), (MIXTRAL, ("router",)), (with_further_tokens(TIED), ("embedding.tokens",))],
    ids=["tied", "experts", "further tokens"],
)
def test_it_computes_what_the_merged_model_does(config, excluded):
    lora = random_lora(config, 1, LoraConfig(r=4, exclude_modules=excluded, target_modules=r".*"))
    model, ids = build(config), random_ids(2, 9)
    adapted = trainable_lora(model, lora)
    merged = merge(model, lora)
    torch.testing.assert_close(adapted(ids), merged(ids), rtol=1e-4, atol=1e-4)
    hidden, targets = adapted.hidden(ids)[0], ids[0]
    projection = adapted.head.projection_to_vocabulary(adapted.tokens)
    found = token_log_probabilities(adapted.head.features(hidden), projection, targets)
    expected = merged.logits(hidden).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert lora_of(adapted).fingerprint == lora.fingerprint
    assert torch.equal(merge_adapter(adapted)(ids), merged(ids))


def test_a_router_is_refused():
    lora = random_lora(MIXTRAL, 1, LoraConfig(target_modules=("router",)))
    with pytest.raises(ValueError, match=r"router is a Router.* exclude_modules"):
        trainable_lora(build(MIXTRAL), lora)


@pytest.mark.parametrize(("precision", "dora"), [("float32", False), ("bfloat16", True)])
def test_a_run_that_is_stopped_goes_on_to_the_same_adapter(precision, dora, tmp_path):
    dataset = write_text_dataset(tmp_path / "tokens")

    def run_of(folder):
        checkpoint = new_checkpoint("gpt2")
        config = TrainConfig(
            AdamW(rate=2e-2), log=1, validate=None, precision=precision, micro_batch=3,
            checkpoint=CheckpointConfig(steps=5),
        )  # fmt: skip
        loader = Loader(loader_config(dataset, steps=12))
        adapt = partial(add_adapter, method=replace(WITH_HEAD, use_dora=dora))
        return Run(checkpoint, CausalLanguageModel(), loader, config, tmp_path / folder, adapt=adapt)

    undisturbed, stopped = run_of("one"), run_of("two")
    base = {name: weight.clone() for name, weight in stopped.checkpoint.weights.items()}
    train(undisturbed)
    losses = [line["loss"] for line in read_log(tmp_path / "one" / "log.jsonl")]
    assert losses[-1] < losses[0] - 0.3
    for _ in range(7):
        step(stopped)
        if stopped.position.step == 5:
            stopped.save()
    stopped.checkpoints.close()
    again = run_of("two")
    train(again)
    for name, weight in undisturbed.weights.masters.items():
        assert torch.equal(again.weights.masters[name], weight)
    assert all(torch.equal(weight, base[name]) for name, weight in stopped.checkpoint.weights.items())

    folder = again.checkpoints.path(12)
    assert [path.name for path in folder.iterdir()] == ["train_state"]
    saved = load_file(folder / "train_state" / "trained.safetensors")
    assert saved.keys() == again.weights.masters.keys()
    with pytest.raises(ValueError, match="save_adapter"):
        again.finished()

    lora = lora_of(again.model, again.trained())
    config = again.checkpoint.config
    written = read_lora(write_lora(tmp_path / "adapter", lora, config, model=again.checkpoint.model), config)
    ids = torch.arange(40, 60)[None]
    merged = merge(new_checkpoint("gpt2").model, written)
    rounding = 1e-4 if precision == "float32" else 0.1  # whose logits are sums of bfloat16
    torch.testing.assert_close(again.model(ids).float(), merged(ids), rtol=rounding, atol=rounding)
