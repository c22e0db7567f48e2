"""What more tokens save, and what they cost before any training: prints the table of docs/measured/vocabulary.md.

python docs/vocabulary_extension.py german=GERMAN.txt medicine=ARTICLES.jsonl [--tokens 500 2000] [--held-out 0.2]

Tokens are chosen from four fifths of the documents of each text (lines of a text file, rows of a .jsonl file). On the
others (a hundred at most, 1,500 characters of each) it measures bytes per token, and bits per byte of SmolLM2-135M
whose new rows are means of the rows of the old pieces; for the first number of tokens also the mean of all old rows,
and rows drawn at random with the mean and the spread of the old ones. Intervals are over documents. It takes some six
minutes of processor time.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import lmworks
from lmworks.cli.tokenizer_arguments import find_texts
from lmworks.model import Checkpoint
from lmworks.model.embedding_resize import with_extension
from lmworks.records import Score, Scored
from lmworks.statistics.scores import linearised_ratio_score
from lmworks.tokenizer.fertility import Text, count, scores
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.vocabulary_extension import extend_for_texts, hold_out

MODEL, CHARACTERS, DOCUMENTS = "smollm2-135m-instruct", 1500, 100


@torch.no_grad()
def bits_per_byte(checkpoint: Checkpoint, documents: Sequence[str]) -> Score:
    """Bits for a byte of each document, behind the token that ends the one before."""
    bits = [_bits(checkpoint, document) for document in documents]
    sizes = [len(document.encode()) for document in documents]
    return linearised_ratio_score(
        np.array(bits), np.array(sizes), {"measure": "bits per byte", "model": checkpoint.fingerprint}
    )


def _bits(checkpoint: Checkpoint, document: str) -> float:
    ids = checkpoint.tokenizer.encode(document)
    logits = checkpoint.model(torch.tensor([[checkpoint.tokenizer.special_ids["<|endoftext|>"], *ids]]))[0, :-1]
    return F.cross_entropy(logits, torch.tensor(ids), reduction="sum").item() / math.log(2)


def bytes_per_token(tokenizer: Tokenizer, text: Text) -> Score:
    return scores(count(tokenizer, text), tokenizer, text)["bytes per token"]


def with_rows(extended: Checkpoint, old: int, new: Tensor) -> Checkpoint:
    """The same with other rows, (new tokens or 1, width), for what stands behind `old` tokens."""
    weights = dict(extended.model.state_dict())
    rows = weights["embedding.tokens.weight"].clone()
    rows[old:] = new
    return replace(extended, weights=weights | {"embedding.tokens.weight": rows})


def measure(name: str, text: Text, sizes: Sequence[int], share: float) -> None:
    """The rows of the table for one text."""
    kept, held = hold_out(text, share)
    held = Text(tuple(document[:CHARACTERS] for document in held.passages[:DOCUMENTS]), held.unit)
    checkpoint = lmworks.load(MODEL)
    told = f"{name}: {len(held.passages)} {held.unit}s held out, {len(kept.passages):,} to choose from"
    row(told, 0, "–", bytes_per_token(checkpoint.tokenizer, held), bits_per_byte(checkpoint, held.passages))
    for size in sizes:
        extension = extend_for_texts(checkpoint.tokenizer, kept.passages, size)
        extended = with_extension(checkpoint, extension)
        rate = bytes_per_token(extended.tokenizer, held)
        kinds = {"means of the old pieces": extended}
        if size == sizes[0]:
            old = checkpoint.model.state_dict()["embedding.tokens.weight"]
            mean, new = old.mean(dim=0), extended.config.embedding.vocabulary - len(old)
            drawn = torch.randn((new, len(mean)), generator=torch.Generator().manual_seed(0))
            kinds["the mean of all rows"] = with_rows(extended, len(old), mean)
            kinds["drawn at random"] = with_rows(extended, len(old), mean + old.std(dim=0) * drawn)
        for kind, model in kinds.items():
            row("", len(extension.pieces), kind, rate, bits_per_byte(model, held.passages))


def row(text: str, tokens: int, kind: str, rate: Score, loss: Score) -> None:
    print(f"| {text} | {tokens:,} | {kind} | {shown(rate, 2)} | {shown(loss, 3)} |", flush=True)


def shown(score: Score, digits: int) -> str:
    if not isinstance(score, Scored):
        return score.reason
    return f"{score.value:.{digits}f} [{score.interval[0]:.{digits}f}, {score.interval[1]:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--tokens", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--held-out", type=float, default=0.2)
    options = parser.parse_args()
    print("| text | tokens added | their rows | bytes per token | bits per byte |\n|---|---|---|---|---|")
    for name, text in find_texts(options.texts, by_file=False).items():
        measure(name, text, options.tokens, options.held_out)


main()
