"""The verb `tokenizer explain`: which merges made the tokens of a text, and when they were learnt."""

from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.cli.options import TOKENIZER_FORMS, new_console

if TYPE_CHECKING:
    from lmworks.tokenizer.merge_history import ExplainedToken


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

    from lmworks.cli.tokenizer.arguments import find_tokenizer
    from lmworks.report import Table, print_table
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
    print_table(console, Table(("id", "token", "text", "made of"), rows))
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
