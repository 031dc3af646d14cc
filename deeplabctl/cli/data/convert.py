"""``deeplabctl data convert``: turn annotations into a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl.cli.console import Console, print_error
from deeplabctl.cli.options import DebugOption, JsonOption, OverwriteOption, QuietOption

if TYPE_CHECKING:
    from deeplabctl.data.importing.annotations import Annotations
    from deeplabctl.data.importing.convert import Converted

_FORMATS = ("auto", "colors", "ids", "binary", "coco", "labelme", "cvat")


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder of masks or of labelme's files, COCO's JSON, CVAT's XML or its folder."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to make, in VOC layout.")],
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Pictures. Default: beside the annotations.")
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="|".join(_FORMATS), help="What SOURCE is; auto: told from its content."),
    ] = "auto",
    palette: Annotated[
        Path | None,
        typer.Option(
            "--palette",
            metavar="FILE",
            help="What the masks' colours mean: a name and a colour a line (road 128 64 128, road #804080, road 7).",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", metavar="FILE|NAMES", help="Class names in the order of their ids: a file, a,b,c or voc."
        ),
    ] = None,
    outside: Annotated[
        str, typer.Option("--outside", metavar="background|void", help="What lies in no outline.")
    ] = "background",
    unknown: Annotated[
        str, typer.Option("--unknown", metavar="error|void", help="What colours are that the palette has not.")
    ] = "error",
    mask_suffix: Annotated[
        str, typer.Option("--mask-suffix", metavar="TEXT", help="Behind a picture's name in its mask's: _mask.")
    ] = "",
    val: Annotated[float, typer.Option("--val", min=0.0, max=0.9, help="Share of the pictures to validate.")] = 0.2,
    val_source: Annotated[
        Path | None,
        typer.Option("--val-source", metavar="SOURCE", help="Annotations to validate, of the same kind; not a share."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed draws others to validate.")] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn annotations of other programs into a data set.

    SOURCE: masks in colours (with --palette), of grey levels or class ids, in black and white; COCO's polygons and run
    lengths; labelme's files; CVAT's "for images 1.1". No value is ever guessed: what can be meant in two ways is asked
    for.
    """
    if form not in _FORMATS:
        raise typer.BadParameter(f"expected {', '.join(_FORMATS)}, got {form!r}", param_hint="--format")
    if outside not in ("background", "void"):
        raise typer.BadParameter(f"expected background or void, got {outside!r}", param_hint="--outside")
    if unknown not in ("error", "void"):
        raise typer.BadParameter(f"expected error or void, got {unknown!r}", param_hint="--unknown")
    from dataclasses import replace

    from deeplabctl.classes import IGNORE_LABEL, read_palette
    from deeplabctl.data.importing.convert import Meaning, class_names, read_annotations, write_dataset
    from deeplabctl.data.layout import check_target

    console = Console(json, quiet, debug)
    with console.errors():
        check_target(out, overwrite=overwrite)
        meaning = Meaning(
            format=form,  # type: ignore[arg-type]
            pictures=images,
            palette=None if palette is None else read_palette(palette),
            classes=None if classes is None else class_names(classes),
            outside=IGNORE_LABEL if outside == "void" else 0,
            mask_suffix=mask_suffix,
            unknown_void=unknown == "void",
        )
        with console.reporter() as report:
            annotations = read_annotations(source, meaning, report)
            share: float | Annotations = val
            if val_source is not None:
                share = read_annotations(val_source, replace(meaning, classes=annotations.classes), report)
            written = write_dataset(annotations, out, report, val=share, seed=seed, overwrite=overwrite)
        console.table(("class", "pixels", "%"), _rows(written))
        console.say()
        console.say(f"{out}: {len(written.train)} training and {len(written.val)} validation images")
        console.say()
        console.say(f"next: deeplabctl data preview {out}")
        console.say(f"      deeplabctl train --data {out}")
        console.document(_document(out, written))
        if written.failed:
            total = len(written.failed) + len(written.train) + len(written.val)
            print_error(f"{len(written.failed)} of {total} pictures failed, the first: {written.failed[0]}")
            raise typer.Exit(1)


def _named(written: Converted) -> list[tuple[str, int]]:
    from deeplabctl.classes import IGNORE_LABEL

    counts = [(name, written.pixels[index]) for index, name in enumerate(written.classes)]
    return [*counts, ("void", written.pixels[IGNORE_LABEL])]


def _rows(written: Converted) -> list[list[str]]:
    total = max(sum(written.pixels.values()), 1)
    return [[name, f"{count:,}", f"{100 * count / total:.2f}"] for name, count in _named(written)]


def _document(out: Path, written: Converted) -> dict[str, Any]:
    return {
        "root": str(out),
        "classes": [{"name": name, "pixels": count} for name, count in _named(written)[:-1]],
        "void_pixels": _named(written)[-1][1],
        "train": len(written.train),
        "val": len(written.val),
        "failed": written.failed,
    }
