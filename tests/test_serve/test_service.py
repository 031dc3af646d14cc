"""The queue and the network's thread, and the images to try it on."""

import asyncio
import dataclasses
import io
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.data import dataset, shapes
from deeplabctl.data.shapes import draw_sample
from deeplabctl.errors import DataError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import Convolution
from deeplabctl.serve import Limits
from deeplabctl.serve import service as service_module
from deeplabctl.serve.examples import find_examples
from deeplabctl.serve.service import Service, Worker
from deeplabctl.serve.uploads import RequestError, check_image
from deeplabctl.weights.model_info import ModelInfo

PNG = {"content-type": "image/png"}


@pytest.fixture
def closed(monkeypatch):
    """Hold the worker at each picture until the gate is set."""
    gate, decode = threading.Event(), service_module.decode_upload

    def wait_and_decode(content, say):
        assert gate.wait(20)
        return decode(content, say)

    monkeypatch.setattr(service_module, "decode_upload", wait_and_decode)
    yield gate
    gate.set()


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(draw_sample(seed, 0)[0][: 60 + seed, : 70 + seed]).save(buffer, "PNG")
    return buffer.getvalue()


def test_many_requests_at_once_each_get_their_own_mask(client):
    def ask(number):
        crf = number % 3 == 0
        return client.post(f"/api/segment?format=mask&crf={crf}", content=png(number % 5), headers=PNG).content

    expected = [ask(number) for number in range(15)]
    assert len(set(expected)) > 5  # the CRF changes some of the five
    with ThreadPoolExecutor(15) as pool:
        assert list(pool.map(ask, range(15))) == expected


def test_requests_with_and_without_crf_keep_the_order_of_their_kind(segmenter, closed, monkeypatch):
    monkeypatch.setattr(service_module, "available_cpus", lambda: 1)
    finished = []
    worker = Worker(segmenter, lambda segmented: finished.append((segmented.label.shape[0] - 60, segmented.crf)))
    kinds = [True, True, True, False, True, False, False]
    futures = [worker.submit(png(number), crf=crf) for number, crf in enumerate(kinds)]
    assert worker.waiting == 7
    worker.start()
    closed.set()
    worker.stop()
    for kind in (True, False):
        assert [number for number, crf in finished if crf is kind] == [n for n, crf in enumerate(kinds) if crf is kind]
    assert not worker.alive
    for number, future in enumerate(futures):
        image = draw_sample(number, 0)[0][: 60 + number, : 70 + number]
        np.testing.assert_array_equal(future.result().image, image)


def test_image_without_crf_does_not_wait_for_the_crf_of_others(segmenter, monkeypatch):
    worker, gate = Worker(segmenter), threading.Event()
    net = worker._lanes[True].segmenter
    refine = net._refine

    def slowly(result, crf, keep_scores):
        assert gate.wait(20)
        return refine(result, crf, keep_scores)

    monkeypatch.setattr(net, "_refine", slowly)
    worker.start()
    refined, plain = worker.submit(png(1), crf=True), worker.submit(png(2), crf=False)
    assert plain.result(20).label.shape == (62, 72)
    assert not refined.done()
    gate.set()
    assert refined.result(20).crf
    worker.stop()


def test_cancelled_and_damaged_images_do_not_hold_up_the_others(segmenter, closed):
    worker = Worker(segmenter)
    first, damaged, cancelled, last = (
        worker.submit(content, crf=True) for content in (png(1), png(1)[:90], png(2), png(3))
    )
    assert cancelled.cancel()
    closed.set()
    worker.start()
    assert last.result(20).label.shape == (63, 73)
    assert first.result().label.shape == (61, 71)
    with pytest.raises(DataError, match="cannot read the image: expected a complete image"):
        damaged.result()
    worker.stop()


@pytest.mark.parametrize("where", ["decoder", "CRF"])
def test_image_that_fails_in_an_unforeseen_way_fails_alone(segmenter, monkeypatch, where):
    monkeypatch.setattr(service_module, "available_cpus", lambda: 1)
    decode, worker = service_module.decode_upload, Worker(segmenter)
    net = worker._lanes[True].segmenter
    refine = net._refine

    def check(height):
        return 1 / 0 if height == 61 else height

    def decode_upload(content, say):
        image = decode(content, say)
        assert where == "CRF" or check(len(image))
        return image

    def refine_one(result, crf, keep_scores):
        assert where == "decoder" or check(len(result.image))
        return refine(result, crf, keep_scores)

    monkeypatch.setattr(service_module, "decode_upload", decode_upload)
    monkeypatch.setattr(net, "_refine", refine_one)
    worker._lanes[True].batch = 4  # together, as those without a CRF; two more wait
    futures = [worker.submit(png(number), crf=True) for number in range(1, 7)]
    worker.start()
    assert [type(future.exception(20)) for future in futures] == [ZeroDivisionError, *5 * [type(None)]]
    assert [future.result().label.shape for future in futures[1:]] == [(60 + at, 70 + at) for at in range(2, 7)]
    worker.stop()


def test_photos_with_odd_exif_do_not_fail_those_they_are_computed_with(segmenter):
    worker, files = Worker(segmenter), [png(1)]
    for kind, count, value in ((12, 1, 38), (99, 1, 38), (2, 2**32 - 1, 38), (12, 1, 2**31)):  # of DateTime
        entries = struct.pack("<HHHIIHHII", 2, 0x112, 3, 1, 6, 0x132, kind, count, value)  # behind a quarter turn
        exif = b"Exif\0\0II*\0\x08\0\0\0" + entries + bytes(4) + struct.pack("<d", np.nan)
        content = io.BytesIO()
        Image.fromarray(draw_sample(0, 0)[0][:60, :80]).save(content, "JPEG", exif=exif)
        files.append(content.getvalue())
    worker._lanes[False].batch = len(files)
    futures = [worker.submit(file, crf=False) for file in files]
    worker.start()
    assert [future.result(20).label.shape for future in futures] == [(61, 71), *[(80, 60)] * 4]
    worker.stop()


def test_future_that_is_cancelled_at_any_moment_leaves_the_worker_at_work(segmenter, monkeypatch):
    worker = Worker(segmenter)
    worker._lanes[False].batch = 2

    def fail(images):
        assert last.cancel()  # its turn has not come, as that of the first fails
        raise ZeroDivisionError

    monkeypatch.setattr(worker._lanes[False].segmenter, "segment", fail)
    first, last = worker.submit(png(1), crf=False), worker.submit(png(2), crf=False)
    monkeypatch.setattr(type(last), "done", lambda future: False)  # it is cancelled after the worker has looked
    worker.start()
    assert isinstance(first.exception(20), ZeroDivisionError)
    monkeypatch.undo()
    assert worker.submit(png(3), crf=False).result(20).label.shape == (63, 73)
    worker.stop()


def test_turn_that_does_not_come_in_time_is_answered_503(serve, closed):
    client = serve(timeout=1.0)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, "/api/segment", content=png(1), headers=PNG)
        while not client.service.metrics.text().count(b"deeplabctl_places_taken 1.0") or client.service.worker.waiting:
            time.sleep(0.01)
        answer = client.post("/api/segment", content=png(2), headers=PNG)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "waited_too_long"
        assert int(answer.headers["retry-after"]) >= 1
        closed.set()
        assert running.result().status_code == 200  # its turn had come; it is late, but whole
    assert b"deeplabctl_places_taken 0.0" in client.service.metrics.text()


def test_image_whose_sender_has_gone_loses_its_turn(segmenter, closed):
    from starlette.requests import ClientDisconnect, Request

    service = Service(segmenter, Limits(), name="tiny")  # whose worker does not run yet
    messages = [{"type": "http.request", "body": png(1)}, {"type": "http.disconnect"}]

    async def receive():
        return messages.pop(0)

    scope = {"type": "http", "headers": [(b"content-type", b"image/png")]}
    with pytest.raises(RequestError, match="the network is not running"):
        asyncio.run(service.segment(Request(scope, receive), crf=False))
    service.worker.start()
    blocking = service.worker.submit(png(2), crf=False)
    with pytest.raises(ClientDisconnect):
        asyncio.run(service.segment(Request(scope, receive), crf=False))
    closed.set()
    service.worker.stop()
    assert blocking.result()
    assert b"deeplabctl_pixels_total %.1f" % (62 * 72) in service.metrics.text()  # of the other one only


def test_upload_that_stalls_leaves_its_place_to_others(segmenter, monkeypatch):
    from starlette.requests import Request

    service = Service(segmenter, Limits(queue=1), name="tiny")
    service.worker.start()

    def ask(*messages):
        async def receive():
            if pending:
                return {"type": "http.request", **pending.pop(0)}
            await asyncio.sleep(0.01 if trickles else 60)
            return {"type": "http.request", "body": b"x", "more_body": True}

        pending, trickles = list(messages), len(messages) == 2
        scope = {"type": "http", "headers": [(b"content-type", b"image/png")]}
        return asyncio.ensure_future(service.segment(Request(scope, receive), crf=False))

    async def upload():
        half = {"body": png(1)[:2000], "more_body": True}
        for halves in ((half,), (half, half)):
            stalled = ask(*halves)
            await asyncio.sleep(0.05)
            monkeypatch.setattr("deeplabctl.serve.uploads._STALL", 30)
            with pytest.raises(RequestError, match="the queue is full; try again later"):
                await ask({"body": png(1)})
            monkeypatch.setattr("deeplabctl.serve.uploads._STALL", 0)
            assert (await ask({"body": png(1)})).label.shape == (61, 71)
            with pytest.raises(RequestError, match="did not arrive while others waited"):
                await stalled

    asyncio.run(upload())
    service.worker.stop()
    assert b"deeplabctl_places_taken 0.0" in service.metrics.text()


def test_upload_whose_time_is_over_leaves_its_place_at_the_same_moment(segmenter, monkeypatch):
    from starlette.requests import Request

    monkeypatch.setattr("deeplabctl.serve.uploads._STALL", 0)
    service = Service(segmenter, Limits(queue=1, timeout=0.1), name="tiny")
    service.worker.start()

    def ask(receive):
        scope = {"type": "http", "headers": [(b"content-type", b"image/png")]}
        return asyncio.ensure_future(service.segment(Request(scope, receive), crf=False))

    async def nothing():
        await asyncio.sleep(60)

    async def upload():
        stalled, others = ask(nothing), []
        await asyncio.sleep(0)
        time.sleep(0.2)  # so that the next request and the end of the time are seen at once
        asyncio.get_running_loop().call_soon(lambda: others.append(ask(nothing)))
        with pytest.raises(RequestError, match=r"did not arrive within 0\.1 seconds"):
            await stalled
        with pytest.raises(RequestError, match=r"did not arrive within 0\.1 seconds"):
            await others[0]

    asyncio.run(upload())
    service.worker.stop()


written = None


def _audit(event, arguments):
    if written is not None and (
        event.startswith("tempfile")
        or (event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"))
    ):
        written.append((event, str(arguments[0])))


sys.addaudithook(_audit)


def test_upload_of_megabytes_writes_no_file(client, monkeypatch, tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1100, 1100, 3)).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "BMP")
    content = buffer.getvalue()
    assert len(content) > 3 << 20
    monkeypatch.setitem(globals(), "written", found := [])
    assert client.post("/api/segment", files={"image": ("a.bmp", content)}).status_code == 200
    assert client.post("/api/segment?format=overlay", content=content, headers=PNG).status_code == 200
    assert found == []
    (tmp_path / "probe").write_text("what the test must see")
    assert found == [("open", str(tmp_path / "probe"))]


def test_examples_are_of_the_validation_split_where_the_data_set_is_there(tmp_path, serve, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path / "set", train=3, val=11)
    facts = {"data": str(tmp_path / "set"), "recipe": {"data": {"val_split": "val"}}}
    examples = find_examples(ModelInfo(("a", "b"), provenance=facts), Limits(), "tight")
    listed = (tmp_path / "set/ImageSets/Segmentation/val.txt").read_text().split()
    names = [listed[place] for place in (0, 1, 3, 5, 7, 9)]  # spread over the split
    files = {path.stem: path.read_bytes() for path in (tmp_path / "set/JPEGImages").iterdir()}
    assert [example.content for example in examples] == [files[name] for name in names]
    client = serve(examples=examples)
    assert client.get("/api/model").json()["examples"] == [f"examples/{number}" for number in range(6)]
    answer = client.get("/examples/5")
    assert (answer.content, answer.headers["content-type"]) == (files[names[5]], examples[5].media_type)
    assert find_examples(ModelInfo(("a", "b"), provenance=facts), Limits(max_pixels=100), "tight") == []


@pytest.mark.parametrize(("known", "size"), [(0, (80, 60)), (64, (72, 54)), (76, (76, 57))])
def test_examples_are_as_large_as_a_screen_if_the_network_makes_photos_smaller(tmp_path, monkeypatch, known, size):
    monkeypatch.setattr("deeplabctl.serve.examples._SIDE", 72)
    make_dataset(tmp_path / "set")
    facts = {"data": str(tmp_path / "set"), "recipe": {"data": {"max_side": known}}}
    examples = find_examples(ModelInfo(("a", "b"), provenance=facts), Limits(), "tight")
    assert [Image.open(io.BytesIO(example.content)).size for example in examples] == [size] * 2


def test_examples_of_a_network_without_its_data_set_are_drawn_if_it_knows_shapes_else_none(tmp_path, monkeypatch):
    def open_dataset(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return dataset.open_dataset(path)

    monkeypatch.setattr("deeplabctl.serve.examples.open_dataset", open_dataset)
    for facts in ({}, {"data": "shapes"}, {"data": str(tmp_path / "gone")}, {"data": str(tmp_path / "closed")}):
        assert find_examples(ModelInfo(("a", "b"), provenance=facts), Limits(), "tight") == []
        drawn = find_examples(ModelInfo(shapes.CLASSES, provenance=facts), Limits(), "tight")
        assert [Image.open(io.BytesIO(example.content)).size for example in drawn] == [(160, 160)] * 6


def test_format_that_is_refused_is_not_among_those_that_are_expected():
    content = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(64)
    with pytest.raises(RequestError, match=r"\(JPEG, PNG, WebP, BMP, TIFF\), got AVIF; convert it to JPEG"):
        check_image(content, Limits(), "largefov", "tight")


def test_padding_that_counts_is_the_served_networks(monkeypatch):
    plain = ARCHITECTURES["largefov"]
    coarse = dataclasses.replace(plain, name="coarse", rows=(Convolution("first", 3, stride=8), *plain.rows))
    monkeypatch.setitem(ARCHITECTURES, "coarse", coarse)
    narrow = io.BytesIO()
    Image.new("1", (2, 9000)).save(narrow, "PNG")
    limits = Limits(max_pixels=20_000)
    assert check_image(narrow.getvalue(), limits, "largefov", "tight") == "PNG"
    with pytest.raises(RequestError, match="too narrow for the network"):
        check_image(narrow.getvalue(), limits, "coarse", "tight")
