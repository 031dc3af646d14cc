"""The page of all results: links, names of any kind, and nothing from elsewhere."""

import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from browser import browser, violations
from PIL import Image

from deeplabctl.prediction.outputs.output import Written
from deeplabctl.prediction.outputs.plan import OutputRequest, plan_outputs
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.run import _write
from deeplabctl.prediction.segmenter import count_pixels
from deeplabctl.reports.contact_sheet import page_of_results

CLASSES = ("background", "<b>cat</b>", "dog & 'cow'")


class Page(HTMLParser):
    """Collect the elements and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def values(self, tag, attribute):
        return [found[attribute] for name, found in self.elements if name == tag]


def make_page(tmp_path, names, *others):
    label = np.zeros((300, 400), np.uint8)
    label[:150] = 1
    label[:30, :40] = 2
    out = tmp_path / "out"
    for name in names:
        Image.new("RGB", (400, 300)).save(tmp_path / name, "PNG")
    plan = plan_outputs([tmp_path / name for name in names], OutputRequest(out, ("mask", "thumbnail", *others)))
    with page_of_results(out / "index.html", CLASSES, "weights <x>") as add:
        for job in plan.images:
            add(_write(Result(job, np.zeros((300, 400, 3), np.uint8), label), plan.outputs, CLASSES))
    return Page((out / "index.html").read_text("utf-8")), plan


def test_links_lead_to_the_files_for_names_of_any_kind(tmp_path):
    names = ["plain.png", "a b#1?x=%41&<i>\"'.png", "größe.png", os.fsdecode(b"\xff\xfe.png")]
    page, plan = make_page(tmp_path, names, "overlay")
    for links, files in (
        (page.values("a", "href"), [job.files["overlay"] for job in plan.images]),
        (page.values("img", "src"), [job.files["thumbnail"] for job in plan.images]),
    ):
        assert [tmp_path / "out" / os.fsdecode(unquote_to_bytes(link)) for link in links] == files
        assert all(file.is_file() for file in files)
        assert not any(":" in link or link.startswith("/") for link in links)
    assert names[1] in page.texts
    assert "<b>cat</b> 49.0%" in page.texts
    (policy,) = [found["content"] for tag, found in page.elements if "http-equiv" in found]
    assert policy.startswith("default-src 'none'; img-src data: 'self' file:;")  # files beside it, served or not
    assert not {"script", "link", "iframe", "i"} & {tag for tag, _ in page.elements}


def test_pictures_are_small_loaded_late_and_described(tmp_path):
    page, plan = make_page(tmp_path, ["a.png"])
    (image,) = [found for tag, found in page.elements if tag == "img"]
    assert image["loading"] == "lazy"
    assert (image["width"], image["height"]) == ("320", "240")
    assert image["alt"] == "background 50.0%, <b>cat</b> 49.0%, dog & 'cow' 1.0%"
    with Image.open(plan.images[0].files["thumbnail"]) as thumbnail:
        assert thumbnail.size == (320, 240)
    assert page.values("a", "href") == ["a.png"]  # the mask, without an overlay


def test_small_areas_are_not_none(tmp_path):
    label = np.zeros((100, 100), np.uint8)
    label[0, 0] = 1
    (job,) = plan_outputs([Path("a.jpg")], OutputRequest(tmp_path, ("mask", "thumbnail"))).images
    with page_of_results(tmp_path / "index.html", CLASSES, "weights") as add:
        add(Written(job, label.shape, count_pixels(label)))
    page = Page((tmp_path / "index.html").read_text("utf-8"))
    assert "".join(page.texts).count("<b>cat</b> < 0.1%") == 1
    assert page.values("img", "alt") == ["background 100.0%, <b>cat</b> < 0.1%"]


def test_classes_of_a_picture_are_the_largest_and_the_legend_has_all(tmp_path):
    classes = tuple(f"class {number}" for number in range(12))
    label = np.repeat(np.arange(10), range(10, 20))[None].astype(np.uint8)
    (job,) = plan_outputs([Path("a.jpg")], OutputRequest(tmp_path, ("mask", "thumbnail"))).images
    with page_of_results(tmp_path / "index.html", classes, "weights") as add:
        add(Written(job, label.shape, count_pixels(label)))
    page = Page((tmp_path / "index.html").read_text("utf-8"))
    texts = [text for text in page.texts if text.startswith("class ")]
    assert texts[:10] == [f"class {number}" for number in range(9, -1, -1)]
    assert [text.rpartition(" ")[0] for text in texts[10:]] == [f"class {number}" for number in range(9, 3, -1)]
    assert " and 4 more" in page.texts


@pytest.mark.slow
def test_page_fits_a_phone_whatever_names_are_long(tmp_path):
    classes = ("Donaudampfschifffahrtsgesellschaft" * 2, "a name of many words " * 4)
    label = np.repeat([0, 1], [60, 40])[None].astype(np.uint8)
    (job,) = plan_outputs([Path("a_name_of_a_photo" * 5)], OutputRequest(tmp_path, ("mask", "thumbnail"))).images
    with page_of_results(tmp_path / "index.html", classes, "weights") as add:
        add(Written(job, label.shape, count_pixels(label)))
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 360, "height": 800})
        page.set_content((tmp_path / "index.html").read_text("utf-8"))
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert violations(page) == []
