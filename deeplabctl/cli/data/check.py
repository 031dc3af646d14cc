"""``deeplabctl data check``: find what would ruin a training before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.data.options import DataArgument
from deeplabctl.cli.options import DebugOption, JsonOption, OverwriteOption, QuietOption

if TYPE_CHECKING:
    from deeplabctl.data.check import Verdict
    from deeplabctl.data.dataset import Dataset
    from deeplabctl.data.findings import Finding
    from deeplabctl.reporting import Reporter

_SHOWN = 10  # findings of a kind, in the text; JSON has them all


def check(
    data: DataArgument,
    fix: Annotated[
        Path | None,
        typer.Option(
            "--fix",
            metavar="OUT",
            help="Write a copy and mend there what is safe to mend: labels in the palette's colours, labels that EXIF "
            "turned, odd lists. The set itself is never touched.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find what would ruin a training before it starts.

    Opens every image and label and says what is wrong: the file, expected, got, and the mend. What would ruin or stop a
    training comes first and makes the exit code 1; train and eval refuse it with the same words. With --fix the exit
    code is that of the copy.
    """
    from deeplabctl.data.locate import find_dataset

    console = Console(json, quiet, debug)
    with console.errors():
        with console.reporter() as report:
            dataset = find_dataset(data, report)
            verdict, mended = _check(dataset, fix, overwrite, report)
        result: dict[str, Any] = {"root": str(dataset.root), **_document(verdict)}
        for line in _lines(verdict):
            console.say(line)
        if fix is not None:
            from deeplabctl.data.dataset import open_dataset

            for name, what in mended:
                console.say(f"mended {name}: {what}")
            with console.reporter() as report:
                verdict, _ = _check(open_dataset(fix), None, overwrite, report)
            result |= {"mended": [{"file": name, "what": what} for name, what in mended], "copy": str(fix)}
            result["copy_findings"] = _document(verdict)["findings"]
            console.say(f"{fix}: {_plural(len(mended), 'file')} mended; now {_counts(verdict)}")
        console.document(result)
        if verdict.ruinous:
            print_error(f"a training would be ruined or stopped, first by this: {verdict.findings[0].text}")
            raise typer.Exit(1)


def _check(
    dataset: Dataset, fix: Path | None, overwrite: bool, report: Reporter
) -> tuple[Verdict, list[tuple[str, str]]]:
    from deeplabctl.data.check import check_dataset

    if fix is not None:
        from deeplabctl.data.layout import check_target

        check_target(fix, overwrite=overwrite)
    verdict = check_dataset(dataset, report)
    if fix is None:
        return verdict, []
    from deeplabctl.data.fixing import write_mended

    return verdict, [
        (str(entry.file), entry.what) for entry in write_mended(dataset, verdict, fix, report, overwrite=overwrite)
    ]


def _document(verdict: Verdict) -> dict[str, Any]:
    return {
        "splits": verdict.splits,
        "files": verdict.files,
        "ruinous": verdict.ruinous,
        "findings": [finding.to_dict() for finding in verdict.findings],
    }


def _lines(verdict: Verdict) -> list[str]:
    """Return what is said of a verdict: at most ten findings of a kind."""
    lines = []
    kinds: dict[str, list[Finding]] = {}
    for finding in verdict.findings:
        kinds.setdefault(finding.kind, []).append(finding)
    for findings in kinds.values():
        lines += [("" if finding.ruinous else "note: ") + finding.text for finding in findings[:_SHOWN]]
        if len(findings) > _SHOWN:
            lines.append(f"... and {len(findings) - _SHOWN:,} more like the last; --json has them all")
    splits = ", ".join(f"{split} {count:,}" for split, count in verdict.splits.items())
    return [*lines, f"{verdict.files:,} files of {splits} opened: {_counts(verdict)}"]


def _counts(verdict: Verdict) -> str:
    notes = len(verdict.findings) - verdict.ruinous
    if not verdict.findings:
        return "nothing is wrong"
    return f"{_plural(verdict.ruinous, 'ruinous finding')}, {_plural(notes, 'note')}"


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")
