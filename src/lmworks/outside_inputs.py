"""Files and models that a stage's settings name, outside of the workspace.

They are looked for before any stage runs, and hashed into the cache key of what is made from them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from lmworks.artefact import hash_file, hash_json
from lmworks.config import named_file
from lmworks.data.conversations import conversation_files, pair_files
from lmworks.evaluate import suite
from lmworks.model.download import digest_of_model, located
from lmworks.model.tokenizer_lookup import find_tokenizer, locate_tokenizer, own_chat_template
from lmworks.stage import Stage, resolve


def check_outside(stage: Stage, config: Any, base: Path) -> None:
    """Raise for settings of a stage that cannot work: the errors of its `check`, and of looking for what it names."""
    if stage.check:
        resolve(stage.check)(config, base)
    for field, holder in _naming_fields(config):
        if field.metadata["names"] == "suites":
            suite.check(holder.suite_config(), base)
        else:
            _paths(field, getattr(holder, field.name), base)


def digest_outside(stage: Stage, config: Any, base: Path, file_hashes: Path | None = None) -> str:
    """SHA-256 of what the settings name; "" where they name nothing. `file_hashes` is a file that spares reading again
    what has not changed, for a stage that `keeps_hashes`."""
    digests: list[Any] = []
    for field, holder in _naming_fields(config):
        if field.metadata["names"] == "suites":
            digests.append(suite.outside_digest(holder.suite_config(), base))
        else:
            paths = _paths(field, getattr(holder, field.name), base)
            digests.append([field.name, [_digest(field, path) for path in paths]])
    if stage.outside_digest:
        hashes = (file_hashes,) if stage.keeps_hashes else ()
        digests.append(resolve(stage.outside_digest)(config, base, *hashes))
    return hash_json(digests) if digests else ""


def _naming_fields(config: Any) -> Iterator[tuple[Field[Any], Any]]:
    """The fields, of tables in it too, that name something, and the dataclass that has them."""
    for field in fields(config):
        value = getattr(config, field.name)
        if "names" in field.metadata and (value or "required" in field.metadata):
            yield field, config
        elif is_dataclass(value):
            yield from _naming_fields(value)


def _paths(field: Field[Any], value: Any, base: Path) -> Sequence[Path]:
    """The files or folders that a field names; an error that names the fix for one that is not there."""
    values = [value] if isinstance(value, (str, Path)) else value.values() if isinstance(value, Mapping) else value
    names = [str(name) for name in values]
    match field.metadata["names"]:
        case "model":
            return [located(name, base) for name in names]
        case "tokenizer":
            return [locate_tokenizer(name, base) for name in names]
        case "rows":
            return conversation_files(names, base, rows=field.name)
        case "pairs":
            return pair_files(names, base)
        case _:
            return [named_file(name, base, field.name) for name in names]


def _digest(field: Field[Any], path: Path) -> Any:
    match field.metadata["names"]:
        case "model":
            return digest_of_model(path)
        case "tokenizer":
            return [find_tokenizer(str(path)).tokenizer.hash, own_chat_template(path)]
        case _:
            return [path.name, hash_file(path)]
