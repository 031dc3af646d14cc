"""``deeplabctl data preview``: look at images with their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.data.options import DataArgument
from deeplabctl.cli.options import DebugOption, JsonOption, OverwriteOption, QuietOption

EXAMPLES = """
Examples
  deeplabctl data preview VOCdevkit/VOC2012

  # the crops that a training makes of them
  deeplabctl data preview mine --augmented --out crops.png
"""


def preview(
    data: DataArgument,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="Split to show. Default: the training split.",
            rich_help_panel="Images",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            min=1,
            help="Number of images. Default: 12, or 4 with --augmented.",
            rich_help_panel="Images",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Each seed chooses other images.", rich_help_panel="Images")
    ] = 0,
    augmented: Annotated[
        bool,
        typer.Option(
            "--augmented",
            help="Show four crops of each image as augmentation makes them.",
            rich_help_panel="Augmentation",
        ),
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE",
            help="Recipe whose augmentation is shown. Default: as train.",
            rich_help_panel="Augmentation",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the recipe, as augment.scale=[0.5,1.5]; may be repeated.",
            rich_help_panel="Augmentation",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="PNG", help="File to draw.", rich_help_panel="Output"),
    ] = Path("preview.png"),
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw images with their labels and a legend.

    With --augmented also the crops that a training makes of them.
    """
    from deeplabctl.data.images import IMAGE_SUFFIXES, write_picture
    from deeplabctl.data.inspection import check_samples
    from deeplabctl.data.locate import find_dataset
    from deeplabctl.data.preview import choose_samples, draw_augmented, draw_samples
    from deeplabctl.files import check_new_file
    from deeplabctl.recipe import read_recipe
    from deeplabctl.recipes.limits import AUTO
    from deeplabctl.training.budget import with_crop_size
    from deeplabctl.training.plan import default_recipe

    if not augmented and (recipe or changes):
        raise typer.BadParameter("only used with --augmented", param_hint="--recipe, --set")
    console = Console(json, quiet, debug)
    with console.errors():
        check_new_file(out, overwrite=overwrite, suffixes=IMAGE_SUFFIXES)
        with console.reporter() as report:
            dataset = find_dataset(data, report)
            shown = split or dataset.training_split
            samples = choose_samples(dataset.samples(shown), count or (4 if augmented else 12), seed)
            check_samples(dataset, samples, report)
            if augmented:
                name = recipe or default_recipe(dataset)
                settings = read_recipe(name, changes or [])
                if settings.augment.crop_size == AUTO:  # from all images, as in a training
                    settings = with_crop_size(settings, check_samples(dataset, dataset.samples(shown), report))
        if augmented:
            picture = draw_augmented(dataset, samples, settings.augment, 4, seed)
        else:
            picture = draw_samples(dataset, samples, 4)
        write_picture(out, picture)
        console.say(f"{out}: {len(samples)} images of {shown}" + (f", augmented as in {name}" if augmented else ""))
        console.document({"out": str(out), "split": shown, "samples": [sample.id for sample in samples]})
