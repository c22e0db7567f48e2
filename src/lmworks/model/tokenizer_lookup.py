"""Tokenizers by name: of a pulled model, in a folder, or in a file of any kind that holds a vocabulary."""

import difflib
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from lmworks.model.download import MODELS, base_of_adapter, locate, weights_path
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.chat_templates import FAMILIES, chat_template
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tokenizer_folder import read_chat_template, read_json, stated_eos_ids


@dataclass(frozen=True)
class Found:
    """A tokenizer, what it is called, and the folder or file that it came from."""

    name: str
    tokenizer: Tokenizer
    path: Path


def locate_tokenizer(name: str, base: Path = Path()) -> Path:
    """The folder or file that `name` stands for: a pulled model, or a path, which starts at `base` if it is relative;
    of a folder with one GGUF file, that file; of an adapter's without a tokenizer, its base.

    LookupError says what was meant perhaps; FileNotFoundError names the command that fetches a model.
    """
    if name in MODELS:
        return locate(name)
    path = base / name
    if name and (path.is_dir() or path.is_file()):
        while not (path / "tokenizer.json").exists() and (whole := base_of_adapter(path)) is not None:
            path = whole
        return weights_path(path)
    near = difflib.get_close_matches(name.lower(), MODELS, n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"models that can be pulled: {', '.join(MODELS)}."
    raise LookupError(f"{name!r} is no pulled model, no folder with a tokenizer.json, and no such file; {hint}")


def find_tokenizer(name: str, base: Path = Path()) -> Found:
    """The tokenizer of a pulled model, by its name, of a Hugging Face folder, or in a file: `tokenizer.json`, .gguf (no
    weights are read), SentencePiece's .model, or the ranks of an encoding (`cl100k_base.tiktoken`).

    LookupError says what was meant perhaps; ValueError names a file that is damaged or of another kind.
    """
    path = locate_tokenizer(name, base)
    tokenizer = _read_folder(path) if path.is_dir() else _read_tokenizer(path)
    if name not in MODELS:
        whole = path.resolve()
        whole = whole.parent if whole.name == "tokenizer.json" else whole
        name = whole.stem if whole.is_file() else whole.name
    return Found(name, tokenizer, path)


def find_renderer(source: Found, family: str | None = None) -> ChatRenderer:
    """The chat renderer for a tokenizer: the chat template of its model, or that of a `family`.

    ValueError where there is no template, and ChatTemplateError for an unknown family.
    """
    template = chat_template(family) if family is not None else own_chat_template(source.path)
    if template is None:
        raise ValueError(
            f"{source.name} has no chat template: choose that of a family, such as family=chatml, which is "
            f"`--set tokens.family=chatml` in lmworks finetune ({', '.join(FAMILIES)})"
        )
    return ChatRenderer(template, source.tokenizer)


def own_chat_template(path: Path) -> str | None:
    """The chat template of the model whose tokenizer is in this folder or file; None where there is none."""
    if path.is_dir():
        return read_chat_template(path)
    if path.name == "tokenizer.json":
        return read_chat_template(path.parent)
    if path.suffix in (".json", ".model", ".tiktoken"):
        return None
    from lmworks.model.gguf_file import open_gguf

    return open_gguf(path).metadata.get("tokenizer.chat_template")


def _read_folder(folder: Path) -> Tokenizer:
    """Read the folder's tokenizer with all end-of-text ids of the files next to it, so that
    its hash is that of the checkpoint's tokenizer."""
    ends = stated_eos_ids(*(read_json(folder / f"{name}.json") for name in ("config", "generation_config")))
    return Tokenizer.load(folder, ends)


def _read_tokenizer(path: Path) -> Tokenizer:
    match path.suffix:
        case ".json" if path.name == "tokenizer.json":  # the files next to it say what its special tokens are for
            return _read_folder(path.parent)
        case ".json":
            try:
                return Tokenizer(tokenizers.Tokenizer.from_file(str(path)))
            except Exception as error:  # the library raises no other class
                raise ValueError(f"{path} is no tokenizer of the `tokenizers` library: {error}") from error
        case ".model":
            from lmworks.tokenizer.tokenizer import load_sentence_piece

            return load_sentence_piece(path)
        case ".tiktoken":
            from lmworks.tokenizer.tiktoken_ranks import load_tiktoken

            return load_tiktoken(path, path.stem)
        case _:
            from lmworks.model.gguf_file import open_gguf
            from lmworks.tokenizer.gguf_vocabulary import read_tokenizer

            return read_tokenizer(open_gguf(path).metadata)
