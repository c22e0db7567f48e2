"""What every fine-tuning method promises, of each kind of model."""

from functools import partial
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from small_models import LLAMA, MIXTRAL, T5, TIED, VOCABULARY, build, random_ids

from kit.tables import for_each
from lmworks import adapt
from lmworks.adapt import BottleneckConfig, FullConfig, LoraConfig, PrefixConfig, add_adapter, trained_weights
from lmworks.data.loader import Loader
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.config import MaskedLanguageModelHead, Norm
from lmworks.model.presets import bart, bert
from lmworks.train.config import CheckpointConfig, TrainConfig
from lmworks.train.loop import step, train
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.optimizer_config import AdamW
from lmworks.train.run import Run
from slow_cases import slow
from training_cases import loader_config, new_checkpoint, write_text_dataset

SIZES = {"layers": 2, "heads": 4, "hidden": 48, "context_length": 64}
BERT_HEAD = MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))
BERT, BART = bert(VOCABULARY, 32, **SIZES, head=BERT_HEAD), bart(VOCABULARY, 32, **SIZES)
MODELS = {"llama": LLAMA, "gpt2": TIED, "mixtral": MIXTRAL, "bert": BERT, "t5": T5, "bart": BART}
METHODS: dict[str, adapt.Method] = {
    "full": FullConfig(),
    "frozen": FullConfig(freeze=(r".*norm.*", r"(en|de)coder\.blocks\.0\..*")),
    "lora": LoraConfig(r=4, exclude_modules=("router",)),
    "dora": LoraConfig(r=4, exclude_modules=("router",), use_dora=True),
    "ia3": adapt.IA3Config(),
    "prefix": PrefixConfig(4),
    "prefix mlp": PrefixConfig(4, prefix_projection=True),
    "houlsby": BottleneckConfig(6),
    "pfeiffer": BottleneckConfig(6, "pfeiffer", "relu"),
}


def outputs(model):
    ids = random_ids(2, 9)
    return model(ids, random_ids(2, 7, seed=1)) if len(model.config.stacks) == 2 else model(ids)


def test_every_method_is_tested_here():
    assert {type(method) for method in METHODS.values()} == set(get_args(adapt.Method))


@for_each("method", METHODS.values())
@for_each("name", MODELS)
def test_step_0_and_1(name, method):
    """At first it computes what its base computes, but for a prefix; a step changes what is trained alone."""
    model = build(MODELS[name]).train()
    weights, expected = {n: w.clone() for n, w in model.named_parameters()}, outputs(model).detach()
    adapted = add_adapter(model, method, seed=1)
    if isinstance(method, PrefixConfig):
        assert (outputs(adapted) - expected).abs().max() > 0.01
    else:
        torch.testing.assert_close(outputs(adapted), expected, rtol=1e-5, atol=1e-5)
    before = outputs(adapted).square().mean()
    before.backward()
    trained = trained_weights(adapted)
    assert all((weight.grad is None) >= (n not in trained) for n, weight in adapted.named_parameters())
    torch.optim.SGD([w for w in adapted.parameters() if w.requires_grad], lr=1e-2).step()
    assert outputs(adapted).square().mean() < before
    assert all(torch.equal(w, weights[n]) and w.requires_grad for n, w in model.named_parameters())


@pytest.mark.parametrize("name", ["frozen", "dora", "prefix mlp", *slow("lora", "prefix", "houlsby")])
def test_a_run_that_goes_on_after_a_stop_delivers_what_one_without_does(name, tmp_path):
    dataset, method = write_text_dataset(tmp_path / "tokens"), METHODS[name]
    config = TrainConfig(AdamW(rate=1e-2), micro_batch=3, log=1, validate=None, checkpoint=CheckpointConfig(steps=2))

    def run_of(folder):
        loader, adds = Loader(loader_config(dataset, steps=4)), partial(add_adapter, method=method, seed=1)
        return Run(new_checkpoint("gpt2"), CausalLanguageModel(), loader, config, tmp_path / folder, adapt=adds)

    def delivered(run):
        train(run)
        if name == "frozen":
            model = run.finished().model
        else:
            with pytest.raises(ValueError, match="save_adapter"):
                run.finished()
            saved = load_file(run.checkpoints.path(4) / "train_state" / "trained.safetensors")
            assert saved.keys() == trained_weights(run.model).keys()
            folder = adapt.save_adapter(run.folder / "adapter", run.model, method, run.checkpoint, run.trained())
            model = adapt.load_adapter(folder, new_checkpoint("gpt2"))
        torch.testing.assert_close(outputs(model), outputs(run.model), rtol=1e-5, atol=1e-5)
        return outputs(model)

    stopped = run_of("two")
    for number in range(3):
        step(stopped)
        if number == 1:
            stopped.save()
    stopped.checkpoints.close()
    assert torch.equal(delivered(run_of("one")), delivered(run_of("two")))


@torch.no_grad()
@for_each("name", ["prefix", "houlsby", "dora", "ia3"])
def test_the_engine_generates_what_the_adapted_model_does(name):
    """Also where fused kernels know the base."""
    checkpoint, generator = new_checkpoint(), torch.Generator().manual_seed(2)
    adapted = add_adapter(build(checkpoint.config), METHODS[name], seed=1).eval()
    for weight in trained_weights(adapted).values():
        weight.copy_(torch.randn(weight.shape, generator=generator) / 4)
    rows = [list(prompt) for prompt in (b"adapters", b"pre")]
    sampling = SamplingParameters(max_tokens=12, ignore_eos=True)
    requests = [Request(tuple(row), sampling=sampling) for row in rows]
    for row in rows:
        for _ in range(12):
            row.append(int(adapted(torch.tensor([row]))[0, -1].argmax()))
    assert len(set(rows[0][-12:])) > 2
    for lowered in (True, False):
        engine = Engine(checkpoint.with_model(adapted), slots=2, weights="float32", lowered=lowered)
        assert [list(found.ids) for found in engine.generate(requests)] == [row[-12:] for row in rows]


def test_patterns_of_full_fine_tuning():
    adapted = add_adapter(build(TIED), FullConfig(freeze=(r"embedding\..*", r"head\..*")))
    assert all(name.startswith("decoder.") for name in trained_weights(adapted))
    bitfit = trained_weights(add_adapter(build(TIED), FullConfig(train=(r".*\.bias",))))
    assert len(bitfit) == 2 * 8 + 1  # four projections, two norms, two of the feed-forward; the final norm
    with pytest.raises(ValueError, match=r"freeze: 'embeding.*' is the whole name.*decoder\.blocks\.N\.attention"):
        add_adapter(build(LLAMA), FullConfig(freeze=("embeding.*",)))
    for half in (FullConfig(freeze=(r"embedding\..*",)), FullConfig(train=(r"head\..*",))):
        for model in (TIED, BERT):
            with pytest.raises(ValueError, match="head is tied: they are one matrix"):
                add_adapter(build(model), half)
