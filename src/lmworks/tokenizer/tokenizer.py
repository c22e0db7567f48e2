"""The tokenizer: a `tokenizer.json`, and what its special tokens are for.

Text is only ever text here: a string such as `<|im_end|>` in the input is encoded letter by letter and never becomes
the special token of that name. Special tokens enter a sequence in two ways, both on purpose: `encode(...,
special=True)` adds the ones that frame a text for this model, and `chat.py` puts the ones that a chat template asks
for.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tokenizers

from lmworks.artefact import hash_json, write_json
from lmworks.tokenizer.fast_bpe import CompiledEncoding, compiled_encoding
from lmworks.tokenizer.sentence_piece import read_sentence_piece, sentence_piece_backend
from lmworks.tokenizer.split_special_tokens import encoding_of, split_special_tokens
from lmworks.tokenizer.tokenizer_folder import ROLES, read_tokenizer_folder

Result = TypeVar("Result")
WORTH_COMPILING = 1 << 16  # characters in one call: the compiled encoder takes a few tenths of a second to be made


class Tokenizer:
    """Encodes and decodes with a `tokenizers.Tokenizer`.

    `roles` says what the special tokens are for, by the names of `tokenizer_config.json` (`eos_token`, `pad_token`, …);
    `eos_ids` are all ids that end a generated text, the one of `eos_token` among them.

    A vocabulary may lack some bytes (SmolLM2's lacks six control characters): as with the published tokenizer,
    characters of such bytes get no token, and `encode_with_offsets` shows the gap.

    Much text is encoded by `compiled_encoding`, which gives the same ids many times as fast, where it knows how.

    Truncation and padding stored in a `tokenizer.json` are switched off: a caller who wants either does it in the open.

    `backend` is changed so that text is only ever text (`split_special_tokens.py`), and is this tokenizer's from then
    on. New tokens that are added to it later are noticed; whoever changes anything else makes a new `Tokenizer` of it.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, roles: Mapping[str, str] | None = None, eos_ids: Sequence[int] = ()
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # "encode them like other text", so that text cannot become one
        self.backend = backend
        self.roles = dict(roles or {})
        for role, token in self.roles.items():
            if role not in ROLES:
                raise ValueError(f"unknown role {role!r} of a special token; allowed: {', '.join(ROLES)}")
            if backend.token_to_id(token) is None:
                raise ValueError(f"the {role} {token!r} is not in the vocabulary")
        split_special_tokens(backend, [token for role, token in self.roles.items() if role != "unk_token"])
        self._results: dict[str, Any] = {}
        self._results_of = 0  # tokens in the backend that they were worked out of
        of_role = [] if self.eos_id is None else [self.eos_id]
        self.eos_ids = tuple(dict.fromkeys([*of_role, *eos_ids]))

    @classmethod
    def load(cls, folder: str | Path, eos_ids: Sequence[int] = ()) -> "Tokenizer":
        """Reads `tokenizer.json` and `tokenizer_config.json` (`special_tokens_map.json`) of a Hugging Face folder.

        Without a `tokenizer.json`, the SentencePiece model in `tokenizer.model` or `spiece.model`. FileNotFoundError
        where there is neither, NotADirectoryError for a file; ValueError names the file that is damaged.
        """
        return cls(*read_tokenizer_folder(Path(folder)), eos_ids)

    def save(self, folder: str | Path, chat_template: str | None = None, max_length: int | None = None) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json`, as `transformers` reads them, into a folder.

        The folder is made where it is missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / "tokenizer.json"))
        document: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **self.roles}
        # transformers would otherwise tidy spaces before punctuation after decoding, which is no part of the tokenizer.
        document["clean_up_tokenization_spaces"] = False
        if max_length is not None:
            document["model_max_length"] = max_length
        if chat_template is not None:
            document["chat_template"] = chat_template
        write_json(folder / "tokenizer_config.json", document)

    # -----------------------------------------------------------------------------------------------------------------
    # Encoding and decoding

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids of `text`; `special` adds the tokens that frame a text, such as `[CLS]` and `[SEP]`."""
        if not special and (fast := self._fast(len(text))) is not None:
            return fast.encode([text.encode()])[0].tolist()
        return encoding_of(self.backend, text, special).ids

    def encode_batch(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """`encode` of every text, on all cores."""
        if not special and (fast := self._fast(sum(map(len, texts)))) is not None:
            return [ids.tolist() for ids in fast.encode_batch([text.encode() for text in texts])]
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=special)]

    def encode_truncated(self, texts: Sequence[str], length: int) -> tuple[list[list[int]], int]:
        """The ids of each text with its special tokens, at most `length`, and how many texts were cut for that.

        A text that is too long loses its end, never a special token. ValueError where there is no room for more than
        these.
        """
        rows = self.encode_batch(texts, special=True)
        too_long = [number for number, ids in enumerate(rows) if len(ids) > length]
        if too_long:
            before, after = self.frame
            if len(before) + len(after) >= length:
                raise ValueError(f"a length of {length} leaves no room next to the special tokens: raise it")
            for number in too_long:
                rows[number] = rows[number][: length - len(after)] + after
        return rows, len(too_long)

    def _fast(self, size: int) -> CompiledEncoding | None:
        """The compiled way to encode, made for the first `size` that is worth it; None: not yet, or there is none."""
        worthwhile = size >= WORTH_COMPILING or "compiled" in self._current_results()
        return self._once("compiled", lambda: compiled_encoding(self.backend)) if worthwhile else None

    def encode_with_offsets(self, text: str, special: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids, and for each the code points `[start, end)` of `text` it stands for.

        Tokens that hold parts of one character all carry the whole character's offsets; added special tokens (0, 0).
        """
        encoding = self.backend.encode(text, add_special_tokens=special)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of the ids.

        Bytes that are no valid UTF-8 become U+FFFD; special tokens are left out unless asked for.
        """
        return self.backend.decode(list(ids), skip_special_tokens=skip_special)

    # -----------------------------------------------------------------------------------------------------------------
    # Vocabulary

    @property
    def vocabulary_size(self) -> int:
        """One more than the highest id, special tokens included; a model's embedding may have more rows than that.

        Where ids are left out, as in OpenAI's cl100k, there are fewer tokens.
        """
        return self._once("size", lambda: max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1)

    @property
    def special_ids(self) -> dict[str, int]:
        """Every special token and its id."""
        added = self.backend.get_added_tokens_decoder
        return self._once("special", lambda: {t.content: i for i, t in sorted(added().items()) if t.special})

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The ids that `special` puts before a text, such as `[CLS]`, and behind it, such as `[SEP]`."""
        content, framed = self.encode("a"), self.encode("a", special=True)
        start = next(start for start in range(len(framed) + 1) if framed[start : start + len(content)] == content)
        return framed[:start], framed[start + len(content) :]

    @property
    def bos_id(self) -> int | None:
        return self._role_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        return self._role_id("eos_token")

    @property
    def pad_id(self) -> int | None:
        return self._role_id("pad_token")

    @property
    def hash(self) -> str:
        """SHA-256 over `tokenizer.json`, the roles and the ids that end a text: all that decides the ids of a text."""
        rest = {"roles": self.roles, "eos": self.eos_ids}
        return self._once("hash", lambda: hash_json({"tokenizer": self.backend.to_str(), **rest}))

    def _once(self, name: str, work: Callable[[], Result]) -> Result:
        """The result of `work`, computed once."""
        results = self._current_results()
        if name not in results:
            results[name] = work()
        return results[name]

    def _current_results(self) -> dict[str, Any]:
        """The results so far; none, once tokens have been added to the backend."""
        size = self.backend.get_vocab_size(with_added_tokens=True)
        if size != self._results_of:
            self._results, self._results_of = {}, size
        return self._results

    def _role_id(self, role: str) -> int | None:
        token = self.roles.get(role)
        return None if token is None else self.backend.token_to_id(token)


def load_sentence_piece(path: str | Path) -> Tokenizer:
    """The tokenizer of a `.model` file; ValueError for one that is damaged, or that says what is not supported,
    FileNotFoundError for one that is missing.

    A text is framed by nothing, since a model does not say by what; `Tokenizer.load` of a Hugging Face folder reads
    that, and the tokens that were added later, from the files next to the model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give the SentencePiece model, mostly named tokenizer.model")
    model = read_sentence_piece(path)
    return Tokenizer(sentence_piece_backend(model), model.roles)
