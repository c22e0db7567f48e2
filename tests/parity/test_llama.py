"""LLaMA against `transformers`, in both directions: tiny random models of every kind, then SmolLM2's real weights."""

import pytest
import torch

from lmworks.model.cache import KVCache
from lmworks.model.checkpoint import assemble, load
from lmworks.model.huggingface import LLAMA, write_config
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from lmworks.model.weights import read_weights
from lmworks.records import Message

transformers = pytest.importorskip("transformers")

KINDS = {
    "plain": {},
    "grouped": {"num_key_value_heads": 2},
    "one key head, wide": {"num_key_value_heads": 1, "head_dim": 24},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "long": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}, "rms_norm_eps": 1e-3},
}
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
@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_model_of_theirs_is_read(kind, tiny_tokenizer, tmp_path):
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{**shape, "vocab_size": 267, "max_position_embeddings": 128, **KINDS[kind]})
    theirs = transformers.LlamaForCausalLM(config).eval()
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.15)  # biases too, which start at 0
    theirs.save_pretrained(tmp_path)
    tiny_tokenizer.save(tmp_path)
    ours = load(tmp_path).model
    ids = torch.randint(267, (2, 40))
    expected = theirs(ids).logits
    assert expected.std() > 0.5  # so that a tolerance of 1e-4 means something
    torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=0)  # float32, sums in another order


@torch.no_grad()
@pytest.mark.parametrize(
    "config",
    [
        llama(267, 64, 3, 4, 2, 96, 128, tied=True),
        llama(267, 64, 3, 4, 1, 96, 128, head_dim=24, rope_theta=1e6, attention_bias=True, feed_forward_bias=True),
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


@torch.no_grad()
def test_cached_generation_takes_their_tokens(tmp_path):
    config = llama(97, 64, 3, 4, 2, 96, 128)
    theirs_config = transformers.LlamaConfig(**write_config(config), eos_token_id=None)
    theirs = transformers.LlamaForCausalLM(theirs_config).eval()
    ours = initialise(Transformer(config), seed=0, std=0.15).eval()
    theirs.load_state_dict({LLAMA.their_name(name): tensor for name, tensor in ours.state_dict().items()})
    prompt = torch.randint(97, (1, 7), generator=torch.Generator().manual_seed(0))
    expected = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False)
    assert greedy(ours, prompt.tolist(), steps=40) == expected.tolist()


# ---------------------------------------------------------------------------------------------------------------------
# SmolLM2


@pytest.fixture(scope="module")
def theirs(smollm2_folder):
    return transformers.AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32).eval()


@torch.no_grad()
def greedy(model: Transformer, prompts: list[list[int]], steps: int) -> list[list[int]]:
    """The prompts and `steps` tokens after each, all prompts in one ragged batch through the cache."""
    rows, longest = [list(prompt) for prompt in prompts], max(map(len, prompts))
    cache, slots = KVCache(model.config, len(rows), longest + steps), torch.arange(len(rows))
    positions = torch.tensor([[*range(len(row)), *[-1] * (longest - len(row))] for row in rows])
    new = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    last = torch.tensor([len(row) - 1 for row in rows])
    for _ in range(steps):
        hidden = model.hidden(new, cache=cache.view(slots, positions))
        chosen = model.logits(hidden[slots, last]).argmax(dim=-1)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            row.append(token)
        positions = torch.tensor([[len(row) - 1] for row in rows])
        new, last = chosen[:, None], torch.zeros_like(last)
    return rows


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
    assert_greedy(theirs, prompts, greedy(smollm2_checkpoint.model, prompts, steps=24))


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
    expected = reader(smollm2, return_tensors=True, model_to_load=empty)["tensors"]
    tensors = read_weights(smollm2_folder)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    for prompt in PROMPTS:
        assert tokenizer(prompt)["input_ids"] == smollm2_checkpoint.tokenizer.encode(prompt)
