"""Which document somebody means: by its uri, the end of it, or its hash; and the nearest where there is none."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from lmworks.config import from_mapping
from lmworks.data.store import LEFT_OUT
from lmworks.records import LeftOut

TOLD = 10  # names in a message
_FEWEST_DIGITS = 8  # of a hash
_COMPARED = 200  # names that are compared letter by letter


class AmbiguousNameError(LookupError):
    """A name that is the end of several documents' uris; the message names them."""


def document_names(ledger: Path) -> tuple[list[str], list[str]]:
    """The uri and the hash of every document of a ledger, in its order; nothing else of it is read."""
    import pyarrow.parquet as pq

    uris, hashes = [], []
    source = pq.ParquetFile(ledger)
    for number in range(source.num_row_groups):
        table = source.read_row_group(number, columns=["document", "hash"])
        for uri, digest in zip(table["document"].to_pylist(), table["hash"].to_pylist(), strict=True):
            if not uris or uri != uris[-1]:  # a row for each step follows
                uris.append(uri)
                hashes.append(digest)
    return uris, hashes


def named(name: str, uris: Sequence[str], hashes: Sequence[str] = ()) -> list[str]:
    """The uris that are meant: the one of this name; those of this hash or its first eight or more digits, of which
    there are several where texts are equal; the one that ends with it, rather behind a slash. None where there is none.

    AmbiguousNameError where several end with it.
    """
    if name in uris:
        return [name]
    if digits := digits_of(name):
        found = [uri for uri, digest in zip(uris, hashes, strict=False) if digest.startswith(digits)]
        if found:
            return found
    ending = [uri for uri in uris if name and uri.endswith(name)]
    whole = [uri for uri in ending if uri.removesuffix(name).endswith(("/", "#", ":"))]
    found = list(dict.fromkeys(whole or ending))
    if len(found) > 1:
        more = f" and {len(found) - TOLD:,} more" if len(found) > TOLD else ""
        raise AmbiguousNameError(f"{name} may be {', '.join(found[:TOLD])}{more}: give more of it")
    return found


def digits_of(name: str) -> str:
    """The digits of a hash that a name is, or its first eight or more; "" where it is none."""
    digits = name.lower()
    return digits if len(digits) >= _FEWEST_DIGITS and set(digits) <= set("0123456789abcdef") else ""


def inside(name: str, uris: Sequence[str]) -> list[str]:
    """The uris of what a folder, an archive or another file holds that `name` means, or the end of its path does."""
    name = name.rstrip("/")
    return [uri for uri in uris if name and (uri.startswith(f"{name}/") or f"/{name}/" in uri)]


def nearest(name: str, uris: Sequence[str], most: int = 3) -> list[str]:
    """The uris that are most like a name that is none of them. All are compared by the triples of letters that they
    share, and the best of those letter by letter, so that a million names take seconds."""
    wanted = _triples(name)
    if not wanted:
        return []
    tail = name.rsplit("/", 1)[-1]
    shared = sorted(((len(wanted & _triples(uri)), uri) for uri in dict.fromkeys(uris)), key=lambda each: -each[0])
    best = [uri for count, uri in shared[:_COMPARED] if count]
    ratios = [(max(_ratio(name, uri), _ratio(tail, uri.rsplit("/", 1)[-1])), uri) for uri in best]
    return [uri for ratio, uri in sorted(ratios, key=lambda each: (-each[0], each[1]))[:most] if ratio >= 0.6]


def left_out_item(folder: Path, name: str) -> tuple[LeftOut | None, list[str]]:
    """What of an artefact's folder no reader could read and `name` means, all that is told of it as one, and the names
    of all that is so."""
    path = folder / LEFT_OUT
    if not path.is_file():
        return None, []
    with path.open("rb") as stream:
        items: dict[str, list[LeftOut]] = {}
        for item in (from_mapping(LeftOut, json.loads(line)) for line in stream):
            items.setdefault(item.uri, []).append(item)
    found = named(name, list(items))
    return (_as_one(items[found[0]]) if found else None), list(items)


def _as_one(items: Sequence[LeftOut]) -> LeftOut:
    """Of a container, such as a crawl, several things may be left out for reasons of their own."""
    if len(items) == 1:
        return items[0]
    told = "; ".join(f"{item.reason} ({item.count:,})" for item in items[:TOLD])
    more = f"; and {len(items) - TOLD:,} more reasons" if len(items) > TOLD else ""
    return LeftOut(items[0].uri, told + more, sum(item.count for item in items))


def _triples(text: str) -> set[str]:
    return {text[at : at + 3] for at in range(len(text) - 2)}


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()
