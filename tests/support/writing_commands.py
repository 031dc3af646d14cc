"""List commands that write, with the files that they need, and tell whether what they have written is whole."""

import json
import pickle
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from annotation_files import write_coco
from dataset_files import make_dataset
from PIL import Image
from run_files import make_run
from surroundings import snapshot
from tiny_weights import tiny_variables
from voc_archives import sbd_files, voc_files, write_tar

from deeplabctl.training.checkpoint import Checkpoint
from deeplabctl.weights.locating import open_weights

FORMATS = tuple(word for name in ("mask", "scores", "labelme", "json", "coco") for word in ("--format", name))
SQUARE = {"category_id": 1, "segmentation": [[2, 2, 9, 2, 9, 9, 2, 9]]}


@dataclass(frozen=True)
class Command:
    """Describe a command: its arguments, what it writes, and whether that is replaced."""

    arguments: tuple
    results: tuple  # names of the files and folders
    overwrite: bool = False
    tensorflow: bool = False
    slow: bool = False

    @property
    def name(self):
        words = " ".join(self.arguments[:2])
        return f"{words}{' --overwrite' if self.overwrite else ''}"

    def run(self, server, folder, *more, **disk):
        overwrite = ["--overwrite"] if self.overwrite else []
        return server.run(*self.arguments, *overwrite, *more, cwd=folder, **disk)


COMMANDS = [
    *(
        Command(("data", "convert", "coco/instances.json", "--out", "converted"), ("converted",), overwrite)
        for overwrite in (False, True)
    ),
    Command(("data", "shapes", "shapes", "--train", "3", "--val", "2"), ("shapes",), slow=True),
    Command(("data", "check", "set", "--fix", "fixed"), ("fixed",)),
    Command(("data", "stats", "set", "--out", "stats.png"), ("stats.png",)),
    Command(("data", "preview", "set", "--out", "preview.png"), ("preview.png",)),
    Command(("data", "prepare-voc", "--voc", "voc.tar", "--sbd", "sbd.tgz", "--any-counts", "--out", "voc"), ("voc",)),
    *(
        Command(("eval", "--pred-dir", "predictions", "--data", "set", "--out", "scores"), ("scores",), overwrite)
        for overwrite in (False, True)
    ),
    Command(("report", "run"), ("run/curves.png", "run/report.html")),
    Command(("report", "run", "other", "--out", "comparison"), ("comparison",), slow=True),
    Command(
        ("eval", "--weights", "net.pkl", "--data", "set", "--out", "scores", "--voc-zip", "voc.zip"),
        ("scores", "voc.zip"),
        tensorflow=True,
    ),
    Command(
        ("infer", "set/JPEGImages", "--weights", "net.pkl", "--overlay", "--contact-sheet", "--out", "masks", *FORMATS),
        ("masks",),
        tensorflow=True,
    ),
    Command(("convert-caffe", "net.pkl", "--out", "net.keras"), ("net.keras",), tensorflow=True),
    Command(("export", "net.pkl", "--to", "onnx", "--images", "set", "--out", "net.onnx"), ("net.onnx",)),
    Command(
        ("export", "net.pkl", "--to", "savedmodel", "--images", "set", "--out", "net.savedmodel"),
        ("net.savedmodel",),
        tensorflow=True,
        slow=True,
    ),
]


def write_inputs(folder):
    """Write all that the commands need."""
    write_coco(folder / "coco", [SQUARE, {**SQUARE, "image_id": 8}], images=("a.jpg", "b.jpg"))
    make_dataset(folder / "set", train=2, val=2, size=(24, 32))
    train = folder / "set" / "ImageSets" / "Segmentation" / "train.txt"
    train.write_bytes(b"\xef\xbb\xbft0\r\nt1\r\n")  # to fix
    shutil.copytree(folder / "set" / "SegmentationClass", folder / "predictions")
    for path in (folder / "predictions").iterdir():
        with Image.open(path) as mask:
            values = np.asarray(mask) % 255
        Image.fromarray(values).save(path)
    write_tar(folder / "voc.tar", voc_files())
    write_tar(folder / "sbd.tgz", sbd_files(), "w:gz")
    make_run(folder / "run")
    make_run(folder / "other", settings=["solver.momentum=0.5"])
    _write_weights(folder)


def write_old_results(command, folder):
    """Write results of before for a command that replaces them."""
    if not command.overwrite:
        return
    if "convert" in command.arguments:
        make_dataset(folder / "converted", train=1, val=1, size=(8, 8))
    else:
        (folder / "scores").mkdir()
        for name in ("scores.json", "classes.csv", "confusion.csv", "report.html"):
            (folder / "scores" / name).write_text("old")
        Image.new("RGB", (4, 4)).save(folder / "scores" / "confusion.png")


def inputs_of(command, folder):
    """Return a snapshot of the files in a folder that are not results of the command."""
    return {
        name: entry
        for name, entry in snapshot(folder).entries.items()
        if entry != ("folder",)
        and not name.startswith(command.results)
        and not any(part.startswith(".") for part in Path(name).parts)
    }


def damaged_results(command, folder, old):
    """Return the result files that are not whole: that cannot be read, and are not as they were before."""
    found = []
    for result in command.results:
        path = folder / result
        files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
        for file in files:
            if any(part.startswith(".") for part in file.relative_to(folder).parts):
                continue
            if old.get(str(file.relative_to(folder))) == file.read_bytes():
                continue
            try:
                read_whole(file)
            except Exception as error:
                found.append(f"{file.relative_to(folder)}: {type(error).__name__}: {error}")
    return found


def contents(folder):
    """Return the files of a folder by their relative names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_whole(path):
    """Read a file to its end; raises an error for one that was cut off."""
    if path.suffix in (".png", ".jpg"):
        with Image.open(path) as image:
            image.load()
    elif path.suffix == ".json":
        json.loads(path.read_text("utf-8"))
    elif path.suffix == ".html":
        assert path.read_text("utf-8").rstrip().endswith("</html>"), "the page has no end"
    elif path.suffix == ".npz" and path.parent.name == "masks":
        with np.load(path) as file:
            assert file["scores"].ndim == 3
    elif path.suffix == ".npz":
        Checkpoint.read(path)
    elif path.suffix == ".onnx":
        assert open_weights(path).info  # compares its checksum
    elif path.parts[-2:] in (("net.savedmodel", "saved_model.pb"), ("net.savedmodel", "fingerprint.pb")):
        assert open_weights(path.parent).info
    elif "net.savedmodel" in path.parts:
        assert path.parent.name == "variables"  # in the checksums, too
    elif path.suffix in (".zip", ".keras"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert archive.namelist(), "nothing in it"
    else:
        assert path.read_bytes().endswith(b"\n"), "the last line has no end"


def hidden_files(folder):
    """Return what was left under temporary names; a lock and the mark of an unfinished folder are neither."""
    known = (".lock", ".prepare-voc-unfinished")
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob(".*")) if path.name not in known]


def _write_weights(folder):
    """Write net.pkl, a network of 3 classes."""
    variables = tiny_variables()
    for part in "wb":
        variables[f"fc8_voc12/{part}"] = variables[f"fc8_voc12/{part}"][..., :3]
    (folder / "net.pkl").write_bytes(pickle.dumps(variables))
