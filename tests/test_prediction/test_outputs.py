"""Names of the files, what is refused before any work, and what is skipped."""

import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from brightness_net import CLASSES, one_hot
from closed_folder import closed
from PIL import Image

from deeplabctl.errors import OutputError
from deeplabctl.files import whole_file
from deeplabctl.prediction.outputs import OUTPUTS
from deeplabctl.prediction.outputs.image_files import ScoresFile
from deeplabctl.prediction.outputs.output import Job, Labelled, Written
from deeplabctl.prediction.outputs.plan import OutputRequest, plan_outputs

ALL = ("mask", "scores", "labelme", "json", "coco")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "deep/a.jpg"):
        Image.new("RGB", (8, 6)).save(folder / name)
    return folder


def plan(images, out, **options):
    return plan_outputs(images, OutputRequest(out, **options))


def test_files_are_named_after_their_pictures(pictures, tmp_path):
    out = tmp_path / "out"
    found = plan([pictures / "a.jpg"], out, formats=(*ALL, "overlay", "thumbnail"))
    (job,) = found.images
    names = ["a.png", "a_overlay.png", "a.npz", "a.json", "thumbnails/a.jpg"]
    assert [*job.files.values()] == [out / name for name in names]
    names = {"areas": "areas.jsonl", "coco": "coco.json", "class_names": "classes.txt", "page": "index.html"}
    assert found.run_files == {key: out / name for key, name in names.items()}
    (job,) = plan([pictures / "a.jpg"], out).images
    assert job.files == {"mask": out / "a.png"}


def test_nothing_is_overwritten_unasked(pictures, tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"a\.png exists; use `overwrite`.*, `skip_existing` to keep it, or `out`"):
        plan([pictures / "a.jpg"], tmp_path)
    assert plan([pictures / "a.jpg"], tmp_path, overwrite=True).todo
    (tmp_path / "coco.json").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"coco\.json exists; use `overwrite`"):
        plan([pictures / "a.jpg"], tmp_path, formats=("coco",))


def test_colliding_names_are_refused_before_any_work(pictures, tmp_path):
    with pytest.raises(OutputError, match="would both be written to"):
        plan([pictures / "a.jpg", pictures / "deep" / "a.jpg"], tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="is one of the images and would be overwritten"):
        plan([pictures / "b.png"], pictures, overwrite=True)
    with pytest.raises(OutputError, match="expected a folder, got a file"):
        plan([pictures / "a.jpg"], pictures / "a.jpg")
    for name in ("b_overlay.jpg", "coco.jpg"):
        Image.new("RGB", (8, 6)).save(pictures / name)
    with pytest.raises(OutputError, match=r"b\.png and .*b_overlay\.jpg would both be written to"):
        plan([pictures / "b.png", pictures / "b_overlay.jpg"], tmp_path, formats=("mask", "overlay"))
    with pytest.raises(OutputError, match=r"coco\.jpg would be written to .*coco\.json, a file of the whole run"):
        plan([pictures / "coco.jpg"], tmp_path, formats=("labelme", "coco"))


def test_only_pictures_with_all_files_whole_are_skipped(pictures, tmp_path):
    images, out = [pictures / "a.jpg", pictures / "b.png"], tmp_path / "out"
    out.mkdir()
    Image.new("L", (8, 6)).save(out / "a.png")
    assert [job.source.name for job in plan(images, out, skip_existing=True).todo] == ["b.png"]
    assert len(plan(images, out, skip_existing=True, formats=("mask", "overlay")).todo) == 2
    content = (out / "a.png").read_bytes()
    for cut in (content[:-5], bytes(len(content))):  # a power cut leaves zeros
        (out / "a.png").write_bytes(cut)
        assert len(plan(images, out, skip_existing=True).todo) == 2
    (out / "a.png").unlink()
    (out / "areas.jsonl").touch()  # of a run in which all images failed
    assert len(plan(images, out, skip_existing=True, formats=("mask", "json")).todo) == 2


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(pictures, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    kept = {".b.0123abcd.png", ".a.png", ".hidden", "x.txt"}
    for options in ({"skip_existing": True}, {"overwrite": True}, {}):
        for name in {".a.0123abcd.png", ".areas.76543210.jsonl", *kept}:
            (out / name).write_bytes(b"")
        plan([pictures / "a.jpg"], out, formats=("mask", "json"), **options)
        assert {path.name for path in out.iterdir()} == kept


def test_temporary_files_of_a_run_that_goes_on_are_not_removed_by_a_second_one(pictures, tmp_path):
    out, images = tmp_path / "out", [pictures / "a.jpg", pictures / "b.png"]
    options = {"formats": ("mask", "coco", "thumbnail")}
    left = out / ".a.0123abcd.png"
    with whole_file(out / "coco.json") as page, whole_file(out / "thumbnails" / "a.jpg") as thumbnail:
        files = [page, thumbnail, left]
        for path in files:
            path.touch()
        for how in ("skip_existing", "overwrite"):
            plan(images, out, **options, **{how: True})
            assert all(path.exists() for path in files)
    Image.new("L", (8, 6)).save(out / "a.png")
    plan(images, out, **options, skip_existing=True)
    assert not left.exists()


def test_folder_that_cannot_be_written_is_found_before_the_work(pictures, tmp_path):
    images = [pictures / "a.jpg"]
    for folder in ("/proc/1", "/proc/new/masks"):
        with pytest.raises(OutputError, match=r"cannot write /proc/.*; choose another folder"):
            plan(images, Path(folder))
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "thumbnails").symlink_to("/proc/1")
    with pytest.raises(OutputError, match=r"cannot write .*thumbnails"):
        plan(images, tmp_path, formats=("mask", "thumbnail"), skip_existing=True)
    assert plan(images, tmp_path, skip_existing=True).done  # nothing is to be written
    with closed(tmp_path), pytest.raises(OutputError, match=r"cannot write .*: Permission denied"):
        plan(images, tmp_path / "out")
    with closed(tmp_path), pytest.raises(OutputError, match=r"cannot write .*: Permission denied"):
        plan(images, tmp_path)


@pytest.mark.parametrize("name", ["mask", "overlay", "thumbnail", "scores"])
def test_files_that_are_empty_or_cut_off_are_not_there(tmp_path, name):
    output = next(each for each in OUTPUTS if each.name == name)
    path = tmp_path / Path(output.image_file.format(stem="a")).name
    assert not output.is_there(path)
    if path.suffix == ".npz":
        write_scores(path, one_hot(np.zeros((6, 8), np.uint8)))
    else:
        Image.new("RGB", (8, 6)).save(path)
    content = path.read_bytes()
    for more in (b"", b"\n", bytes(1000)):  # as other programs add
        path.write_bytes(content + more)
        assert output.is_there(path)
    for length in (len(content) - 20, len(content) // 2, 1, 0):
        path.write_bytes(content[:length])
        assert not output.is_there(path)
    path.write_bytes(b"of another kind")
    assert output.is_there(path)


@pytest.mark.parametrize(
    ("form", "file", "content"),
    [
        ("labelme", "a.json", json.dumps({"shapes": []}, indent=2)),
        ("supervisely", "dataset/ann/a.jpg.json", json.dumps({"objects": []}, indent=4)),
        ("yolo", "labels/a.txt", "0 0.5 0.5 0.1 0.1 0.2 0.2"),
        ("yolo", "labels/a.txt", ""),
    ],
)
def test_annotations_that_another_program_has_saved_are_kept(pictures, tmp_path, form, file, content):
    path = tmp_path / "out" / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert plan([pictures / "a.jpg"], tmp_path / "out", formats=(form,), skip_existing=True).done


def test_files_of_images_that_are_not_finished_are_kept_too(pictures, tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    (job,) = plan([pictures / "a.jpg"], tmp_path, formats=("mask", "labelme"), skip_existing=True).todo
    assert job.new_files == {"labelme": tmp_path / "a.json"}
    (job,) = plan([pictures / "a.jpg"], tmp_path, formats=("mask", "labelme"), overwrite=True).todo
    assert job.new_files == job.files


@pytest.mark.parametrize("file", ["index.html", "areas.csv", "data.yaml"])
def test_files_of_a_run_that_is_not_continued_are_not_replaced(pictures, tmp_path, file):
    images, options = [pictures / "a.jpg"], {"formats": ("mask", "thumbnail", "csv", "yolo"), "skip_existing": True}
    (tmp_path / file).write_text("own")
    with pytest.raises(OutputError, match=rf"{file} exists; use `overwrite` to replace it, or `out` for another"):
        plan(images, tmp_path, **options)
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    assert plan(images, tmp_path, **options).todo


def test_file_that_cannot_be_read_is_not_replaced(pictures, tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match=r"cannot read .*a\.png: Is a directory; move it, or choose another `out`"):
        plan([pictures / "a.jpg"], tmp_path, skip_existing=True)


def test_empty_video_is_not_there(tmp_path):
    (tmp_path / "a.mkv").write_bytes(b"")
    mask = OUTPUTS[0]
    assert not mask.is_there(tmp_path / "a.mkv", is_video=True)
    (tmp_path / "a.mkv").write_bytes(b"frames")
    assert mask.is_there(tmp_path / "a.mkv", is_video=True)  # written whole or not at all; nothing at its end tells


def write_scores(path, scores):
    label = scores.argmax(-1).astype(np.uint8)
    ScoresFile("scores").write(path, Labelled(None, np.zeros((*label.shape, 3), np.uint8), label, scores, CLASSES))


def test_scores_are_within_half_a_step_of_65535(tmp_path):
    scores = np.random.default_rng(0).dirichlet(np.ones(4), (30, 20)).astype(np.float32)
    write_scores(tmp_path / "a.npz", scores)
    with np.load(tmp_path / "a.npz") as file:
        assert file["scores"].shape == (30, 20, 4)
        assert file["scores"].dtype == np.uint16
        assert np.abs(file["scores"] / 65535 - scores).max() < 0.501 / 65535
        assert file["classes"].tolist() == list(CLASSES)
    content = (tmp_path / "a.npz").read_bytes()
    write_scores(tmp_path / "a.npz", scores)
    assert (tmp_path / "a.npz").read_bytes() == content


def test_table_has_a_line_for_each_class_of_each_image(tmp_path):
    table = next(each for each in OUTPUTS if each.name == "csv")
    jobs = [Job(Path(name), {}, ()) for name in ("a.jpg", "b, c.jpg")]
    with table.run_writer(tmp_path / "areas.csv", jobs, ("sky", "a tree")) as add:
        add(Written(jobs[0], (2, 8), {1: 15, 0: 1}))
        add(Written(jobs[1], (1, 3), {0: 3}))
    assert (tmp_path / "areas.csv").read_bytes() == (
        b"file,width,height,class,pixels,percent\n"
        b"a.jpg,8,2,sky,1,6.2500\na.jpg,8,2,a tree,15,93.7500\n"
        b'"b, c.jpg",3,1,sky,3,100.0000\n"b, c.jpg",3,1,a tree,0,0.0000\n'
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such names")
def test_names_that_are_not_text_are_escaped_in_the_files_of_the_run(tmp_path):
    source = tmp_path / os.fsdecode(b"a\xff \xc3\xa9\x1b.png")
    Image.new("RGB", (4, 2)).save(source)
    label, classes = np.zeros((2, 4), np.uint8), ("\abell", "sky")
    for output in OUTPUTS:
        if output.run and output.run.images:
            path = tmp_path / output.run.file
            written = Written(Job(source, {}, ()), label.shape, {0: 8}, {output.name: output.part(label, classes)})
            with output.run_writer(path, [Job(source, {}, ())], classes) as add:
                add(written)
    assert "a\\udcff é\x1b.png," in (tmp_path / "areas.csv").read_text("utf-8")
    cvat = ElementTree.parse(tmp_path / "cvat.xml")
    assert cvat.find("image").get("name") == r"a\udcff é\x1b.png"
    assert cvat.findtext(".//label/name") == r"\x07bell"
    labels = ElementTree.parse(tmp_path / "labelstudio.xml").iter("Label")
    assert [label.get("value") for label in labels] == [r"\x07bell", "sky"]
    (task,) = json.loads((tmp_path / "labelstudio.json").read_text())
    assert task["data"]["image"] == "/data/local-files/?d=a%FF%20%C3%A9%1B.png"
    (image,) = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert image["file_name"] == source.name
