"""The verb `tokenizer preview`: a conversation as the model reads it, token by token, and what it is trained on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lmworks.cli.options import TOKENIZER_FORMS
from lmworks.cli.output import new_console, say
from lmworks.data.config import Learn
from lmworks.records import Message
from lmworks.report import harmless, shown

if TYPE_CHECKING:
    from rich.text import Text

    from lmworks.data.conversations import Dialogue
    from lmworks.tokenizer.chat import ChatRenderer, Rendered

_SPACES = {" ": "·", "\t": "⇥", "\n": "⏎\n"}
# Styles of a token where there are colours; signs say the same everywhere.
_LEARNT, _SPECIAL, _UNKNOWN = "black on green", "bold magenta", "bold red"


class _Token(NamedTuple):
    """`special`: the template wrote it as a special token; `unknown`: it stands for text that the vocabulary lacks."""

    text: str
    learnt: bool
    special: bool
    unknown: bool


def preview(
    model: Annotated[str, typer.Argument(help=f"{TOKENIZER_FORMS} Weights stay unread.")],
    conversation: Annotated[
        Path | None,
        typer.Option(
            help="Rows with `messages` (and `tools`), or `prompt` and `completion`: .json, .jsonl or .parquet."
        ),
    ] = None,
    row: Annotated[int, typer.Option(help="Which row of the file, counted from 1.")] = 1,
    family: Annotated[
        str | None, typer.Option(help="Use the template of this family instead of the model's own: chatml, llama3, …")
    ] = None,
    tools: Annotated[
        Path | None, typer.Option(help="Functions that the model may call: a .json file with a list of them.")
    ] = None,
    native_calls: Annotated[
        bool,
        typer.Option(
            "--native-calls",
            help="Write functions and calls as the template does also where lmworks serves them as text, as Mistral's.",
        ),
    ] = False,
    learn: Annotated[Learn, typer.Option(help="Which turns are learned: `all`, or the `last`.")] = "all",
    prompt: Annotated[bool, typer.Option("--prompt", help="End where the model would answer, as in serving.")] = False,
) -> None:
    """Print a conversation as tokens: which are special, which the model is trained on, and what ends its turn.

    Spaces are shown as · and line breaks as ⏎. Names of special tokens in a message are letters, as everything that is
    said; only the template writes special tokens. Other signs that cannot be seen are shown as Python writes them
    (`\\r`).

    Examples: `lmworks tokenizer preview smollm2-135m-instruct` · `lmworks tokenizer preview ./mine --conversation
    rows.jsonl --row 7` · `lmworks tokenizer preview ./base --family llama3 --tools functions.json`
    """
    from lmworks.data.conversations import turns_of
    from lmworks.data.document_tokens import learned_mask

    if conversation is None and row != 1:
        raise ValueError("--row chooses a row of the file given with --conversation")
    dialogue = read_row(conversation, row) if conversation is not None else None
    renderer, source, missing = _renderer(model, family, native_calls)
    messages, given = (_example(renderer), 0) if dialogue is None else turns_of(dialogue)
    functions = read_tools(tools) if tools is not None else [] if dialogue is None else dialogue.tools
    rendered = renderer.render(messages, prompt, functions)
    if given or learn == "last":
        mask = learned_mask(rendered, messages, given, renderer, learn, functions)
        rendered = replace(rendered, training_mask=tuple(mask.tolist()))
    console = new_console()
    tokens = list(_tokens(rendered, renderer))
    unknown = sum(token.unknown for token in tokens)
    lacks = "⟨unknown to the vocabulary⟩  " if unknown else ""
    say(f"« trained »  ⟦special token⟧  {lacks}│ between tokens  · space  ⏎ line break  ⇥ tab\n")
    console.print(_body(tokens), soft_wrap=True, end="\n\n")
    console.print(_counts(rendered, renderer, source, unknown), soft_wrap=True, highlight=False)
    notes: list[tuple[str, str]] = []
    if prompt and messages[-1].role == "assistant":
        notes.append(("dim", "the conversation ends with an answer: what stands last is where another one would begin"))
    if (functions or any(message.tool_calls for message in messages)) and not renderer.writes_calls:
        why = "the template writes none, or none that an answer can be held to"
        notes.append(("dim", f"functions and calls are text here: {why}"))
    for index in rendered.untrained:
        why = "the template hides it or leaves it out"
        notes.append(("yellow", f"message {index + 1}, the assistant's, is not trained on: {why}"))
    if missing:
        warning = (
            "no tokens of this vocabulary, so that a model would read them letter by letter: "
            f"{', '.join(map(shown, missing))}. `lmworks tokenizer train ... --family {family}` learns a vocabulary "
            "that has them, and `lmworks.model.extend_vocabulary` adds them to one"
        )
        notes.append(("yellow", warning))
    for style, note in notes:
        console.print(f"[{style}]{note}[/{style}]", soft_wrap=True, highlight=False)


def _renderer(model: str, family: str | None, native_calls: bool) -> "tuple[ChatRenderer, str, Sequence[str]]":
    """The renderer, where its template comes from, and what the template writes that is no token."""
    from lmworks.model.tokenizer_lookup import find_renderer, find_tokenizer, own_chat_template
    from lmworks.tokenizer.chat import ChatRenderer
    from lmworks.tokenizer.chat_templates import FAMILIES, chat_template, check_roles, missing_tokens

    if family is not None:
        chat_template(family)  # for the error of an unknown name, before anything is read
    found = find_tokenizer(model)
    if family is not None:
        check_roles(family, found.tokenizer, found.name)
        source, missing = f"the template of the family {family}", missing_tokens(family, found.tokenizer)
    elif own_chat_template(found.path) is not None:
        source, missing = f"the chat template of {found.name}", ()
    else:
        raise ValueError(f"{model} has no chat template: choose one with --family ({', '.join(FAMILIES)})")
    renderer = find_renderer(found, family)
    if native_calls:
        renderer = ChatRenderer(renderer.template.source, renderer.tokenizer, native_calls=True)
    return renderer, source, missing


def _example(renderer: "ChatRenderer") -> list[Message]:
    """Two questions that every family can read; the first tries to end the turn of who asks."""
    names = {index: name for name, index in renderer.special_ids.items()}
    end = next((names[index] for index in renderer.stop_ids[::-1] if index in names), "</s>")
    said = (f"Does {end} end my turn?", "No: in a message it is letters.", "What is 2 + 2?", "4.")
    return [Message("user" if number % 2 == 0 else "assistant", text) for number, text in enumerate(said)]


def _tokens(rendered: "Rendered", renderer: "ChatRenderer") -> Iterator[_Token]:
    """Each token with its text; of tokens that share a character, the last has it and the others have none."""
    from lmworks.tokenizer.token_bytes import unknown_ids

    unknown = set(unknown_ids(renderer.tokenizer))
    ends = [*rendered.starts[1:], len(rendered.text)]
    rows = zip(rendered.ids, rendered.starts, ends, rendered.training_mask, rendered.special, strict=True)
    for index, start, end, learnt, special in rows:
        yield _Token(rendered.text[start:end], learnt, special, index in unknown and not special)


def _body(tokens: "Sequence[_Token]") -> "Text":
    """`│` between tokens, ⟦ ⟧ around special ones, ⟨ ⟩ around unknown ones, « » around what is learnt; no sign at the
    beginning of a line."""
    from rich.text import Text

    body, learnt, fresh = Text(), False, True
    for token in tokens:
        if token.learnt != learnt:
            body.append("«" if token.learnt else "»")
        elif not fresh:
            body.append("│")
        text = _visible(token.text)
        if token.special or token.unknown:
            name = text.rstrip("\n·⏎⇥") if token.special else text.rstrip("\n")
            opening, closing = "⟦⟧" if token.special else "⟨⟩"
            text = f"{opening}{name}{closing}{text[len(name) :]}"
        style = _SPECIAL if token.special else _UNKNOWN if token.unknown else ""
        body.append(text, f"{style} on green".strip() if token.learnt and style else style or _LEARNT * token.learnt)
        learnt, fresh = token.learnt, text.endswith("\n")
    body.append("»" * learnt)
    body.rstrip()
    return body


def _visible(text: str) -> str:
    """Spaces as signs, and what would command the terminal or could not be seen as Python writes it, `\\r`."""
    signs = "".join(_SPACES.get(character, character) for character in text)
    return "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in signs)


def _counts(rendered: "Rendered", renderer: "ChatRenderer", source: str, unknown: int) -> "Text":
    from rich.text import Text

    total, learnt, written = len(rendered.ids), sum(rendered.training_mask), sum(rendered.special)
    share = f" ({learnt / total:.0%})" if total else ""
    lacks = f", {unknown:,} unknown" if unknown else ""
    counts = f"{total:,} tokens by {harmless(source)}: {learnt:,} trained{share}, {written:,} special{lacks}\n"
    names = {index: name for name, index in renderer.special_ids.items()}
    stops = ", ".join(f"{index} {_visible(names.get(index, ''))}".strip() for index in rendered.stop_ids)
    if renderer.turn_end is not None:
        return Text(f"{counts}a turn ends with: {stops}")
    never = f"; {stops} would end a text, and no answer here is trained to write it" if stops else ""
    none = "no token ends a turn: what the template writes after an answer is none"
    return Text(f"{counts}{none}{never}", style="yellow")


def read_row(path: Path, row: int = 1) -> "Dialogue":
    """Row number `row` of a file, counted from 1: of a .json file, which may hold one alone, of .jsonl, of .parquet.

    ValueError says which message of which row is none.
    """
    from lmworks.data.conversations import parse_row, rows_of

    number = 0
    for number, (where, found) in enumerate(rows_of(path), 1):
        if number == row:
            return parse_row(found, where)
    raise ValueError(f"{path} has {number:,} rows: --row must be one of them, got {row}")


def read_tools(path: Path) -> list[Mapping[str, Any]]:
    """A list of functions, or one, with or without the `{"type": "function", "function": ...}` around each."""
    from lmworks.data.conversations import parse_json, parse_tools

    found = parse_json(path.read_bytes(), str(path))
    return parse_tools(found if isinstance(found, list) else [found], str(path))
