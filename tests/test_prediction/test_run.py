"""A run over pictures: order, failures, what is held in memory, files of the whole run, interruptions."""

import json
import threading
import tracemalloc

import numpy as np
import pytest
from annotation_files import convert, written_label
from brightness_net import CLASSES, BrightnessNet, expected_label
from PIL import Image

from deeplabctl.data.images import read_image
from deeplabctl.data.labels import read_label
from deeplabctl.errors import OutputError
from deeplabctl.prediction import run as module
from deeplabctl.prediction.outputs.image_files import Mask
from deeplabctl.prediction.outputs.plan import OutputRequest, plan_outputs
from deeplabctl.prediction.run import run, segment_images
from deeplabctl.prediction.segmenter import count_pixels
from deeplabctl.reporting import Advanced, Finished, Note, Started
from deeplabctl.reports.contact_sheet import page_of_results

ALL = ("mask", "scores", "labelme", "json", "coco")


def blobs(seed, size):
    """Return an image with large areas of the four steps of brightness."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5)).astype(np.uint8))
    return Image.merge("RGB", [coarse.resize(size, Image.Resampling.BICUBIC)] * 3)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        blobs(number, (60 + number % 3, 50)).save(folder / f"{number:02}.png")
    return folder


class Run:
    """Run a stand-in for a network over all pictures of a folder."""

    def __init__(self, folder, out, *, stop_after=None, **options):
        images = sorted(folder.iterdir())
        self.plan = plan_outputs(images, OutputRequest(out, **options))
        self.net = BrightnessNet()
        self.events, self.shown = [], []

        def show(result, _):
            self.shown.append(result)
            if len(self.shown) == stop_after:
                raise KeyboardInterrupt

        results = segment_images(self.net, self.plan.todo, self.plan.outputs)
        page = self.plan.run_files.get("page")
        pages = [page_of_results(page, CLASSES, "weights")] if page else []
        self.failed = run(self.plan, results, (), CLASSES, self.events.append, show, pages=pages)

    @property
    def notes(self):
        return [event.text for event in self.events if isinstance(event, Note)]


def test_threads_end_with_a_run_that_fails(photos, tmp_path):
    plan = plan_outputs(sorted(photos.iterdir()), OutputRequest(tmp_path / "out"))
    results = segment_images(BrightnessNet(), plan.todo, plan.outputs)

    def show(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(plan, results, (), CLASSES, lambda event: None, show)
    assert results.gi_frame is None  # closed


def test_masks_are_those_of_the_network_and_results_come_in_order(photos, tmp_path):
    done = Run(photos, tmp_path / "out")
    assert [result.job.source.name for result in done.shown] == [f"{number:02}.png" for number in range(12)]
    for result in done.shown:
        label = expected_label(read_image(result.job.source))
        np.testing.assert_array_equal(read_label(result.job.files["mask"]), label)
        assert result.size == label.shape
        assert result.pixels == {index: int((label == index).sum()) for index in result.pixels}
        assert list(result.pixels.values()) == sorted(result.pixels.values(), reverse=True)
    assert len(done.shown) == 12
    started, *advanced, finished = [event for event in done.events if not isinstance(event, Note)]
    assert (started, finished) == (Started("segmenting", 12, "images"), Finished())
    assert advanced == [Advanced(1)] * 12


def test_bad_pictures_are_reported_and_the_others_done(photos, tmp_path):
    Image.new("1", (20000, 20000)).save(photos / "03-bomb.png")
    content = (photos / "00.png").read_bytes()
    (photos / "04-cut.png").write_bytes(content[: len(content) // 2])
    (photos / "05-text.jpg").write_text("not a picture")
    done = Run(photos, tmp_path / "out", formats=("mask", "json", "coco"))
    assert len(done.shown) == 12
    bomb, cut, text = done.failed
    assert "03-bomb.png: expected at most" in bomb
    assert "04-cut.png: expected a complete image" in cut
    assert "05-text.jpg: expected an image of a known format" in text
    lines = (tmp_path / "out" / "areas.jsonl").read_text().splitlines()
    assert [json.loads(line)["image"] for line in lines] == [str(photos / f"{number:02}.png") for number in range(12)]
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text())["images"]) == 12


def test_pictures_are_read_a_few_ahead_and_beside_the_network(photos, tmp_path, monkeypatch):
    counts = {"read": 0, "written": 0, "most": 0}
    lock = threading.Lock()
    reading_beside = threading.Event()

    def read(path, say):
        with lock:
            counts["read"] += 1
            counts["most"] = max(counts["most"], counts["read"] - counts["written"])
            if counts["read"] == 3:
                reading_beside.set()
        return read_image(path, say)

    def write(self, path, labelled):
        original(self, path, labelled)
        with lock:
            counts["written"] += 1

    class Net(BrightnessNet):
        def segment(self, results, **options):
            for outcome in super().segment(results, **options):
                assert reading_beside.wait(10)  # others are read while the first is computed
                yield outcome

    original = Mask.write
    monkeypatch.setattr(module, "read_image", read)
    monkeypatch.setattr(Mask, "write", write)
    monkeypatch.setattr("deeplabctl.parallel.available_cpus", lambda: 2)
    for number in range(12, 60):
        (photos / f"{number}.png").write_bytes((photos / "00.png").read_bytes())
    plan = plan_outputs(sorted(photos.iterdir()), OutputRequest(tmp_path / "out"))
    assert len(list(segment_images(Net(), plan.todo, plan.outputs))) == 60
    assert counts["most"] <= 2 * (2 + module._AHEAD) + 2


def test_masks_of_an_earlier_run_that_were_cut_or_reordered_are_not_taken(photos, tmp_path):
    options = {"formats": ("mask", "coco"), "skip_existing": True}
    cut, reordered = (Run(photos, tmp_path / "out", **options).plan.images[at].files["mask"] for at in (0, 1))
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-9])
    Image.open(reordered).remap_palette([3, 2, 1, 0]).save(reordered)
    again = Run(photos, tmp_path / "out", **options)
    assert again.net.taken == 1
    assert cut.read_bytes() == whole
    (failed,) = again.failed
    assert str(reordered) in failed
    assert failed.endswith("use `overwrite` to segment it again")


def test_interrupted_run_goes_on_with_the_rest_only(photos, tmp_path):
    options = {"formats": (*ALL, "overlay", "thumbnail")}
    Run(photos, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        Run(photos, tmp_path / "out", stop_after=5, **options)
    out = tmp_path / "out"
    assert not {"areas.jsonl", "coco.json", "index.html"} & {path.name for path in out.iterdir()}
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    done = Run(photos, out, skip_existing=True, **options)
    count = len(done.plan.done)
    assert 5 <= count < 12
    assert done.net.taken == len(done.shown) == 12 - count
    assert f"{count} of 12 already done: skipped" in done.notes
    for job in done.plan.done:
        assert job.files["mask"].stat().st_mtime_ns == kept[job.files["mask"].name]

    def contents(folder):
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes().replace(b"/out/", b"/whole/") for path in files}

    assert contents(out) == contents(tmp_path / "whole")
    again = Run(photos, out, skip_existing=True, **options)
    assert again.net.taken == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_mask_of_another_network_is_not_counted(photos, tmp_path):
    Run(photos, tmp_path / "out")
    Image.fromarray(np.full((50, 60), 9, np.uint8)).save(tmp_path / "out" / "00.png")
    done = Run(photos, tmp_path / "out", formats=("mask", "json"), skip_existing=True)
    (failed,) = done.failed
    assert "expected class ids below 4, got 9" in failed
    assert len((tmp_path / "out" / "areas.jsonl").read_text().splitlines()) == 11


def test_corrected_mask_is_kept_where_other_files_are_added(photos, tmp_path):
    Run(photos, tmp_path / "out")
    corrected = tmp_path / "out" / "00.png"
    Image.fromarray(np.full((50, 60), 1, np.uint8)).save(corrected)
    content = corrected.read_bytes()
    options = {"formats": ("mask", "labelme", "yolo"), "skip_existing": True}
    done = Run(photos, tmp_path / "out", **options)
    assert len(done.shown) == 12
    assert done.shown[0].pixels == {1: 3000}  # as the mask has it
    assert "kept: 12 files that the other images already have" in done.notes
    assert corrected.read_bytes() == content
    assert (tmp_path / "out" / "00.json").exists()
    (tmp_path / "out" / "01.json").unlink()
    blobs(1, (9, 9)).save(photos / "01.png")
    (failed,) = Run(photos, tmp_path / "out", **options).failed
    assert "01.png is not of the size of" in failed
    settings = tmp_path / "out" / "data.yaml"
    settings.write_text(settings.read_text() + "train: images/train\n")
    with pytest.raises(OutputError, match=r"data\.yaml: expected the content that this network gives it, got another"):
        Run(photos, tmp_path / "out", **options)


def test_full_disk_for_one_picture_leaves_the_others(photos, tmp_path):
    (tmp_path / "out" / "03.npz").mkdir(parents=True)
    plan = plan_outputs([photos / "02.png", photos / "04.png"], OutputRequest(tmp_path / "out", ("scores",)))
    (tmp_path / "out" / "04.npz").mkdir()  # meanwhile
    good, bad = segment_images(BrightnessNet(), plan.todo, plan.outputs)
    assert (good.job.source.name, good.error) == ("02.png", "")
    assert "cannot write" in bad.error
    assert bad.job.source.name == "04.png"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_coco_and_labelme_are_read_by_the_converter(tmp_path):
    pycocotools = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        blobs(number, (320, 240)).save(photos / f"{number}.png")
    done = Run(photos, tmp_path / "out", formats=("mask", "coco"))
    labels = {result.job.source.stem: read_label(result.job.files["mask"]) for result in done.shown}
    convert(tmp_path / "out" / "coco.json", tmp_path / "coco", images=photos)
    assert (tmp_path / "coco" / "classes.txt").read_text().split() == list(CLASSES)
    for name, label in labels.items():
        np.testing.assert_array_equal(written_label(tmp_path / "coco", name), label)

    document = pycocotools.COCO(str(tmp_path / "out" / "coco.json"))
    for image_id, image in document.imgs.items():
        label = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in document.loadAnns(document.getAnnIds([image_id])):
            label[document.annToMask(annotation) > 0] = annotation["category_id"]
        np.testing.assert_array_equal(label, labels[image["file_name"].removesuffix(".png")])

    Run(photos, tmp_path / "outlines", formats=("labelme",))
    names = tuple((tmp_path / "outlines" / "classes.txt").read_text().split())
    convert(tmp_path / "outlines", tmp_path / "labelme", images=photos, classes=names)
    agreements = [(written_label(tmp_path / "labelme", name) == label).mean() for name, label in labels.items()]
    assert min(agreements) > 0.995


def test_pixels_are_counted_in_little_memory():
    label = np.repeat(np.uint8([3, 0, 7, 2]), [500_000, 300_000, 300_000, 100_000]).reshape(1000, 1200)
    tracemalloc.start()
    counts = count_pixels(label)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(counts.items()) == [(3, 500_000), (0, 300_000), (7, 300_000), (2, 100_000)]  # equal ones by number
    assert peak < label.nbytes
