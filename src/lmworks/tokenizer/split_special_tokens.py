"""Keeps text from becoming a special token: where a model would find the name of one in a word, the name is cut.

The library's `encode_special_tokens` has a special token's name encoded like other text. But the name is an entry of
the model's vocabulary as well, and there a model finds it by itself: Unigram takes every piece, WordPiece the longest
that a word begins with, BPE whose merges are ignored for whole words, and WordLevel, a word. Mostly the rule for words
has cut the name before. Where it has not, the pre-tokenizer gets one more step, which cuts the words that hold the name
in the middle of it. That is a part of `tokenizer.json`, so that whoever encodes with it does so, and normalised text is
what is cut.

A BPE without an unknown token drops the letters that it lacks, and merges what is left: `<s␀>` would be `<s>`, which no
cut sees. Where merges lead to a name, such letters become words of their own, before the cut.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, pre_tokenizers

from lmworks.tokenizer.byte_level import byte_letters
from lmworks.tokenizer.pre_tokenizer import SPACE, steps_of

# Put around a text to see what a tokenizer makes of it there: what rules for words and normalisers distinguish, such as
# letters of several scripts, digits, punctuation, and kinds of white space.
_BEFORE = ("", " ", "a", "\n", ".", "1", "x", "é", "я", "中", "の", "한", "ا", "ह", "(", "'", "_", "a ", "  ")
CONTEXTS = [(before, after) for before in _BEFORE for after in ("", "a", " ", ".")]
_RARE = [chr(code) for code in (*range(9), *range(0xE000, 0xF8FF))]  # no vocabulary has all of them
_LONG = 4096  # characters
_NO_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}  # bytes that no text has


def encoding_of(backend: tokenizers.Tokenizer, text: str, special: bool = False) -> tokenizers.Encoding:
    """Encode one text. A long one is a batch, for which the library lets other threads run and which costs it less."""
    if len(text) > _LONG:
        return backend.encode_batch([text], add_special_tokens=special)[0]
    return backend.encode(text, add_special_tokens=special)


def split_special_tokens(backend: tokenizers.Tokenizer, roles: Collection[str] = ()) -> None:
    """Changes a tokenizer so that no text becomes one of its special tokens, or of the tokens that have `roles`.

    A token with a role that was not marked as special is marked, if its name has several letters: a single one is text.
    The unknown token is what text becomes that has no other. ValueError for a special token that no cut keeps apart.
    """
    marked = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    missing = sorted({role for role in roles if len(role) > 1} - marked)
    if missing:
        backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
    ids = {name: backend.model.token_to_id(name) for name in {*marked, *missing}}
    suspects = {name: index for name, index in ids.items() if index is not None and _may_find(backend, name, index)}
    if not suspects:
        return
    model = json.loads(backend.to_str())["model"]
    unknown = model.get("unk_token") or ""
    if model["type"] == "Unigram" and model["unk_id"] is not None:
        unknown = model["vocab"][model["unk_id"]][0]
    dropped = _isolate_dropped(backend, model, suspects)
    for _ in range(len(suspects) + 1):
        if not (leaking := _reached_names(backend, suspects, unknown, dropped)):
            return
        _cut(backend, model, leaking, backend.get_vocab(with_added_tokens=False).keys() - ids.keys())
        # What a cut leaves may be another name; and the unknown token is reached by what is unknown now.
        suspects.pop(unknown, None)
    if leaking := _reached_names(backend, suspects, unknown, dropped):
        raise ValueError(
            f"the special token {leaking[0]!r} is what texts become, however its name is cut: not supported"
        )


def split_pattern(names: Collection[str], pieces: Collection[str], bytes_: bool = False, whole: bool = False) -> str:
    """A pattern for places inside `names`, and with `bytes_` inside those of byte pieces; `whole`: of names that are
    words as a whole.

    A name is cut where the fewest of the other `pieces` have these two letters side by side, mostly none, and not
    between two unknown letters, which are one unknown token together. ValueError for a name of one letter.
    """
    if single := [name for name in names if len(name) < 2]:
        raise ValueError(
            f"the special token {single[0]!r} is a single letter, which text holds: give it a longer name, or make it "
            'an ordinary token ("special": false in tokenizer.json)'
        )
    pairs = {name: [left + right for left, right in pairwise(name)] for name in names}
    of_names = {pair for those in pairs.values() for pair in those}
    having = Counter(pair for piece in pieces for pair in of_names.intersection(map("".join, pairwise(piece))))
    first, last = (r"\A", r"\z") if whole else ("", "")
    known, patterns = set(pieces), list[str]()
    for name, those in pairs.items():
        costs = [(known.isdisjoint(pair), having[pair]) for pair in those]
        at = costs.index(min(costs)) + 1
        patterns.append(f"(?<={first}{re.escape(name[:at])})(?={re.escape(name[at:])}{last})")
    if bytes_:
        patterns.append("(?<=<)(?=0x[0-9A-F]{2}>)")
    return "|".join(patterns)


def _cut(
    backend: tokenizers.Tokenizer, model: Mapping[str, Any], names: Iterable[str], pieces: Collection[str]
) -> None:
    """Gives the pre-tokenizer a step more."""
    merged = _merged(model)
    groups: dict[bool, list[str]] = {}
    for name in names:
        # A word that only holds the name is left as it is, where the model looks for nothing but the whole of it.
        whole = model["type"] == "WordLevel" or (model["type"] == "BPE" and name not in merged)
        groups.setdefault(whole, []).append(_inside_words(backend, name))
    pattern = "|".join(split_pattern(group, pieces, whole=whole) for whole, group in groups.items())
    _add_step(backend, pattern)


def _add_step(backend: tokenizers.Tokenizer, pattern: str) -> None:
    before = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
    step = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, step])


def _merged(model: Mapping[str, Any]) -> set[str]:
    """The tokens that merges lead to."""
    inside = model.get("continuing_subword_prefix") or ""
    return {left + right.removeprefix(inside) for left, right in model.get("merges") or []}


# ---------------------------------------------------------------------------------------------------------------------
# Letters that a model drops


def _isolate_dropped(backend: tokenizers.Tokenizer, model: Mapping[str, Any], names: Collection[str]) -> str:
    """Makes words of the letters that a BPE drops, if its merges lead to one of `names`; a letter of them, "" for none.

    Of what is left no word loses a letter, so that what holds for texts without such letters holds for all.
    """
    if (
        model["type"] != "BPE"
        or model.get("unk_token")
        or (model.get("ignore_merges") and not _merged(model) & {*names})
    ):
        return ""
    vocabulary = model["vocab"]
    if model.get("byte_fallback") and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)):
        return ""
    # A letter may have a token in one place of a word and none in another.
    before = {"", model.get("continuing_subword_prefix") or ""}
    after = {"", model.get("end_of_word_suffix") or ""}
    forms = [(start, end) for start in before for end in after]
    letters = {token for token in vocabulary if len(token) == 1}
    known = sorted(c for c in letters if all(start + c + end in vocabulary for start, end in forms))
    if any(step["type"] == "ByteLevel" for step in _steps(backend)):  # the model sees letters that stand for bytes
        missing = [byte for letter, byte in byte_letters().items() if letter not in known and byte not in _NO_UTF8]
        if not missing:
            return ""
        probe = next((chr(byte) for byte in sorted(missing) if byte < 128), "")
    else:
        probe = next(letter for letter in _RARE if letter not in known)
    pattern = f"[^{''.join(map(re.escape, known))}]" if known else r"[\s\S]"
    if not any(step.get("pattern") == {"Regex": pattern} for step in _steps(backend)):  # a saved tokenizer has it
        _add_step(backend, pattern)
    return probe


def _steps(backend: tokenizers.Tokenizer) -> list[Mapping[str, Any]]:
    state = json.loads(backend.to_str())
    return [*steps_of(state["normalizer"]), *steps_of(state["pre_tokenizer"])]


# ---------------------------------------------------------------------------------------------------------------------
# Finding


def _may_find(backend: tokenizers.Tokenizer, name: str, index: int) -> bool:
    """True where the model makes the token of a word that is its name; one that only continues words may be anything.

    Another word with the name in it cannot become the token, if the name does not: BPE merges what is inside a name as
    it merges the name, and for Unigram the best way through a text has the best way through each part.
    """
    text = _inside_words(backend, name)
    return text != name or index in {token.id for token in backend.model.tokenize(text)}


def _reached_names(backend: tokenizers.Tokenizer, names: Mapping[str, int], unknown: str, dropped: str) -> list[str]:
    """Those of `names` that some text becomes: the text of a name, alone and in contexts, and with a `dropped` letter
    anywhere in it."""
    texts = {name: _texts(_inside_words(backend, name)) for name in names}
    alone = texts.pop(unknown, [])
    by_id = {names[name]: name for name in texts}
    alike = [text for several in texts.values() for text in several]
    probes = [before + text + after for text in alike for before, after in CONTEXTS]
    if dropped:
        probes += [text[:at] + dropped + text[at:] for text in alike for at in range(len(text) + 1)]
        probes += [dropped + text + dropped for text in alike]
    reached = {by_id[token] for ids in _encode(backend, probes) for token in ids if token in by_id}
    for text in alone:  # a word with an unknown letter is unknown with reason, and not because of its name
        if names[unknown] in _encode(backend, [text])[0] and not any(
            names[unknown] in i for i in _encode(backend, text)
        ):
            reached.add(unknown)
    return sorted(reached)


def _encode(backend: tokenizers.Tokenizer, texts: Iterable[str]) -> list[list[int]]:
    return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def _texts(name: str) -> list[str]:
    """Texts of which a word that is the name may have come."""
    texts = {name, name.replace(SPACE, " ")}
    letters = byte_letters()
    if all(letter in letters for letter in name):
        texts.add(bytes(letters[letter] for letter in name).decode("utf-8", "ignore"))
    return sorted({*texts, *(text[1:] for text in texts if text.startswith(" "))} - {""})


def _inside_words(backend: tokenizers.Tokenizer, name: str) -> str:
    """A token's name as the letters of the words that have it: without what marks the middle or the end of a word."""
    text = name.removeprefix(getattr(backend.model, "continuing_subword_prefix", None) or "")
    return text.removesuffix(getattr(backend.model, "end_of_word_suffix", None) or "")
