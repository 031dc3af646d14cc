"""``deeplabctl data stats``: count pixels and images of each class."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.data.options import DataArgument
from deeplabctl.cli.options import DebugOption, JsonOption, OverwriteOption, QuietOption

if TYPE_CHECKING:
    from deeplabctl.data.stats import SplitCounts, Statistics

EXAMPLES = """
Examples
  deeplabctl data stats VOCdevkit/VOC2012
  deeplabctl data stats mine --split train --split val --out chart.png
"""
_BAR = 24  # characters


def stats(
    data: DataArgument,
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="Split to count; may be repeated. Default: those that train uses.",
            rich_help_panel="Images",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PNG", help="Also draw a chart into this file.", rich_help_panel="Output"),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Count the pixels and images of each class.

    For each split, with the sizes of images and the share of void. The weights are the median-frequency weights of the
    first split, which a training uses with solver.class_weights = "median".
    """
    from deeplabctl.data.images import IMAGE_SUFFIXES, write_picture
    from deeplabctl.data.locate import find_dataset
    from deeplabctl.data.stats import count_splits, default_splits
    from deeplabctl.data.stats_chart import draw_statistics
    from deeplabctl.files import check_new_file

    console = Console(json, quiet, debug)
    with console.errors():
        if out is not None:
            check_new_file(out, overwrite=overwrite, suffixes=IMAGE_SUFFIXES)
        with console.reporter() as report:
            dataset = find_dataset(data, report)
            counted = count_splits(dataset, split or default_splits(dataset), report)
        if out is not None:
            write_picture(out, draw_statistics(dataset.name, counted))
        console.table(*_rows(counted))
        console.say()
        for counts in counted.splits:
            console.say(_describe(counts))
        if out is not None:
            console.say(f"chart: {out}")
        console.document({"root": str(dataset.root), **counted.to_dict(), "chart": None if out is None else str(out)})


def _rows(counted: Statistics) -> tuple[list[str], list[list[str]]]:
    headers = ["class"]
    for counts in counted.splits:
        headers += [f"{counts.split} pixels %", "images"]
    headers += ["weight", ""]
    top = max(max(counts.shares) for counts in counted.splits) or 1.0
    rows = []
    for index, name in enumerate(counted.classes):
        row = [name]
        for counts in counted.splits:
            row += [f"{100 * counts.shares[index]:.2f}", f"{counts.images_with[index]:,}"]
        bar = _bar(counted.splits[0].shares[index] / top)
        rows.append([*row, f"{counted.weights[index]:.3g}", bar])
    return headers, rows


def _bar(share: float) -> str:
    """Return a bar of fixed width, in eighths of a character where the terminal can show them."""
    if "utf" not in (sys.stdout.encoding or "").lower():
        return ("#" * round(share * _BAR)).ljust(_BAR)
    full, part = divmod(round(share * _BAR * 8), 8)
    return ("█" * full + ("▏▎▍▌▋▊▉"[part - 1] if part else "")).ljust(_BAR)


def _describe(counts: SplitCounts) -> str:
    width, height = ("/".join(f"{value:g}" for value in side) for side in (counts.widths, counts.heights))
    return (
        f"{counts.split}: {counts.images:,} images, {counts.void_share:.2%} void; "
        f"width {width}, height {height} (smallest/median/largest)"
    )
