"""The commands that examine data sets: ``data check``, ``data stats`` and ``data preview``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.formatting import with_options
from deeplabctl.cli.options import OUTPUT, OverwriteOption, section
from deeplabctl.reporting import counted

if TYPE_CHECKING:
    from deeplabctl.data.check import Verdict
    from deeplabctl.data.findings import Finding
    from deeplabctl.data.stats import SplitCounts, Statistics

CHECK_EXAMPLES = """
Examples
  deeplabctl data check VOCdevkit/VOC2012

  # a copy in which everything is fixed that needs no guessing
  deeplabctl data check mine --fix mine-fixed
"""
STATS_EXAMPLES = """
Examples
  deeplabctl data stats VOCdevkit/VOC2012
  deeplabctl data stats mine --split train --split val --out chart.png
"""
PREVIEW_EXAMPLES = """
Examples
  deeplabctl data preview VOCdevkit/VOC2012

  # the crops that a training makes of them
  deeplabctl data preview mine --augmented --out crops.png
"""
AUGMENTATION = section("Augmentation")
IMAGES = section("Images")
_SHOWN = 10  # findings of a kind in the text; JSON has them all
_BAR = 16  # characters

DataArgument = Annotated[
    str, typer.Argument(metavar="DIR|shapes", help="Data set in VOC layout, or the built-in one, shapes.")
]


def check(
    data: DataArgument,
    fix: Annotated[
        Path | None,
        OUTPUT(
            "--fix DIR",
            "Write a copy of the data set, and fix there what needs no guessing: labels in the palette's "
            "colours, labels turned by EXIF, line ends of lists. The data set itself is never changed.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    *,
    console: Console,
) -> None:
    """Find what would spoil a training before it starts.

    Opens every image and label, and lists errors and notes: the file, what was expected, what was found, and how to fix
    it. Errors stop a training or silently spoil it; they come first and make the exit code 1, and train and eval refuse
    them with the same words. Notes are worth knowing. With --fix the exit code is that of the copy.
    """
    from deeplabctl.data.check import check_dataset
    from deeplabctl.data.dataset import open_dataset
    from deeplabctl.data.fixing import write_fixed_copy
    from deeplabctl.data.layout import check_new_dataset

    with console.reporter() as report:
        dataset = open_dataset(data, report)
        if fix is not None:
            check_new_dataset(fix, overwrite=overwrite)
        verdict = check_dataset(dataset, report)
        fixed = write_fixed_copy(dataset, verdict, fix, report, overwrite=overwrite) if fix is not None else []
    for line in _lines(verdict):
        console.say(line)
    result: dict[str, Any] = {"root": str(dataset.root), **_document(verdict)}
    if fix is not None:
        for file, what in fixed:
            console.say(f"fixed {file}: {what}")
        with console.reporter() as report:
            verdict = check_dataset(open_dataset(fix), report)
        result |= {"fixed": [{"file": str(file), "what": what} for file, what in fixed], "copy": str(fix)}
        result["copy_findings"] = _document(verdict)["findings"]
        files = counted(len({file for file, _ in fixed}), "file")  # a label may be fixed twice
        console.say(f"{fix}: {files} fixed; {_count_findings(verdict)} left")
    console.document(result)
    if verdict.errors:
        errors, first = counted(verdict.errors, "error"), verdict.findings[0].text
        print_error(f"{errors} would stop or spoil a training; the first: {first}")
        raise typer.Exit(1)


def _document(verdict: Verdict) -> dict[str, Any]:
    return {
        "splits": verdict.splits,
        "files": verdict.files,
        "errors": verdict.errors,
        "findings": [_with_options(finding) for finding in verdict.findings],
    }


def _lines(verdict: Verdict) -> list[str]:
    """Return the findings as text, at most ten of a kind, and a line that sums them up."""
    lines = []
    kinds: dict[str, list[Finding]] = {}
    for finding in verdict.findings:
        kinds.setdefault(finding.kind, []).append(finding)
    for findings in kinds.values():
        lines += [
            ("note: " if finding.severity == "note" else "") + with_options(finding.text)
            for finding in findings[:_SHOWN]
        ]
        if len(findings) > _SHOWN:
            lines.append(f"... and {len(findings) - _SHOWN:,} more like the last; --json lists them all")
    splits = ", ".join(f"{split} {count:,}" for split, count in verdict.splits.items())
    return [*lines, f"{counted(verdict.files, 'file')} of {splits} checked: {_count_findings(verdict)}"]


def _count_findings(verdict: Verdict) -> str:
    return f"{counted(verdict.errors, 'error')}, {counted(verdict.notes, 'note')}"


def _with_options(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON has it, with options for the arguments that its texts name."""
    document = finding.to_dict()
    return document | {key: with_options(document[key]) for key in ("fix", "text")}


def stats(
    data: DataArgument,
    split: Annotated[
        list[str] | None,
        IMAGES("--split NAME", "Split to count; may be repeated. Default: those that train uses."),
    ] = None,
    out: Annotated[Path | None, OUTPUT("--out PNG", "Also draw a chart into this file.")] = None,
    overwrite: OverwriteOption = False,
    *,
    console: Console,
) -> None:
    """Count the pixels and images of each class.

    For each split, with the sizes of images and the share of void. The weights are the median-frequency weights of the
    first split, which a training uses with solver.class_weights = "median".
    """
    from deeplabctl.data.dataset import open_dataset
    from deeplabctl.data.image_files import SAVED_SUFFIXES
    from deeplabctl.data.stats import count_splits, default_splits
    from deeplabctl.files import check_new_file
    from deeplabctl.render import write_image
    from deeplabctl.reports.data_sets import draw_statistics

    if out is not None:
        check_new_file(out, overwrite=overwrite, suffixes=SAVED_SUFFIXES)
    with console.reporter() as report:
        dataset = open_dataset(data, report)
        statistics = count_splits(dataset, split or default_splits(dataset), report)
    if out is not None:
        write_image(out, draw_statistics(dataset.name, statistics))
    console.table(*_rows(statistics))
    console.say()
    for counts in statistics.splits:
        console.say(_describe(counts))
    if out is not None:
        console.say(f"chart: {out}")
    console.document({"root": str(dataset.root), **statistics.to_dict(), "chart": None if out is None else str(out)})


def _rows(statistics: Statistics) -> tuple[list[str], list[list[str]]]:
    headers = ["class"]
    for counts in statistics.splits:
        headers += [f"{counts.split} %", "images"]
    headers += ["weight", ""]
    top = max(max(counts.shares) for counts in statistics.splits) or 1.0
    rows = []
    for index, name in enumerate(statistics.classes):
        row = [name]
        for counts in statistics.splits:
            row += [f"{100 * counts.shares[index]:.2f}", f"{counts.images_with[index]:,}"]
        bar = _bar(statistics.splits[0].shares[index] / top)
        rows.append([*row, f"{statistics.weights[index]:.3g}", bar])
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
        f"{counts.split}: {counted(counts.images, 'image')}, {counts.void_share:.2%} void; "
        f"width {width}, height {height} (smallest/median/largest)"
    )


def preview(
    data: DataArgument,
    split: Annotated[str | None, IMAGES("--split NAME", "Split to show. Default: the training split.")] = None,
    count: Annotated[
        int | None, IMAGES("--count N", "Number of images. Default: 12, or 4 with --augmented.", min=1)
    ] = None,
    seed: Annotated[int, IMAGES("--seed N", "Different seeds choose different images.", min=0)] = 0,
    augmented: Annotated[
        bool, AUGMENTATION("--augmented", "Show four crops of each image as augmentation makes them.")
    ] = False,
    recipe: Annotated[
        str | None,
        AUGMENTATION("--recipe NAME|FILE", "Recipe whose augmentation is shown. Default: as train."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        AUGMENTATION(
            "--set KEY=VALUE",
            "Change a setting of the recipe, such as 'augment.scale=[0.5,1.5]'; may be repeated.",
        ),
    ] = None,
    out: Annotated[Path, OUTPUT("--out PNG", "File to draw.")] = Path("preview.png"),
    overwrite: OverwriteOption = False,
    *,
    console: Console,
) -> None:
    """Draw images with their labels and a legend.

    With --augmented also the crops that a training makes of them.
    """
    from deeplabctl.data.dataset import open_dataset
    from deeplabctl.data.image_files import SAVED_SUFFIXES
    from deeplabctl.data.inspection import check_samples
    from deeplabctl.files import check_new_file
    from deeplabctl.network import ARCHITECTURES
    from deeplabctl.recipe import read_recipe
    from deeplabctl.render import write_image
    from deeplabctl.reports.data_sets import choose_samples, draw_augmented, draw_samples
    from deeplabctl.training.plan import default_recipe, fitted_to_images

    if not augmented and (recipe or changes):
        raise typer.BadParameter("only used with --augmented", param_hint="--recipe, --set")
    check_new_file(out, overwrite=overwrite, suffixes=SAVED_SUFFIXES)
    with console.reporter() as report:
        dataset = open_dataset(data, report)
        shown = split or dataset.training_split
        samples = choose_samples(dataset.samples(shown), count or (4 if augmented else 12), seed)
        check_samples(dataset, samples, report)
        if augmented:
            name = recipe or default_recipe(dataset)
            settings = read_recipe(name, changes or [])
            if any(name.startswith(("augment.", "data.")) for name in settings.auto_settings()):
                used = dataset.samples(settings.data.split or dataset.training_split)  # all images of a training
                settings = fitted_to_images(settings, check_samples(dataset, used, report))
    if augmented:
        preprocessing = ARCHITECTURES[settings.model.architecture].preprocessing
        augmentation = settings.augment.at_scale(settings.data.scale)
        sheet = draw_augmented(dataset, samples, augmentation, preprocessing, 4, seed, settings.data.max_side)
    else:
        sheet = draw_samples(dataset, samples, 4)
    write_image(out, sheet)
    console.say(
        f"{out}: {counted(len(samples), 'image')} of {shown}" + (f", augmented as in {name}" if augmented else "")
    )
    console.document({"out": str(out), "split": shown, "samples": [sample.id for sample in samples]})
