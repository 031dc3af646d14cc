"""``deeplabctl report``: draw the curves of trainings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.options import OUTPUT, OverwriteOption, is_given
from deeplabctl.reporting import percent

if TYPE_CHECKING:
    from deeplabctl.reports.run_records import RunResults

EXAMPLES = """
Examples
  # draw runs/a/curves.png and write runs/a/report.html
  deeplabctl report runs/a

  # compare all runs, in ./comparison
  deeplabctl report runs/*
"""


def report(
    context: typer.Context,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directory, or several to compare.")],
    out: Annotated[Path, OUTPUT("--out DIR", "Folder for the comparison of several runs.")] = Path("comparison"),
    overwrite: OverwriteOption = False,
    *,
    console: Console,
) -> None:
    """Draw the curves of a training, or compare several.

    For one run: its curves.png and report.html, as the training writes them. For several: comparison.png and
    comparison.html, with all curves in one image and tables of scores and of the settings that differ.
    """
    if len(runs) == 1:
        if is_given(context, "out"):
            raise typer.BadParameter("expected several runs; a single run keeps its report", param_hint="--out")
        _report_one(console, runs[0])
    else:
        _compare(console, runs, out, overwrite=overwrite)


def _report_one(console: Console, run: Path) -> None:
    from deeplabctl.files import remove_unfinished
    from deeplabctl.reports.curves import draw_curves
    from deeplabctl.reports.run_records import RunResults
    from deeplabctl.reports.training_run import write_report
    from deeplabctl.run_layout import CURVES, REPORT

    results = RunResults.read(run)
    remove_unfinished([run / CURVES, run / REPORT])
    draw_curves(run)
    write_report(run)
    console.say(_line(results))
    console.say(f"curves {run / CURVES}")
    console.say(f"report {run / REPORT}")
    console.document({**results.to_dict(), "curves": str(run / CURVES), "report": str(run / REPORT)})


def _compare(console: Console, runs: list[Path], out: Path, *, overwrite: bool) -> None:
    from deeplabctl.reporting import Note
    from deeplabctl.reports.comparison import CURVES, HEADERS, PAGE, Comparison, check_comparison, write_comparison
    from deeplabctl.reports.run_records import has_metrics

    check_comparison(out, overwrite=overwrite)
    found = [run for run in runs if not run.exists() or has_metrics(run)]
    comparison = Comparison.read(found or runs)
    with console.reporter() as notify:
        for run in runs:
            if found and run not in found:
                notify(Note(f"{run}: skipped, as it has no training records"))
        if comparison.note is not None:
            notify(Note(comparison.note))
        if comparison.warning is not None:
            notify(Note(comparison.warning, warning=True))
    write_comparison(comparison, out)
    console.table(HEADERS, comparison.rows())
    console.say()
    console.say(f"curves {out / CURVES}")
    console.say(f"report {out / PAGE}")
    console.document({**comparison.to_dict(), "curves": str(out / CURVES), "report": str(out / PAGE)})


def _line(results: RunResults) -> str:
    best = (
        "no validation yet"
        if results.best_step is None
        else f"best val mIoU {percent(results.best_miou)} at step {results.best_step:,}"
    )
    return f"{results.name}: {results.steps_in_words}, {best}"
