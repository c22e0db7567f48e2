"""The verb `tokenizer`: train one, extend one, look into it, compare it with others."""

import typer

from lmworks.cli.tokenizer import explain_command, extend_command, preview_command, report_command, train_command

app = typer.Typer(no_args_is_help=True, help="Tokenizers: train, extend, explain and compare them.")
app.command(epilog=train_command.settings())(train_command.train)
app.command()(extend_command.extend)
app.command()(explain_command.explain)
app.command()(report_command.report)
app.command()(preview_command.preview)
