"""The files of sentence-transformers next to a BERT folder: pooling, and the longest text."""

import json
import re
from pathlib import Path
from typing import Any, Literal

from lmworks.artefact import write_json
from lmworks.model.config import PoolHead, UnsupportedModel
from lmworks.tokenizer.tokenizer_folder import read_json

MODULES, SETTINGS = "modules.json", "sentence_bert_config.json"
_PREFIX = "sentence_transformers.models."
_POOLING: dict[Literal["mean", "cls", "last"], str] = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
}
_NEWER = {"mean": _POOLING["mean"], "cls": _POOLING["cls"], "lasttoken": _POOLING["last"]}


def read_pooling(folder: Path) -> tuple[PoolHead | None, int | None]:
    """The pooling head and the longest text in tokens; (None, None) for a folder that is no embedding model.

    Since 5.4 the classes have other modules, `pooling_mode` is one field, and the length is the tokenizer's.

    UnsupportedModel names a module or a pooling mode that is not supported; ValueError a file that is no JSON.
    """
    if not (folder / MODULES).exists():
        return None, None
    try:
        modules = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        kinds = [re.sub(r"^sentence_transformers\.([a-z_]+\.)+", "", module["type"]) for module in modules]
        path = folder / (modules[1]["path"] if len(modules) > 1 else "")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{MODULES} is no JSON list of modules, each with a type and a path: {error!r}") from error
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UnsupportedModel(f"{MODULES} lists {kinds}; supported: Transformer, Pooling and perhaps Normalize")
    settings = read_json(path / "config.json")
    chosen = [field for field, value in settings.items() if field.startswith("pooling_mode_") and value is True]
    if newer := settings.get("pooling_mode"):
        chosen = [_NEWER.get(str(newer), str(newer))]
    normalize = "Normalize" in kinds
    heads = [PoolHead(mode, normalize) for mode, field in _POOLING.items() if chosen == [field]]
    if not heads:
        raise UnsupportedModel(
            f"pooling by {chosen} is not supported; supported: one of {', '.join(_POOLING.values())}"
        )
    length = read_json(folder / SETTINGS).get("max_seq_length")
    length = length or read_json(folder / "tokenizer_config.json").get("model_max_length")
    return heads[0], length if isinstance(length, int) else None


def write_pooling(folder: Path, head: PoolHead, width: int, max_length: int) -> None:
    """Writes the files that `read_pooling` and sentence-transformers read."""
    paths = {"Transformer": "", "Pooling": "1_Pooling"} | ({"Normalize": "2_Normalize"} if head.normalize else {})
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": _PREFIX + kind}
        for index, (kind, path) in enumerate(paths.items())
    ]
    settings: dict[str, Any] = {field: mode == head.pooling for mode, field in _POOLING.items()}
    write_json(folder / MODULES, modules)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **settings})
    write_json(folder / SETTINGS, {"max_seq_length": max_length, "do_lower_case": False})
