"""The API: masks are those of ``deeplabctl infer``, and what cannot be done is refused in clear JSON."""

import base64
import io
import json
import re
from dataclasses import replace
from urllib.parse import urljoin

import numpy as np
import pytest
from caffe_files import DATA
from PIL import Image
from png_files import blank_png

from deeplabctl.data.labels import read_label

WEIGHTS = DATA / "lfov_tiny_v2.caffemodel"


def encoded(picture, format_, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def pictures(photo):
    """Yield (name, bytes) of pictures of many kinds."""
    picture = Image.open(io.BytesIO(photo))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    ramp = picture.convert("L").resize((50, 41))
    second = Image.new("L", (9, 9))
    yield "plain.jpg", photo
    yield "turned.jpg", encoded(picture.resize((90, 60)), "JPEG", exif=exif)
    yield "grey.png", encoded(ramp, "PNG")
    with_alpha = picture.resize((33, 70)).convert("RGBA")
    with_alpha.putalpha(ramp.resize((33, 70)))
    yield "alpha.png", encoded(with_alpha, "PNG")
    yield "alpha.webp", encoded(with_alpha, "WEBP")
    yield "deep.png", encoded(Image.fromarray(np.asarray(ramp).astype(np.uint16) * 200), "PNG")
    yield "palette.png", encoded(picture.quantize(9), "PNG")
    yield "cmyk.jpg", encoded(picture.convert("CMYK"), "JPEG")
    yield "pages.tiff", encoded(picture, "TIFF", save_all=True, append_images=[second])
    yield "small.bmp", encoded(picture.resize((1, 2)), "BMP")


def test_what_was_assumed_to_read_an_image_is_said(client, photo):
    content = dict(pictures(photo))["pages.tiff"]
    expected = "several pages, the first of which is taken"
    assert expected in client.post("/api/segment", content=content, headers=PNG).json()["note"]
    assert expected in client.post("/api/segment?format=mask", content=content, headers=PNG).headers["x-note"]
    assert client.post("/api/segment", content=photo, headers=PNG).json()["note"] == ""
    assert "x-note" not in client.post("/api/segment?format=mask", content=photo, headers=PNG).headers


@pytest.mark.parametrize("crf", [False, True])
def test_masks_and_overlays_are_those_of_infer_byte_by_byte(client, photo, deeplabctl, tmp_path, crf):
    (tmp_path / "in").mkdir()
    for name, content in pictures(photo):
        (tmp_path / "in" / name.replace(".", "_")).with_suffix("." + name.split(".")[1]).write_bytes(content)
    options = ["--crf"] if crf else []
    code, _, err = deeplabctl(
        "infer", "in", "--weights", WEIGHTS, "--overlay", "--engine", "numba", "--out", "out", *options
    )
    assert code == 0, err
    for name, content in pictures(photo):
        stem = name.replace(".", "_")
        for parameter, written in (("mask", f"{stem}.png"), ("overlay", f"{stem}_overlay.png")):
            answer = client.post(f"/api/segment?format={parameter}&crf={crf}", content=content, headers=PNG)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "image/png"
            assert answer.content == (tmp_path / "out" / written).read_bytes(), f"{parameter} of {name}"


PNG = {"content-type": "image/png"}


def test_json_has_areas_and_the_mask(client, photo, tmp_path):
    answer = client.post("/api/segment", content=photo, headers={"content-type": "image/jpeg"})
    found = answer.json()
    mask = base64.b64decode(found["mask"])
    (tmp_path / "mask.png").write_bytes(mask)
    label = read_label(tmp_path / "mask.png")
    assert (found["height"], found["width"]) == label.shape == (160, 160)
    assert found["crf"] is False
    ids, counts = np.unique(label, return_counts=True)
    assert {entry["id"]: entry["pixels"] for entry in found["classes"]} == dict(zip(ids, counts, strict=True))
    assert len(ids) > 5
    shares = [entry["share"] for entry in found["classes"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert client.post("/api/segment?format=mask", content=photo, headers=PNG).content == mask
    plane = next(entry for entry in client.get("/api/model").json()["classes"] if entry["id"] == 1)
    assert plane == {"id": 1, "name": "aeroplane", "color": "#800000"}  # VOC's colour map


@pytest.mark.parametrize(
    "name", ["photo.jpg", "../../etc/passwd", "/etc/passwd", "a\0b", "C:\\x", "%2e%2e%2f", "é" * 300, ""]
)
def test_form_of_any_file_name_is_as_good_as_a_body(client, photo, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = client.post("/api/segment?format=mask", content=photo, headers=PNG)
    answer = client.post(
        "/api/segment?format=mask", files={"image": (name or "x", photo, "text/plain")}, data={"x": "1"}
    )
    assert answer.content == expected.content
    assert not list(tmp_path.iterdir())


def test_crf_is_on_where_the_service_says_so_and_the_request_does_not(serve, photo):
    client = serve(uses_crf=True)
    found = [
        client.post(f"/api/segment{query}", content=photo, headers=PNG).json() for query in ("", "?crf=0", "?crf=1")
    ]
    assert [facts["crf"] for facts in found] == [True, False, True]
    assert found[0]["mask"] == found[2]["mask"] != found[1]["mask"]


def refusal(answer, status, code):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert error["code"] == code
    assert len(error["message"].splitlines()) == 1
    return error["message"]


def test_wrong_types_are_refused(client, photo):
    def post(**options):
        return client.post("/api/segment", **options)

    assert "got none" in refusal(post(content=photo), 415, "unsupported_type")
    assert "'text/plain'" in refusal(
        post(content=photo, headers={"content-type": "text/plain"}), 415, "unsupported_type"
    )
    assert "got other content" in refusal(post(content=b"no picture", headers=PNG), 415, "unsupported_type")
    postscript = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"  # for which Pillow starts gs
    )
    refusal(post(content=postscript, headers=PNG), 415, "unsupported_type")
    for kind in ("heic", "avif"):
        message = refusal(
            post(content=b"\0\0\0\x18ftyp%s\0\0\0\0" % kind.encode(), headers=PNG), 415, "unsupported_type"
        )
        assert message.endswith(f"got {kind.upper()}; convert it to JPEG")
    refusal(post(content=encoded(Image.new("P", (9, 9)), "GIF"), headers=PNG), 415, "unsupported_type")
    refusal(post(content=b"", headers=PNG), 422, "missing_picture")
    refusal(post(files={"photo": photo}), 422, "missing_picture")
    refusal(post(data={"image": "text"}, files={"other": b""}), 422, "missing_picture")
    refusal(post(files=[("image", photo), ("image", photo)]), 422, "invalid_form")
    text, file = (
        b'--b\r\ncontent-disposition: form-data; name="image"%s\r\n\r\n' % more for more in (b"", b'; filename="x"')
    )
    text, file, form = text + b"x\r\n", file + photo + b"\r\n", {"content-type": "multipart/form-data; boundary=b"}
    for parts in (text + file, file + text):
        said = refusal(post(content=parts + b"--b--\r\n", headers=form), 422, "missing_picture")
        assert said == "expected a form with a file in its field 'image', got 2 fields of this name"
    said = refusal(post(content=file[:-900], headers=form), 422, "invalid_form")
    assert said == "expected a whole form, got one that is cut off; send it again"
    refusal(post(content=b"x", headers={"content-type": "multipart/form-data"}), 422, "invalid_form")
    refusal(post(content=b"x", headers={"content-type": "multipart/form-data; boundary=b"}), 422, "invalid_form")
    assert "damaged or truncated" in refusal(post(content=photo[:-900], headers=PNG), 422, "unreadable_picture")
    said = refusal(client.post("/api/segment?crf=maybe", content=photo), 422, "invalid_parameter")
    assert said == "crf: expected true or false, got 'maybe'"
    said = refusal(client.post("/api/segment?format=tiff", content=photo), 422, "invalid_parameter")
    assert said == "format: expected 'json', 'mask' or 'overlay', got 'tiff'"
    said = refusal(client.post("/api/segment?CRF=true", content=photo), 422, "invalid_parameter")
    assert said == "expected the parameters crf and format, got 'CRF'"
    said = refusal(client.post("/api/segment?format=json&format=mask", content=photo), 422, "invalid_parameter")
    assert said == "expected format once, got it 2 times"
    for name, value in (("crf", "true"), ("format", "mask")):
        said = refusal(post(files={"image": photo}, data={name: value}), 422, "invalid_form")
        assert said == f"expected {name} in the URL, as ?{name}=..., got a field of the form"
    refusal(client.get("/api/segment"), 405, "method_not_allowed")
    assert client.get("/healthz").json() == {"status": "ok", "waiting": 0}


def test_more_pixels_than_allowed_are_refused_by_the_head_of_the_file(serve):
    client = serve(max_pixels=10_000)
    for content in (
        blank_png(101, 100),
        encoded(Image.new("RGB", (101, 100)), "WEBP"),
        encoded(Image.new("L", (1, 10_001)), "BMP"),
    ):
        message = refusal(client.post("/api/segment", content=content, headers=PNG), 422, "too_many_pixels")
        assert "at most 10,000 pixels" in message
    assert client.post("/api/segment", content=blank_png(100, 100), headers=PNG).status_code == 200
    narrow = blank_png(2, 90_000)  # whose padding makes it 4.5 times as large
    refusal(serve(max_pixels=190_000).post("/api/segment", content=narrow, headers=PNG), 422, "too_many_pixels")
    refusal(client.post("/api/segment", content=blank_png(20_000, 20_000), headers=PNG), 422, "too_many_pixels")


def test_jpeg_of_thousands_of_scans_is_refused(client):
    content = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    assert client.post("/api/segment", content=content, headers=PNG).status_code == 200
    scan = content[content.rindex(b"\xff\xda") : -2]
    marks = 300 * b"\xff\xda"  # of no length that a scan has, as a film behind the end may have them
    for more in (content + marks, content[:2] + b"\xff\xfe" + (len(marks) + 2).to_bytes(2) + marks + content[2:]):
        assert client.post("/api/segment", content=more, headers=PNG).status_code == 200
    for between in (b"", b"\xff\x01", b"\xff\xff", b"\xff\xfe\0\2"):
        many = content[:-2] + 300 * (between + scan) + content[-2:]
        refusal(client.post("/api/segment", content=many, headers=PNG), 422, "unreadable_picture")


def test_larger_body_than_allowed_is_refused_with_and_without_a_length(serve, photo):
    client = serve(max_body=len(photo))
    assert client.post("/api/segment", content=photo, headers=PNG).status_code == 200
    refusal(client.post("/api/segment", content=photo + b"x", headers=PNG), 413, "body_too_large")
    refusal(client.post("/api/segment", content=iter([photo, b"x"]), headers=PNG), 413, "body_too_large")
    refusal(client.post("/api/segment", files={"image": photo}), 413, "body_too_large")


def test_description_and_metrics_and_headers(client, photo):
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/api/segment", "/api/model", "/healthz", "/metrics"}
    assert {"408", "413", "415", "422", "429", "503"} < set(paths["/api/segment"]["post"]["responses"])
    client.post("/api/segment?crf=1", content=photo, headers=PNG)
    client.post("/api/segment", content=b"", headers=PNG)
    client.get("/x/y/z")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    from prometheus_client.parser import text_string_to_metric_families

    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    counted = {tuple(s.labels.values()): s.value for s in samples if s.name == "deeplabctl_requests_total"}
    assert counted["POST", "/api/segment", "200"] == counted["POST", "/api/segment", "422"] == 1
    assert counted["GET", "other", "404"] == 1
    assert [s.value for s in samples if s.name == "deeplabctl_pixels_total"] == [160 * 160]
    policy = client.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy


def test_head_is_get_without_the_body(client, photo):
    for path in ("/healthz", "/", "/page/app.js", "/api/model", "/openapi.json", "/metrics", "/nowhere", "/page/x"):
        got, headed = client.get(path), client.head(path)
        assert (headed.status_code, headed.content) == (got.status_code, b""), path
        assert headed.headers["content-type"] == got.headers["content-type"]
    assert client.head("/healthz").headers["content-length"] == str(len(client.get("/healthz").content))
    assert client.head("/api/segment").status_code == 405
    assert client.post("/healthz").headers["allow"] == "GET, HEAD"
    assert 'deeplabctl_requests_total{method="HEAD",route="/healthz",status="200"} 2.0' in client.get("/metrics").text


def test_service_without_crf_refuses_it_and_the_page_can_tell(serve, segmenter, photo):
    assert serve().get("/api/model").json()["offers_crf"] is True
    client = serve(network=segmenter.with_settings(replace(segmenter.settings, crf=None)))
    assert client.get("/api/model").json()["offers_crf"] is False
    refusal(client.post("/api/segment?crf=1", content=photo, headers=PNG), 422, "crf_off")
    expected = serve().post("/api/segment?format=mask&crf=0", content=photo, headers=PNG).content
    for query in ("", "&crf=0"):
        assert client.post(f"/api/segment?format=mask{query}", content=photo, headers=PNG).content == expected


@pytest.mark.parametrize(("root_path", "page_address"), [("", "/"), ("/photos", "/photos/"), ("/photos", "/")])
def test_page_names_only_files_that_are_there_and_loads_nothing_from_elsewhere(serve, root_path, page_address):
    from deeplabctl.serve.examples import Example

    client = serve(root_path=root_path, examples=[Example(b"1", "image/png")])
    page = client.get(page_address).text
    names = {urljoin(page_address, name) for name in re.findall(r'(?:src|href)="([^"#]+)"', page)}
    assert names >= {page_address + name for name in ("page/app.js", "page/style.css", "page/icon.svg", "openapi.json")}
    seen = ""
    while names:
        name = names.pop()
        answer = client.get(name)
        assert answer.status_code == 200, name
        seen += answer.text
        if name.endswith(".js"):
            names |= {urljoin(name, found) for found in re.findall(r'from "([^"]+)"', answer.text)}
            names |= {urljoin(page_address, found) for found in re.findall(r'request\("([^"]+)"', answer.text)}
        if name.endswith("/api/model"):
            names |= {urljoin(page_address, found) for found in answer.json()["examples"]}
    assert '"examples":["examples/0"]' in seen
    assert set(re.findall(r"https?://[\w.]+", page + seen)) <= {"http://www.w3.org"}  # the name space of SVG
    for path in (
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/page//etc/passwd",
        "/page/",
        "/examples/-1",
        "/examples/9",
    ):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert json.loads(answer.text)["error"]["code"] == "not_found"


@pytest.mark.parametrize("proxied", ["/lab/photos", ""])
def test_service_answers_under_the_path_of_a_proxy_that_passes_it_on_or_takes_it_off(serve, photo, proxied):
    client, plain = serve(root_path="/lab/photos"), serve()
    expected = plain.post("/api/segment?format=mask", content=photo, headers=PNG).content
    assert client.post(f"{proxied}/api/segment?format=mask", content=photo, headers=PNG).content == expected
    assert client.head(f"{proxied}/").headers["content-length"] == plain.head("/").headers["content-length"]
    assert client.get(f"{proxied}/openapi.json").json()["servers"] == [{"url": "/lab/photos"}]
    assert 'route="/api/segment"' in client.get(f"{proxied}/metrics").text
    answer = client.get("/lab/photos", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "/lab/photos/")
    for path in ("/lab", "/lab/photosx/", "/lab/photos/lab/photos/api/model"):
        assert client.get(path).status_code == 404, path
    assert plain.get("/lab/photos/").status_code == 404


def test_bug_is_a_500_in_json_without_its_text(client, photo, monkeypatch):
    monkeypatch.setattr("deeplabctl.serve.service.decode_upload", lambda *given: 1 / 0)
    answer = client.post("/api/segment", content=photo, headers=PNG)
    assert "division" not in refusal(answer, 500, "internal_error")
    assert (answer.headers["cache-control"], "content-security-policy" in answer.headers) == ("no-store", True)
    assert 'route="/api/segment",status="500"' in client.get("/metrics").text
    monkeypatch.undo()
    assert client.post("/api/segment", content=photo, headers=PNG).status_code == 200
