"""``deeplabctl data``: work on data sets."""

from __future__ import annotations

import typer

from deeplabctl.cli.data import check, convert, prepare_voc, preview, shapes, stats

app = typer.Typer(help="Make, check and look at data sets.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    pass


app.command("check", epilog=check.EXAMPLES, no_args_is_help=True)(check.check)
app.command("prepare-voc", epilog=prepare_voc.EXAMPLES, no_args_is_help=True)(prepare_voc.prepare_voc)
app.command("convert", epilog=convert.EXAMPLES, no_args_is_help=True)(convert.convert)
app.command("stats", epilog=stats.EXAMPLES, no_args_is_help=True)(stats.stats)
app.command("preview", epilog=preview.EXAMPLES, no_args_is_help=True)(preview.preview)
app.command("shapes", epilog=shapes.EXAMPLES, no_args_is_help=True)(shapes.shapes)
