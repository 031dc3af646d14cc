"""The examples of docs/export.md run as they are, without this package."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from exports import CLASSES, export_plan, noise, write_onnx
from PIL import ExifTags, Image

from deeplabctl.classes import class_colors
from deeplabctl.export.exporter import write_export

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
EXAMPLES = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.read_text("utf-8"))


def run(example, folder):
    """Run an example in a process of its own, which must not import deeplabctl; returns what it prints."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored on its side, as by phones
    Image.fromarray(noise(50, 37)).save(folder / "photo.jpg", exif=exif)
    guard = "\nimport sys\nassert not any(name.startswith('deeplabctl') for name in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", example + guard], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_onnx_example_writes_a_palette_mask(tmp_path):
    write_onnx(tmp_path / "mine.onnx")
    shares = eval(run(EXAMPLES[0], tmp_path))
    assert set(shares) <= set(CLASSES)
    assert sum(shares.values()) == pytest.approx(1)
    with Image.open(tmp_path / "mask.png") as mask:
        assert (mask.mode, mask.size) == ("P", (50, 37))
        assert mask.getpalette()[:6] == [0, 0, 0, *class_colors(CLASSES)[1]]


@pytest.mark.tf
@pytest.mark.parametrize(("example", "format_"), [(1, "tflite"), (2, "savedmodel")])
def test_examples_of_the_other_formats_run(tmp_path, example, format_):
    pytest.importorskip("ai_edge_litert")
    write_export(export_plan(tmp_path, format_))
    (tmp_path / f"net.{format_}").rename(tmp_path / f"mine.{format_}")
    out = run(EXAMPLES[example], tmp_path)
    assert "(1, 37, 50)" in out
    assert "(1, 37, 50, 5)" in out
