"""``deeplabctl convert-caffe``: convert weight files of other programs to model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deeplabctl.cli.console import Console
from deeplabctl.cli.formatting import argument, with_options
from deeplabctl.cli.options import OUTPUT, OverwriteOption, is_given, section

EXAMPLES = """
Examples
  # what the file contains
  deeplabctl convert-caffe train_iter_8000.caffemodel --inspect

  # writes train_iter_8000.keras, which eval, infer and train --init take
  deeplabctl convert-caffe train_iter_8000.caffemodel
"""
CONVERSION = section("Conversion")


def convert_caffe(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help=".caffemodel (V1, V2 or HDF5); TensorFlow checkpoint, frozen graph, .tar.gz of the model zoo or "
            ".tflite; weight pickle, .pth, safetensors; Keras' .h5 or .keras; or the name of published weights.",
        ),
    ],
    architecture: Annotated[
        str | None,
        CONVERSION(
            "--architecture NAME", "Architecture, as in a recipe. Default: the one that the layers in MODEL belong to."
        ),
    ] = None,
    prototxt: Annotated[
        Path | None, CONVERSION("--prototxt FILE", "Also check that this net definition has the same geometry.")
    ] = None,
    classes: Annotated[
        Path | None, CONVERSION("--classes FILE", "Class names, one per line. Default: VOC's names for 21 classes.")
    ] = None,
    seed: Annotated[
        int, CONVERSION("--seed N", "Seed for the layers that MODEL lacks, and for the choice of filters.", min=0)
    ] = 0,
    inspect: Annotated[bool, CONVERSION("--inspect", "Only show what MODEL contains.")] = False,
    out: Annotated[
        Path | None, OUTPUT("--out FILE.keras", "File to write. Default: MODEL's name with .keras, in this folder.")
    ] = None,
    overwrite: OverwriteOption = False,
    *,
    console: Console,
) -> None:
    """Convert weights of Caffe, TensorFlow, PyTorch or Keras.

    Writes a model file that plain Keras opens too. Every weight is read back and compared.
    """
    from deeplabctl.weights.conversion import plan_conversion, write_conversion

    if inspect:
        names = ("architecture", "prototxt", "classes", "seed", "out", "overwrite")
        if unused := ", ".join(f"--{name}" for name in names if is_given(context, name)):
            raise typer.BadParameter(
                f"shows the file without converting it; leave out {unused}", param_hint="--inspect"
            )
        _inspect(console, model)
        return
    with console.reporter() as report:
        converted = plan_conversion(model, out, architecture, prototxt, classes, seed, overwrite, report=report)
    if converted.checked_layers is not None:
        console.say(f"{prototxt}: {converted.checked_layers} layers have the geometry of {converted.info.architecture}")

    from deeplabctl.network.tensorflow_startup import start_tensorflow

    start_tensorflow()
    write_conversion(converted)
    info = converted.info
    console.say(f"{model}: {converted.file.words}, {info.architecture} of width {info.width:g}")
    for note in (*converted.network.notes, *converted.network.assumed):
        console.say(with_options(note))
    if converted.network.new_layers:
        new = ", ".join(converted.network.new_layers)
        console.say(f"not in the file, so initialized at random (seed {seed}): {new}")
    console.say(f"{converted.path}: {converted.parameters:,} parameters, read back and equal to the source")
    console.say(f"{len(info.classes)} classes: {', '.join(info.classes[:5])}{', ...' if len(info.classes) > 5 else ''}")
    path = argument(converted.path)
    is_complete = not converted.network.new_layers
    train = f"train --data DIR --init {path} --set model.architecture={info.architecture}"
    console.next(f"infer IMAGE --weights {path} --overlay" if is_complete else train)
    console.document(
        {
            "model": str(converted.path),
            "format": converted.file.words,
            "architecture": info.architecture,
            "width": info.width,
            "classes": list(info.classes),
            "parameters": converted.parameters,
            "new_layers": converted.network.new_layers,
            "provenance": info.provenance,
        }
    )


def _inspect(console: Console, path: Path) -> None:
    from deeplabctl.weights.conversion import inspect_weights
    from deeplabctl.weights.locating import weights_path

    with console.reporter() as report:
        path = weights_path(path, report)
    found = inspect_weights(path)
    console.say(f"{found['file']}: {found['format']}")
    console.say(f"sha256 {found['sha256']}")
    console.say()
    rows = [
        [one["name"], "x".join(map(str, one["kernel"])), f"{one['parameters']:,}", *_ranges(one["ranges"])]
        for one in found["layers"]
    ]
    console.table(("layer", "kernel", "parameters", "kernel range", "bias range"), rows)
    console.say()
    console.say(f"{found['parameters']:,} parameters; becomes {found['becomes']}")
    console.document(found)


def _ranges(ranges: list[list[float | None]]) -> list[str]:
    """Return the ranges of kernel and bias in words, or dashes where a layer lacks them."""
    words = [" to ".join("not finite" if value is None else f"{value:.4g}" for value in pair) for pair in ranges]
    return [*words, "-", "-"][:2]
