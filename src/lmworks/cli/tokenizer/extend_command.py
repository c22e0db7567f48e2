"""The verb `tokenizer extend`: more tokens for a vocabulary, and for the model that it belongs to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.cli.options import new_console
from lmworks.cli.output import say, say_rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from lmworks.model.checkpoint import Checkpoint
    from lmworks.model.tokenizer_lookup import Found
    from lmworks.records import RejectedRecord
    from lmworks.tokenizer.fertility import Text
    from lmworks.tokenizer.tokenizer import Tokenizer
    from lmworks.tokenizer.vocabulary_extension import Extension

_SHOWN = 12  # new tokens that are named


def extend(
    model: Annotated[
        str, typer.Argument(help="A pulled model, a Hugging Face folder, a .gguf file, or a tokenizer alone.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make; must not exist.")],
    tokens: Annotated[int, typer.Option(help="New tokens, at most.")],
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SOURCE", help="Documents of the new domain or language: a file, folder or quoted pattern."
        ),
    ] = None,
    least: Annotated[int, typer.Option(help="How often two tokens must be neighbours to become one.")] = 2,
    held_out: Annotated[float, typer.Option(help="The share of documents to measure on, not to choose from.")] = 0.1,
) -> None:
    """Give a vocabulary of the BPE kind more tokens, chosen from texts, and its model the rows for them.

    Old tokens keep their ids, and a text in which no new token applies keeps its encoding. New rows of the embedding
    and of the head are the means of the rows of the pieces that stood for the same text: a place to train from, not a
    model to serve. A tokenizer without weights is extended alone.

    Whole documents are held out (of one file, lines; of a .jsonl file, rows), and the table says how many tokens they
    took before and take now, with 95 % intervals. How often the new pairs were neighbours is not kept: there is no
    `merges.tsv` as of `lmworks tokenizer train`.

    Example: `lmworks tokenizer extend smollm2-135m-instruct --text 'german=texts/*.txt' --tokens 500 --out extended`
    """
    from lmworks.artefact import check_new
    from lmworks.cli.tokenizer.arguments import find_texts
    from lmworks.model.tokenizer_lookup import find_tokenizer
    from lmworks.progress import stage_progress
    from lmworks.tokenizer.vocabulary_extension import extend_for_texts, hold_out

    check_new(out)
    if not text:
        raise ValueError("tokens are chosen from texts: name some, for example --text 'german=texts/*.txt'")
    found = find_tokenizer(model)
    checkpoint = _model_of(found)
    tokenizer = found.tokenizer if checkpoint is None else checkpoint.required_tokenizer
    rejected: list[RejectedRecord] = []
    parts = {name: hold_out(each, held_out) for name, each in find_texts(text, False, rejected).items()}
    console = new_console()
    with stage_progress(console, "choosing tokens") as progress:
        chosen_from = [document for kept, _ in parts.values() for document in kept.passages]
        extension = extend_for_texts(tokenizer, chosen_from, tokens, least, progress)
    _print_gains(console, tokenizer, extension.tokenizer, {name: held for name, (_, held) in parts.items()})
    _print_tokens(extension, tokens)
    say_rejected(rejected)
    _write(found, checkpoint, extension, out)
    what, note = (
        ("tokenizer", "there were no weights next to the tokenizer: it alone was extended")
        if checkpoint is None
        else ("model", "train it before you serve it: it has not learnt to write the new tokens yet")
    )
    say(f"{what} -> {out}\n{note}")


def _model_of(found: "Found") -> "Checkpoint | None":
    """The model that a tokenizer belongs to, its weights as they are stored; None where there are none next to it.

    ValueError for weights that cannot be extended: adapters, which are of another model, and what `load` refuses.
    """
    path = found.path
    if path.is_dir():
        weights = [*path.glob("model*.safetensors*"), *path.glob("pytorch_model*.bin*")]
        if not weights and not (path / "adapter_config.json").exists():
            return None
    elif path.suffix in (".json", ".model", ".tiktoken"):
        return None
    from lmworks.model.checkpoint import load

    return load(path, dtype="stored")


def _print_gains(console: "Console", before: "Tokenizer", after: "Tokenizer", texts: "Mapping[str, Text]") -> None:
    from lmworks.records import Scored
    from lmworks.report import Table, print_table
    from lmworks.tokenizer.fertility import count, parity, scores

    rows = []
    for name, text in texts.items():
        counts, extended = count(before, text), count(after, text)
        rates = [scores(*measured, text)["bytes per token"] for measured in ((counts, before), (extended, after))]
        cells = [
            f"{score.value:.2f} [{score.interval[0]:.2f}, {score.interval[1]:.2f}]"
            if isinstance(score, Scored)
            else score.reason
            for score in (*rates, parity(extended, counts, after, text, text))
        ]
        unit = f"{len(text.passages):,} {text.unit}{'s' if len(text.passages) != 1 else ''}"
        rows.append((name, unit, *cells))
    heads = ("text", "documents", "bytes per token before", "after", "tokens left")
    print_table(console, Table(heads, tuple(rows), "held-out texts"))


def _print_tokens(extension: "Extension", wanted: int) -> None:
    from lmworks.tokenizer.token_bytes import spelled_tokens

    ids = list(extension.pieces)
    spelled = spelled_tokens(extension.tokenizer)
    shown = [spelled[index] for index in ids[:_SHOWN]]
    some = " · ".join(shown) + (" · ..." if len(ids) > _SHOWN else "")
    if not all(each.startswith(("'", '"')) for each in shown):
        some += " (in quotes text; without, the bytes of a part of a character, two digits each)"
    fewer = f", of {wanted:,} wanted: the texts hold no more" if len(ids) < wanted else ""
    say(f"{len(ids):,} new tokens{fewer}, ids {ids[0]:,} to {ids[-1]:,}: {some}")


def _write(found: "Found", checkpoint: "Checkpoint | None", extension: "Extension", out: Path) -> None:
    if checkpoint is not None:
        from lmworks.model.embedding_resize import with_extension

        with_extension(checkpoint, extension).save(out)
        return
    from lmworks.artefact import writing
    from lmworks.model.tokenizer_lookup import own_chat_template

    with writing(out) as folder:
        extension.tokenizer.save(folder, own_chat_template(found.path))
