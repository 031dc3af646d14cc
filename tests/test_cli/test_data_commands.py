"""The data commands from the command line: what they print where, and their exit codes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from command_process import on_a_terminal, server
from dataset_files import make_dataset
from PIL import Image
from voc_archives import sbd_files, voc_files, write_tar

from deeplabctl.choices import ANNOTATIONS
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.labels import read_label

COMMANDS = ["check", "prepare-voc", "convert", "stats", "preview", "shapes"]


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "set", train=4, val=2)


def spoil(root):
    with Image.open(root / "SegmentationClass" / "t1.png") as mask:
        mask.convert("RGB").save(root / "SegmentationClass" / "t1.png")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_bytes(b"v0\r\nv1\r\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("option", "code"), [("--help", 0), (None, 2)])
def test_help_comes_without_loading_anything_heavy_and_also_without_arguments(command, option, code, tmp_path):
    ended = server().run("data", command, *([option] if option else []), cwd=tmp_path, environment=dict(os.environ))
    assert ended.code == code
    assert "Usage: " in ended.out + ended.err
    assert not {"tensorflow", "keras", "numba", "scipy", "numpy", "PIL"}.intersection(ended.modules)


def test_check_of_a_good_set_says_so_and_exits_0(deeplabctl, root):
    code, out, err = deeplabctl("data", "check", "set")
    assert (code, err) == (0, "")
    assert out == "12 files of train 4, val 2 checked: 0 errors, 0 notes\n"


def test_check_lists_findings_on_stdout_errors_first_and_exits_1(deeplabctl, root):
    spoil(root)
    code, out, err = deeplabctl("data", "check", "set")
    assert code == 1
    first, second, last = out.splitlines()
    assert first.startswith("set/SegmentationClass/t1.png: expected one channel of class ids")
    assert second.startswith("note: set/ImageSets/Segmentation/val.txt: Windows line ends; it can be read")
    assert last == "12 files of train 4, val 2 checked: 1 error, 1 note"
    assert err.splitlines() == [f"error: 1 error would stop or spoil a training; the first: {first}"]


def test_check_as_json_is_one_document_with_all_findings(deeplabctl, root):
    for name in ("t0", "t1", "t2", "t3", "v0", "v1"):
        Image.new("RGB", (80, 60)).save(root / "SegmentationClass" / f"{name}.png")
    code, out, _ = deeplabctl("data", "check", "set", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["errors"] == 6
    assert found["splits"] == {"train": 4, "val": 2}
    entry = found["findings"][0]
    assert set(entry) == {"kind", "severity", "file", "line", "expected", "got", "fix", "text"}
    assert (entry["kind"], entry["severity"], entry["file"]) == (
        "label-colors", "error", "set/SegmentationClass/t0.png",
    )  # fmt: skip


def test_findings_of_a_kind_are_cut_after_ten_in_the_text(deeplabctl, tmp_path):
    make_dataset(tmp_path / "set", train=14)
    for path in (tmp_path / "set" / "SegmentationClass").glob("t*.png"):
        path.write_bytes(b"")
    code, out, _ = deeplabctl("data", "check", "set")
    assert code == 1
    assert out.splitlines()[10] == "... and 4 more like the last; --json lists them all"


def test_check_with_fix_writes_a_copy_and_exits_with_its_verdict(deeplabctl, root, tmp_path):
    spoil(root)
    code, out, err = deeplabctl("data", "check", "set", "--fix", "copy")
    assert (code, err) == (0, "")
    assert "fixed SegmentationClass/t1.png: colours of the palette turned into class ids" in out
    assert out.splitlines()[-1] == "copy: 2 files fixed; 0 errors, 0 notes left"
    code, _, err = deeplabctl("data", "check", "set", "--fix", "copy")
    assert code == 1
    assert "copy exists and is not an empty folder; use --overwrite" in err
    (root / "JPEGImages" / "t2.png").write_bytes(b"")
    code, out, err = deeplabctl("data", "check", "set", "--fix", "copy", "--overwrite", "--json")
    assert code == 1
    found = json.loads(out)
    assert [entry["file"] for entry in found["fixed"]] == [
        "SegmentationClass/t1.png",
        "ImageSets/Segmentation/val.txt",
    ]
    assert [entry["kind"] for entry in found["copy_findings"]] == ["unreadable"]


def test_label_that_is_fixed_twice_is_one_file(deeplabctl, root):
    with Image.open(root / "SegmentationClass" / "t1.png") as mask:
        mask.convert("L").save(root / "SegmentationClass" / "t1.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "JPEGImages" / "t1.png") as picture:
        picture.save(root / "JPEGImages" / "t1.png", exif=exif)
    code, out, _ = deeplabctl("data", "check", "set", "--fix", "copy")
    assert (code, out.count("fixed SegmentationClass/t1.png: ")) == (0, 2)
    assert out.splitlines()[-1] == "copy: 1 file fixed; 0 errors, 0 notes left"


def test_stats_print_a_table_with_bars_and_draw_a_chart(deeplabctl, root, tmp_path):
    code, out, err = deeplabctl("data", "stats", "set", "--out", "chart.png")
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == ["class", "train", "%", "images", "val", "%", "images", "weight"]
    assert lines[0].endswith("  " + 16 * "█")
    screen = on_a_terminal("data", "stats", "set").splitlines()
    assert screen[1 - len(lines) :] == lines[:-1]  # without the chart's
    assert max(map(len, [head, *lines[: lines.index("")]])) <= 80
    assert "background" in out
    assert "train: 4 images" in out
    with Image.open(tmp_path / "chart.png") as chart:
        assert chart.width > 900
    assert deeplabctl("data", "stats", "set", "--out", "chart.png")[0] == 1
    code, out, _ = deeplabctl("data", "stats", "set", "--split", "val", "--json")
    assert code == 0
    assert [split["name"] for split in json.loads(out)["splits"]] == ["val"]


def test_preview_of_crops_takes_their_size_from_all_images_as_a_training_does(deeplabctl, tmp_path, monkeypatch):
    from deeplabctl.reports import data_sets

    mine = make_dataset(tmp_path / "mine", train=9, size=(150, 200))
    make_dataset(mine, train=3, size=(60, 60))  # in place of the first three
    (mine / "ImageSets" / "Segmentation" / "train.txt").write_text("".join(f"t{number}\n" for number in range(9)))
    drawn = []
    monkeypatch.setattr(
        data_sets, "draw_augmented", lambda *given: drawn.append(given) or np.zeros((1, 1, 3), np.uint8)
    )
    for seed in range(5):
        options = ("--augmented", "--count", 1, "--seed", seed, "--out", f"{seed}.png")
        assert deeplabctl("data", "preview", "mine", *options)[0] == 0
    assert len({samples[0].id for _, samples, *_ in drawn}) > 2
    assert deeplabctl("data", "preview", "mine", "--augmented", "--split", "val")[0] == 0  # of 60 x 60 pixels
    assert {settings.crop_size for _, _, settings, *_ in drawn} == {129}  # nine tenths of 150, 16k + 1


def test_preview_of_crops_chooses_changes_of_light_where_the_sizes_are_given(deeplabctl, root, monkeypatch):
    from deeplabctl.reports import data_sets

    drawn = []
    monkeypatch.setattr(
        data_sets, "draw_augmented", lambda *given: drawn.append(given) or np.zeros((1, 1, 3), np.uint8)
    )
    given = ("augment.crop_size=33", "augment.turns=false", "data.max_side=0")
    options = ("--recipe", "own", *(word for setting in given for word in ("--set", setting)))
    assert deeplabctl("data", "preview", "set", "--augmented", *options)[0] == 0
    settings = drawn[0][2]
    assert settings.jitter in (0.2, 0.4)  # of views from above, or of streets; "auto" itself is no number
    assert settings.channel_gain in (0.07, 0.12)


def test_preview_draws_sheets(deeplabctl, root, tmp_path):
    code, out, _ = deeplabctl("data", "preview", "set", "--count", 3)
    assert (code, out) == (0, "preview.png: 3 images of train\n")
    code, out, _ = deeplabctl(
        "data", "preview", "set", "--augmented", "--out", "a.png", "--set", "augment.crop_size=33", "--json"
    )
    assert code == 0
    assert json.loads(out)["samples"] == ["t0", "t1", "t2", "t3"]
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width == 5 * 246 + 6
    assert deeplabctl("data", "preview", "set")[0] == 1  # preview.png exists
    code, _, err = deeplabctl("data", "preview", "set", "--recipe", "seed")
    assert code == 2
    assert "--augmented" in err
    assert deeplabctl("data", "preview", "set", "--out", "a.txt")[2].startswith(
        "error: a.txt: expected a name that ends in .jpg"
    )


def test_prepare_voc_tells_the_counts_and_what_comes_next(deeplabctl, tmp_path):
    write_tar(tmp_path / "voc.tar", voc_files())
    write_tar(tmp_path / "sbd.tgz", sbd_files(), "w:gz")
    arguments = ["data", "prepare-voc", "--voc", "voc.tar", "--sbd", "sbd.tgz"]
    code, out, err = deeplabctl(*arguments)
    assert code == 1
    assert "error: train: expected 1,464 images, got 2" in err
    code, out, err = deeplabctl(*arguments, "--any-counts")
    assert code == 0
    assert out.splitlines()[0] == "VOCdevkit/VOC2012: train 2, val 2, trainval 4, train_aug 5, trainval_aug 7 images"
    assert "next: deeplabctl data check VOCdevkit/VOC2012" in out
    assert err.count("warning: ") == 5
    assert "data check 'my voc'\n" in deeplabctl(*arguments, "--any-counts", "--out", "my voc")[1]
    code, out, _ = deeplabctl(*arguments, "--any-counts", "--out", "other", "--json", "-q")
    assert json.loads(out) == {
        "root": "other",
        "counts": {"train": 2, "val": 2, "trainval": 4, "train_aug": 5, "trainval_aug": 7},
    }
    code, _, err = deeplabctl("data", "prepare-voc", "--voc", "voc.tar")
    assert code == 2
    assert "use both, or --download" in err


@pytest.mark.parametrize("name", ["set", "my set", "it's", "shapes", "-x"])
def test_commands_that_come_next_work_as_they_are_printed(deeplabctl, tmp_path, name):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for shade, image in enumerate(("a.png", "b.png")):
            Image.new("L", (20, 10), 1 if part == "masks" else shade).save(tmp_path / part / image)
    options = ("--images", "images", "--classes", "sky,sea", f"--out={name}")
    code, out, err = deeplabctl("data", "convert", "masks", *options)
    assert (code, err) == (0, "")
    preview, train = (shlex.split(line.partition("deeplabctl ")[2]) for line in out.splitlines()[-2:])
    assert preview[:2] == ["data", "preview"]
    assert train[:2] == ["train", "--data"]
    assert open_dataset(train[2]).classes == ("sky", "sea")
    code, out, err = deeplabctl(*preview, "--out", "preview.png")
    assert (code, err) == (0, "")


def test_convert_writes_a_set_and_counts_what_failed(deeplabctl, tmp_path):
    for shade, name in enumerate("abcd"):
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.new("RGB", (20, 10), (90 * shade, 9, 9)).save(tmp_path / "p" / f"{name}.jpg")
        shape = {"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}
        (tmp_path / "p" / f"{name}.json").write_text(json.dumps({"imagePath": f"{name}.jpg", "shapes": [shape]}))
    code, out, err = deeplabctl("data", "convert", "p", "--out", "set", "--val", 0.25)
    assert (code, err) == (0, "")
    assert "set: 3 training and 1 validation images" in out
    assert "next: deeplabctl data preview set" in out
    assert read_label(tmp_path / "set" / "SegmentationClass" / "a.png").shape == (10, 20)
    out = deeplabctl("data", "convert", "p", "--out", "my set")[1]
    assert "next: deeplabctl data preview 'my set'\n      deeplabctl train --data 'my set'\n" in out
    (tmp_path / "p" / "q").mkdir()
    for suffix in ("jpg", "json"):
        shutil.copy(tmp_path / "p" / f"a.{suffix}", tmp_path / "p" / "q")
    code, out, err = deeplabctl("data", "convert", "p", "--val-source", "q", "--out", "other")
    assert (code, err) == (1, "error: --val-source q: there is no such file or folder; did you mean p/q?\n")
    code, out, err = deeplabctl("data", "convert", "p", "--val-source", "gone", "--out", "other")
    assert (code, err) == (1, "error: --val-source gone: there is no such file or folder\n")
    code, out, err = deeplabctl("data", "convert", "p", "--val-source", "p/q", "--seed", 1, "--out", "other")
    assert code == 1
    assert "error: --seed has no effect: p/q says which images are for validation; remove it, or use --val for a" in err
    (tmp_path / "p" / "b.jpg").unlink()
    shape = {"label": "void", "points": [[0, 0], [8, 0], [8, 6]]}
    (tmp_path / "p" / "d.json").write_text(json.dumps({"imagePath": "d.jpg", "shapes": [shape]}))  # for no list
    code, out, err = deeplabctl("data", "convert", "p", "--out", "set", "--overwrite", "--json")
    assert code == 1
    assert json.loads(out)["train"] == 1
    assert "train --data" not in deeplabctl("data", "convert", "p", "--out", "no val", "--val", 0)[1]
    assert json.loads(out)["failed"][0].startswith("p/b.jpg: there is no such image; use --images")
    assert "error: 1 of 4 images failed, the first: p/b.jpg: there is no such image; use --images" in err


@pytest.mark.parametrize(
    ("option", "value", "choices"),
    [
        ("--format", "voc", ", ".join(map(repr, ("auto", *ANNOTATIONS)))),
        ("--outside", "sky", "'background', 'void'"),
        ("--unknown", "sky", "'error', 'void'"),
        ("--rename", "Car", "expected the old and the new name, as Car=car, got 'Car'"),
    ],
)
def test_convert_names_the_choices_of_an_option(deeplabctl, option, value, choices):
    code, _, err = deeplabctl("data", "convert", "p", "--out", "x", option, value)
    assert code == 2
    assert choices in " ".join(err.split())


@pytest.mark.slow
def test_twelve_thousand_labels_are_checked_in_90_seconds_in_flat_memory(tmp_path):
    """Two idle cores: pytest --slow -s -k twelve_thousand. A peak is that of the command's own process."""
    script = (
        "import resource, sys\nfrom deeplabctl.cli.app import main\n"
        "try: main()\nfinally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    noise = np.random.default_rng(0).integers(0, 255, (45, 60, 3)).astype(np.uint8)
    peaks = {}
    for count in (1_000, 12_000):
        root = make_dataset(tmp_path / str(count), train=1, val=1, size=(375, 500))
        label = (root / "SegmentationClass" / "t0.png").read_bytes()
        Image.fromarray(noise).resize((500, 375)).save(root / "JPEGImages" / "t0.jpg")
        image = (root / "JPEGImages" / "t0.jpg").read_bytes()
        names = [f"n{number:05}" for number in range(count)]
        for name in names:
            (root / "JPEGImages" / f"{name}.jpg").write_bytes(image)
            (root / "SegmentationClass" / f"{name}.png").write_bytes(label)
        (root / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(names))
        begin = time.monotonic()
        command = [sys.executable, "-c", script, "data", "check", str(root), "--json", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.monotonic() - begin
        assert json.loads(done.stdout)["errors"] == 0
        peaks[count] = int(done.stderr)  # kB
        shutil.rmtree(root)
        print(f"{count:,} samples of 500x375 in {seconds:.1f} s, {peaks[count] / 1024:.0f} MiB")  # noqa: T201
    assert seconds < 90
    assert peaks[12_000] < peaks[1_000] + 64 * 1024  # names and facts, no pixels
