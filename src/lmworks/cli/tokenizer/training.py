"""The verb `tokenizer train`: a vocabulary from files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmworks.cli.options import new_console, settings_help

if TYPE_CHECKING:
    from lmworks.records import LeftOut

KINDS = ("bpe", "wordpiece", "unigram")


def train(
    sources: Annotated[
        list[str], typer.Argument(help="Folders, files or quoted globs; of .jsonl files the `text` of each row.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make; must not exist.")],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "bpe",
    vocabulary_size: Annotated[int | None, typer.Option(help="Tokens in all.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="key=value", help="Other settings.")] = None,
) -> None:
    """Learn a vocabulary from files and write it as `tokenizer.json`, which `tokenizers` and `transformers` read.

    Files are read as they are (`lmworks stage tokenizer.bpe` learns from extracted documents instead), once, in memory
    that follows the different words. Beside the vocabulary lies `merges.tsv`, the merges in the order in which they
    were learnt, which `lmworks tokenizer explain` shows.

    Examples: `lmworks tokenizer train docs 'src/**/*.py' --out vocabulary --vocabulary-size 8000` ·
    `lmworks tokenizer train books --kind wordpiece --set lowercase=false --out pieces`
    """
    from lmworks.artefact import writing
    from lmworks.data.plain_texts import plain_texts
    from lmworks.data.stage_train_tokenizer import section, write_tokenizer
    from lmworks.progress import stage_progress
    from lmworks.report import print_sections

    trainer, config = _trainer(kind, vocabulary_size, overrides or [])
    if out.exists():
        raise FileExistsError(f"{out} exists already; name a new folder, or delete it first")
    console = new_console()
    left_out: list[LeftOut] = []
    with stage_progress(console, f"learning {kind}") as progress:
        trained = trainer(plain_texts(sources, left_out=left_out), config, progress)
    with writing(out) as folder:
        write_tokenizer(folder, trained)
    print_sections(console, [section(trained, config)])
    for reason, uris in _by_reason(left_out).items():
        told = f"left out because {reason}: {len(uris):,} files, such as {uris[0]}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
    console.print(f"tokenizer -> {out}\nlook into it: lmworks tokenizer explain 'Some text.' --tokenizer {out}")


def _by_reason(left_out: "list[LeftOut]") -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for each in left_out:
        reasons.setdefault(each.reason.split(":")[0], []).append(each.uri)
    return reasons


def _trainer(kind: str, vocabulary_size: int | None, overrides: list[str]) -> tuple[Any, Any]:
    from lmworks.config import assign, from_mapping, parse_assignment, unknown
    from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig
    from lmworks.tokenizer.training.bpe import train_bpe
    from lmworks.tokenizer.training.unigram import train_unigram
    from lmworks.tokenizer.training.wordpiece import train_wordpiece

    configs = (BpeConfig, WordPieceConfig, UnigramConfig)
    trainers = dict(zip(KINDS, zip((train_bpe, train_wordpiece, train_unigram), configs, strict=True), strict=True))
    if kind not in trainers:
        raise ValueError(unknown("kind", kind, KINDS))
    mapping: dict[str, Any] = {} if vocabulary_size is None else {"vocabulary_size": vocabulary_size}
    for override in overrides:
        assign(mapping, *parse_assignment(override))
    trainer, config = trainers[kind]
    return trainer, from_mapping(config, mapping)


def settings() -> str:
    """What `--set` takes for each kind, in Markdown."""
    from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig

    configs = zip(KINDS, (BpeConfig, WordPieceConfig, UnigramConfig), strict=True)
    return "\n\n".join(
        settings_help(f"What `--set` takes for {kind}, with the defaults:", config) for kind, config in configs
    )
