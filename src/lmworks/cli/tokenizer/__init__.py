"""The verb `tokenizer`: train one, extend one, look into it, compare it with others."""

import typer

from lmworks.cli.tokenizer import explaining, extending, previewing, reporting, training

app = typer.Typer(no_args_is_help=True, help="Tokenizers: train, extend, explain and compare them.")
app.command(epilog=training.settings())(training.train)
app.command()(extending.extend)
app.command()(explaining.explain)
app.command()(reporting.report)
app.command()(previewing.preview)
