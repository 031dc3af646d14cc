"""Print the scores of an evaluation, and write its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabctl.cli.formatting import percent, score_rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from deeplabctl.cli.console import Console
    from deeplabctl.evaluation.split_scores import Extremes, ImageScores, SplitScores

_SHOWN_WIDTHS = (1, 5, 10, 20, 40)  # of the trimap
_EXTREMES = 8  # best, and worst, images in the report


class Outputs:
    """Write the files that --out and --voc-zip name. They are checked before any work begins."""

    def __init__(self, out: Path | None, zip_path: Path | None, split: str, overwrite: bool) -> None:
        from deeplabctl.evaluation.split_scores import Extremes
        from deeplabctl.files import check_new_file
        from deeplabctl.reports.evaluation_files import check_results

        self.out, self.zip_path, self._split = out, zip_path, split
        self._extremes: Extremes = Extremes(_EXTREMES if out else 0)
        if out:
            check_results(out, overwrite=overwrite)
        if zip_path:
            check_new_file(zip_path, overwrite=overwrite)

    @contextmanager
    def zip(self) -> Iterator[Callable[[str, npt.NDArray[np.uint8]], None]]:
        """Yield a function that adds a label (H, W) to the VOC server's file; it does nothing without --voc-zip."""
        from deeplabctl.evaluation.voc_submission import voc_zip

        if self.zip_path is None:
            yield lambda name, label: None
            return
        with voc_zip(self.zip_path, self._split) as add:
            yield add

    @contextmanager
    def images(self) -> Iterator[Callable[[ImageScores], None]]:
        """Yield a function to call with each scored image."""
        with self.zip() as add:

            def take(image: ImageScores) -> None:
                self._extremes.add(image)
                add(image.sample.id, image.prediction)

            yield take

    def write(self, scores: dict[str, Any], split_scores: SplitScores, title: str, subtitle: str) -> None:
        """Write the files of --out."""
        from deeplabctl.reports.evaluation_files import write_results

        if self.out:
            write_results(self.out, scores, split_scores, self._extremes, title, subtitle)

    def say(self, console: Console) -> None:
        """Print the names of the files."""
        from deeplabctl.reports.evaluation_files import REPORT

        if self.out:
            console.say(f"report {self.out / REPORT}")
        if self.zip_path:
            console.say(f"for the VOC server {self.zip_path}")


def print_scores(console: Console, scores: dict[str, Any]) -> None:
    """Print the table of classes and the scores of the whole split."""
    headers, rows = score_rows(scores)
    if "boundary_f1" in scores:
        headers = [*headers[:-1], "boundary F1 %", headers[-1]]
        rows = [
            [*row[:-1], percent(entry["boundary_f1"]), row[-1]]
            for row, entry in zip(rows, scores["classes"], strict=True)
        ]
    console.table(headers, rows)
    console.say()
    line = (
        f"mIoU {percent(scores['miou'])}  pixel accuracy {percent(scores['pixel_accuracy'])}  "
        f"mean accuracy {percent(scores['mean_accuracy'])}  frequency-weighted IoU {percent(scores['fw_iou'])}"
    )
    if "boundary_f1" in scores:
        line += f"  boundary F1 {percent(scores['boundary_f1'])}"
    console.say(line)
    if "trimap" in scores:
        console.say(_trimap_line(scores["trimap"]))


def settings_line(scores: dict[str, Any], what: str) -> str:
    """Return what was scored, in a line that also tells how many classes the means leave out."""
    absent = sum(entry["iou"] is None for entry in scores["classes"])
    if not absent:
        return what
    classes = "1 class" if absent == 1 else f"{absent} classes"
    verb = "is" if absent == 1 else "are"
    return f"{what}; {classes} in neither labels nor predictions {verb} left out of the means"


def _trimap_line(trimap: dict[str, Any]) -> str:
    around = "void" if trimap["around"] == "void" else "label boundaries"
    shown: Sequence[str] = [f"{width} px {percent(trimap['miou'][width - 1])}" for width in _SHOWN_WIDTHS]
    return f"mIoU within a trimap around {around}: {', '.join(shown)}"
