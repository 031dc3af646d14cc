"""``deeplabctl weights``: list published weights, and fetch them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.options import complete_weights

if TYPE_CHECKING:
    from deeplabctl.weights.published import PublishedWeights

EXAMPLES = """
Examples
  # what there is
  deeplabctl weights

  # fetch a file, for machines without a network, say; prints its path
  deeplabctl weights deeplabv3-mnv2-voc

  # a name is taken wherever weights are, and fetched then
  deeplabctl infer photo.jpg --weights deeplabv3-mnv2-voc
"""


def weights_url() -> str | None:
    """Return the address that $DEEPLABCTL_WEIGHTS_URL has in place of those of published weights."""
    return os.environ.get("DEEPLABCTL_WEIGHTS_URL")


def weights(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Weights to fetch. Default: list all.", autocompletion=complete_weights),
    ] = None,
    *,
    console: Console,
) -> None:
    """List published weights, or fetch some.

    They go to the user's cache folder. Each file is checked; an interrupted download is resumed. With
    $DEEPLABCTL_WEIGHTS_URL, files come from that address alone.
    """
    from deeplabctl.errors import WeightsError
    from deeplabctl.weights.locating import fetch_published
    from deeplabctl.weights.published import guess_name, published

    known = published()
    if unknown := [name for name in names or () if name not in known]:
        guess = guess_name(unknown[0]) or "; deeplabctl weights lists them"
        raise WeightsError(f"there are no published weights {unknown[0]!r}{guess}")
    if not names:
        _list(console, list(known.values()))
        return
    with console.reporter() as report:
        paths = {name: fetch_published(name, report, weights_url()) for name in names}
    for path in paths.values():
        console.say(str(path))
    console.document({name: str(path) for name, path in paths.items()})


def _list(console: Console, known: list[PublishedWeights]) -> None:
    rows = [
        [
            one.name, one.network, f"{one.classes} ({len(one.class_names)})",
            "-" if one.miou is None else f"{one.miou:.2f} {(one.on or '').partition(',')[0]}", one.licence,
            "here" if one.path.exists() else "", one.size,
        ]
        for one in known
    ]  # fmt: skip
    console.table(("name", "network", "classes", "published mIoU %", "licence", "", "size"), rows, texts=6)
    console.say()
    console.say("next: deeplabctl infer IMAGE --weights NAME")
    console.document(
        {
            one.name: {
                "network": one.network,
                "classes": list(one.class_names),
                "file": one.file,
                "addresses": [f"{address}/{one.file}" for address in one.addresses],
                "bytes": one.bytes,
                "checksum": one.checksum,
                "miou": None if one.miou is None else round(one.miou / 100, 6),
                "measured_on": one.on,
                "source": one.source,
                "licence": one.licence,
                "path": str(one.path) if one.path.exists() else None,
            }
            for one in known
        }
    )
