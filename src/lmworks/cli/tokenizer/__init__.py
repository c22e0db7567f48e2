"""The verb `tokenizer`: train one, look into it, compare it with others."""

import typer

from lmworks.cli.tokenizer import reporting

app = typer.Typer(no_args_is_help=True, help="Tokenizers: train one, explain its tokens, compare it with others.")
app.command()(reporting.report)
