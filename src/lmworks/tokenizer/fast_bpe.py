"""Byte-level BPE at the speed of the machine: the ids of the `tokenizers` library, some twenty times as fast.

The library runs a general regular expression over every text and keeps offsets of all that it does. Where a
`tokenizer.json` is of the common kind (a rule for words that is known here, bytes, merges, and no tokens but special
ones next to them), its words are cut by hand-written code instead, and what a word became is remembered. All else, and
whatever needs offsets, is left to the library, which stays the definition.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import tokenizers

from lmworks.compiled import cores
from lmworks.tokenizer import library
from lmworks.tokenizer.byte_level import byte_letters
from lmworks.tokenizer.config import DIGITS
from lmworks.tokenizer.pre_tokenizer import WordRule, character_classes, digit_classes, steps_of

_SMOLLM = (4, 1)  # GPT-2's rule with every number cut out first
_TOGETHER = 1 << 16  # bytes from which on several threads are worth their start


def compiled_encoding(backend: tokenizers.Tokenizer) -> "CompiledEncoding | None":
    """The fast way to encode with a tokenizer; None where its kind is another, or nothing was compiled."""
    state = json.loads(backend.to_str())
    if library.load() is None or not _is_common(state):
        return None
    if len(state["model"]["vocab"]) < backend.get_vocab_size(with_added_tokens=False):  # two names for one id
        return None
    rule = _rule_of(state["pre_tokenizer"])
    return None if rule is None else CompiledEncoding(state["model"], rule)


class CompiledEncoding:
    """Encodes texts, from any number of threads at once."""

    def __init__(self, model: Mapping[str, Any], rule: tuple[int, int]) -> None:
        compiled = library.load()
        assert compiled is not None
        self._made_of, self._library = (model, rule), compiled
        self._classes = digit_classes() if rule == _SMOLLM else character_classes()
        self._rule = (self._classes.ctypes.data, *rule)
        self._vocabulary = _vocabulary(compiled, model)
        self._idle: list[int] = []  # encoders that nobody uses: each remembers words, and serves one thread at a time

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledEncoding, self._made_of

    def __del__(self) -> None:
        for encoder in getattr(self, "_idle", ()):
            self._library.lmworks_encoder_free(encoder)
        if getattr(self, "_vocabulary", None):
            self._library.lmworks_vocabulary_free(self._vocabulary)

    def encode(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """The ids of texts in UTF-8, (tokens,) int32 each; without Python's lock while it computes."""
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        if not len(ends):
            return []
        ids, id_ends = np.empty(ends[-1], np.int32), np.empty(len(texts), np.int64)
        encoder = self._idle.pop() if self._idle else self._library.lmworks_encoder_new(self._vocabulary, *self._rule)
        if not encoder:
            raise MemoryError("not enough memory to encode")
        try:
            joined = b"".join(texts)
            result = self._library.lmworks_encoder_encode(
                encoder, joined, ends.ctypes.data, len(texts), ids.ctypes.data, id_ends.ctypes.data
            )
        finally:
            self._idle.append(encoder)
        library.check(result)
        return [ids[start:end] for start, end in pairwise([0, *id_ends.tolist()])]

    def encode_batch(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """`encode` on all cores."""
        size = sum(map(len, texts))
        threads = min(cores(), size // _TOGETHER + 1, len(texts))
        if threads < 2:
            return self.encode(texts)
        with ThreadPoolExecutor(threads) as pool:
            results = pool.map(self.encode, library.batches(texts, size // (threads * 4) + 1))
            return [ids for result in results for ids in result]


# ---------------------------------------------------------------------------------------------------------------------
# What a tokenizer.json says


def _is_common(state: Mapping[str, Any]) -> bool:
    """Nothing changes the text before it is cut, and no added token is an ordinary one, which text could become."""
    model = state["model"]
    return (
        state["normalizer"] is None
        and model["type"] == "BPE"
        and not any(model.get(key) for key in ("dropout", "unk_token", "byte_fallback"))
        and not any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix"))
        and all(token["special"] for token in state["added_tokens"])
        and state["pre_tokenizer"] is not None
    )


def _rule_of(pre_tokenizer: Mapping[str, Any]) -> tuple[int, int] | None:
    """The rule and the limit of digits as the compiled scanner takes them; None for a rule that it does not know."""
    *cuts, last = steps_of(pre_tokenizer)
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or len(cuts) > 1:
        return None
    if last["use_regex"]:
        if not cuts:
            return WordRule("gpt2", "run").codes
        return _SMOLLM if cuts[0] == {"type": "Digits", "individual_digits": True} else None
    if not cuts:
        return WordRule("none").codes
    cut = cuts[0]
    if cut["type"] != "Split" or cut["behavior"] != "Isolated" or cut["invert"]:
        return None
    known = {WordRule(rule, digits).pattern(): WordRule(rule, digits) for rule in ("gpt2", "gpt4") for digits in DIGITS}
    known_rule = known.get(cut["pattern"].get("Regex"))
    return None if known_rule is None else known_rule.codes


def _vocabulary(compiled: Any, model: Mapping[str, Any]) -> int:
    tokens: Mapping[str, int] = model["vocab"]
    letters = byte_letters()
    of_bytes = np.full(256, -1, np.int32)
    for letter, byte in letters.items():
        of_bytes[byte] = tokens.get(letter, -1)
    pairs = model["merges"]
    lefts, rights, made = (
        np.array([tokens[name(pair)] for pair in pairs], np.int32)
        for name in (lambda pair: pair[0], lambda pair: pair[1], "".join)
    )
    words_first = bool(model.get("ignore_merges"))
    spelled = [b""] * (max(tokens.values()) + 1 if words_first else 0)
    if words_first:
        for name, token in tokens.items():
            if all(letter in letters for letter in name):
                spelled[token] = bytes(letters[letter] for letter in name)
    ends = np.cumsum([len(text) for text in spelled], dtype=np.int64)
    handle = compiled.lmworks_vocabulary_new(
        *(array.ctypes.data for array in (of_bytes, lefts, rights, made)),
        len(pairs),
        b"".join(spelled),
        ends.ctypes.data,
        len(spelled),
        words_first,
    )
    if not handle:
        raise MemoryError("not enough memory to encode")
    return handle
