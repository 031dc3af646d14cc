"""``deeplabctl infer``: masks, other formats, pipes, interruptions, and what is wrong with the inputs."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from caffe_files import DATA
from command_process import PROGRAM, fails_with_one_line, on_a_terminal
from PIL import Image
from small_training import SMALL

from deeplabctl.cli.infer import _read_stdin
from deeplabctl.data.labels import read_label
from deeplabctl.errors import DataError

CAFFEMODEL = DATA / "lfov_tiny_v2.caffemodel"  # 21 classes, random weights


@pytest.mark.tf
@pytest.mark.usefixtures("shallow", "no_curves")
def test_unreadable_image_is_named_and_the_others_are_segmented(here, deeplabctl):
    deeplabctl("train", "--data", "set", *SMALL, "--steps", 2, "-q")
    pictures = here / "pictures"
    pictures.mkdir()
    Image.new("CMYK", (41, 23)).save(pictures / "a.jpg")
    (pictures / "b.jpg").write_bytes(b"no picture")
    Image.new("I;16", (10, 90), 30000).save(pictures / "c.png")
    code, out, err = deeplabctl("infer", "pictures", "--out", "out", "--json")
    assert code == 1
    assert read_label(here / "out" / "a.png").shape == (23, 41)
    assert read_label(here / "out" / "c.png").shape == (90, 10)
    assert not (here / "out" / "b.png").exists()
    result = json.loads(out)
    assert [entry["width"] for entry in result["images"]] == [41, 10]
    assert len(result["failed"]) == 1
    assert "error: 1 of 3 images failed" in err
    assert "b.jpg" in err


@pytest.mark.tf
def test_picture_that_cannot_be_segmented_is_named_and_the_others_go_on(here, deeplabctl, monkeypatch):
    from deeplabctl.prediction import run

    weights = ["--weights", CAFFEMODEL, "--json"]
    for name, size in (("a", (30, 20)), ("b", (300, 400)), ("c", (30, 20))):
        Image.new("RGB", size).save(here / f"{name}.png")
    code, out, err = deeplabctl("infer", "a.png", "b.png", "c.png", "--crf", "--crf-params", "bi_xy_std=0.1", *weights)
    assert code == 1
    assert [entry["image"] for entry in json.loads(out)["images"]] == ["a.png", "c.png"]
    assert "error: 1 of 3 images failed, the first: image b.png: cannot refine this image of 300x400 pixels: CRF" in err
    assert sorted(path.name for path in (here / "masks").iterdir()) == ["a.png", "c.png"]

    read = run.read_image

    def read_image(path, say):
        if path.name == "b.png":
            raise MemoryError
        return read(path, say)

    monkeypatch.setattr(run, "read_image", read_image)
    code, out, err = deeplabctl("infer", "a.png", "b.png", "c.png", "--out", "more", *weights)
    assert code == 1
    assert [entry["image"] for entry in json.loads(out)["images"]] == ["a.png", "c.png"]
    assert "image b.png: there is not enough memory" in err
    _, _, err = deeplabctl("infer", "b.png", "--out", "more", *weights)
    assert [line.partition(";")[0] for line in err.splitlines()[2:]] == [
        "error: image b.png: there is not enough memory for an image of this size"
    ]


def test_results_stand_above_the_bar_on_a_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in "abc":
        Image.new("RGB", (30, 20)).save(tmp_path / "photos" / f"{name}.png")
    screen = on_a_terminal("infer", "photos", "--weights", str(CAFFEMODEL))
    for name in "abc":  # where its line was erased, or under another result
        assert re.search(rf"(\x1b\[2K|\n)photos/{name}\.png \(30x20\) -> masks/{name}\.png: .*%\n", screen)


def test_missing_weights_and_inputs_are_one_line(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    err = fails_with_one_line("(127.0.0.1: Connection refused)", "infer", "a.png", cwd=tmp_path)
    assert "no weights are named, and there are no runs: using the published deeplabv3-mnv2-voc" in err
    fails_with_one_line("gone.jpg: there is no such file", "infer", "gone.jpg", cwd=tmp_path)
    fails_with_one_line("got a PNG image", "infer", "a.png", "--weights", "a.png", cwd=tmp_path)


def photos(folder, count):
    """Write pictures of noise in three sizes."""
    folder.mkdir()
    rng = np.random.default_rng(count)
    for number in range(count):
        values = rng.integers(0, 256, (30 + number % 3, 40, 3)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{number:03}.png")
    return folder


def infer(*arguments, cwd, stdin=b"", **options):
    """Run infer in a process of its own; returns (exit code, stdout as bytes, stderr)."""
    command = [sys.executable, "-c", PROGRAM, "infer"]
    done = subprocess.run(
        [*command, *map(str, arguments)], input=stdin, capture_output=True, cwd=cwd, timeout=120, **options
    )
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.tf
def test_killed_run_goes_on_with_the_rest_only(tmp_path):
    photos(tmp_path / "photos", 60)
    out = tmp_path / "masks"
    arguments = ["infer", "photos", "--weights", str(CAFFEMODEL), "--format", "mask", "--format", "json"]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL)
    for _ in range(1200):
        if len(list(out.glob("[0-9]*.png"))) >= 5:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("[0-9]*.png")}
    assert 5 <= len(done) < 60
    assert not (out / "areas.jsonl").exists()
    code, stdout, err = infer(*arguments[1:], "--skip-existing", "--json", cwd=tmp_path)
    assert code == 0, err
    result = json.loads(stdout)
    assert f"{len(done)} of 60 already done: skipped" in err
    assert sorted(result["skipped"]) == sorted(f"photos/{name}" for name in done)
    assert len(result["images"]) == 60 - len(done)
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done
    assert sorted(path.name for path in out.iterdir()) == [*(f"{number:03}.png" for number in range(60)), "areas.jsonl"]
    lines = [json.loads(line) for line in (out / "areas.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [f"photos/{number:03}.png" for number in range(60)]


@pytest.mark.tf
def test_picture_from_stdin_becomes_the_mask_on_stdout(tmp_path, deeplabctl):
    content = (photos(tmp_path / "photos", 1) / "000.png").read_bytes()
    code, out, err = infer("-", "--weights", CAFFEMODEL, cwd=tmp_path, stdin=content)
    assert code == 0, err
    assert "weights:" in err
    assert not (tmp_path / "masks").exists()
    assert deeplabctl("infer", "photos", "--weights", CAFFEMODEL)[0] == 0
    assert (tmp_path / "masks" / "000.png").read_bytes() == out


def test_picture_from_stdin_that_is_larger_than_networks_know_is_said_to_be(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (1040, 3)).save(tmp_path / "photos" / "wide.png")
    content = (tmp_path / "photos" / "wide.png").read_bytes()
    for source, stdin in (("-", content), ("photos", b"")):
        code, _, err = infer(source, "--weights", CAFFEMODEL, cwd=tmp_path, stdin=stdin)
        assert code == 0, err
        assert "images of 1040 pixels are larger than those that most networks were trained on" in err


def test_stdin_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("deeplabctl.parallel.memory_limit", lambda: 8 << 20)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(bytes(4 << 20))))
    with pytest.raises(DataError, match="stdin: expected an image of at most 2 MiB, got more; give a smaller one"):
        _read_stdin()


def test_stdin_that_is_no_picture_and_terminals_are_refused_in_one_line(tmp_path):
    for content, got in ((b"hello", "got other content"), (b"", "got an empty file")):
        code, out, err = infer("-", "--weights", CAFFEMODEL, cwd=tmp_path, stdin=content)
        assert (code, out) == (1, b"")
        assert err.splitlines()[-1].startswith("error: cannot read stdin: expected an image of a known format")
        assert got in err
    here, there = pty.openpty()
    code = subprocess.run(
        [sys.executable, "-c", PROGRAM, "infer", "-"], stdin=subprocess.DEVNULL, stdout=there, stderr=subprocess.PIPE,
        cwd=tmp_path, timeout=60,
    )  # fmt: skip
    os.close(there)
    os.close(here)
    assert code.returncode == 1
    (line,) = code.stderr.decode().splitlines()
    assert line.startswith("error: stdout is a terminal")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "--skip-existing", "--overwrite"], "cannot be used together with --overwrite"),
        (["a.png", "--skip-existing", "--format", "coco"], "--format coco takes skipped images from their masks"),
        (["a.png", "--skip-existing", "--contact-sheet", "--format", "scores"], "--contact-sheet takes skipped images"),
        (
            ["a.png", "--format", "gif"],
            "'mask', 'scores', 'json', 'csv', 'coco', 'cvat', 'labelme', 'yolo', 'labelstudio',",
        ),
        (["a.png", "--out", ""], "Invalid value for --out: expected a name, got an empty one; give . for this folder"),
        (["a.png", "--out="], "Invalid value for --out: expected a name, got an empty one"),
        (["a.png", "--crf-params", ""], "Invalid value for --crf-params: expected largefov-v1,"),
        (["a.png", "--batch-size", "0"], "Invalid value for '--batch-size'"),
        (["-", "a.png"], "- is one image from stdin, and cannot be combined with others"),
        (["-", "--json"], "cannot be used with -"),
        (["-", "--overlay"], "cannot be used with -"),
        (["-", "--format", "json"], "cannot be used with -"),
        (["-", "--out", "masks"], "cannot be used with -"),  # its default, too
        (["-", "--batch-size", "4"], "cannot be used with -"),
        (["-", "--overwrite"], "cannot be used with -"),
        (["-", "--ray-workers", "2"], "cannot be used with -"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(deeplabctl, arguments, message):
    code, out, err = deeplabctl("infer", *arguments)
    assert (code, out == "") == (2, "--json" not in arguments)  # a document of the error
    assert message in " ".join(err.split())


@pytest.mark.tf
def test_every_format_is_written_and_annotations_are_converted_back(tmp_path, deeplabctl):
    folder = photos(tmp_path / "photos", 3)
    names = ("mask", "scores", "json", "csv", "coco", "cvat", "labelme", "yolo", "labelstudio", "supervisely", "via")
    formats = [word for name in names for word in ("--format", name)]
    code, out, err = deeplabctl(
        "infer", "photos", "--weights", CAFFEMODEL, *formats, "--contact-sheet", "--out", "out", "--json"
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["files"] == {
        "areas": "out/areas.jsonl", "table": "out/areas.csv", "coco": "out/coco.json", "cvat": "out/cvat.xml",
        "class_names": "out/classes.txt", "page": "out/index.html",
        "yolo_settings": "out/data.yaml", "labelstudio": "out/labelstudio.json",
        "labelstudio_settings": "out/labelstudio.xml", "supervisely_meta": "out/meta.json", "via": "out/via.json",
    }  # fmt: skip
    labels = {}
    for entry, line in zip(result["images"], (tmp_path / "out" / "areas.jsonl").read_text().splitlines(), strict=True):
        label = labels[entry["mask"].split("/")[-1]] = read_label(tmp_path / entry["mask"])
        with np.load(tmp_path / entry["scores"]) as file:
            assert file["scores"].shape == (*label.shape, 21)
            best = np.take_along_axis(file["scores"], label[..., None].astype(int), 2)[..., 0]
            assert (best == file["scores"].max(2)).all()
        assert {key: value for key, value in entry.items() if key != "seconds"} == json.loads(line)
        assert sum(found["pixels"] for found in entry["classes"]) == label.size
    options = ("--images", "photos", "--classes", "out/classes.txt")
    for form, source in (
        ("coco", "coco.json"),
        ("cvat", "cvat.xml"),
        ("labelme", ""),
        ("yolo", "data.yaml"),
        ("labelstudio", "labelstudio.json"),
        ("supervisely", "meta.json"),
        ("via", "via.json"),
    ):
        assert deeplabctl("data", "convert", f"out/{source}", "--format", form, *options, "--out", form)[0] == 0
    for name, label in labels.items():
        for form in ("coco", "cvat", "labelstudio", "supervisely"):
            assert (read_label(tmp_path / form / "SegmentationClass" / name) == label).all()
        for form in ("labelme", "yolo", "via"):
            outlined = read_label(tmp_path / form / "SegmentationClass" / name)
            assert (outlined == label).mean() > 0.9  # of 40x30 pixels of noise, in regions of a few
    assert len(list(folder.iterdir())) == 3


@pytest.mark.tf
def test_video_is_segmented_beside_pictures(tmp_path, deeplabctl):
    pytest.importorskip("av", reason="PyAV is not installed")
    from video_clips import read_clip, write_clip

    photos(tmp_path / "photos", 1)
    write_clip(tmp_path / "clip.mp4", range(0, 18_000, 3600))
    arguments = ("infer", "photos", "clip.mp4", "--weights", CAFFEMODEL, "--format", "mask", "--format", "json")
    code, out, _ = deeplabctl(*arguments)
    assert code == 0
    areas = (tmp_path / "masks" / "areas.jsonl").read_text()
    assert [json.loads(line).get("frames") for line in areas.splitlines()] == [None, 5]
    assert "clip.mp4 (64x48, 5 frames, 0:00) -> masks/clip_masks.mkv and masks/clip_overlay.mp4: " in out
    assert len(read_clip(tmp_path / "masks" / "clip_masks.mkv")[0]) == 5
    code, out, err = deeplabctl(*arguments, "--skip-existing", "--json")
    assert code == 0
    assert json.loads(out)["skipped"] == ["photos/000.png", "clip.mp4"]
    assert "2 of 2 already done" in err
    assert (tmp_path / "masks" / "areas.jsonl").read_text() == areas


@pytest.mark.tf
def test_batches_are_refused_by_numbas_engine(tmp_path, deeplabctl):
    photos(tmp_path / "photos", 1)
    arguments = ("--weights", CAFFEMODEL, "--engine", "numba", "--batch-size", 4)
    code, _, err = deeplabctl("infer", "photos", *arguments)
    assert code == 1
    assert "error: --batch-size: the engine numba computes one image at a time, got 4; use --engine tensorflow" in err
