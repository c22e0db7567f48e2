"""Real texts for training: tiny Shakespeare, classic books and Python's enhancement proposals, as people wrote them.

They lie in a folder of data beside the checkout (`--data`): `tinyshakespeare/input.txt.gz`, `classic-books/*.md.gz` and
`peps/*.tar.gz`, each in the public domain.
"""

import gzip
import tarfile
from pathlib import Path

DATA = Path(__file__).parents[3] / "shared" / "data"


def tiny_shakespeare(data: Path) -> str:
    """1,115,394 characters (Karpathy's char-rnn). FileNotFoundError names what is missing."""
    return gzip.decompress(_existing(data / "tinyshakespeare" / "input.txt.gz").read_bytes()).decode()


def books(data: Path) -> dict[str, str]:
    """File name → text of the eleven books, in the order of their names. FileNotFoundError as above."""
    paths = sorted(_existing(data / "classic-books").glob("*.md.gz"))
    return {path.name.removesuffix(".gz"): gzip.decompress(path.read_bytes()).decode() for path in paths}


def proposals(data: Path) -> dict[str, str]:
    """File name → text of the proposals, in the order of their numbers. FileNotFoundError as above."""
    texts: dict[str, str] = {}
    for path in sorted(_existing(data / "peps").glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member)
                if stream is not None and member.name.endswith(".rst"):
                    texts[Path(member.name).name] = stream.read().decode()
    return dict(sorted(texts.items()))


def write_texts(data: Path, folder: Path) -> list[Path]:
    """Books and proposals as files of a new folder, for `corpus.read`: 20 MB in 714 files."""
    folder.mkdir(parents=True)
    for name, text in (books(data) | proposals(data)).items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(folder.iterdir())


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: name the folder of the data with --data")
    return path
