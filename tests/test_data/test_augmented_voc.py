"""The augmented VOC is made from archives in miniature."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from voc_archives import add_member, mat, palette_png, sbd_files, voc_files, write_folder, write_tar

from deeplabctl.data import augmented_voc as module
from deeplabctl.data.augmented_voc import prepare_voc, read_sbd_mask
from deeplabctl.data.check import check_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.labels import read_label
from deeplabctl.errors import DataError, OutputError
from deeplabctl.reporting import Advanced, Note, Started, silent

TRAIN_AUG = ["2007_000032", "2007_000039", "2008_000002", "2008_000003", "2008_000007"]
TRAINVAL_AUG = ["2007_000032", "2007_000033", "2007_000039", "2008_000002", "2008_000003", "2008_000005", "2008_000007"]


@pytest.fixture
def voc(tmp_path):
    return write_tar(tmp_path / "VOCtrainval_11-May-2012.tar", voc_files())


@pytest.fixture
def sbd(tmp_path):
    return write_tar(tmp_path / "benchmark.tgz", sbd_files(), "w:gz")


def lists(out):
    return {path.stem: path.read_text().split() for path in (out / "ImageSets" / "Segmentation").glob("*.txt")}


def files(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_lists_are_the_union_without_vocs_val(tmp_path, voc, sbd):
    counts = prepare_voc(voc, sbd, tmp_path / "out", silent, any_counts=True)
    assert counts == {"train": 2, "val": 2, "trainval": 4, "train_aug": 5, "trainval_aug": 7}
    assert lists(tmp_path / "out") == {
        "train": ["2007_000032", "2007_000039"],
        "val": ["2007_000033", "2008_000005"],
        "trainval": ["2007_000032", "2007_000033", "2007_000039", "2008_000005"],
        "train_aug": TRAIN_AUG,
        "trainval_aug": TRAINVAL_AUG,
    }


def test_vocs_masks_are_used_before_sbds(tmp_path, voc, sbd):
    out = tmp_path / "out"
    prepare_voc(voc, sbd, out, silent, any_counts=True)
    augmented = out / "SegmentationClassAug"
    assert sorted(path.stem for path in augmented.iterdir()) == TRAINVAL_AUG
    for name in ("2007_000032", "2007_000033"):  # both have these; VOC's bytes, with its void borders, are there
        assert (augmented / f"{name}.png").read_bytes() == palette_png(3)
        assert (out / "SegmentationClass" / f"{name}.png").read_bytes() == palette_png(3)
    label = read_label(augmented / "2008_000002.png")
    expected = np.zeros((20, 30), np.uint8)
    expected[5:15, 5:15] = 7
    np.testing.assert_array_equal(label, expected)
    with Image.open(augmented / "2008_000002.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[3 * 7 : 3 * 7 + 3] == [128, 128, 128]  # VOC's colour of class 7
    assert sorted(path.stem for path in (out / "SegmentationClass").iterdir()) == lists(out)["trainval"]
    assert sorted(path.stem for path in (out / "JPEGImages").iterdir()) == TRAINVAL_AUG


def test_the_result_is_a_clean_data_set_that_trains_on_the_augmented_labels(tmp_path, voc, sbd):
    prepare_voc(voc, sbd, tmp_path / "out", silent, any_counts=True)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.is_voc
    assert dataset.training_split == "train_aug"
    assert check_dataset(dataset, silent).errors == 0
    assert {sample.label.parent.name for sample in dataset.samples("train_aug")} == {"SegmentationClassAug"}
    assert {sample.label.parent.name for sample in dataset.samples("val")} == {"SegmentationClass"}


@pytest.mark.parametrize(
    ("voc_level", "sbd_level"),
    [
        ("", ""),
        ("VOCdevkit", "benchmark_RELEASE"),
        ("VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"),
    ],
)
def test_unpacked_folders_at_any_level_give_the_same(tmp_path, voc, sbd, voc_level, sbd_level):
    prepare_voc(voc, sbd, tmp_path / "out", silent, any_counts=True)
    write_folder(tmp_path / "v", voc_files())
    write_folder(tmp_path / "s", sbd_files())
    prepare_voc(tmp_path / "v" / voc_level, tmp_path / "s" / sbd_level, tmp_path / "other", silent, any_counts=True)
    assert files(tmp_path / "other") == files(tmp_path / "out")


def test_vocs_own_unpacked_folder_is_completed_in_place(tmp_path, sbd):
    root = write_folder(tmp_path / "v", voc_files()) / "VOCdevkit" / "VOC2012"
    before = files(root)
    prepare_voc(root, sbd, root, silent, any_counts=True)
    after = files(root)
    assert {name: after[name] for name in before} == before
    added = {name.rsplit("/", 1)[0] for name in after if name not in before}
    assert added == {"SegmentationClassAug", "ImageSets/Segmentation"}
    assert lists(root)["train_aug"] == TRAIN_AUG


def test_link_to_nothing_in_an_unpacked_folder_is_named(tmp_path, sbd):
    root = write_folder(tmp_path / "v", voc_files()) / "VOCdevkit" / "VOC2012"
    image = root / "JPEGImages" / "2007_000032.jpg"
    image.unlink()
    image.symlink_to("gone.jpg")
    with pytest.raises(DataError, match=r"cannot read .*2007_000032\.jpg: expected a file, got a link to gone\.jpg"):
        prepare_voc(root, sbd, tmp_path / "out", silent, any_counts=True)


def test_a_folder_of_another_year_is_ignored(tmp_path, sbd):
    root = write_folder(tmp_path / "v", voc_files())
    other = {
        name.replace("VOC2012", "VOC2007"): b"000001\n"
        for name in voc_files()
        if name.endswith("Segmentation/train.txt")
    }
    write_folder(root, other)
    prepare_voc(root, sbd, tmp_path / "out", silent, any_counts=True)
    assert lists(tmp_path / "out")["train"] == ["2007_000032", "2007_000039"]


def test_an_archive_called_tgz_that_is_not_compressed_can_be_read(tmp_path, voc):
    plain = write_tar(tmp_path / "benchmark.tgz", sbd_files(), "w")
    assert prepare_voc(voc, plain, tmp_path / "out", silent, any_counts=True)["train_aug"] == 5


def test_other_counts_than_the_papers_are_refused_and_explained(tmp_path, voc, sbd):
    with pytest.raises(
        DataError, match=r"train: expected 1,464 images, got 2.*not the complete VOC 2012.*`any_counts`"
    ):
        prepare_voc(voc, sbd, tmp_path / "out", silent)
    assert lists(tmp_path / "out") == {}  # no list, so no program takes it for a set


@pytest.mark.parametrize("got", [209, 964, 1112])
def test_lists_of_other_years_are_recognised_by_their_length(tmp_path, sbd, got):
    content = voc_files()
    content["VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"] = "\n".join(f"x{n}" for n in range(got)).encode()
    voc = write_tar(tmp_path / "voc.tar", content)
    year = {209: 2007, 964: 2010, 1112: 2011}[got]
    with pytest.raises(DataError, match=rf"got {got:,}: these are VOC {year}'s"):
        prepare_voc(voc, sbd, tmp_path / "out", silent)


def test_missing_sbd_images_are_explained_by_its_lists(tmp_path, voc, sbd, monkeypatch):
    monkeypatch.setattr(module, "COUNTS", {"train": 2, "val": 2, "trainval": 4, "train_aug": 6, "trainval_aug": 8})
    with pytest.raises(DataError, match=r"train_aug: expected 6 images, got 5: .*train 4 of 8,498 and val 2 of 2,857"):
        prepare_voc(voc, sbd, tmp_path / "out", silent)
    notes = []
    prepare_voc(voc, sbd, tmp_path / "out", lambda event: notes.append(event), any_counts=True)
    assert any(isinstance(event, Note) and event.warning and "expected 6 images" in event.text for event in notes)


def test_the_papers_counts_are_those_of_the_official_lists():
    """1,464 + 1,449 and 10,582 + 1,449 (arXiv 1412.7062, section 5; SBD's README: 8,498 and 2,857)."""
    counts = module.COUNTS
    assert counts["trainval"] == counts["train"] + counts["val"] == 2913
    assert counts["trainval_aug"] == counts["train_aug"] + counts["val"] == 12031


def test_an_interrupted_run_continues_without_reading_its_masks_again(tmp_path, voc, sbd, monkeypatch):
    written = []
    original = module._write

    def fails_later(target, content):
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(target.name)
        original(target, content)

    monkeypatch.setattr(module, "_write", fails_later)
    with pytest.raises(KeyboardInterrupt):
        prepare_voc(voc, sbd, tmp_path / "out", silent, any_counts=True)
    assert lists(tmp_path / "out") == {}
    for name in ("JPEGImages/.x.jpg.00.part", "ImageSets/Segmentation/.train_aug.0123abcd.txt"):
        (tmp_path / "out" / name).write_bytes(b"of a killed process")
    again = []
    monkeypatch.setattr(module, "_write", lambda target, content: again.append(target) or original(target, content))
    prepare_voc(voc, sbd, tmp_path / "out", silent, any_counts=True)
    assert len(again) == 7 + 4 + 7 - 5  # images, VOC's masks, all masks, less those that were there
    monkeypatch.setattr(module, "_write", original)
    prepare_voc(voc, sbd, tmp_path / "whole", silent, any_counts=True)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_finished_sets_and_other_folders_are_left_alone(tmp_path, voc, sbd):
    out = tmp_path / "out"
    prepare_voc(voc, sbd, out, silent, any_counts=True)
    with pytest.raises(OutputError, match=r"out already contains the augmented set.*`overwrite`"):
        prepare_voc(voc, sbd, out, silent, any_counts=True)
    (out / "SegmentationClassAug" / "2008_000002.png").write_bytes(b"spoilt")
    prepare_voc(voc, sbd, out, silent, any_counts=True, overwrite=True)
    assert read_label(out / "SegmentationClassAug" / "2008_000002.png").max() == 7
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="other files"):
        prepare_voc(voc, sbd, tmp_path / "mine", silent, any_counts=True)


@pytest.mark.parametrize(
    "name", ["../outside.jpg", "/etc/passwd", "VOCdevkit/../../x/JPEGImages/a.jpg", "..\\evil.jpg"]
)
def test_members_that_point_outside_are_refused(tmp_path, sbd, name):
    voc = write_tar(tmp_path / "voc.tar", {name: b"evil", **voc_files()})
    with pytest.raises(DataError, match="points outside"):
        prepare_voc(voc, sbd, tmp_path / "out", silent, any_counts=True)
    assert not (tmp_path / "outside.jpg").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_instead_of_files_are_refused(tmp_path, sbd, kind):
    content = voc_files()
    name = "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg"
    del content[name]
    with tarfile.open(tmp_path / "voc.tar", "w") as tar:
        for other, data in content.items():
            add_member(tar, other, data)
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"expected a file '.*2007_000032\.jpg', got a link"):
        prepare_voc(tmp_path / "voc.tar", sbd, tmp_path / "out", silent, any_counts=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>404 Not Found</html>", "a web page"),
        (b"PK\x03\x04" + bytes(600), "a zip file; unpack it"),
        (b"", "an empty file"),
        (bytes(range(256)) * 40, "other content"),
    ],
)
def test_other_content_than_an_archive_is_named(tmp_path, voc, content, message):
    (tmp_path / "benchmark.tgz").write_bytes(content)
    with pytest.raises(DataError, match=rf"benchmark\.tgz: expected a complete tar archive, got {message}") as caught:
        prepare_voc(voc, tmp_path / "benchmark.tgz", tmp_path / "out", silent, any_counts=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_archives_that_are_cut_off_are_named(tmp_path, voc, sbd, share):
    whole = sbd.read_bytes()
    sbd.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"benchmark\.tgz"):
        prepare_voc(voc, sbd, tmp_path / "out", silent, any_counts=True)
    assert lists(tmp_path / "out") == {}


def test_missing_files_are_named_with_their_archive(tmp_path, voc, sbd):
    with pytest.raises(DataError, match=r"nowhere\.tar: there is no such archive or folder"):
        prepare_voc(tmp_path / "nowhere.tar", sbd, tmp_path / "out", silent, any_counts=True)
    with pytest.raises(DataError, match="expected a complete tar archive, got File name too long"):
        prepare_voc(tmp_path / ("x" * 300), sbd, tmp_path / "out", silent, any_counts=True)
    with pytest.raises(DataError, match=r"benchmark\.tgz: expected ImageSets/Segmentation/train\.txt in it"):
        prepare_voc(sbd, sbd, tmp_path / "out", silent, any_counts=True)
    with pytest.raises(DataError, match=r"\.tar: expected dataset/train\.txt in it"):
        prepare_voc(voc, voc, tmp_path / "out", silent, any_counts=True)
    content = sbd_files()
    del content["benchmark_RELEASE/dataset/cls/2008_000003.mat"]
    with pytest.raises(DataError, match=r"less\.tar: expected cls/2008_000003\.mat in it, got none \(1 of 7"):
        prepare_voc(voc, write_tar(tmp_path / "less.tar", content), tmp_path / "out", silent, any_counts=True)
    content = voc_files()
    del content["VOCdevkit/VOC2012/JPEGImages/2008_000003.jpg"]
    with pytest.raises(DataError, match=r"few\.tar: expected JPEGImages/2008_000003\.jpg in it"):
        prepare_voc(write_tar(tmp_path / "few.tar", content), sbd, tmp_path / "two", silent, any_counts=True)


def test_sbd_masks_with_other_values_or_other_content_are_named():
    assert read_sbd_mask(mat(20), "a.mat").max() == 20
    with pytest.raises(DataError, match=r"a\.mat: expected class ids 0 to 20, got 21"):
        read_sbd_mask(mat(21), "a.mat")
    buffer = io.BytesIO()
    savemat(buffer, {"GTinst": {"Segmentation": np.zeros((2, 2))}})
    beyond = io.BytesIO()
    savemat(beyond, {"GTcls": {"Segmentation": np.full((2, 2), 256)}})  # which is 0 as uint8
    for content in (buffer.getvalue(), beyond.getvalue(), b"", mat(3)[:200], b"MATLAB 5.0" + bytes(300)):
        with pytest.raises(DataError, match=r"a\.mat: expected SBD's GTcls\.Segmentation"):
            read_sbd_mask(content, "a.mat")


def test_progress_is_reported_in_megabytes_of_each_archive(tmp_path, voc, sbd, monkeypatch):
    monkeypatch.setattr("deeplabctl.data.voc_archives._MEGABYTE", 1024)
    events = []
    prepare_voc(voc, sbd, tmp_path / "out", events.append, any_counts=True)
    tasks = [event for event in events if isinstance(event, Started)]
    assert [task.task for task in tasks] == [f"reading {voc.name}", f"reading {sbd.name}", f"reading {voc.name}"]
    last = len(events) - 1 - events[::-1].index(tasks[-1])
    moved = sum(event.parts for event in events[last:] if isinstance(event, Advanced))
    assert 0.8 * tasks[-1].total <= moved <= tasks[-1].total


def test_chain_of_long_names_is_a_damaged_archive(tmp_path, sbd):
    info = tarfile.TarInfo("a")
    info.type = tarfile.GNUTYPE_LONGNAME
    (tmp_path / "voc.tar").write_bytes(2000 * info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(
        DataError, match=r"voc\.tar: expected a complete tar archive, got one that is damaged or truncated"
    ):
        prepare_voc(tmp_path / "voc.tar", sbd, tmp_path / "out", silent, any_counts=True)
