"""``deeplabctl weights``: list published weights, and fetch them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.options import complete_weights, section
from deeplabctl.errors import WeightsError

if TYPE_CHECKING:
    from deeplabctl.weights.published import PublishedWeights

EXAMPLES = """
Examples
  # what there is
  deeplabctl weights

  # fetch a file, for machines without a network, say; prints its path
  deeplabctl weights deeplabv3-mnv2-voc

  # publish a network on the Hugging Face hub; --dry-run only writes its card
  deeplabctl weights push runs/mine user/name --licence cc-by-4.0

  # a name is taken wherever weights are, and fetched then
  deeplabctl infer photo.jpg --weights deeplabv3-mnv2-voc
"""
PUBLISHING = section("Publishing")


def weights(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Weights to fetch, or: push FILE USER/NAME, to publish. Default: list all.",
            autocompletion=complete_weights,
        ),
    ] = None,
    *,
    licence: Annotated[
        str | None, PUBLISHING("--licence NAME", "Licence of the pushed weights, by the hub's name, such as cc-by-4.0.")
    ] = None,
    dry_run: Annotated[
        bool, PUBLISHING("--dry-run", "Only write the card, NAME.card.md, into the working directory.")
    ] = False,
    console: Console,
) -> None:
    """List published weights, fetch some, or publish your own.

    Downloads go to the user's cache folder. Each file is checked; an interrupted download is resumed. With
    $DEEPLABCTL_WEIGHTS_URL, files come from that address alone.
    """
    from deeplabctl.weights.locating import fetch_published
    from deeplabctl.weights.published import guess_name, published

    if names and names[0] == "push":
        if len(names) != 3:
            raise typer.BadParameter("expected push FILE USER/NAME", param_hint="NAME")
        _push(console, names[1], names[2], licence, dry_run)
        return
    if licence is not None or dry_run:
        raise typer.BadParameter("only push takes them", param_hint="--licence and --dry-run")

    known = published()
    if unknown := [name for name in names or () if name not in known]:
        guess = guess_name(unknown[0]) or "; deeplabctl weights lists them"
        raise WeightsError(f"there are no published weights {unknown[0]!r}{guess}")
    if not names:
        _list(console, list(known.values()))
        return
    with console.reporter() as report:
        paths = {name: fetch_published(name, report) for name in names}
    for path in paths.values():
        console.say(str(path))
    console.document({name: str(path) for name, path in paths.items()})


def _push(console: Console, weights: str, repo: str, licence: str | None, dry_run: bool) -> None:
    """Publish a model file with its card."""
    from deeplabctl.files import checksum, write_text
    from deeplabctl.reporting import Note
    from deeplabctl.weights import hub
    from deeplabctl.weights.fitting import read_network
    from deeplabctl.weights.hub import model_card
    from deeplabctl.weights.locating import find_weights, open_weights
    from deeplabctl.weights.sources.keras_files import ModelFile

    hub.check_repo(repo)
    with console.reporter() as report:
        path = find_weights(weights, report=report)
        file = open_weights(path)
        if not isinstance(file, ModelFile) or file.info is None:
            raise WeightsError(
                f"weights {path}: expected a model file of deeplabctl, which knows its classes, got a {file.words}; "
                "make one with deeplabctl convert-caffe"
            )
        read_network(file)  # all of it can be read, and fits
        size = path.stat().st_size
        card = model_card(file.info, path.name, size, checksum(path, "sha256", report), repo, licence)
        if licence is None:
            report(Note("the card names no licence, so nobody may use the weights: give --licence", warning=True))
        local = address = None
        if dry_run:
            local = f"{repo.partition('/')[2]}.card.md"
            write_text(Path(local), card)
            console.say(f"{local}: the card of {path.name}, {size / 1e6:.1f} MB; nothing was sent")
        else:
            report(Note(f"sending {path.name}, {size / 1e6:.1f} MB, to {repo}"))
            address = hub.upload({path.name: path, "README.md": card.encode()}, repo, f"Add {path.name}")
            console.say(f"{address}: deeplabctl infer IMAGE --weights {shlex.quote(hub.pushed(repo, path.name))}")
    console.document({"card": local, "file": str(path), "repository": repo, "address": address})


def _list(console: Console, known: list[PublishedWeights]) -> None:
    rows = [
        [
            one.name, f"{one.classes} ({len(one.class_names)})", "-" if one.miou is None else f"{one.miou:.2f}",
            "here" if one.is_here else "", one.size,
        ]
        for one in known
    ]  # fmt: skip
    console.table(("name", "classes", "mIoU %", "", "size"), rows, texts=4)
    console.say()
    console.say("networks, licences, and what the mIoU was measured on: --json")
    console.next("infer IMAGE --weights NAME")
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
                "path": str(one.path) if one.is_here else None,
            }
            for one in known
        }
    )
