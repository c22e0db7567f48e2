"""What every fine-tuning method promises, of each kind of model."""

from functools import partial
from typing import get_args

import pytest
import torch
from small_models import LLAMA, MIXTRAL, T5, TIED, VOCABULARY, build, random_ids

from lmworks.adapt import (
    BottleneckConfig,
    FullConfig,
    IA3Config,
    LoraConfig,
    Method,
    PrefixConfig,
    add_adapter,
    load_adapter,
    save_adapter,
    trained_weights,
)
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
from training_cases import loader_config, new_checkpoint, write_text_dataset

BERT_HEAD = MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))
MODELS = {
    "llama": LLAMA,
    "gpt2": TIED,
    "mixtral": MIXTRAL,
    "bert": bert(VOCABULARY, 32, layers=2, heads=4, hidden=48, context_length=64, head=BERT_HEAD),
    "t5": T5,
    "bart": bart(VOCABULARY, 32, layers=2, heads=4, hidden=48, context_length=64),
}
NO_ROUTER = {"exclude_modules": ("router",)}
METHODS: dict[str, Method] = {
    "full": FullConfig(),
    "frozen": FullConfig(freeze=(r".*norm.*", r"(en|de)coder\.blocks\.0\..*")),
    "lora": LoraConfig(r=4, **NO_ROUTER),
    "prefix": PrefixConfig(4),
    "prefix mlp": PrefixConfig(4, prefix_projection=True),
    "houlsby": BottleneckConfig(6),
    "pfeiffer": BottleneckConfig(6, "pfeiffer", "relu"),
}


def outputs(model):
    ids = random_ids(2, 9)
    return model(ids, random_ids(2, 7, seed=1)) if len(model.config.stacks) == 2 else model(ids)


def test_every_method_is_tested_here():
    assert {type(method) for method in METHODS.values()} | {IA3Config} == set(get_args(Method))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_step_0_and_1(name, method):
    """At first it computes what its base computes, but for a prefix; a step changes what is trained alone."""
    model = build(MODELS[name]).train()
    weights, expected = {n: w.clone() for n, w in model.named_parameters()}, outputs(model).detach()
    adapted = add_adapter(model, method, seed=1)
    if isinstance(method, PrefixConfig):
        assert (outputs(adapted) - expected).abs().max() > 0.01
    else:
        torch.testing.assert_close(outputs(adapted), expected, rtol=1e-6, atol=1e-6)
    before = outputs(adapted).square().mean()
    before.backward()
    trained = trained_weights(adapted)
    unused = ("experts", "pooler", "relative", "bias")  # of experts nobody chose; T5's table of the other stack
    for n, weight in adapted.named_parameters():
        assert weight.requires_grad == (n in trained)
        assert weight.grad is not None or n not in trained or any(part in n for part in unused), n
    torch.optim.SGD([w for w in adapted.parameters() if w.requires_grad], lr=1e-2).step()
    assert outputs(adapted).square().mean() < before
    assert all(torch.equal(weight, weights[n]) for n, weight in model.named_parameters())
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("name", ["frozen", "prefix", "prefix mlp", "houlsby"])
def test_a_run_that_is_stopped_goes_on_to_the_same_weights_which_its_folder_holds(name, tmp_path):
    dataset, method = write_text_dataset(tmp_path / "tokens"), METHODS[name]

    def run_of(folder):
        config = TrainConfig(
            AdamW(rate=1e-2), log=1, validate=None, micro_batch=3, checkpoint=CheckpointConfig(steps=3)
        )  # fmt: skip
        loader = Loader(loader_config(dataset, steps=6))
        adapt = partial(add_adapter, method=method, seed=1)
        return Run(new_checkpoint("gpt2"), CausalLanguageModel(), loader, config, tmp_path / folder, adapt=adapt)

    undisturbed, stopped = run_of("one"), run_of("two")
    train(undisturbed)
    for _ in range(4):
        step(stopped)
        if stopped.position.step == 3:
            stopped.save()
    stopped.checkpoints.close()
    again = run_of("two")
    train(again)
    trained = again.trained()
    assert trained.keys() == undisturbed.trained().keys() == trained_weights(again.model).keys()
    assert all(torch.equal(weight, trained[n]) for n, weight in undisturbed.trained().items())
    ids = torch.arange(40, 60)[None]
    with torch.no_grad():
        if name == "frozen":
            found = again.finished().model(ids)
        else:
            folder = save_adapter(tmp_path / "adapter", again.model, method, again.checkpoint, trained)
            found = load_adapter(folder, new_checkpoint("gpt2"))(ids)
        torch.testing.assert_close(found, again.model(ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["prefix", "houlsby", "lora"])
def test_the_engine_generates_what_the_adapted_model_does(name):
    """Also where fused kernels know the base."""
    checkpoint, method = new_checkpoint(), METHODS[name]
    checkpoint = checkpoint.with_model(build(checkpoint.config))  # of larger weights
    adapted, generator = add_adapter(checkpoint.model, method, seed=1).eval(), torch.Generator().manual_seed(2)
    for weight in trained_weights(adapted).values():
        weight.copy_(torch.randn(weight.shape, generator=generator) / 4)
    prompts, expected = [tuple(b"adapters"), tuple(b"pre")], []
    with torch.no_grad():
        for prompt in prompts:
            row = list(prompt)
            for _ in range(12):
                row.append(int(adapted(torch.tensor([row]))[0, -1].argmax()))
            expected.append(tuple(row[len(prompt) :]))
    sampling = SamplingParameters(max_tokens=12, ignore_eos=True)
    for lowered in (True, False):
        engine = Engine(checkpoint.with_model(adapted), slots=2, weights="float32", lowered=lowered)
        found = engine.generate([Request(prompt, sampling=sampling) for prompt in prompts])
        assert [completion.ids for completion in found] == expected
        assert len(set(expected[0])) > 2


class TestFull:
    def test_it_names_the_weights_that_there_are(self):
        with pytest.raises(ValueError, match=r"freeze: 'embeding.*' is the whole name.*decoder\.blocks\.N\.attention"):
            add_adapter(build(LLAMA), FullConfig(freeze=("embeding.*",)))

    @pytest.mark.parametrize("model", ["gpt2", "bert"])
    @pytest.mark.parametrize("patterns", [{"freeze": (r"embedding\..*",)}, {"train": (r"head\..*",)}])
    def test_half_of_a_tied_matrix_is_refused(self, model, patterns):
        with pytest.raises(ValueError, match="head is tied: they are one matrix"):
            add_adapter(build(MODELS[model]), FullConfig(**patterns))

    def test_both_names_of_a_tied_matrix(self):
        adapted = add_adapter(build(TIED), FullConfig(freeze=(r"embedding\..*", r"head\..*")))
        assert not adapted.tokens.requires_grad
        assert all(name.startswith("decoder.") for name in trained_weights(adapted))

    def test_bitfit(self):
        trained = trained_weights(add_adapter(build(TIED), FullConfig(train=(r".*\.bias",))))
        assert len(trained) == 2 * 8 + 1  # four projections, two norms, two of the feed-forward; the final norm
        assert all(name.endswith(".bias") for name in trained)
