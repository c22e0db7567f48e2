"""The verb `tokenizer`: train one, look into it, compare it with others."""

import typer

from lmworks.cli.tokenizer import explaining, previewing, reporting, training

app = typer.Typer(no_args_is_help=True, help="Tokenizers: train one, explain its tokens, compare it with others.")
app.command(epilog=training.settings())(training.train)
app.command()(explaining.explain)
app.command()(reporting.report)
app.command()(previewing.preview)
