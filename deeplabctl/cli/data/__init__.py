"""``deeplabctl data``: work on data sets."""

from __future__ import annotations

import typer

from deeplabctl.cli.data import making, viewing

app = typer.Typer(help="Make, check and look at data sets.", no_args_is_help=True)

app.command("check", epilog=viewing.CHECK_EXAMPLES, no_args_is_help=True)(viewing.check)
app.command("prepare-voc", epilog=making.PREPARE_VOC_EXAMPLES, no_args_is_help=True)(making.prepare_voc)
app.command("convert", epilog=making.CONVERT_EXAMPLES, no_args_is_help=True)(making.convert)
app.command("stats", epilog=viewing.STATS_EXAMPLES, no_args_is_help=True)(viewing.stats)
app.command("preview", epilog=viewing.PREVIEW_EXAMPLES, no_args_is_help=True)(viewing.preview)
app.command("shapes", epilog=making.SHAPES_EXAMPLES, no_args_is_help=True)(making.shapes)
