"""The page in a real browser, as people use it."""

import io

import numpy as np
import pytest
from browser import browser, drop, page_of, violations, wait_until_done
from PIL import Image
from served import Served

from deeplabctl.data.labels import read_label
from deeplabctl.data.shapes import CLASSES, draw_sample
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.sources.keras_files import save_model
from deeplabctl.weights.starting import build_model

pytestmark = [pytest.mark.slow, pytest.mark.tf]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write a network of the built-in shapes, for which the page has examples; its weights are random."""
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    save_model(path, build_model("largefov", len(CLASSES), width=1 / 32, seed=5), ModelInfo(CLASSES, width=1 / 32))
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory, weights):
    options = ("--weights", weights, "--engine", "numba", "--max-pixels", 100_000)
    with Served(tmp_path_factory.mktemp("page"), *options) as served:
        yield served


@pytest.fixture(scope="module")
def chromium():
    with browser() as chromium:
        yield chromium


@pytest.fixture
def turned_photo():
    """Return a JPEG of 150x90 pixels whose EXIF data turns it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(draw_sample(1, 1)[0][:90, :150]).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_photo_is_dropped_compared_isolated_and_its_mask_is_that_of_infer(
    served, weights, chromium, turned_photo, tmp_path, deeplabctl
):
    (tmp_path / "photo.jpg").write_bytes(turned_photo)
    for out, *options in (("plain",), ("sharp", "--crf")):
        assert (
            deeplabctl("infer", "photo.jpg", "--weights", weights, "--engine", "numba", "--out", out, *options)[0] == 0
        )
    label = read_label(tmp_path / "plain" / "photo.png")
    assert label.shape == (150, 90)
    with page_of(chromium, served.url) as page:
        assert page.locator("#panel").is_hidden()
        drop(page, turned_photo)
        wait_until_done(page)

        names = [entry["name"] for entry in served.facts["classes"]]
        counts = np.bincount(label.ravel())
        largest = int(counts.argmax())
        rows = page.locator("#legend button")
        assert rows.count() == np.count_nonzero(counts)
        assert rows.first.inner_text().split() == [names[largest], f"{100 * counts[largest] / label.size:.1f}%"]
        assert f"{names[largest]} {100 * counts[largest] / label.size:.1f}%" in page.locator("#status").inner_text()

        tint = pixels(page, "tint")
        assert tint.shape == (150, 90, 4)
        inside = np.ones(label.shape, bool)  # pixels that are not at a border
        inside[:-1] &= label[:-1] == label[1:]
        inside[:, :-1] &= label[:, :-1] == label[:, 1:]
        colors = [[int(entry["color"][at : at + 2], 16) for at in (1, 3, 5)] for entry in served.facts["classes"]]
        shown = inside & (label > 0)
        np.testing.assert_array_equal(tint[shown][:, :3], np.array(colors)[label[shown]])
        assert not tint[inside & (label == 0)].any()

        box = page.locator("#frame").bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 0.33 * box["width"], middle)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.75 * box["width"], middle, steps=5)
        page.mouse.up()
        assert page.locator("#split").input_value() == "75"
        assert page.evaluate("getComputedStyle(layer).clipPath") == "inset(0px 0px 0px 75%)"
        page.keyboard.press("ArrowLeft")
        assert page.locator("#split").get_attribute("aria-valuetext") == "74% photo, 26% classes"
        page.keyboard.press("Home")
        assert page.evaluate("getComputedStyle(layer).clipPath") == "inset(0px 0px 0px 0%)"
        page.locator("#opacity").fill("25")
        assert page.evaluate("getComputedStyle(tint).opacity") == "0.25"

        rows.nth(1).hover()
        second = int(np.argsort(-counts, kind="stable")[1])
        assert page.locator("#spot").is_visible()
        assert not page.locator("#tint").is_visible()
        alone = pixels(page, "spot")[..., 3] == 0
        assert not alone[label != second].any()
        assert alone[inside & (label == second)].mean() == 1
        page.mouse.move(0, 0)
        assert page.locator("#tint").is_visible()

        assert downloaded(page, "#save-mask") == ("photo.png", (tmp_path / "plain" / "photo.png").read_bytes())
        name, overlay = downloaded(page, "#save-overlay")
        assert (name, Image.open(io.BytesIO(overlay)).size) == ("photo_overlay.png", (90, 150))
        page.locator("#crf").check()
        wait_until_done(page)
        assert downloaded(page, "#save-mask")[1] == (tmp_path / "sharp" / "photo.png").read_bytes()
        page.locator("#crf").uncheck()
        wait_until_done(page)
        assert downloaded(page, "#save-mask")[1] == (tmp_path / "plain" / "photo.png").read_bytes()
    assert list(served.folder.iterdir()) == []


def pixels(page, canvas):
    """Return the pixels (H, W, 4) of a canvas."""
    width, height, values = page.evaluate(
        "id => { const c = document.getElementById(id);"
        "return [c.width, c.height, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]] }",
        canvas,
    )
    return np.array(values, np.uint8).reshape(height, width, 4)


def downloaded(page, button):
    """Press a button; returns the name and the bytes of the file."""
    with page.expect_download() as download:
        page.locator(button).click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def test_page_is_used_with_the_keyboard_alone(served, chromium):
    with page_of(chromium, served.url, reduced_motion="reduce") as page:
        focused = []
        while "Example 2" not in focused:
            page.keyboard.press("Tab")
            focused.append(
                page.evaluate("document.activeElement.querySelector('img')?.alt ?? document.activeElement.innerText")
            )
            assert len(focused) < 20
        assert focused[0] == "Skip to the photo"
        page.keyboard.press("Enter")
        wait_until_done(page)
        assert page.locator("#status").inner_text().startswith("Done in ")
        page.locator("#legend button").first.focus()
        page.keyboard.press("ArrowDown")
        assert page.locator("#spot").is_visible()
        page.keyboard.press("Enter")
        pressed = page.locator("#legend button[aria-pressed=true]")
        assert pressed.count() == 1
        page.keyboard.press("Tab")
        page.locator("#crf").focus()
        assert page.locator("#spot").is_visible(), "what was pressed stays alone"
        pressed.focus()
        page.keyboard.press("Escape")
        assert pressed.count() == 0
        assert page.locator("#tint").is_visible()


def test_photo_is_pasted_or_chosen_and_a_large_one_scaled_down(served, chromium, turned_photo, tmp_path):
    with page_of(chromium, served.url) as page:
        drop(page, turned_photo, event="paste")
        wait_until_done(page)
        assert page.locator("#note").is_hidden()
        moving = io.BytesIO()
        Image.new("RGB", (90, 60)).save(
            moving, "WEBP", save_all=True, append_images=[Image.new("RGB", (90, 60), "red")]
        )
        drop(page, moving.getvalue(), "moving.webp", "image/webp")
        wait_until_done(page)
        page.wait_for_selector("#note:visible")
        assert "several frames, the first of which is taken" in page.locator("#note").inner_text()
        Image.new("RGB", (1000, 400), "orange").save(tmp_path / "wide.png")
        with page.expect_file_chooser() as chooser:
            page.locator(".choose:visible").click()
        chooser.value.set_files(tmp_path / "wide.png")
        page.wait_for_selector("#note:visible")
        wait_until_done(page)
        assert page.locator("#note").inner_text().startswith("Scaled down from 1000 \xd7 400 to 500 \xd7 200 pixels")
        name, mask = downloaded(page, "#save-mask")
        assert (name, Image.open(io.BytesIO(mask)).size) == ("wide.png", (500, 200))


def test_another_photo_can_be_chosen_where_there_are_no_examples(served, chromium, turned_photo):
    page = chromium.new_page(**PHONE)
    page.route("**/api/model", lambda route: route.fulfill(json={**route.fetch().json(), "examples": []}))
    page.goto(served.url)
    drop(page, turned_photo)
    wait_until_done(page)
    with page.expect_file_chooser():
        page.get_by_role("button", name="Choose another photo").click()
    assert page.locator("#samples").is_hidden()
    page.close()


def test_photo_that_takes_long_to_open_is_said_to_be_opened(served, chromium, turned_photo):
    with page_of(chromium, served.url) as page:
        drop(page, b"text", "notes.txt", "text/plain")
        page.evaluate("() => { Image.prototype.decode = () => new Promise((done) => { window.goOn = done }) }")
        drop(page, turned_photo)
        page.locator("#note", has_text="Opening the photo.").wait_for()
        assert page.locator("#alert").is_hidden(), "what was wrong with the file before"
        page.evaluate("goOn()")
        wait_until_done(page)
        assert page.locator("#note").is_hidden()


def test_large_masks_are_painted_smaller_but_their_overlay_has_the_photo_s_size(served, chromium):
    with page_of(chromium, served.url) as page:
        shown, saved, colors = page.evaluate(
            """async () => {
                const { Stage } = await import("./page/stage.js");
                const stage = new Stage(() => {});
                const classes = [["background", "#000000"], ["disc", "#ff0000"]];
                const mask = { width: 3000, height: 2001, ids: new Uint8Array(3000 * 2001).fill(1, 3000 * 1500) };
                stage.showMask(mask, classes.map(([name, color], id) => ({ id, name, color })));
                const overlay = await createImageBitmap(await stage.overlay(1));
                const { data } = tint.getContext("2d").getImageData(700, 748, 1, 3);
                const colors = [0, 4, 8].map((at) => [...data.slice(at, at + 4)]);
                return [[tint.width, tint.height], [overlay.width, overlay.height], colors];
            }"""
        )
        assert (shown, saved) == ([1500, 1001], [3000, 2001])
        border = pytest.approx([255, 255, 255, 235], abs=1)
        assert colors == [[0, 0, 0, 0], border, [255, 0, 0, 255]]


def test_file_that_is_not_an_image_is_reported_and_the_page_goes_on(served, chromium, turned_photo):
    with page_of(chromium, served.url) as page:
        drop(page, b"text", "notes.txt", "text/plain")
        page.locator("#alert", has_text="This browser cannot show this file. Use a JPEG, PNG or WebP image.").wait_for()
        drop(page, b"no picture", "a.jpg")
        page.locator("#alert", has_text="This browser cannot show this file.").wait_for()
        drop(page, turned_photo, "photo", "")  # as some programs hand files over
        wait_until_done(page)
        assert page.locator("#alert").is_hidden()
        drop(page, b"text", "notes.txt", "text/plain")
        page.locator("#alert:visible").wait_for()
        assert page.locator("#tint").is_visible(), "what was there stays"


def test_photo_that_comes_before_the_server_has_said_what_it_takes_is_not_lost(served, chromium, turned_photo):
    page, held = chromium.new_page(), []
    page.route("**/api/model", lambda route: held.append(route))
    with page.expect_request("**/api/model"):
        page.goto(served.url)
    drop(page, b"text", "notes.txt", "text/plain")
    drop(page, turned_photo)
    held[0].continue_()
    wait_until_done(page)
    assert page.locator("#alert").is_hidden()
    page.close()


def test_refusal_of_the_server_is_said_with_its_reason(served, chromium, turned_photo):
    with page_of(chromium, served.url, expected=["the server responded with a status of 429"]) as page:
        answer = {"status": 429, "json": {"error": {"code": "queue_full", "message": "all 16 places are taken"}}}
        page.route("**/api/segment*", lambda route: route.fulfill(**answer))
        drop(page, turned_photo)
        page.locator("#alert", has_text="All 16 places are taken").wait_for()
        assert page.locator("#panel").is_hidden()
        page.unroute("**/api/segment*")
        drop(page, turned_photo)
        wait_until_done(page)
        assert page.locator("#alert").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_page_is_accessible(served, chromium, turned_photo, scheme, options):
    with page_of(chromium, served.url, color_scheme=scheme, **options) as page:
        assert violations(page) == []
        drop(page, turned_photo)
        wait_until_done(page)
        assert violations(page) == []
        page.locator("#legend button").first.click()
        assert violations(page) == []
        drop(page, b"text", "notes.txt", "text/plain")
        assert violations(page) == []
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, "nothing is wider than the screen"
