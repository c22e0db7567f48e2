"""The verb `tokenizer train`: a vocabulary from files."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmworks.cli.options import SettingsOption, TextsArgument, new_console, settings_help
from lmworks.cli.output import check_choice, say, say_rejected
from lmworks.config import assigned

if TYPE_CHECKING:
    from lmworks.records import RejectedRecord

KINDS: tuple[str, ...] = ("bpe", "wordpiece", "unigram")


def train(
    sources: TextsArgument,
    out: Annotated[Path, typer.Option(help="Folder to make. It must not exist.")],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "bpe",
    vocabulary_size: Annotated[int | None, typer.Option(help="Tokens in all.")] = None,
    family: Annotated[
        str | None,
        typer.Option(
            help="Make it ready for conversations in the form of this family (chatml, llama3, …): with its special "
            "tokens, what they are for, and its chat template."
        ),
    ] = None,
    overrides: SettingsOption = None,
) -> None:
    """Learn a vocabulary from files and write it as `tokenizer.json`, which `tokenizers` and `transformers` read.

    Files are read as they are (`lmworks stage tokenizer.bpe` learns from extracted documents instead), once, in memory
    that follows the different words. Next to the vocabulary lies `merges.tsv`, the merges in the order in which they
    were learnt, which `lmworks tokenizer explain` shows.

    Examples: `lmworks tokenizer train docs 'src/**/*.py' --out vocabulary --vocabulary-size 8000` ·
    `lmworks tokenizer train books --kind wordpiece --set lowercase=false --out pieces` · `lmworks tokenizer train docs
    --family llama3 --out vocabulary`, then `lmworks tokenizer preview vocabulary`
    """
    from lmworks.artefact import check_new, write_text, writing
    from lmworks.corpus.sources.files import FoundFile, find_files
    from lmworks.data.plain_texts import required_texts
    from lmworks.data.tokenizer_stage import section, write_tokenizer
    from lmworks.progress import stage_progress
    from lmworks.report import print_sections
    from lmworks.tokenizer.chat_templates import FAMILIES, chat_template
    from lmworks.tokenizer.tokenizer import Tokenizer
    from lmworks.tokenizer.tokenizer_folder import CHAT_TEMPLATE

    trainer, config = _trainer(kind, vocabulary_size, overrides or [], family)
    check_new(out)
    console = new_console()
    rejected: list[RejectedRecord] = []
    files = {each.uri: each.path for each in find_files(sources, (), Path.cwd()) if isinstance(each, FoundFile)}
    with stage_progress(console, f"learning {kind}") as progress:
        trained = trainer(required_texts(sources, rejected=rejected), config, progress)
    if family is not None:
        roles = {**trained.tokenizer.roles, **FAMILIES[family].roles}
        trained = replace(trained, tokenizer=Tokenizer(trained.tokenizer.backend, roles))
    with writing(out) as folder:
        write_tokenizer(folder, trained)
        if family is not None:
            write_text(folder / CHAT_TEMPLATE, chat_template(family))
    read = [path for uri, path in files.items() if uri not in {each.uri for each in rejected}]
    size = sum(path.stat().st_size for path in read)
    console.print(f"read {len(read):,} {'file' if len(read) == 1 else 'files'}, {size:,} bytes", highlight=False)
    print_sections(console, [section(trained, config)])
    say_rejected(rejected)
    look = f"lmworks tokenizer explain 'Some text.' --tokenizer {out}"
    more = f"\nhow it reads a conversation: lmworks tokenizer preview {out}" if family is not None else ""
    say(f"tokenizer -> {out}\nlook into it: {look}{more}")


# ---------------------------------------------------------------------------------------------------------------------
# Settings


def _trainer(kind: str, vocabulary_size: int | None, overrides: list[str], family: str | None) -> tuple[Any, Any]:
    from lmworks.config import from_mapping
    from lmworks.tokenizer.chat_templates import FAMILIES, chat_template
    from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig
    from lmworks.tokenizer.training.trainers import train_bpe, train_unigram, train_wordpiece

    check_choice("kind", kind, KINDS)
    configs = (BpeConfig, WordPieceConfig, UnigramConfig)
    trainers = dict(zip(KINDS, zip((train_bpe, train_wordpiece, train_unigram), configs, strict=True), strict=True))
    mapping = assigned(overrides)
    if vocabulary_size is not None:
        if "vocabulary_size" in mapping:
            raise ValueError("--vocabulary-size and --set vocabulary_size= say the same: leave out one of them")
        mapping["vocabulary_size"] = vocabulary_size
    trainer, config = trainers[kind]
    made = from_mapping(config, mapping)
    if family is None:
        return trainer, made
    chat_template(family)  # for its error
    if kind == "wordpiece":
        raise ValueError(
            "wordpiece makes vocabularies of models that read and do not answer, for which there is no --family: "
            "choose --kind bpe or unigram"
        )
    given = made.special_tokens if "special_tokens" in mapping or kind == "unigram" else ()
    # The first one ends a text.
    special = list(dict.fromkeys([*FAMILIES[family].roles.values(), *FAMILIES[family].tokens, *given]))
    return trainer, from_mapping(config, {**mapping, "special_tokens": special})


def settings() -> str:
    """The settings that `--set` takes for each kind, in Markdown."""
    from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig

    configs = zip(KINDS, (BpeConfig, WordPieceConfig, UnigramConfig), strict=True)
    return "\n\n".join(
        settings_help(f"What `--set` takes for {kind}, with the defaults:", config) for kind, config in configs
    )
