"""VIA's regions become data sets, and labels become projects of VIA."""

import csv
import json

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_image, written_label

from deeplabctl.data.formats.via import via_file, via_regions
from deeplabctl.errors import DataError


def region(name, named=None, **numbers):
    return {
        "shape_attributes": {"name": name, **numbers},
        "region_attributes": {"class": "lake"} if named is None else named,
    }


SQUARE = region("rect", x=0, y=0, width=8, height=6)


def write_via(folder, images, *, project=True, path="via.json"):
    """Write images with these regions; returns the file."""
    entries = {}
    for name, regions in images.items():
        size = write_image(folder / name, shade=ord(name[0])).stat().st_size
        entries[f"{name}{size}"] = {"filename": name, "size": size, "regions": regions, "file_attributes": {}}
    document = {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {}} if project else entries
    (folder / path).write_text(json.dumps(document))
    return folder / path


@pytest.mark.parametrize("project", [True, False])
def test_shapes_lie_on_one_another_in_their_order(tmp_path, project):
    regions = [
        region("polygon", {"class": "wood"}, all_points_x=[0, 16, 16, 0], all_points_y=[6, 6, 12, 12]),
        SQUARE,
        region("circle", {"class": "moon"}, cx=12.5, cy=3.5, r=1),
        region("ellipse", {"class": "moon"}, cx=4.5, cy=8.5, rx=2, ry=1, theta=np.pi / 2),
        region("polyline", all_points_x=[0, 9], all_points_y=[0, 9]),
        region("point", cx=1, cy=1),
    ]
    written, notes = convert(write_via(tmp_path, {"a.jpg": regions}, project=project), tmp_path / "out")
    assert written.classes == ("background", "lake", "moon", "wood")
    expected = np.zeros(SIZE, int)
    expected[6:] = 3
    expected[:6, :8] = 1
    expected[3, 11:14] = expected[2:5, 12] = 2
    expected[6:11, 4] = expected[8, 3:6] = 2  # turned by a quarter
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)
    assert notes == ["lines, points and other shapes without an area: 2 skipped"]


def test_outlines_beyond_an_image_whose_size_is_not_given_are_refused(tmp_path):
    regions = [region("rect", x=1, y=1, width=17, height=3), region("rect", x=1, y=1, width=20, height=3)]
    written, _ = convert(write_via(tmp_path, {"a.jpg": regions[:1], "b.jpg": regions}), tmp_path / "out")
    assert written.train == ["a"]
    assert "expected an outline in the image of 16x12 pixels, got x from 1 to 21" in written.failed[0]


def test_exports_of_version_1_and_csv_are_the_same(tmp_path):
    images = {"a.jpg": [SQUARE], "b.jpg": []}
    path = write_via(tmp_path, images, project=False)
    document = json.loads(path.read_text())
    with (tmp_path / "via.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["#filename", "file_size", "file_attributes", "region_count", "region_id",
                         "region_shape_attributes", "region_attributes"])  # fmt: skip
        for entry in document.values():
            cells = [entry["filename"], entry["size"], "{}", len(entry["regions"])]
            for number, each in enumerate(entry["regions"]):
                parts = json.dumps(each["shape_attributes"]), json.dumps(each["region_attributes"])
                writer.writerow([*cells, number, *parts])
            if not entry["regions"]:
                writer.writerow([*cells, 0, "{}", "{}"])
            entry["regions"] = {str(number): each for number, each in enumerate(entry["regions"])}
    path.write_text(json.dumps(document))
    for source in (path, tmp_path / "via.csv"):
        written, _ = convert(source, tmp_path / source.suffix[1:])
        assert (written.train, written.pixels[1]) == (["a", "b"], 48)


def test_class_is_the_only_attribute_or_the_one_that_was_named(tmp_path):
    several = region("rect", {"name": "lake", "quality": "good", "note": ""}, x=0, y=0, width=8, height=6)
    source = write_via(tmp_path, {"a.jpg": [several]})
    with pytest.raises(DataError, match="one attribute, their class, got name, quality; use `attribute` to say which"):
        convert(source, tmp_path / "out")
    assert convert(source, tmp_path / "1", attribute="name")[0].classes == ("background", "lake")
    checkbox = region("rect", {"kind": {"lake": True, "wood": False}}, x=0, y=0, width=8, height=6)
    assert convert(write_via(tmp_path, {"a.jpg": [checkbox]}), tmp_path / "2")[0].classes == ("background", "lake")


@pytest.mark.parametrize(("kind", "value"), [("dropdown", "1"), ("radio", "1"), ("checkbox", {"1": True, "2": False})])
def test_descriptions_of_a_projects_options_are_the_classes(tmp_path, kind, value):
    objects = [
        region("rect", {"kind": value}, x=0, y=0, width=8, height=6),
        region("rect", {"kind": {"2": True} if kind == "checkbox" else "2"}, x=8, y=0, width=4, height=6),
    ]
    source = write_via(tmp_path, {"a.jpg": objects})
    document = json.loads(source.read_text())
    document["_via_attributes"] = {"region": {"kind": {"type": kind, "options": {"1": "lake", "2": ""}}}, "file": {}}
    source.write_text(json.dumps(document))
    written, _ = convert(source, tmp_path / "out")
    assert (written.classes, written.pixels) == (("background", "2", "lake"), {0: 120, 1: 24, 2: 48})


def test_regions_without_attributes_need_one_class(tmp_path):
    source = write_via(tmp_path, {"a.jpg": [region("rect", {}, x=0, y=0, width=8, height=6)]})
    with pytest.raises(DataError, match="regions with an attribute that is their class, got none; use `classes`"):
        convert(source, tmp_path / "out")
    written, _ = convert(source, tmp_path / "out", classes=("background", "balloon"))
    assert written.pixels == {0: 144, 1: 48}
    source = write_via(tmp_path, {"a.jpg": []})
    written, _ = convert(source, tmp_path / "empty", classes=("background", "balloon", "kite"))
    assert written.pixels == {0: 192}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (region("rect", {"class": ""}, x=0, y=0, width=1, height=1), "region 1 of a.jpg: expected one class, got none"),
        (region("rect", {"class": {"a": 1, "b": 1}}, x=0, y=0, width=1, height=1), "expected one class, got a and b"),
        (region("cube", x=1), "region 1 of a.jpg: expected a polygon, a rectangle, a circle or an ellipse, got 'cube'"),
        (region("rect", x=1), "region 1 of a.jpg: expected 'y', got none"),
        (region("polygon", all_points_x=[0, 1, 2], all_points_y=[0, 1]), "region 1 of a.jpg"),
        (region("polygon", all_points_x=1.5, all_points_y=[0, 1]), "region 1 of a.jpg"),
        (region("rect", x=1, y=1, width=40, height=1), "an outline in the image of 16x12 pixels, got x from 1 to 41"),
        (region("rect", x=90, y=0, width=1, height=1), "region 1 of a.jpg: expected an outline in the image of 16x12"),
    ],
)  # fmt: skip
def test_odd_regions_fail_alone(tmp_path, entry, message):
    written, _ = convert(write_via(tmp_path, {"a.jpg": [entry], "b.jpg": [SQUARE]}), tmp_path / "out")
    assert written.train == ["b"]
    (failed,) = written.failed
    assert message in failed


def test_file_of_another_number_of_bytes_is_said(tmp_path):
    source = write_via(tmp_path, {"a.jpg": [SQUARE], "b.jpg": [SQUARE]})
    write_image(tmp_path / "b.jpg", size=(24, 32))
    _, notes = convert(source, tmp_path / "out")
    assert notes[0].startswith("image files whose size in bytes has changed since they were annotated: 1 (b.jpg); if")


def test_projects_of_version_3_are_refused(tmp_path):
    (tmp_path / "via.json").write_text('{"project": {}, "config": {}, "file": {}, "metadata": {}, "view": {}}')
    with pytest.raises(DataError, match=r"via\.json: .* got a project of VIA 3"):
        convert(tmp_path / "via.json", tmp_path / "out")


@pytest.mark.parametrize("names", [("background", "car", "tree"), ("sky", "car", "tree")])
def test_projects_are_read_back_as_the_same_labels(tmp_path, names):
    rng = np.random.default_rng(0)
    labels = {name: rng.choice([0, 1, 2], SIZE, p=[0.4, 0.4, 0.2]).astype(np.uint8) for name in ("a", "b")}
    for label in labels.values():
        label[:2, :2] = 0  # a region in the first pixel alone may be shares of the size
    paths = [write_image(tmp_path / "photos" / f"{name}.jpg", shade=ord(name)) for name in labels]
    with via_file(tmp_path / "via.json", names, paths) as add:
        for path, label in zip(paths, labels.values(), strict=True):
            add(path, label.shape, via_regions(label, names, 0))
    document = json.loads((tmp_path / "via.json").read_text())
    assert document["_via_image_id_list"] == [*document["_via_img_metadata"]]
    assert document["_via_settings"]["project"] == {"name": "deeplabctl"}  # not that of an unfinished file
    options = document["_via_attributes"]["region"]["class"]["options"]
    assert [*options.values()] == [*names[names[0] == "background" :]]  # what VIA names COCO's categories by
    more = {"outside": "void", "classes": names} if names[0] == "sky" else {}
    written, notes = convert(tmp_path / "via.json", tmp_path / "out", images=tmp_path / "photos", **more)
    assert (written.classes, notes) == (names, [])
    for name, label in labels.items():
        np.testing.assert_array_equal(written_label(tmp_path / "out", name), label)


def test_outlines_of_any_length_in_csv_are_read(tmp_path):
    write_image(tmp_path / "a.jpg")
    around = [0] * 20_000 + [8, 8, 0], [0] * 20_001 + [6, 6]  # 160,000 characters, more than csv takes by itself
    shape = {"name": "polygon", "all_points_x": around[0], "all_points_y": around[1]}
    with (tmp_path / "via.csv").open("w", newline="") as file:
        file.write("filename,file_size,region_count,region_id,region_shape_attributes,region_attributes\n")
        csv.writer(file).writerow(["a.jpg", -1, 1, 0, json.dumps(shape), '{"class": "lake"}'])
    assert convert(tmp_path / "via.csv", tmp_path / "out")[0].pixels == {0: 144, 1: 48}


def test_a_folder_may_be_named_like_a_file(tmp_path):
    write_image(tmp_path / "a.csv" / "a.png")
    with pytest.raises(DataError, match="expected photos with masks or annotations"):
        convert(tmp_path / "a.csv", tmp_path / "out")
