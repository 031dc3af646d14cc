"""Published weights: the table, and fetching, checking and naming their files, from a server in this process."""

import hashlib
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from caffe_files import TINY
from tensorflow_bytes import write_checkpoint
from tiny_weights import weight_file
from v3_files import rule_weights
from web_host import web_host

from deeplabctl.choices import DEFAULT_WEIGHTS
from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import DownloadError, OutputError, WeightsError
from deeplabctl.files import user_cache
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction.settings import resolve
from deeplabctl.reporting import Note, silent
from deeplabctl.weights import published as module
from deeplabctl.weights.fitting import fit_weights, open_network
from deeplabctl.weights.locating import find_weights, open_weights, weights_path
from deeplabctl.weights.published import PublishedWeights, published, published_as

CONTENT = TINY.read_bytes()  # a caffemodel of 21 classes
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("name", published())
def test_entry_says_where_its_file_is_and_what_is_in_it(name):
    one = published()[name]
    assert one.network in ARCHITECTURES
    assert all(re.fullmatch(r"https?://[\w./-]+[^/]", address) for address in one.addresses)
    assert len(set(one.class_names)) == len(one.class_names) <= 255
    assert one.checksum is None or (one.bytes and re.fullmatch("[0-9a-f]{64}|[0-9a-f]{96}", one.checksum))
    assert (one.miou is None) == (one.on is None)
    assert published_as(one.file) is one
    assert not Path(name).suffix


def test_checksums_begin_as_torchvisions_names_say():
    checked = [one for one in published().values() if (match := re.search(r"-([0-9a-f]{8})\.pth", one.file)) and match]
    assert len(checked) == 3
    for one in checked:
        assert one.checksum[:8] == one.file[-12:-4]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [  # ids of VOC's devkit, of cityscapesScripts (trainId), of objectInfo150.txt, of cocostuff/labels.txt less 1
        ("voc", {0: "background", 15: "person", 20: "tvmonitor"}),
        ("cityscapes", {0: "road", 7: "traffic sign", 11: "person", 18: "bicycle"}),
        ("ade20k", {0: "background", 1: "wall", 13: "person", 46: "counter", 100: "buffet", 150: "flag"}),
        ("coco-stuff", {0: "person", 71: "tv", 90: "hair brush", 91: "banner", 156: "sky-other", 181: "wood"}),
    ],
)
def test_classes_have_the_ids_of_the_data_sets(classes, expected):
    names = next(one.class_names for one in published().values() if one.classes == classes)
    assert {index: names[index] for index in expected} == expected
    assert len(names) == max(expected) + 1


@pytest.fixture
def one(monkeypatch):
    """Publish tiny weights as "tiny-voc" on a server that is yielded with the entry."""
    monkeypatch.delenv("DEEPLABCTL_WEIGHTS_URL")
    with web_host(**{"tiny.caffemodel": CONTENT}) as host:
        entry = PublishedWeights(
            "tiny-voc", "largefov", "voc", "tiny.caffemodel", [f"{host.base}/404", f"{host.base}/whole/"], "here",
            "MIT", len(CONTENT), None, SUM,
        )  # fmt: skip
        monkeypatch.setattr(module, "published", lambda: known)
        monkeypatch.setattr("deeplabctl.weights.locating.published", lambda: known)
        known = {"tiny-voc": entry, DEFAULT_WEIGHTS: entry}
        yield entry, host, lambda **facts: known.update({"tiny-voc": PublishedWeights(**{**vars(entry), **facts})})


def test_name_is_fetched_once_and_read_as_a_file(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notes = []
    path = weights_path(Path("tiny-voc"), notes.append)
    assert path == user_cache() / "weights" / "tiny.caffemodel"
    assert path.read_bytes() == CONTENT
    texts = [event.text for event in notes if isinstance(event, Note)]
    assert texts[0] == f"fetching the weights tiny-voc (size: 0.1 MB) into {path.parent}"
    assert open_weights("tiny-voc").shapes == open_weights(TINY).shapes
    assert [asked for asked, _ in one[1].asked] == ["404", "whole"]
    assert [path.name for path in path.parent.iterdir()] == ["tiny.caffemodel"]


def test_file_put_there_by_hand_is_checked_and_used(one):
    path = user_cache() / "weights" / "tiny.caffemodel"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert find_weights("tiny-voc", report=silent) == path
    path.write_bytes(CONTENT[:-1] + b"x")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=rf"tiny\.caffemodel: expected sha256 {SUM}, got {found}; remove the file"):
        find_weights("tiny-voc", report=silent)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=rf"expected {len(CONTENT):,} bytes, got {len(CONTENT) - 1:,}"):
        find_weights("tiny-voc", report=silent)
    assert one[1].asked == []


def test_without_a_published_checksum_that_of_the_first_file_is_kept(one):
    _, host, change = one
    change(checksum=None, bytes=None)
    path = weights_path(Path("tiny-voc"), silent)
    assert (path.parent / "tiny.caffemodel.sha256").read_text() == f"{SUM}  tiny.caffemodel\n"
    assert weights_path(Path("tiny-voc"), silent) == path
    path.write_bytes(CONTENT + b"x")
    both = r"remove the file and tiny\.caffemodel\.sha256 beside it to have it fetched again"
    with pytest.raises(WeightsError, match=f"expected sha256 {SUM}, .*; {both}"):
        weights_path(Path("tiny-voc"), silent)
    path.unlink()
    host.files["tiny.caffemodel"] = b"<html>not here any more</html>"
    with pytest.raises(DownloadError, match="got a web page"):
        weights_path(Path("tiny-voc"), silent)
    assert not path.exists()
    for left in path.parent.iterdir():
        left.unlink()
    path.write_bytes(host.files["tiny.caffemodel"])
    with pytest.raises(WeightsError, match="got a web page"):
        weights_path(Path("tiny-voc"), silent)
    assert [left.name for left in path.parent.iterdir()] == ["tiny.caffemodel"]


def test_cut_connection_is_tried_again(one, monkeypatch):
    monkeypatch.setattr("deeplabctl.downloads.PAUSE", 0.0)
    _, host, _ = one
    monkeypatch.setenv("DEEPLABCTL_WEIGHTS_URL", f"{host.base}/cut")
    with pytest.raises(DownloadError, match="connection ended"):
        weights_path(Path("tiny-voc"), silent)
    assert len(host.asked) == 5
    monkeypatch.delenv("DEEPLABCTL_WEIGHTS_URL")
    weights_path(Path("tiny-voc"), silent)
    assert host.asked[-1][1] > 0.9 * len(CONTENT)


def test_address_of_the_users_own_is_the_only_one(one, monkeypatch):
    _, host, _ = one
    monkeypatch.setenv("DEEPLABCTL_WEIGHTS_URL", f"{host.base}/deaf/x")
    with pytest.raises(DownloadError, match=rf"download {host.base}/deaf/x/tiny\.caffemodel \(sha256 {SUM}\)"):
        weights_path(Path("tiny-voc"), silent)
    monkeypatch.setenv("DEEPLABCTL_WEIGHTS_URL", f"{host.base}/deaf/")
    weights_path(Path("tiny-voc"), silent)
    assert [asked for asked, _ in host.asked] == ["deaf", "deaf"]
    for url in ("file:///tmp", "ftp://host/x", "host", "http://", "http://[::1/x", "http://ho st/", "http://höst/"):
        monkeypatch.setenv("DEEPLABCTL_WEIGHTS_URL", url)
        with pytest.raises(WeightsError, match=r"\$DEEPLABCTL_WEIGHTS_URL: expected an address http://HOST/FOLDER"):
            weights_path(Path("tiny-voc"), silent)


def test_file_or_run_of_that_name_is_taken_and_a_note_says_so(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notes = []
    (tmp_path / "tiny-voc").mkdir()
    (tmp_path / "tiny-voc" / "best.keras").touch()
    assert weights_path(Path("tiny-voc"), notes.append) == Path("tiny-voc/best.keras")
    assert [note.text for note in notes] == ["tiny-voc is used, not the published weights of the same name"]
    assert one[1].asked == []


def test_default_is_taken_only_without_runs(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_WEIGHTS).mkdir()  # nobody asked for it
    notes = []
    path = find_weights(None, tmp_path / "runs", default=DEFAULT_WEIGHTS, report=notes.append)
    assert path.name == "tiny.caffemodel"
    assert notes[0].text == f"no weights are named, and there are no runs: using the published {DEFAULT_WEIGHTS}"
    (tmp_path / "runs" / "a").mkdir(parents=True)
    for name in ("best.keras", "recipe.toml"):
        (tmp_path / "runs" / "a" / name).touch()
    assert find_weights(None, tmp_path / "runs", default=DEFAULT_WEIGHTS).name == "best.keras"


def test_wrong_name_gets_a_guess(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="no such file; did you mean the published weights resnet101-voc"):
        open_weights(tmp_path / "resnet101_voc")  # as train names what --init names
    with pytest.raises(WeightsError, match=r"gone\.keras: there is no such file$"):
        open_weights("gone.keras")


def test_cache_that_cannot_be_written_says_what_to_do(one, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file in the place of the folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(OutputError, match=r"cannot write .*Not a directory.*\(set \$XDG_CACHE_HOME, or download http"):
        weights_path(Path("tiny-voc"), silent)
    monkeypatch.setattr(module, "user_cache", lambda: None)
    with pytest.raises(OutputError, match=r"expected a home folder to keep tiny\.caffemodel in, got none"):
        weights_path(Path("tiny-voc"), silent)


def test_file_name_names_the_classes():
    arrays = ARCHITECTURES["deeplabv3plus-xception65"].random_weights(19, 1 / 16, 0)
    known = weight_file(arrays, "deeplabv3_cityscapes_train_2018_02_06.tar.gz")
    network = fit_weights(known)
    assert (network.info.classes[:2], network.assumed) == (("road", "sidewalk"), [])
    other = fit_weights(known, num_classes=5)
    assert other.info.classes == tuple(f"class {index}" for index in range(5))
    assert fit_weights(known, num_classes=21).info.classes == VOC_CLASSES
    np.testing.assert_array_equal(network.weights["logits_semantic/kernel"], arrays["logits_semantic/kernel"])


def test_archive_of_the_model_zoo_is_a_network_with_its_classes(tmp_path, monkeypatch):
    variables = {
        name: array[..., :19] if name.startswith("logits/semantic") else array
        for name, array in rule_weights("mnv2_dm05").items()
    }
    write_checkpoint(tmp_path / "model.ckpt-30000", variables)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for part in tmp_path.glob("model.ckpt*"):
            archive.add(part, f"deeplabv3_mnv2_cityscapes_train/{part.name}")
    name = "deeplabv3-mnv2-cityscapes"
    with web_host(**{published()[name].file: packed.getvalue()}) as host:
        monkeypatch.setenv("DEEPLABCTL_WEIGHTS_URL", f"{host.base}/whole")
        path = weights_path(Path(name), silent)
    info = open_network(path).info
    assert (info.architecture, info.width) == ("deeplabv3-mnv2", 0.5)
    assert (info.classes[0], info.classes[18]) == ("road", "bicycle")
    assert resolve({}, info).image_size == 2049  # of Cityscapes' images
