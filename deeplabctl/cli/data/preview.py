"""``deeplabctl data preview``: look at images under their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.data.options import DataArgument
from deeplabctl.cli.options import DebugOption, JsonOption, OverwriteOption, QuietOption


def preview(
    data: DataArgument,
    split: Annotated[str | None, typer.Option("--split", help="Split to show. Default: the one to train on.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="PNG", help="File to draw into.")] = Path("preview.png"),
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Images to show. Default: 12, or 4 with --augmented.")
    ] = None,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Show four crops of each image as augmentation makes them.")
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME|FILE", help="Recipe whose [augment] is shown. Default: as train."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of it: augment.scale=[0.5,1.5]."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed draws other images.")] = 0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw images under their labels, with a legend.

    With --augmented it shows what a training makes of them.
    """
    from deeplabctl.data.images import write_picture
    from deeplabctl.data.inspection import check_samples
    from deeplabctl.data.layout import check_picture
    from deeplabctl.data.locate import SHAPES, find_dataset, is_shapes
    from deeplabctl.data.preview import choose, draw_augmented, draw_samples
    from deeplabctl.recipe import read_recipe

    if not augmented and (recipe or changes):
        raise typer.BadParameter("says how to augment: give --augmented, too", param_hint="--recipe, --set")
    console = Console(json, quiet, debug)
    with console.errors():
        check_picture(out, overwrite=overwrite)
        with console.reporter() as report:
            dataset = find_dataset(data, report)
            shown = split or dataset.training_split
            samples = choose(dataset.samples(shown), count or (4 if augmented else 12), seed)
            check_samples(dataset, samples, report)
        if augmented:
            name = recipe or (SHAPES if is_shapes(dataset) else "paper-v2")
            settings = read_recipe(name, changes or []).augment
            picture = draw_augmented(dataset, samples, settings, 4, seed)
        else:
            picture = draw_samples(dataset, samples, 4)
        write_picture(out, picture)
        console.say(f"{out}: {len(samples)} images of {shown}" + (f", augmented as in {name}" if augmented else ""))
        console.document({"out": str(out), "split": shown, "samples": [sample.id for sample in samples]})
