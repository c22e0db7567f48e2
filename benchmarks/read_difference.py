"""Outputs of the readers and extractors before and after a change: which records of the same files differ?

    .venv/bin/python benchmarks/read_difference.py freeze OLD.jsonl [--data ../shared/data] [--files FOLDER ...]
    .venv/bin/python benchmarks/read_difference.py compare OLD.jsonl NEW.jsonl [--show 5]

The files are the samples of the fuzzers (HTML, PDF, DOCX, EPUB, wikitext, mail, tables, mailboxes, WARC, archives),
each whole and with `--mutations` seeded changes, the article pages of the shared data and what `--files` adds; web
pages are read in both modes. A record is frozen as the hash of its text, title and metadata, or as the reason why
it was rejected. `compare` counts by format what is equal and what differs, and shows the first differences.

`read_outputs.jsonl.gz` holds the outputs of the readers that were replaced by the sandbox and by libraries; what is
accepted of the differences to it stands in docs/measured/cleaning.md.
"""

import argparse
import gzip
import hashlib
import json
import random
import re
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmworks.corpus import ReadConfig, read_documents
from lmworks.records import Document

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzz"))
import mutations
import reader_samples as samples

FUZZED = {
    "html": samples.html, "pdf": samples.pdf, "docx": samples.docx, "epub": samples.epub, "md": samples.markdown,
    "rst": samples.rest, "txt": samples.plain, "py": samples.python, "wiki": samples.wikitext, "eml": samples.mail,
    "flowed.eml": samples.flowed_mail, "jsonl": samples.jsonl, "csv": samples.separated, "parquet": samples.parquet,
    "mbox": samples.mbox, "xml": samples.mediawiki, "warc": samples.warc, "warc.gz": lambda: samples.warc(packed=True),
    "tar": samples.tarred, "zip": lambda: samples.zipped(samples.FILES),
}  # fmt: skip
Record = dict[str, object]


def files(count: int, data: Path, folders: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file: samples, their mutations, article pages, the files of `folders`."""
    for suffix, sample in FUZZED.items():
        random.seed(suffix)  # the boundaries of mails
        raw = sample()
        mutate = mutations.inside_zip(mutations.mutated) if suffix in ("docx", "epub") else mutations.mutated
        yield f"sample.{suffix}", raw
        for seed in range(count):
            yield f"mutated-{seed}.{suffix}", mutate(raw, random.Random(f"{suffix}{seed}"))
    for path in sorted((data / "article-extraction").glob("*.html.gz")):
        yield f"article-{path.name[:12]}.html", gzip.decompress(path.read_bytes())
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        yield re.sub(r"[^\w.-]|\.(?=.*\.)", "_", path.name), path.read_bytes()


def records(folder: Path) -> Iterator[Record]:
    """What is read of the files of a folder, web pages in each of the modes."""
    for web in ("main", "whole"):
        seen: Counter[str] = Counter()
        sources = (str(folder),) if web == "main" else tuple(str(path) for path in sorted(folder.glob("*.html")))
        for item in read_documents(ReadConfig(sources=sources, web=web)):
            uri = item.uri.split("files/")[-1]
            record: Record = {"uri": uri, "web": web, "record": seen[uri]}
            seen[uri] += 1
            if isinstance(item, Document):
                about = [item.title, item.date, item.language, item.licence, item.kind, sorted(item.metadata.items())]
                record |= {"characters": len(item.text), "text": digest(item.text), "about": digest(json.dumps(about))}
            else:
                record["rejected"] = item.reason.replace(f"{folder}/", "")
            yield record


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def load(path: Path) -> dict[tuple[str, str, int], Record]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        return {(row["uri"], row["web"], row["record"]): row for row in map(json.loads, lines)}


def difference(old: Record | None, new: Record | None) -> str:
    """What became of a record, in one or two words."""
    if old is None or new is None:
        return "record gone" if new is None else "record new"
    if "rejected" in old or "rejected" in new:
        was, is_now = old.get("rejected"), new.get("rejected")
        return (
            "equal"
            if was == is_now
            else "other reason"
            if was and is_now
            else f"now {'rejected' if is_now else 'read'}"
        )
    return "text" if old["text"] != new["text"] else "metadata" if old["about"] != new["about"] else "equal"


def compare(old: dict[tuple[str, str, int], Record], new: dict[tuple[str, str, int], Record], show: int) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for key in sorted(old.keys() | new.keys()):
        found = difference(old.get(key), new.get(key))
        origin, suffix = re.match(r"(\w+).*?\.((?:flowed\.|warc\.)?\w+)", key[0]).groups()  # type: ignore[union-attr]
        counts[f"{origin} {suffix} {key[1]}"][found] += 1
        if found != "equal" and show:
            show -= 1
            print(found, key, old.get(key), new.get(key), sep="\n    ")
    for name, row in counts.items():
        print(f"{name:<32} {', '.join(f'{number} {what}' for what, number in row.most_common())}")
    print(f"{'all':<32} {', '.join(f'{n} {what}' for what, n in sum(counts.values(), Counter()).most_common())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("freeze", "compare"))
    parser.add_argument("outputs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--files", type=Path, nargs="*", default=())
    parser.add_argument("--mutations", type=int, default=12)
    parser.add_argument("--show", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.what == "compare":
        old, new = map(load, chosen.outputs)
        compare(old, new, chosen.show)
        return
    warnings.filterwarnings("ignore")
    with chosen.outputs[0].open("w") as out, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        for name, raw in files(chosen.mutations, chosen.data, chosen.files):
            (folder / name).write_bytes(raw)
        for record in records(folder):
            out.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
