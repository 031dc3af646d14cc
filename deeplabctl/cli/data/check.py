"""``deeplabctl data check``: find what would spoil a training before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.data.options import DataArgument
from deeplabctl.cli.formatting import with_options
from deeplabctl.cli.options import DebugOption, JsonOption, OverwriteOption, QuietOption

if TYPE_CHECKING:
    from deeplabctl.data.check import Verdict
    from deeplabctl.data.dataset import Dataset
    from deeplabctl.data.findings import Finding
    from deeplabctl.reporting import Reporter

EXAMPLES = """
Examples
  deeplabctl data check VOCdevkit/VOC2012

  # a copy in which everything is fixed that needs no guess
  deeplabctl data check mine --fix mine-fixed
"""
_SHOWN = 10  # findings of a kind in the text; JSON has them all


def check(
    data: DataArgument,
    fix: Annotated[
        Path | None,
        typer.Option(
            "--fix",
            metavar="DIR",
            help="Write a copy of the data set, and fix there what needs no guess: labels in the palette's colours, "
            "labels that EXIF turned, line ends of lists. The data set itself is never changed.",
            rich_help_panel="Output",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find what would spoil a training before it starts.

    Opens every image and label, and lists errors and notes: the file, what was expected, what was found, and how to fix
    it. Errors stop a training or silently spoil it; they come first and make the exit code 1, and train and eval refuse
    them with the same words. Notes are worth knowing. With --fix the exit code is that of the copy.
    """
    from deeplabctl.data.locate import find_dataset

    console = Console(json, quiet, debug)
    with console.errors():
        with console.reporter() as report:
            dataset = find_dataset(data, report)
            verdict, fixed = _check(dataset, fix, overwrite, report)
        result: dict[str, Any] = {"root": str(dataset.root), **_document(verdict)}
        for line in _lines(verdict):
            console.say(line)
        if fix is not None:
            from deeplabctl.data.dataset import open_dataset

            for name, what in fixed:
                console.say(f"fixed {name}: {what}")
            with console.reporter() as report:
                verdict, _ = _check(open_dataset(fix), None, overwrite, report)
            result |= {"fixed": [{"file": name, "what": what} for name, what in fixed], "copy": str(fix)}
            result["copy_findings"] = _document(verdict)["findings"]
            console.say(f"{fix}: {_plural(len(fixed), 'file')} fixed; {_count_findings(verdict)} left")
        console.document(result)
        if verdict.errors:
            errors, first = _plural(verdict.errors, "error"), verdict.findings[0].text
            print_error(f"{errors} would stop or spoil a training; the first: {first}")
            raise typer.Exit(1)


def _check(
    dataset: Dataset, fix: Path | None, overwrite: bool, report: Reporter
) -> tuple[Verdict, list[tuple[str, str]]]:
    """Check a data set; returns the verdict, and (file, what was done) of the fixed copy."""
    from deeplabctl.data.check import check_dataset

    if fix is None:
        return check_dataset(dataset, report), []
    from deeplabctl.data.fixing import write_fixed_copy
    from deeplabctl.data.layout import check_new_dataset

    check_new_dataset(fix, overwrite=overwrite)
    verdict = check_dataset(dataset, report)
    fixed = write_fixed_copy(dataset, verdict, fix, report, overwrite=overwrite)
    return verdict, [(str(entry.file), entry.what) for entry in fixed]


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
    return [*lines, f"{verdict.files:,} files of {splits} checked: {_count_findings(verdict)}"]


def _count_findings(verdict: Verdict) -> str:
    return f"{_plural(verdict.errors, 'error')}, {_plural(verdict.notes, 'note')}"


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _with_options(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON has it, with options for the arguments that its texts name."""
    document = finding.to_dict()
    return document | {key: with_options(document[key]) for key in ("fix", "text")}
