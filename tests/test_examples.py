"""The examples on the pages are run, page by page from top to bottom, and print what stands there.

A line ``...``, or the end of a line, stands for anything. The networks and most sets here are smaller than those of the
pages, so any number, time, and list of classes with their shares stands for any other; so do the bars of charts, the
processor's number format, the parameters at the border of a grid, and "(best so far)". Spaces, the home folder and
lines of progress do not count, nor, where options make an example shorter, do warnings that the page does not show.
"""

import contextlib
import io
import re
import runpy
import shlex
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from annotation_files import write_labelme
from caffe_files import fixture
from dataset_files import draw_few_shapes
from PIL import Image
from small_training import without_curves
from video_clips import write_clip
from voc_archives import sbd_files, voc_files, write_tar

ROOT = Path(__file__).parents[1]
RUN = "runs/20261125-223844-largefov-shapes"
# Examples that are run elsewhere, or need more than this machine has.
NOT_RUN = (
    "pip ", "docker ",
    "curl ", "deeplabctl serve",  # tests/test_serve
    "python ",  # docs/tutorial/photos.py, which draw() runs
    "deeplabctl infer photos --ray",  # tests/test_prediction/test_ray_actors.py
)  # fmt: skip
# Options that make an example short, or let it end well with a network that is hardly trained.
SHORTER = {
    "deeplabctl train --resume": [],
    "deeplabctl train --data dishes": [
        "--init=random",
        "--width=0.1",
        "--steps=2",
        "--set=run.val_every=1",
        "--set=run.log_every=1",
    ],
    "deeplabctl train": ["--steps=12", "--width=0.05", "--set=run.val_every=3", "--set=run.log_every=1"],
    "deeplabctl data prepare-voc": ["--any-counts"],
    "deeplabctl crf-search": ["--images=2"],
    "deeplabctl export runs/narrow --to tflite": ["--least-agreement=0.5"],
}
SHAPES = {"train": 12, "val": 12}  # images of the built-in set
PROGRESS = re.compile(r".*\d of \d+ .*, .* left|compiling .* \(once on this machine, .*")


def examples(page):
    """Return [command, lines of its output] of the indented blocks of a page."""
    found = []
    for block in re.findall(r"(?m)(?:^ {4}.*\n|^\n(?= {4}))+", (ROOT / page).read_text("utf-8")):
        for part in re.split(r"(?m)^ {4}\$ ", "\n" + block.replace("\\\n        ", ""))[1:]:
            command, *lines = [line.strip() for line in part.rstrip().splitlines()]
            found.append((command, lines))
    return found


PAGES = {
    str(page.relative_to(ROOT)): found
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if (found := [example for example in examples(page) if not example[0].startswith(NOT_RUN)])
}


def alike(line):
    """Return a line with all that may differ replaced by one text."""
    line = re.sub(r"\S*/\.cache", "~/.cache", line)
    line = re.sub(r"[▏▎▍▌▋▊▉█]+", "", line.removesuffix("(best so far)"))
    line = re.sub(r"\b(float32|bfloat16|float16)\b", "NUMBERS", line)
    line = re.sub(r"^.*(?=: at the border of the grid)", "PARAMETERS", line)
    line = re.sub(r"(?<![\w/.])[+-]?\d(?:[\d,]*\d)?(?:[.:]\d+)*(?:e[+-]?\d+)?", "N", line)
    line = re.sub(r"\d+", "N", line)
    line = re.sub(r"\b\w+ (?:< )?N ?%(?:, \w+ (?:< )?N ?%)*", "SHARES", line)
    return " ".join(line.split())


def fits(expected, found):
    """Tell whether lines are those expected; in these ``...`` stands for any lines, or for the rest of one."""
    if not expected:
        return not found
    first, *rest = expected
    if first == "...":
        return any(fits(rest, found[start:]) for start in range(len(found) + 1))
    if not found:
        return False
    start = alike(first.removesuffix("..."))
    same = alike(found[0]).startswith(start) if first.endswith("...") else alike(found[0]) == start
    return same and fits(rest, found[1:])


def run(command):
    """Run ``deeplabctl`` in this process; returns what it prints on stdout and stderr, in lines."""
    from deeplabctl.cli.app import main

    printed = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    arguments = [found for word in shlex.split(command) for found in sorted(map(str, Path().glob(word))) or [word]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), pytest.raises(SystemExit):
            main()
    return [line.strip() for line in printed.buffer.getvalue().decode().splitlines() if not PROGRESS.fullmatch(line)]


@pytest.fixture(scope="module")
def printed():
    """Return the output of each command that a page had before; README.md has some of the other pages'."""
    return {}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Make the folder in which the examples of the pages are run: two runs, and a few images."""
    folder = tmp_path_factory.mktemp("story")
    with without_curves(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
        draw_few_shapes(patch, **SHAPES)
        for name, width in (("runs/narrow", "0.125"), (RUN, "0.05")):
            options = f"--steps 2 --width {width} --set=run.val_every=2 --precision float32 --quiet"
            run(f"deeplabctl train --run-dir {name} --data shapes {options}")
        run("deeplabctl data shapes new --train 1 --val 4 --seed 2026")
    return folder


def stop_a_training():
    """Train, and press Ctrl-C after some steps."""
    import deeplabctl as dl
    from deeplabctl.reporting import Trained

    def report(event):
        if isinstance(event, Trained) and event.step == 3:
            signal.raise_signal(signal.SIGINT)

    with contextlib.suppress(SystemExit):
        dl.train("shapes", steps=6, width=0.05, report=report)


def camvid(root):
    """Write a set with the classes of CamVid, each in a stripe of every image."""
    from deeplabctl.data.labels import write_mask

    classes = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    label = np.repeat(np.arange(11, dtype=np.uint8), 4)[None].repeat(36, 0)
    label[:2] = 255
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(classes) + "\n")
    for split, numbers in {"train": range(6690, 6990, 30), "val": range(7000, 7003)}.items():
        names = [f"0001TP_00{number}" for number in numbers]
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for number, name in zip(numbers, names, strict=True):
            image = np.random.default_rng(number).integers(0, 255, (36, 44, 3)).astype(np.uint8)
            Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg")
            write_mask(root / "SegmentationClass" / f"{name}.png", label)


def damage():
    """Make ``damaged`` of ``camvid``: colours, an image that is cut off, one that EXIF turns, Windows line ends."""
    shutil.copytree("camvid", "damaged")
    images, labels = Path("damaged/JPEGImages"), Path("damaged/SegmentationClass")
    with Image.open(labels / "0001TP_006780.png") as label:
        label.convert("RGB").save(labels / "0001TP_006780.png")
    whole = (images / "0001TP_006900.jpg").read_bytes()
    (images / "0001TP_006900.jpg").write_bytes(whole[:-2])
    exif = Image.Exif()
    exif[0x0112] = 8
    with Image.open(images / "0001TP_006960.jpg") as image:
        image.save(images / "0001TP_006960.jpg", exif=exif)
    names = Path("damaged/ImageSets/Segmentation/val.txt")
    names.write_bytes(names.read_bytes().replace(b"\n", b"\r\n"))


def annotate():
    for name in "abcdefgh":
        corners = {"red boat": [[1, 1], [5, 5]], "zebra": [[8, 2], [12, 10]]}
        shapes = [{"label": label, "points": points, "shape_type": "rectangle"} for label, points in corners.items()]
        write_labelme(Path("annotated"), shapes, name)


def color_masks():
    for folder in ("street-masks", "photos"):
        Path(folder).mkdir()
        mask = np.zeros((20, 30, 3), np.uint8)
        mask[:9], mask[9:12] = (128, 64, 128), (0, 0, 142)
        Image.fromarray(mask).save(f"{folder}/street.png")


def draw(folder, photos):
    """Draw the photos of the tutorial, with outlines."""
    runpy.run_path(str(ROOT / "docs" / "tutorial" / "photos.py"))["main"](Path(folder), photos)


def draw_annotated():
    shutil.rmtree("annotated", ignore_errors=True)
    draw("annotated", 10)


def copy_photos():
    Path("photos").mkdir()
    for number in (1, 2):
        shutil.copy(f"new/JPEGImages/shapes_000{number}.jpg", "photos")


def copy_caffe_net():
    for name in ("lfov_slim_v1.caffemodel", "lfov_slim_v1_deploy.prototxt"):
        shutil.copy(fixture(name), name)


def copy_predictions():
    shutil.copytree(".cache/deeplabctl/shapes-v1/shapes/SegmentationClass", "predictions")
    max(Path("predictions").iterdir()).unlink()


def write_archives():
    write_tar(Path("VOCtrainval_11-May-2012.tar"), voc_files())
    write_tar(Path("benchmark.tgz"), sbd_files(), "w:gz")


# What is there before an example.
BEFORE = {
    "deeplabctl train --resume": stop_a_training,
    "deeplabctl train": lambda: shutil.rmtree(".cache"),
    "deeplabctl infer new/JPEGImages --contact-sheet --format mask --format json --out again --skip-existing": (
        lambda: Path("again/shapes_0003.png").unlink()
    ),
    "deeplabctl infer clip.mp4": lambda: write_clip(Path("clip.mp4"), range(0, 36_000, 3600)),
    "deeplabctl infer photos": copy_photos,
    "deeplabctl convert-caffe": copy_caffe_net,
    "deeplabctl eval --pred-dir": copy_predictions,
    "deeplabctl data check camvid": lambda: camvid(Path("camvid")),
    "deeplabctl data check damaged": damage,
    "deeplabctl data prepare-voc": write_archives,
    "deeplabctl data convert annotated --out dishes": draw_annotated,
    "deeplabctl data convert annotated": annotate,
    "deeplabctl infer unseen": lambda: draw("unseen", 3),
    "deeplabctl data convert street-masks": color_masks,
    "deeplabctl data shapes new": lambda: shutil.rmtree("new"),
}


def of(command, table, default):
    """Return the entry of a table for a command, by its beginning."""
    return next((entry for start, entry in table.items() if command.startswith(start)), default)


SLOW = {"docs/tutorial.md"}  # which trains a network of full width


@pytest.mark.tf
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page in SLOW else page for page in PAGES]
)
def test_examples_of_a_page_print_what_stands_there(page, story, printed, tmp_path, monkeypatch):
    here = tmp_path / "here"
    shutil.copytree(story, here)
    draw_few_shapes(monkeypatch, **SHAPES)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / ".cache"))
    failed = []
    for command, expected in PAGES[page]:
        shorter = of(command, SHORTER, [])
        if command not in printed or command.startswith("deeplabctl export"):  # whose files later examples use
            of(command, BEFORE, lambda: None)()
            printed[command] = run(" ".join([command, *shorter]))
        found, lines = printed[command], expected
        if shorter:  # the score that a recipe expects is only of the recipe as it is
            found = [line for line in found if not line.startswith("warning: ") or alike(line) in map(alike, expected)]
            lines = [line for line in expected if not line.startswith("expected ")]
        if not fits(lines, found):
            failed.append("\n".join([f"$ {command}", *found, "--- on the page:", *lines]))
    assert not failed, "\n\n".join(failed)


def test_photos_of_the_tutorial_need_a_new_folder(tmp_path):
    draw(tmp_path / "annotated", 1)
    with pytest.raises(SystemExit, match=r"annotated: expected a new folder, got one that exists; remove it, or name"):
        draw(tmp_path / "annotated", 1)
