"""Write sound data sets and annotations for the fuzz, read changed ones, and check what is made of them."""

import base64
import csv
import io
import json
import shutil

import numpy as np
from annotation_files import png_base64, write_coco, write_image, write_labelme
from dataset_files import make_dataset
from PIL import Image, ImageCms
from voc_archives import sbd_files, voc_files, write_tar

from deeplabctl.class_files import parse_class_names, read_classes, read_palette
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.augmented_voc import prepare_voc
from deeplabctl.data.check import check_dataset
from deeplabctl.data.convert import write_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.fixing import write_fixed_copy
from deeplabctl.data.formats import read_annotations
from deeplabctl.data.formats.annotations import ImportSettings
from deeplabctl.data.formats.label_studio import pack
from deeplabctl.data.formats.supervisely import supervisely_document, supervisely_meta
from deeplabctl.data.images import read_image
from deeplabctl.data.inspection import InspectionCache, check_files, check_samples, inspect_image, inspect_label
from deeplabctl.data.labels import mask_bytes, read_label
from deeplabctl.errors import DeepLabError
from deeplabctl.evaluation.masks import score_masks
from deeplabctl.reporting import silent
from deeplabctl.reports.data_sets import draw_samples
from deeplabctl.training.checkpoint import fingerprint


def palette_image(label):
    """Return class ids as a Pillow image with a palette."""
    return Image.open(io.BytesIO(mask_bytes(label)))


def write_images(folder):
    values = np.random.default_rng(1).integers(0, 255, (20, 30, 4)).astype(np.uint8)
    rgb, rgba, grey = Image.fromarray(values[..., :3]), Image.fromarray(values), Image.fromarray(values[..., 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb.save(folder / "rgb.png")
    rgba.save(folder / "rgba.png", exif=exif, icc_profile=profile)
    rgb.quantize(9).save(folder / "palette.png", transparency=3)
    grey.convert("1").save(folder / "bits.png")
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(folder / "16bit.png")
    rgb.save(folder / "baseline.jpg", exif=exif)
    rgb.save(folder / "progressive.jpg", progressive=True, icc_profile=profile)
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    Image.new("RGB", (3, 40), "red").save(folder / "narrow.jpg")
    rgb.save(folder / "photo.webp")
    rgba.save(folder / "lossless.webp", lossless=True)
    rgb.save(folder / "photo.bmp")
    rgb.save(folder / "lzw.tif", compression="tiff_lzw", exif=exif)
    Image.fromarray(values[..., 0].astype(np.float32) / 255).save(folder / "floats.tiff")
    grey.save(folder / "frames.tiff", save_all=True, append_images=[grey])


def read_image_file(folder, path, out):
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    facts = inspect_image(path)
    assert (facts.height, facts.width) == image.shape[:2]
    assert image.size


def write_labels(folder):
    label = np.zeros((20, 30), np.uint8)
    label[5:15, 5:20] = 2
    label[4, 4:20] = 255
    palette_image(label).save(folder / "palette.png")
    Image.fromarray(label).save(folder / "grey.png")
    Image.fromarray((label == 2) * np.uint8(1)).convert("1").save(folder / "bits.png")
    Image.fromarray(label.astype(np.uint16)).save(folder / "16bit.png")
    palette_image(np.minimum(label, 3)).save(folder / "2bit.png", bits=2)
    palette_image(np.minimum(label, 15)).save(folder / "4bit.png", bits=4)
    palette_image(label).save(folder / "transparent.png", transparency=0)


def read_label_file(folder, path, out):
    label = read_label(path)
    assert label.dtype == np.uint8
    assert label.ndim == 2
    facts = inspect_label(path)
    assert (facts.height, facts.width) == label.shape
    assert sum(facts.pixels.values()) == label.size > 0


def write_class_files(folder):
    (folder / "classes.txt").write_text("# names\nbackground\ncar\n\ntraffic light\nlane 1 2 3\n")
    (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:128,0,0::\n")
    (folder / "colors.txt").write_text("64 128 64\tAnimal\n192 0 128\tArchway\n0 0 0\tVoid\n")
    (folder / "hex.txt").write_text("road #804080\nsky 70\nvoid 0 0 0\n")


def read_class_file(folder, path, out):
    read = []
    for reader in (read_classes, lambda file: read_palette(file).names, lambda file: parse_class_names(str(file))):
        try:
            read.append(reader(path))
        except DeepLabError:
            continue
    for names in read:
        assert 2 <= len(names) <= IGNORE_LABEL
        assert len(set(names)) == len(names)
        assert all(name.strip() == name != "" for name in names), names
    if not read:
        read_classes(path)


def write_set(folder):
    make_dataset(folder, train=3, val=2, size=(20, 30))
    lists = folder / "ImageSets" / "Segmentation"
    pairs = "".join(f"/JPEGImages/t{n}.png /SegmentationClass/t{n}.png\n" for n in range(3))
    (lists / "train_pairs.txt").write_text(pairs)


def check_set(folder, path, out):
    dataset = open_dataset(folder)
    verdict = check_dataset(dataset, silent)
    for finding in verdict.findings:
        assert "\n" not in str(finding)
    for split in dataset.splits:
        try:
            samples = dataset.samples(split)
            facts = check_files(dataset, samples, silent)
        except DeepLabError:
            assert verdict.errors, "the check found nothing that stops a training"
            continue
        fingerprint(samples, facts)
        for label, _ in facts:
            assert set(label.pixels) <= {*range(len(dataset.classes)), IGNORE_LABEL}
        assert draw_samples(dataset, samples, 2).dtype == np.uint8
    write_fixed_copy(dataset, verdict, out, silent, overwrite=False)


def write_set_and_cache(folder):
    make_dataset(folder / "set", train=2, val=1, size=(20, 30))
    dataset = open_dataset(folder / "set")
    check_samples(dataset, dataset.samples("train"), silent)
    shutil.move(InspectionCache(dataset.root).path, folder / "cache.json")


def check_set_with_cache(folder, path, out):
    dataset = open_dataset(folder / "set")
    cache = InspectionCache(dataset.root).path
    cache.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, cache)
    for sample, facts in zip(
        dataset.samples("train"), check_files(dataset, dataset.samples("train"), silent), strict=True
    ):
        fingerprint([sample], [facts])
        assert all(isinstance(value, int) for pair in facts[0].pixels.items() for value in pair)


def write_predictions(folder):
    make_dataset(folder / "set", train=1, val=2, size=(20, 30))
    (folder / "masks").mkdir()
    for name in ("v0", "v1"):
        palette_image(np.ones((20, 30), np.uint8)).save(folder / "masks" / f"{name}.png")


def score_predictions(folder, path, out):
    dataset = open_dataset(folder / "set")
    result = score_masks(folder / "masks", dataset, dataset.samples("val"))
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.scores.images + len(result.faults) == 2


def write_coco_set(folder):
    square = [2, 2, 9, 2, 9, 9, 2, 9]
    write_coco(
        folder,
        [
            {"category_id": 1, "segmentation": [square], "area": 49, "iscrowd": 0, "bbox": [2, 2, 7, 7]},
            {"category_id": 3, "segmentation": {"counts": [20, 30, 142], "size": [12, 16]}, "iscrowd": 1},
            {"category_id": 3, "segmentation": {"counts": "T1n0j3", "size": [12, 16]}, "image_id": 8, "area": 5.5},
        ],
        images=("a.jpg", "b.jpg"),
    )


def write_labelme_set(folder):
    polygon = {"label": "car", "shape_type": "polygon", "points": [[2, 2], [9, 2.5], [9, 9]]}
    circle = {"label": "tree", "shape_type": "circle", "points": [[8, 6], [10, 6]]}
    box = {"label": "_background_", "shape_type": "rectangle", "points": [[0, 0], [3, 3]]}
    mask = np.zeros((4, 5), np.uint8)
    mask[1:3, 1:4] = 1
    drawn = {"label": "car", "shape_type": "mask", "points": [[3, 4], [7, 7]], "mask": png_base64(mask)}
    write_labelme(folder, [polygon, circle, box])
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), "blue").save(buffer, "PNG")
    inside = base64.b64encode(buffer.getvalue()).decode()
    write_labelme(folder, [drawn, polygon], name="b", imageData=inside, imagePath="b.png")


def write_cvat_set(folder):
    write_image(folder / "images" / "a.png")
    write_image(folder / "images" / "b.png", shade=91)
    (folder / "annotations.xml").write_text(
        """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>car</name></label><label><name>tree</name></label></labels></task></meta>
<image id="0" name="images/a.png" width="16" height="12">
<polygon label="car" occluded="0" points="2.5,2.0;9.5,2.0;9.0,9.0" z_order="1"></polygon>
<box label="tree" xtl="1" ytl="1" xbr="5" ybr="6" rotation="30" z_order="0"></box>
<ellipse label="tree" cx="8" cy="6" rx="3" ry="2" z_order="2"></ellipse>
<points label="car" points="1,2"></points></image>
<image id="1" name="b.png" width="16" height="12">
<mask label="car" rle="2, 3, 5, 2" left="1" top="2" width="4" height="3" z_order="0"></mask></image>
</annotations>
"""
    )


def write_yolo_set(folder):
    for number, part in enumerate(("train/a", "train/b", "val/c")):
        write_image(folder / "images" / f"{part}.png", shade=90 + number)
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "labels" / "val").mkdir()
    (folder / "labels" / "train" / "a.txt").write_text("0 .1 .1 .6 .1 .6 .7\n1 0.5 0.5 0.9 0.5 0.9 0.9 0.5 0.9\n")
    (folder / "labels" / "train" / "b.txt").write_text("1 0.2 0.2 0.7 0.2 0.7 0.8 0.2 0.9\n0 0.5 0.5 0.25 0.25\n")
    (folder / "labels" / "val" / "c.txt").write_text("0 0.25 0.25 0.75 0.25 0.5 0.75\n")
    (folder / "data.yaml").write_text(
        "path: .  # of the set\ntrain: images/train\nval: images/val\nnc: 2\nnames:\n  0: car\n  1: 'a tree'\n"
    )


def write_label_studio_set(folder):
    places = {"original_width": 16, "original_height": 12, "image_rotation": 0}
    box = {"x": 20, "y": 25.5, "width": 30, "height": 50, "rotation": 30}
    corners = {"points": [[10, 10], [60, 10], [60.5, 70]], "closed": True}
    mask = np.zeros((12, 16), bool)
    mask[3:8, 4:11] = True
    shapes = (
        ("brushlabels", {"format": "rle", "rle": pack(mask), "brushlabels": ["car"]}),
        ("polygonlabels", corners | {"polygonlabels": ["a tree"]}),
        ("rectanglelabels", box | {"rectanglelabels": ["car"]}),
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 20, "radiusY": 30, "ellipselabels": ["a tree"]}),
    )
    results = [{"id": kind[:5], "type": kind, **places, "value": value} for kind, value in shapes]
    tasks = []
    for number, (name, result) in enumerate((("a b.png", results[:2]), ("b.png", results[2:])), 1):
        write_image(folder / "images" / name, shade=90 + number)
        address = f"/data/local-files/?d=images/{name.replace(' ', '%20')}"
        done = [{"id": number, "was_cancelled": False, "ground_truth": False, "result": result}]
        tasks.append({"id": number, "annotations": done, "predictions": [], "data": {"image": address}})
    (folder / "project.json").write_text(json.dumps(tasks))


def write_supervisely_set(folder):
    label = np.zeros((12, 16), np.uint8)
    label[3:8, 4:11] = 1
    polygon = {"exterior": [[2, 2], [9, 2], [9, 9]], "interior": [[[5, 4], [6, 4], [6, 5]]]}
    box = {"exterior": [[1, 1], [5, 6]], "interior": []}
    outlines = [
        {"classTitle": "a tree", "geometryType": kind, "points": points, "tags": []}
        for kind, points in (("polygon", polygon), ("rectangle", box))
    ]
    bitmaps = supervisely_document(label, ("background", "car"))
    documents = {"a.png": bitmaps, "b.png": {"size": {"height": 12, "width": 16}, "objects": outlines}}
    (folder / "day 1" / "ann").mkdir(parents=True)
    for number, (name, document) in enumerate(documents.items()):
        write_image(folder / "day 1" / "img" / name, shade=90 + number)
        (folder / "day 1" / "ann" / f"{name}.json").write_text(json.dumps(document))
    (folder / "meta.json").write_text(json.dumps(supervisely_meta(("background", "car", "a tree"))))


def write_via_set(folder):
    shapes = (
        {"name": "polygon", "all_points_x": [2, 9, 9.5], "all_points_y": [2, 2, 9]},
        {"name": "rect", "x": 1, "y": 1, "width": 5, "height": 6},
        {"name": "circle", "cx": 8, "cy": 6, "r": 3.5},
        {"name": "ellipse", "cx": 8, "cy": 6, "rx": 3, "ry": 2, "theta": 0.5},
    )
    regions = [
        {"shape_attributes": shape, "region_attributes": {"class": ("car", "a tree")[number % 2]}}
        for number, shape in enumerate(shapes)
    ]
    images = {}
    for name, part in (("a.png", regions[:2]), ("b.png", regions[2:])):
        size = write_image(folder / "images" / name, shade=ord(name[0])).stat().st_size
        images[f"{name}{size}"] = {"filename": name, "size": size, "regions": part, "file_attributes": {}}
    (folder / "via.json").write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": images}))
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    rows = [
        [image["filename"], image["size"], "{}", len(image["regions"]), number, *map(json.dumps, region.values())]
        for image in images.values()
        for number, region in enumerate(image["regions"])
    ]
    with (folder / "via.csv").open("w", newline="") as file:
        file.write(f"{header}\n")
        csv.writer(file).writerows(rows)


def convert_file(folder, path, out):
    """Convert the changed file itself, in place of the folder that it is in."""
    convert_set(path, path, out)


def convert_set(folder, path, out):
    """Convert with the classes that the file names, and with those that are given."""
    for settings in (
        ImportSettings(),
        ImportSettings(classes=("background", "car", "tree"), outside="void", rename={"a tree": "tree"}),
    ):
        _convert(folder, settings, out)
        shutil.rmtree(out)


def write_color_masks(folder):
    (folder / "masks").mkdir()
    for name in ("a", "b"):
        write_image(folder / "images" / f"{name}.png")
        values = np.zeros((12, 16, 3), np.uint8)
        values[3:9, 4:9] = (128, 0, 0)
        Image.fromarray(values).save(folder / "masks" / f"{name}.png")
    (folder / "palette.txt").write_text("background 0 0 0\ncar 128 0 0\nvoid 255 255 255\n")


def convert_masks(folder, path, out):
    _convert(folder / "masks", ImportSettings(palette=read_palette(folder / "palette.txt"), unknown="void"), out)


def _convert(source, settings, out):
    """Convert, and check that what is written is a sound data set."""
    annotations = read_annotations(source, settings, silent)
    written = write_dataset(annotations, out, silent, val=0.5)
    for reason in written.failed:
        assert "\n" not in reason, reason
        assert reason.isprintable(), reason
    dataset = open_dataset(out)
    assert dataset.classes == written.classes
    verdict = check_dataset(dataset, silent)
    assert not verdict.errors, [str(finding) for finding in verdict.findings]
    listed = [sample.id for split in dataset.splits for sample in dataset.samples(split)]
    assert sorted(listed) == sorted(written.train + written.val) != []
    assert not list(out.rglob(".*")), "hidden files are left"


def write_archives(folder):
    write_tar(folder / "voc.tar", voc_files())
    write_tar(folder / "sbd.tgz", sbd_files(), "w:gz")


def prepare(folder, path, out):
    prepare_voc(folder / "voc.tar", folder / "sbd.tgz", out, silent, any_counts=True)
    dataset = open_dataset(out)
    for split in dataset.splits:
        for sample in dataset.samples(split):
            assert sample.image.is_file()
