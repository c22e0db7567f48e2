"""Vocabularies of OpenAI's kind: a file of ranks, `base64(token) rank` in every line, and nothing else.

There are no merges in it. Of all neighbours whose concatenation is a token, the pair whose token has the lowest rank is
joined first (Radford et al. 2019, section 2.2, with ranks in the place of merges); a word that is a token as a whole is
that token. The rule that cuts a text into words and the special tokens are not in the file either: they belong to the
encoding, which has to be named.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from lmworks.tokenizer.byte_level import PRE_TOKENIZERS, byte_letters, isolate
from lmworks.tokenizer.merge_history import merge_steps
from lmworks.tokenizer.tokenizer import Tokenizer

_END = "<|endoftext|>"
_LETTERS = {byte: letter for letter, byte in byte_letters().items()}


@dataclass(frozen=True, slots=True)
class RankEncoding:
    """The parts of a tokenizer that a file of ranks leaves out.

    tokens     how many the published file holds
    words      makes the pre-tokenizer that cuts a text into words
    special    the special tokens and their ids
    composed   whether characters are composed (NFC) first
    """

    tokens: int
    words: Callable[[], pre_tokenizers.PreTokenizer]
    special: Mapping[str, int]
    composed: bool = False


def _o200k() -> pre_tokenizers.PreTokenizer:
    """Words of one case, a capitalised word being one; its 's, 't, … belong to the word, slashes to punctuation."""
    upper, lower = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
    before, after = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    return isolate(
        rf"{before}[{upper}]*[{lower}]+{after}|{before}[{upper}]+[{lower}]*{after}|\p{{N}}{{1,3}}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_GPT2 = RankEncoding(50256, PRE_TOKENIZERS["gpt-2"], {_END: 50256})
# The rules of cl100k and Qwen are GGUF's `llama-bpe` and `qwen2`. Today's `tiktoken` has spaces at the end of a text in
# one word with the newlines before them; no token of these vocabularies reaches from a newline into such spaces, so the
# ids are the same.
ENCODINGS = {
    "gpt2": _GPT2,
    "r50k": _GPT2,
    "p50k": RankEncoding(50280, PRE_TOKENIZERS["gpt-2"], {_END: 50256}),
    "cl100k": RankEncoding(
        100256,
        PRE_TOKENIZERS["llama-bpe"],
        {
            _END: 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k": RankEncoding(199998, _o200k, {_END: 199999, "<|endofprompt|>": 200018}),
    "qwen": RankEncoding(
        151643,
        PRE_TOKENIZERS["qwen2"],
        {
            name: 151643 + offset
            for offset, name in enumerate((_END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205))))
        },
        composed=True,
    ),
}


def load_tiktoken(path: str | Path, encoding: str) -> Tokenizer:
    """The tokenizer of a file of ranks.

    `encoding` is gpt2, r50k, p50k, cl100k, o200k (also with tiktoken's `_base` behind) or qwen (the first Qwen models).
    ValueError names the line that is damaged, or says that the file is not the one of this encoding; FileNotFoundError
    where there is none.
    """
    name = encoding.removesuffix("_base")
    if name not in ENCODINGS:
        raise ValueError(f"encoding {encoding!r} is not known (known: {', '.join(ENCODINGS)})")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give the ranks of {name}, in base64")
    ranks = read_ranks(path)
    expected = ENCODINGS[name].tokens
    if len(ranks) != expected:
        raise ValueError(
            f"{path.name} holds {len(ranks)} tokens, and {name} has {expected}: the file is incomplete or belongs to "
            "another encoding"
        )
    return rank_tokenizer(ranks, ENCODINGS[name])


def read_ranks(path: Path) -> dict[bytes, int]:
    """Each token's rank, which is its id; ValueError names the line that is damaged."""
    ranks: dict[bytes, int] = {}
    taken: set[int] = set()
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line:
            continue
        try:
            spelled, digits = line.split()
            token, rank = base64.b64decode(spelled, validate=True), int(digits)
        except (ValueError, binascii.Error) as error:
            raise ValueError(
                f"{path.name}, line {number}: {line[:60]!r} is not a token in base64, a space and a rank"
            ) from error
        if not token or token in ranks or rank < 0 or rank in taken:
            raise ValueError(
                f"{path.name}, line {number}: the token {token!r} or its rank {rank} is empty, negative or not the "
                "only one"
            )
        ranks[token] = rank
        taken.add(rank)
    return ranks


def rank_tokenizer(ranks: Mapping[bytes, int], encoding: RankEncoding) -> Tokenizer:
    """The tokenizer of these ranks; ValueError for a byte without a token, or an id that is given twice."""
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise ValueError(f"{len(missing)} bytes have no token, the first of them 0x{missing[0]:02X}")
    taken = set(ranks.values())
    clash = {name: index for name, index in encoding.special.items() if index in taken}
    if clash:
        raise ValueError(f"the ids of special tokens are ranks of others: {clash}; the file is of another encoding")
    vocabulary = {_letters(token): rank for token, rank in ranks.items()} | dict(encoding.special)
    merges = [(_letters(left), _letters(right)) for left, right in recover_merges(ranks)]
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    if encoding.composed:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = encoding.words()
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in encoding.special])
    ends = [encoding.special[name] for name in ("<|im_end|>",) if name in encoding.special]
    return Tokenizer(backend, {"eos_token": _END} if _END in encoding.special else {}, ends)


def recover_merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges that join what the ranks join, in their order.

    A token's merge is the pair that the tokens of lower rank leave of its bytes. One such pair is enough: as long as
    nothing has been joined across a token's borders, its bytes go through the same steps in any word as alone. A token
    of which more than a pair is left (not in vocabularies that were trained) gets every pair that makes it.
    """
    merges: list[tuple[bytes, bytes]] = []
    for token, limit in sorted(ranks.items(), key=lambda entry: entry[1]):

        def below(pair: tuple[bytes, bytes], limit: int = limit) -> int | None:
            return rank if (rank := ranks.get(pair[0] + pair[1], limit)) < limit else None

        symbols, _ = merge_steps([token[at : at + 1] for at in range(len(token))], below)
        cuts = [len(symbols[0])] if len(symbols) == 2 else range(1, len(token))
        pairs = [(token[:cut], token[cut:]) for cut in cuts]
        merges += [(left, right) for left, right in pairs if left in ranks and right in ranks]
    return merges


def _letters(token: bytes) -> str:
    """GPT-2's spelling of bytes."""
    return token.decode("latin-1").translate(_LETTERS)
