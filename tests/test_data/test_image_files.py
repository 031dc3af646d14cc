"""Metadata of any size and kind costs nothing and refuses nothing; what the pixels need must be whole."""

import io
import os
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from closed_folder import closed
from PIL import Image
from tiff_files import tiff

from deeplabctl.data.images import as_image, read_image
from deeplabctl.data.inspection import inspect_image
from deeplabctl.data.labels import read_label
from deeplabctl.errors import DataError

TURNED = (0x0112, 3, 1, struct.pack("<H", 6))  # to be shown turned clockwise
ROWS, COLUMNS = np.mgrid[:24, :40]
PIXELS = np.stack([ROWS * 8, COLUMNS * 5, 255 - ROWS * 4], -1).astype(np.uint8)
UPRIGHT = np.rot90(PIXELS, -1)


def exif(*entries):
    """Return a block of EXIF with these entries: (tag, type, count, bytes)."""
    content, data = struct.pack("<H", len(entries)), b""
    for tag, kind, count, value in entries:
        place = 8 + 2 + 12 * len(entries) + 4 + len(data)
        content += struct.pack("<HHI", tag, kind, count)
        content += struct.pack("<I", place) if len(value) > 4 else value.ljust(4, b"\0")
        data += value if len(value) > 4 else b""
    return b"II*\0\x08\0\0\0" + content + bytes(4) + data


def chunk(kind, data, wrong=0):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)


def png(*chunks, behind=()):
    """Return the PNG of the pixels with chunks before and behind them."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    content = buffer.getvalue()
    return content[:33] + b"".join(chunks) + content[33:-12] + b"".join(behind) + content[-12:]


def jpeg(*segments):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", quality=98, subsampling=0)
    parts = (b"\xff" + bytes([kind]) + struct.pack(">H", len(data) + 2) + data for kind, data in segments)
    return b"\xff\xd8" + b"".join(parts) + buffer.getvalue()[2:]


def check_turned(path):
    read, facts = read_image(path), inspect_image(path)
    assert read.shape == UPRIGHT.shape
    assert np.abs(read.astype(int) - UPRIGHT).mean() < 3
    assert (facts.orientation, facts.height, facts.width, facts.note) == (6, 40, 24, "")


ODD = {
    "a date as a double": (0x0132, 12, 1, struct.pack("<d", 1.5)),
    "a resolution as text": (0x011A, 2, 1, b"\0"),
    "a resolution of 0/0": (0x011A, 5, 1, bytes(8)),
    "a program as a directory": (0x0131, 13, 1, b"\xff\xff\xff\xff"),
    "an unknown type": (0x010F, 99, 1, b"1234"),
    "4 billion letters": (0x010F, 2, 0xFFFFFFFF, b"1234"),
    "a directory at a fraction": (0x8769, 11, 1, struct.pack("<f", 0.5)),
    "a directory in itself": (0x8769, 4, 1, struct.pack("<I", 8)),
}


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("entry", ODD.values(), ids=ODD)
def test_odd_tags_of_exif_turn_the_image_and_refuse_nothing(tmp_path, entry, format_):
    options = {"lossless": True} if format_ == "WEBP" else {"quality": 98} if format_ == "JPEG" else {}
    Image.fromarray(PIXELS).save(tmp_path / "a", format_, exif=b"Exif\0\0" + exif(TURNED, entry), **options)
    check_turned(tmp_path / "a")


@pytest.mark.parametrize(
    "entry", [(0x0112, 4, 1, b"\6\0\0\0"), (0x0112, 1, 1, b"\6"), TURNED], ids=["LONG", "BYTE", "SHORT"]
)
def test_orientation_of_any_whole_type_is_read(tmp_path, entry):
    (tmp_path / "a.png").write_bytes(png(chunk(b"eXIf", exif(entry))))
    check_turned(tmp_path / "a.png")


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", exif((0x0112, 3, 1, b"\x09\0")), b"\0" * 99]
)
def test_exif_without_an_orientation_leaves_the_image_as_it_is(tmp_path, block):
    (tmp_path / "a.png").write_bytes(png(chunk(b"eXIf", block)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)


def test_pillow_image_with_odd_exif_is_taken(tmp_path):
    (tmp_path / "a.png").write_bytes(png(chunk(b"eXIf", exif(TURNED, ODD["a date as a double"]))))
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(as_image(opened), UPRIGHT)


def test_exif_of_20_megabytes_costs_no_second(tmp_path):
    (tmp_path / "a.png").write_bytes(png(chunk(b"eXIf", exif(TURNED, (0x9286, 7, 20_000_000, bytes(20_000_000))))))
    begin = time.process_time()
    check_turned(tmp_path / "a.png")
    assert time.process_time() - begin < 1


ORIENTED = chunk(b"eXIf", exif(TURNED))
RAW = b"\nexif\n  99\n" + exif(TURNED).hex().encode() + b"\n"  # as ImageMagick wrote EXIF before 2018
METADATA = {
    "text of 3 MB": [ORIENTED, chunk(b"tEXt", b"Comment\0" + bytes(3 << 20))],
    "text that is packed": [ORIENTED, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2 << 20)))] * 70],
    "XMP of 2 MB": [chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>' + b" " * (2 << 20))],
    "a profile of 3 MB": [ORIENTED, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(3 << 20)))],
    "a profile without its data": [chunk(b"iCCP", b"a\0"), ORIENTED],
    "text with a wrong checksum": [chunk(b"tEXt", b"a\0b", 1), ORIENTED],
    "a gamma with a wrong checksum": [chunk(b"gAMA", bytes(4), 1), ORIENTED],
    "transparency with a wrong checksum": [chunk(b"tRNS", b"\0\0\0\x00\0\xff", 1), ORIENTED],
    "EXIF with a wrong checksum": [chunk(b"eXIf", exif((0x0112, 3, 1, b"\x03\0")), 1), ORIENTED],
    "short chunks": [chunk(b"tIME", b"1"), chunk(b"pHYs", b"1"), chunk(b"sRGB", b""), chunk(b"acTL", b""), ORIENTED],
    "EXIF in text": [chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW))],
}


@pytest.mark.parametrize("chunks", METADATA.values(), ids=METADATA)
def test_png_is_read_whatever_its_metadata(tmp_path, chunks):
    for name, content in (("a.png", png(*chunks)), ("b.png", png(behind=chunks))):
        (tmp_path / name).write_bytes(content)
        check_turned(tmp_path / name)


def test_label_is_read_whatever_its_metadata(tmp_path):
    label = np.array([[0, 1, 2]], np.uint8)
    Image.fromarray(label).save(tmp_path / "l.png")
    content = (tmp_path / "l.png").read_bytes()
    (tmp_path / "l.png").write_bytes(content[:33] + chunk(b"tEXt", b"a\0" + bytes(2 << 20), 1) + content[33:])
    np.testing.assert_array_equal(read_label(tmp_path / "l.png"), label)


SEGMENTS = {
    "300 blocks of EXIF": [(0xE1, b"Exif\0\0" + exif(TURNED) + bytes(60_000))] * 300,
    "damaged lists of images and profiles": [
        (0xE1, b"Exif\0\0" + exif(TURNED)), (0xE2, b"MPF\0" + bytes(9)), (0xE2, b"ICC_PROFILE\0\1"),
        (0xED, b"Photoshop 3.0\0" + b"8BIM" * 9),
    ],
    "XMP": [(0xE1, b"http://ns.adobe.com/xap/1.0/\0<tiff:Orientation>6</tiff:Orientation>")],
}  # fmt: skip


@pytest.mark.parametrize("segments", SEGMENTS.values(), ids=SEGMENTS)
def test_jpeg_is_read_whatever_its_metadata(tmp_path, segments):
    (tmp_path / "a.jpg").write_bytes(jpeg(*segments))
    check_turned(tmp_path / "a.jpg")


def test_more_metadata_than_any_image_has_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(*[chunk(b"tEXt", b"a")] * 10_001))
    with pytest.raises(DataError, match="more than 10,000 pieces of metadata"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("place", [30, -25, -13], ids=["a pixel", "the sum of zlib", "the checksum"])
def test_changed_pixels_are_refused(tmp_path, place):
    content = bytearray(png())
    content[content.index(b"IDAT") + place if place > 0 else place] ^= 255
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="damaged or truncated"):
        read_image(tmp_path / "a.png")


def test_chunk_that_claims_gigabytes_is_refused(tmp_path):
    content = png()
    place = content.index(b"IDAT")
    (tmp_path / "a.png").write_bytes(content[: place - 4] + struct.pack(">I", 0x7FFFFFFF) + content[place:])
    with pytest.raises(DataError, match=r"damaged or truncated \(a chunk that is longer than the file\)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("turn", [3, 6])
def test_tiff_is_turned_once(tmp_path, turn):
    (tmp_path / "a.tif").write_bytes(tiff(PIXELS, t274=turn))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.rot90(PIXELS, -1 if turn == 6 else 2))
    facts = inspect_image(tmp_path / "a.tif")
    assert (facts.orientation, facts.stored_size) == (turn, (24, 40))


@pytest.mark.parametrize("read", [read_image, read_label, inspect_image])
def test_pipe_is_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"cannot read .*a\.png: expected a file, got a pipe; save it as a file"):
        read(tmp_path / "a.png")


def test_device_is_refused():
    with pytest.raises(DataError, match="expected a file, got a device"):
        read_image(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("head", "got"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", r"got HEIC; (pip install 'deeplabctl\[heif\]', or )?convert it to JPEG"),
        (tiff(PIXELS / 255.0), "got a TIFF of other samples; save it as RGB or grey of 8 or 16 bits"),
        (tiff(np.zeros((4, 4, 5), np.uint8), photometric=1, t338=[0] * 4), "got a TIFF of other samples"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path, head, got):
    (tmp_path / "a.jpg").write_bytes(head)
    with pytest.raises(DataError, match=got):
        read_image(tmp_path / "a.jpg")


def test_heic_is_read_and_its_loss_is_known(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    photo = Image.fromarray(np.repeat(np.repeat(np.uint8([[[200, 20, 20], [20, 20, 200]]]), 48, 0), 32, 1))
    heif.from_pillow(photo).save(tmp_path / "a.heic", quality=90)
    (tmp_path / "a.heic").rename(tmp_path / "a.jpg")  # the content counts
    found = read_image(tmp_path / "a.jpg")
    assert found.shape == (48, 64, 3)
    assert np.abs(found[24, [10, 50]].astype(int) - [[200, 20, 20], [20, 20, 200]]).max() < 12
    facts = inspect_image(tmp_path / "a.jpg")
    assert (facts.height, facts.width, facts.orientation) == (48, 64, 1)
    with pytest.raises(DataError, match="whose compression changes the ids"):
        read_label(tmp_path / "a.jpg")
    (tmp_path / "b.heic").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    with pytest.raises(DataError, match=r"b\.heic: expected"):
        read_image(tmp_path / "b.heic")


def test_heic_without_its_package_names_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(Image, "OPEN", {name: value for name, value in Image.OPEN.items() if name != "HEIF"})
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    with pytest.raises(DataError, match=r"got HEIC; pip install 'deeplabctl\[heif\]', or convert it to JPEG"):
        read_image(tmp_path / "a.heic")


def test_photo_that_this_user_may_not_read_is_refused_with_the_fix(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    wrong = "expected a file that this user may read, got 'Permission denied'; change its permissions, or leave it out"
    with closed(tmp_path), pytest.raises(DataError, match=wrong):
        read_image(tmp_path / "a.png")
