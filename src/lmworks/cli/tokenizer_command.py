"""The verb `tokenizer`: vocabularies are trained, extended, explained and compared."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.artefact import check_new, write_text, writing
from lmworks.cli.options import TOKENIZER_FORMS, SettingsOption, TextsArgument
from lmworks.cli.output import check_choice, new_console, say, say_rejected, show_sections, show_table
from lmworks.cli.tokenizer_preview_command import preview
from lmworks.cli.tokenizer_report_command import report
from lmworks.cli.verb_settings import VerbCommand, settings_help, with_settings
from lmworks.config import assigned, from_mapping
from lmworks.progress import stage_progress
from lmworks.records import RejectedRecord, Scored
from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from lmworks.model.checkpoint import Checkpoint
    from lmworks.model.tokenizer_lookup import Found
    from lmworks.tokenizer.fertility import Text
    from lmworks.tokenizer.merge_history import ExplainedToken
    from lmworks.tokenizer.tokenizer import Tokenizer
    from lmworks.tokenizer.vocabulary_extension import Extension

KINDS = {"bpe": BpeConfig, "wordpiece": WordPieceConfig, "unigram": UnigramConfig}


def train(
    sources: TextsArgument,
    out: Annotated[Path, typer.Option(help="Folder to make. It must not exist.")],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "bpe",
    family: Annotated[
        str | None,
        typer.Option(
            help="Make it ready for conversations in the form of this family (chatml, llama3, …): with its special "
            "tokens, what they are for, and its chat template."
        ),
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Learn a vocabulary from files and write it as `tokenizer.json`, which `tokenizers` and `transformers` read.

    Files are read as they are (`lmworks stage tokenizer.bpe` learns from extracted documents instead), once, in memory
    that follows the different words. Next to the vocabulary lies `merges.tsv`, the merges in the order in which they
    were learnt, which `lmworks tokenizer explain` shows.

    Examples: `lmworks tokenizer train docs 'src/**/*.py' --out vocabulary --vocabulary-size 8000` ·
    `lmworks tokenizer train books --kind wordpiece --set lowercase=false --out pieces` · `lmworks tokenizer train docs
    --family llama3 --out vocabulary`, then `lmworks tokenizer preview vocabulary`
    """
    from lmworks.corpus.sources.files import FoundFile, find_files
    from lmworks.data.plain_texts import required_texts
    from lmworks.data.tokenizer_stage import TRAINERS, section, write_tokenizer
    from lmworks.tokenizer.chat_templates import FAMILIES, chat_template
    from lmworks.tokenizer.tokenizer import Tokenizer
    from lmworks.tokenizer.tokenizer_folder import CHAT_TEMPLATE

    config = _config(kind, settings, family)
    check_new(out)
    console = new_console()
    rejected: list[RejectedRecord] = []
    files = {each.uri: each.path for each in find_files(sources, (), Path.cwd()) if isinstance(each, FoundFile)}
    with stage_progress(console, f"learning {kind}") as progress:
        trained = TRAINERS[type(config)](required_texts(sources, rejected=rejected), config, progress)
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
    show_sections([section(trained, config)])
    say_rejected(rejected)
    look = f"lmworks tokenizer explain 'Some text.' --tokenizer {out}"
    more = f"\nhow it reads a conversation: lmworks tokenizer preview {out}" if family is not None else ""
    say(f"tokenizer -> {out}\nlook into it: {look}{more}")


def _config(kind: str, settings: list[str] | None, family: str | None) -> BpeConfig | WordPieceConfig | UnigramConfig:
    """The config of a kind, with the special tokens of the family, the first of which ends a text."""
    from lmworks.tokenizer.chat_templates import FAMILIES, chat_template

    check_choice("kind", kind, list(KINDS))
    mapping = assigned(settings)
    config = from_mapping(KINDS[kind], mapping)
    if family is None:
        return config
    chat_template(family)  # for its error
    if isinstance(config, WordPieceConfig):
        raise ValueError(
            "wordpiece makes vocabularies of models that read and do not answer, for which there is no --family: "
            "choose --kind bpe or unigram"
        )
    given = config.special_tokens if "special_tokens" in mapping or kind == "unigram" else ()
    special = list(dict.fromkeys([*FAMILIES[family].roles.values(), *FAMILIES[family].tokens, *given]))
    return replace(config, special_tokens=tuple(special))


def explain(
    text: Annotated[str, typer.Argument(help="The text to cut into tokens; - reads standard input.")],
    tokenizer: Annotated[str, typer.Option(help=TOKENIZER_FORMS)] = "smollm2-135m-instruct",
) -> None:
    """Show every token of a text, the merges that made it, and when in training each was learnt.

    `Ġ` (or `▁`) is a space. A merge's number is its rank in the order of training, so small numbers are frequent
    pairs; for a vocabulary trained by lmworks, the count of each pair follows.

    Example: `lmworks tokenizer explain 'unbelievably lower' --tokenizer ./vocabulary`
    """
    import json
    import sys

    from lmworks.cli.tokenizer_arguments import find_tokenizer
    from lmworks.tokenizer.merge_history import TRACE, legible, read_trace
    from lmworks.tokenizer.merge_history import explain as explain_text

    found = find_tokenizer(tokenizer)
    text = sys.stdin.read() if text == "-" else text
    if not text:
        raise ValueError("there is no text to explain")
    folder = found.path if found.path.is_dir() else found.path.parent
    trace = read_trace(folder)
    tokens = explain_text(found.tokenizer, text, trace)
    merges = len(json.loads(found.tokenizer.backend.to_str())["model"].get("merges") or [])
    rows = tuple(
        (str(token.id), legible(token.name), legible(text[token.start : token.end]), _made_of(token))
        for token in tokens
    )
    console = new_console()
    show_table(("id", "token", "text", "made of"), rows)
    rate = len(text.encode()) / len(tokens) if tokens else 0.0
    of = f", of {merges:,} merges" if merges else ""
    console.print(f"{len(tokens):,} tokens, {rate:.2f} bytes each; {found.name}{of}", highlight=False)
    if merges and not trace:
        note = f"how often pairs were seen is not known: no {TRACE} lies next to this tokenizer"
        console.print(note, highlight=False, style="dim")


def _made_of(token: "ExplainedToken") -> str:
    from lmworks.tokenizer.merge_history import legible

    steps = [
        f"{legible(step.left)} + {legible(step.right)}  (merge {step.number:,}"
        + (f", seen {step.count:,} times)" if step.count else ")")
        for step in token.steps
    ]
    return "\n".join([*steps, *([token.because] if token.because else [])])


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
    from lmworks.cli.tokenizer_arguments import find_texts, model_beside
    from lmworks.model.tokenizer_lookup import find_tokenizer
    from lmworks.tokenizer.vocabulary_extension import extend_for_texts, hold_out

    check_new(out)
    if not text:
        raise ValueError("tokens are chosen from texts: name some, for example --text 'german=texts/*.txt'")
    found = find_tokenizer(model)
    checkpoint = model_beside(found)
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


def _print_gains(console: "Console", before: "Tokenizer", after: "Tokenizer", texts: "Mapping[str, Text]") -> None:
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
    show_table(heads, tuple(rows), "held-out texts")


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
    from lmworks.model.tokenizer_lookup import own_chat_template

    with writing(out) as folder:
        extension.tokenizer.save(folder, own_chat_template(found.path))


app = typer.Typer(no_args_is_help=True, help="Tokenizers: train, extend, explain and compare them.")
_SETTINGS = [
    settings_help(f"What `--set NAME=VALUE` takes for {kind}, or `--NAME VALUE`, with the defaults:", config)
    for kind, config in KINDS.items()
]
app.command(cls=VerbCommand, epilog="\n\n".join(_SETTINGS))(with_settings(train, *KINDS.values()))
app.command()(extend)
app.command()(explain)
app.command()(report)
app.command()(preview)
