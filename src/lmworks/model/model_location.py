"""Where a model lies that is named in a recipe or a command, and what its files hold. Free of torch."""

from functools import lru_cache
from pathlib import Path

from lmworks.artefact import hash_file, hash_json
from lmworks.model.download import locate


def located(source: str, base: Path) -> Path:
    """A model given by path (a relative one starts at the recipe) or by the name it was pulled under."""
    return base / source if (base / source).exists() else locate(source)


@lru_cache(maxsize=32)
def digest_of_model(path: Path) -> str:
    """SHA-256 over the names and bytes of the files of a checkpoint: a folder, or one file. Read once a process."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return hash_json([[file.relative_to(path).as_posix(), hash_file(file)] for file in files])
