"""Tokenizers and texts by the names that a user gives."""

import glob
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmworks.model.tokenizer_lookup import Found, find_tokenizer
from lmworks.records import RejectedRecord

if TYPE_CHECKING:
    from lmworks.model.checkpoint import Checkpoint
    from lmworks.tokenizer.fertility import Text
    from lmworks.tokenizer.vocabulary_report import EmbeddingRows


def find_tokenizers(names: Sequence[str]) -> list[Found]:
    """`find_tokenizer` of each. ValueError for two of one name."""
    found = [find_tokenizer(name) for name in names]
    called = [each.name for each in found]
    if twice := [name for name in called if called.count(name) > 1]:
        raise ValueError(f"two tokenizers are called {twice[0]}, as their folders are: rename one of these")
    return found


def model_beside(found: Found) -> "Checkpoint | None":
    """The model that a tokenizer belongs to, its weights as they are stored; None where there are none next to it.

    ValueError for adapters, which are of another model, and what `load` refuses.
    """
    path = found.path.parent if found.path.name == "tokenizer.json" else found.path
    weights = [*path.glob("model*.safetensors*"), *path.glob("pytorch_model*.bin*"), *path.glob("adapter_config.json")]
    if path.suffix in (".json", ".model", ".tiktoken") or (path.is_dir() and not weights):
        return None
    from lmworks.model.checkpoint import load

    return load(path, dtype="stored")


def embedding_rows(found: Found) -> "EmbeddingRows | None":
    """The embedding of the model that a tokenizer belongs to; None where there are no weights next to it."""
    if (checkpoint := model_beside(found)) is None:
        return None
    from lmworks.model.config import LanguageModelHead, MaskedLanguageModelHead
    from lmworks.tokenizer.vocabulary_report import EmbeddingRows

    head = checkpoint.config.head
    tied = isinstance(head, MaskedLanguageModelHead) or (isinstance(head, LanguageModelHead) and head.tied)
    return EmbeddingRows(checkpoint.weights["embedding.tokens.weight"].float().numpy(), tied)


# ---------------------------------------------------------------------------------------------------------------------
# Texts


def find_texts(
    options: Sequence[str], by_file: bool, rejected: "list[RejectedRecord] | None" = None
) -> "dict[str, Text]":
    """The texts that `NAME=SOURCE` options name, in their order; `by_file`: each file is a text of its own.

    A source is a file, a folder or a glob, read as `tokenizer train` reads it. A passage is a file where a text has
    several, a line with its line break where it has one (as parallel corpora are), and the `text` of a row in .jsonl
    files. What a folder holds that is no text is added to `rejected`; a file that was named itself must be one.
    FileNotFoundError for a source without a file, ValueError for two texts of one name and for what is not UTF-8.
    """
    rejected = [] if rejected is None else rejected
    texts: dict[str, Text] = {}
    for option in options:
        name, given, source = option.partition("=")
        if not given or "/" in name:  # a path alone, which may well hold an equals sign
            name, source = "", option
        contents = _contents(source, rejected)
        single = by_file or (not name and len(contents) == 1)
        groups = {file.stem: [file] for file in contents} if single else {name or _name_of(source): list(contents)}
        if len(groups) < (len(contents) if single else 1) or groups.keys() & texts.keys():
            raise ValueError(f"two texts would have the same name for {option!r}: name them apart with NAME=SOURCE")
        texts |= {called: _text({file: contents[file] for file in files}) for called, files in groups.items()}
    return texts


def _contents(source: str, rejected: list[RejectedRecord]) -> dict[Path, tuple[str, ...]]:
    """The contents of the files of a source, in order: one text, or those of the rows of a .jsonl file.
    FileNotFoundError where none of it is a text, with the reasons."""
    from lmworks.corpus.sources.files import FoundFile, find_files
    from lmworks.data.plain_texts import plain_texts

    contents: dict[Path, tuple[str, ...]] = {}
    skipped: list[RejectedRecord] = []
    for file in find_files([source], (), Path.cwd()):
        if isinstance(file, FoundFile):
            problems: list[RejectedRecord] = []
            if texts := tuple(plain_texts([str(file.path)], problems)):
                contents[file.path] = texts if file.path.suffix == ".jsonl" else ("".join(texts),)
            skipped += [replace(problem, uri=file.uri) for problem in problems]
        else:
            skipped.append(file)
    if not contents:
        reasons = ", ".join(dict.fromkeys(record.reason for record in skipped)) or "it is empty"
        raise FileNotFoundError(f"there is no text in {source!r}: {reasons}")
    rejected += skipped
    return contents


def _name_of(source: str) -> str:
    """The folder that a source is, or that its pattern begins in; the pattern itself where it begins with a sign."""
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), Path(source).parts))
    return Path(*fixed).resolve().name if fixed else source


def _text(contents: Mapping[Path, tuple[str, ...]]) -> "Text":
    from lmworks.tokenizer.fertility import Text

    passages = tuple(itertools.chain.from_iterable(contents.values()))
    rows = [file.suffix == ".jsonl" for file in contents]
    if len(contents) == 1 and not rows[0]:
        return Text(tuple(re.findall(r"[^\n]*\n|[^\n]+", passages[0])), "line")
    return Text(passages, "row" if all(rows) else "passage" if any(rows) else "file")
