"""Adapters of several kinds served at once: each gives the greedy answers of its own adapted model."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from lmworks.adapt import BottleneckConfig, IA3Config, LoraConfig, Method, PrefixConfig, add_adapter, save_adapter
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.transformer import Transformer
from lmworks.serve.served_models import _fitting
from lmworks.train.held_out import continue_text

METHODS: dict[str, Method] = {
    "rank": LoraConfig(r=4),
    "dora": LoraConfig(r=4, use_dora=True),
    "ia3": IA3Config(),
    "prefix": PrefixConfig(6),
    "bottles": BottleneckConfig(8),
}
PROMPT = "the thing is in there"


@pytest.fixture(scope="module")
def adapted(tiny: Checkpoint) -> dict[str, Transformer]:
    """The base and models with weights drawn so large that each says something else."""
    models = {"tiny": tiny.model}
    for number, (name, method) in enumerate(METHODS.items()):
        models[name] = add_adapter(tiny.model, method).eval()
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for weight in models[name].parameters():
                if weight.requires_grad:
                    weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return models


@pytest.fixture(scope="module")
def served(start, tiny, adapted, tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    folders = {name: str(save_adapter(root / name, adapted[name], method, tiny)) for name, method in METHODS.items()}
    (root / "rank" / "chat_template.jinja").write_text(tiny.chat_template)
    written = save_adapter(root / "spoken", adapted["rank"], METHODS["rank"], tiny)
    (written / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    with start(adapters={**folders, "spoken": str(written)}, weights="float32") as running:
        yield running


def said(running, name: str) -> str:
    options = {"max_tokens": 12, "temperature": 0, "extra_body": {"ignore_eos": True}}
    return running.client().completions.create(model=name, prompt=PROMPT, **options).choices[0].text


def wanted(tiny: Checkpoint, model: Transformer) -> str:
    tokenizer = tiny.required_tokenizer
    return tokenizer.decode(continue_text(model, tokenizer.encode(PROMPT), 12))


def test_each_name_gives_its_own_answers_at_once(served, adapted, tiny):
    names = [*adapted] * 3
    with ThreadPoolExecutor(len(names)) as threads:
        answers = list(threads.map(lambda name: said(served, name), names))
    assert answers == [wanted(tiny, adapted[name]) for name in names]
    assert len(set(answers)) == len(adapted)


def test_the_folders_chat_template_wins(served, adapted, tiny):
    answer = served.client().chat.completions.create(
        model="spoken", messages=[{"role": "user", "content": PROMPT}], temperature=0, max_tokens=12,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    assert answer.choices[0].message.content == wanted(tiny, adapted["rank"])


def test_plain_lora_shares_the_bases_engine_and_the_others_its_weights(served):
    loaded = served.service.models.loaded
    assert loaded.adapters == {"rank": "tiny"}
    prefix, bottles = (loaded.languages[name]._engine.batcher.runner.model for name in ("prefix", "bottles"))
    assert prefix.tokens.data_ptr() == bottles.tokens.data_ptr()


def test_of_several_models_that_it_fits_the_base_that_it_names_is_taken(tiny, tiny_folder, tmp_path):
    named = replace(tiny, source=str(tiny_folder))
    folder = save_adapter(tmp_path / "x", add_adapter(tiny.model, LoraConfig()), LoraConfig(), named)
    assert _fitting("x", str(folder), {"other": tiny, "named": named}, ())[0] == "named"
