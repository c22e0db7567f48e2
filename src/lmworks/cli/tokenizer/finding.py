"""What a user means by the name of a tokenizer, and by a name of a text."""

import difflib
import glob
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmworks.tokenizer.comparing import Rows
    from lmworks.tokenizer.measuring import Text
    from lmworks.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Found:
    """A tokenizer, what it is called, and the folder or file that it came from."""

    name: str
    tokenizer: "Tokenizer"
    path: Path


def find_tokenizer(name: str) -> Found:
    """The tokenizer of a pulled model, by its name, of a Hugging Face folder, or in a file: `tokenizer.json`, .gguf (no
    weights are read), SentencePiece's .model, or the ranks of an encoding (`cl100k_base.tiktoken`).

    LookupError says what was meant perhaps; ValueError names a file that is damaged or of another kind.
    """
    from lmworks.model.pulling import MODELS, locate
    from lmworks.tokenizer.tokenizer import Tokenizer

    path = locate(name) if name in MODELS else Path(name)
    called = name if name in MODELS else _called(path)
    if name and path.is_dir():
        return Found(called, Tokenizer.load(path), path)
    if path.is_file():
        return Found(called, _read_tokenizer(path), path)
    near = difflib.get_close_matches(name.lower(), MODELS, n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"models that can be pulled: {', '.join(MODELS)}."
    raise LookupError(f"{name!r} is no pulled model, no folder with a tokenizer.json, and no such file; {hint}")


def _read_tokenizer(path: Path) -> "Tokenizer":
    import tokenizers

    from lmworks.tokenizer.tokenizer import Tokenizer

    match path.suffix:
        case ".json" if path.name == "tokenizer.json":  # the files beside it say what its special tokens are for
            return Tokenizer.load(path.parent)
        case ".json":
            try:
                return Tokenizer(tokenizers.Tokenizer.from_file(str(path)))
            except Exception as error:  # the library raises no other class
                raise ValueError(f"{path} is no tokenizer of the `tokenizers` library: {error}") from error
        case ".model":
            from lmworks.tokenizer.sentence_piece_model import load_sentence_piece

            return load_sentence_piece(path)
        case ".tiktoken":
            from lmworks.tokenizer.tiktoken_ranks import load_tiktoken

            return load_tiktoken(path, path.stem)
        case _:
            from lmworks.model.gguf_file import open_gguf
            from lmworks.tokenizer.gguf_vocabulary import read_tokenizer

            return read_tokenizer(open_gguf(path).metadata)


def find_tokenizers(names: Sequence[str]) -> list[Found]:
    """`find_tokenizer` of each; two that would be called the same are called as they were given."""
    found = [find_tokenizer(name) for name in names]
    called = [each.name for each in found]
    unique = [
        Found(name, each.tokenizer, each.path) if called.count(each.name) > 1 else each
        for name, each in zip(names, found, strict=True)
    ]
    if len({each.name for each in unique}) < len(names):
        raise ValueError("a tokenizer was named twice")
    return unique


def _called(path: Path) -> str:
    resolved = path.resolve()
    if resolved.name == "tokenizer.json":
        return resolved.parent.name
    return resolved.stem if path.is_file() else resolved.name


def embedding_rows(found: Found) -> "Rows | None":
    """The embedding of the model that a tokenizer belongs to; None where there are no weights beside it.

    ValueError for weights that are not read here.
    """
    path = found.path.parent if found.path.name == "tokenizer.json" else found.path
    if path.suffix in (".json", ".model", ".tiktoken") or (path.is_dir() and not (path / "config.json").exists()):
        return None
    from lmworks.model.checkpoint import load
    from lmworks.model.config import LanguageModelHead, MaskedLanguageModelHead
    from lmworks.tokenizer.comparing import Rows

    checkpoint = load(path, dtype="stored")
    head = checkpoint.config.head
    tied = isinstance(head, MaskedLanguageModelHead) or (isinstance(head, LanguageModelHead) and head.tied)
    return Rows(checkpoint.weights["embedding.tokens.weight"].float().numpy(), tied)


# ---------------------------------------------------------------------------------------------------------------------
# Texts


def find_texts(options: Sequence[str], by_file: bool) -> "dict[str, Text]":
    """The texts that `NAME=PATTERN` options name, in their order; `by_file`: each file is a text of its own.

    A passage is a file where a text has several, a line with its line break where it has one (as parallel corpora
    are), and the `text` of a row in .jsonl files. FileNotFoundError for a pattern without a file, ValueError for two
    texts of one name and for what is not UTF-8.
    """
    from lmworks.tokenizer.measuring import Text

    texts: dict[str, Text] = {}
    for option in options:
        name, given, pattern = option.partition("=")
        if not given or "/" in name:  # a path alone, which may well hold an equals sign
            name, pattern = "", option
        files = sorted(Path(file) for file in glob.glob(pattern, recursive=True) if Path(file).is_file())  # noqa: PTH207
        if not files:
            raise FileNotFoundError(
                f"no file matches {pattern!r}; in a shell, quote a pattern: --text 'NAME=folder/*.txt'"
            )
        single = by_file or (not name and len(files) == 1)
        groups = {file.stem: [file] for file in files} if single else {name or Path(pattern).parent.name: files}
        if len(groups) < (len(files) if single else 1) or groups.keys() & texts.keys():
            raise ValueError(f"two texts would have the same name for {option!r}: name them apart with NAME=PATTERN")
        texts |= {called: _text(members) for called, members in groups.items()}
    return texts


def _text(files: Sequence[Path]) -> "Text":
    from lmworks.tokenizer.measuring import Text

    if all(file.suffix == ".jsonl" for file in files):
        return Text(tuple(row for file in files for row in _rows(file)), "row")
    contents = [_read(file) for file in files]
    return (
        Text(tuple(contents[0].splitlines(keepends=True)), "line") if len(files) == 1 else Text(tuple(contents), "file")
    )


def _rows(file: Path) -> list[str]:
    try:
        return [json.loads(line)["text"] for line in _read(file).splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{file} needs a JSON object with a "text" in each line: {error}') from error


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 ({error.reason} at byte {error.start}); convert it, for example with iconv"
        ) from error
