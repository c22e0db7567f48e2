"""SmolLM2's real weights against `transformers`, and a tokenizer; tiny random models are in `test_families.py`."""

from typing import Any

import pytest
import torch

from lmworks.generate.engine import Engine
from lmworks.generate.fused_runner import FusedRunner
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import assemble, load
from lmworks.model.config import Rope
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.tensor_files import read_weights
from lmworks.model.transformer import Transformer
from lmworks.records import Message

transformers = pytest.importorskip("transformers")

from harness import greedy  # noqa: E402

from kit.tables import for_each  # noqa: E402

PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):",
    "Once upon a time, in a small village by the sea,",
    "Water boils at",
    "Dear Sir or Madam,\n\nI am writing to",
    "The three primary colours are",
    "import numpy as np\n\n",
    "Q: What is 7 times 8?\nA:",
    "In 1969, the first human",
    "A recipe for pancakes:\n1.",
    "The opposite of hot is",
    "Machine learning is a field of",
    "<html>\n<body>\n",
    "The quick brown fox",
    "SELECT name FROM",
    "Bonjour, je m'appelle",
    "The largest planet in the solar system",
    "To be, or not to be,",
    "Photosynthesis is the process by which",
    "- item one\n- item two\n-",
]


@torch.no_grad()
@for_each(
    "config",
    [
        llama(267, 64, 3, 4, 2, 96, 128, tied=True),
        llama(267, 64, 3, 4, 1, 96, 128, head_dim=24, rope=Rope(1e6), attention_bias=True, feed_forward_bias=True),
    ],
)
def test_a_tiny_model_of_ours_is_read_by_them(config, tiny_tokenizer, tmp_path):
    checkpoint = assemble(config, initialise(Transformer(config), seed=0, std=0.15).state_dict(), tiny_tokenizer)
    folder = checkpoint.save(tmp_path / "model")
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    ids = torch.randint(267, (2, 40), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(checkpoint.model(ids), theirs.eval()(ids).logits, atol=1e-4, rtol=0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "the thing's größer 🙂 1234"
    assert tokenizer(text)["input_ids"] == checkpoint.tokenizer.encode(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


# ---------------------------------------------------------------------------------------------------------------------
# SmolLM2


@pytest.fixture(scope="module")
def theirs(smollm2_folder):
    return transformers.AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32).eval()


@torch.no_grad()
def assert_greedy(theirs, prompts: list[list[int]], rows: list[list[int]]) -> None:
    """Greedy decoding of theirs takes the same tokens exactly if, after every prefix of ours, their choice is ours."""
    for prompt, row in zip(prompts, rows, strict=True):
        chosen = theirs(torch.tensor([row])).logits[0].argmax(dim=-1).tolist()
        assert row[len(prompt) :] == chosen[len(prompt) - 1 : -1]


@torch.no_grad()
@pytest.mark.weights
def test_logits_of_the_real_weights(smollm2_checkpoint, theirs):
    rendered = smollm2_checkpoint.chat.render([Message("user", "Explain gravity to a child. 12345 größer 🙂")], True)
    for ids in [list(rendered.ids), smollm2_checkpoint.tokenizer.encode("\n\n".join(PROMPTS))]:
        batch = torch.tensor([ids])
        difference = (smollm2_checkpoint.model(batch) - theirs(batch).logits).abs().max()
        assert difference < 1e-4


@pytest.mark.weights
def test_greedy_tokens_of_three_prompts(smollm2_checkpoint, theirs):
    prompts = smollm2_checkpoint.tokenizer.encode_batch(PROMPTS[:3])
    assert_greedy(theirs, prompts, greedy(smollm2_checkpoint.model, prompts, steps=8))


@pytest.mark.slow
@pytest.mark.weights
def test_greedy_tokens_of_twenty_prompts(smollm2_checkpoint, theirs):
    prompts = smollm2_checkpoint.tokenizer.encode_batch(PROMPTS)
    assert_greedy(theirs, prompts, greedy(smollm2_checkpoint.model, prompts, steps=128))


@pytest.mark.slow
@pytest.mark.weights
def test_their_own_reader_of_the_file_agrees(smollm2_checkpoint, smollm2_folder, smollm2):
    """The saved folder went through our reader of GGUF; this is theirs, on the same file."""
    reader = pytest.importorskip("transformers.modeling_gguf_pytorch_utils").load_gguf_checkpoint
    with torch.device("meta"):
        empty = transformers.LlamaForCausalLM(transformers.LlamaConfig(**reader(smollm2)["config"]))
    assert load(smollm2_folder).fingerprint == smollm2_checkpoint.fingerprint
    expected = reader(smollm2, return_tensors=True, model_to_load=empty)["tensors"]
    tensors = read_weights(smollm2_folder)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    for prompt in PROMPTS:
        assert tokenizer(prompt)["input_ids"] == smollm2_checkpoint.tokenizer.encode(prompt)


@pytest.mark.slow
@pytest.mark.weights
@for_each(
    ("weights", "lowered"), [("float32", True), ("auto", True), ("int8", True), ("float32", False), ("auto", False)]
)
def test_real_weights_answer_the_same_alone_and_in_company(smollm2_checkpoint, weights: Any, lowered: bool) -> None:
    """Rounding to 8 bits would change words, if the batch could change the rounding.

    Modules check guesses in forwards of other shapes, which round otherwise: here they make none.
    """
    speculation = "lookup" if lowered else None
    engine = Engine(smollm2_checkpoint, slots=3, weights=weights, lowered=lowered, speculation=speculation)
    sampling = SamplingParameters(max_tokens=16, temperature=0.7, seed=5)
    questions = ("What is the capital of France?", "Name three colours.", "Who are you?", "What is 2 + 2?")
    requests = [Request(messages=(Message("user", question),), sampling=sampling) for question in questions]
    for request, completion in zip(requests, engine.generate(requests), strict=True):
        (alone,) = engine.generate([request])
        assert alone.ids == completion.ids
        # modules, 30 layers: ten times the rounding of the tiny models
        tolerance = 0 if isinstance(engine.batcher.runner, FusedRunner) else 5e-4
        assert alone.log_probabilities == pytest.approx(completion.log_probabilities, abs=tolerance, rel=0)
