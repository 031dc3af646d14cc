"""Damage a data set of `make_dataset` in one way each: for errors first, then for notes."""

import shutil

import numpy as np
from PIL import Image

from deeplabctl.data.labels import read_label, write_mask


def label_file(root, name):
    return root / "SegmentationClass" / f"{name}.png"


def image_file(root, name):
    return root / "JPEGImages" / f"{name}.png"


def list_file(root, split):
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def with_orientation(path, orientation, image=None):
    """Store an image with an EXIF orientation, its pixels as they are."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = image or Image.open(path).copy()
    image.save(path, exif=exif)


def label_in_colors(root):
    with Image.open(label_file(root, "t1")) as mask:
        mask.convert("RGB").save(label_file(root, "t1"))


def label_in_unknown_colors(root):
    image = Image.new("RGB", (80, 60), (1, 2, 3))
    image.save(label_file(root, "v1"))


def label_in_grey_levels(root):
    with Image.open(label_file(root, "t1")) as mask:
        mask.convert("L").save(label_file(root, "t1"))


def black_and_white_label(root):
    Image.fromarray(((read_label(label_file(root, "t1")) > 0) * 255).astype(np.uint8)).save(label_file(root, "t1"))


def out_of_range(root):
    label = read_label(label_file(root, "v1"))
    label[5, 5] = 37
    write_mask(label_file(root, "v1"), label)


def too_few_names(root):
    for path in (root / "SegmentationClass").iterdir():
        write_mask(path, np.full((60, 80), 2 if path.stem == "t0" else 1, np.uint8))
    (root / "classes.txt").write_text("background\ndisc\n")


def label_of_16_bits(root):
    Image.fromarray(np.full((60, 80), 300, np.uint16)).save(label_file(root, "t1"))


def label_of_another_size(root):
    write_mask(label_file(root, "t1"), np.zeros((61, 80), np.uint8))


def image_turned_by_exif(root):
    with_orientation(image_file(root, "t1"), 6)


def label_as_jpeg(root):
    with Image.open(label_file(root, "t1")) as mask:
        image = Image.fromarray(np.asarray(mask))
    image.save(label_file(root, "t1"), format="JPEG")


def image_cut_off(root):
    whole = image_file(root, "v1").read_bytes()
    image_file(root, "v1").write_bytes(whole[: len(whole) // 2])


def jpeg_cut_off(root):
    image_file(root, "t1").unlink()
    path = root / "JPEGImages" / "t1.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-900])


def label_cut_off(root):
    whole = label_file(root, "t1").read_bytes()
    label_file(root, "t1").write_bytes(whole[: len(whole) - 40])


def empty_image(root):
    image_file(root, "t1").write_bytes(b"")


def web_page(root):
    label_file(root, "t1").write_bytes(b"<!DOCTYPE html>")


def image_missing(root):
    image_file(root, "t1").unlink()


def image_linked_to_nothing(root):
    image_file(root, "t1").unlink()
    image_file(root, "t1").symlink_to("gone.png")


def label_linked_to_nothing(root):
    label_file(root, "t1").unlink()
    label_file(root, "t1").symlink_to("gone.png")


def label_as_gif(root):
    with Image.open(label_file(root, "t1")) as label:
        label.save(label_file(root, "t1"), format="GIF")


def two_labels_of_one_name(root):
    label_file(root, "t1").with_suffix(".PNG").write_bytes(label_file(root, "t1").read_bytes())


def label_missing(root):
    label_file(root, "v1").unlink()


def label_of_another_format(root):
    label_file(root, "t1").rename(root / "SegmentationClass" / "t1.bmp")


def three_columns(root):
    list_file(root, "train").write_text("t0\nmy photo t1\n")


def path_missing(root):
    list_file(root, "val").write_text("/JPEGImages/v0.png /SegmentationClass/gone.png\n")


def empty_list(root):
    list_file(root, "val").write_text("\n")


def list_without_text(root):
    list_file(root, "train").write_bytes(b"\xff\xfe\x00t\x000")


def only_void_in_val(root):
    for name in ("v0", "v1", "v2"):
        write_mask(label_file(root, name), np.full((60, 80), 255, np.uint8))


# What is only worth a note.


def windows_lines(root):
    list_file(root, "train").write_bytes(b"\xef\xbb\xbft0\r\nt1\r\nt2\r\nt3\r\nt4\r\nt5")


def leading_slashes(root):
    names = [f"/JPEGImages/v{n}.png /SegmentationClass/v{n}.png\n" for n in range(3)]
    list_file(root, "val").write_text("".join(names))


def same_content_in_both_splits(root):
    shutil.copy(image_file(root, "t4"), image_file(root, "v2"))
    shutil.copy(label_file(root, "t4"), label_file(root, "v2"))


def same_id_in_both_splits(root):
    list_file(root, "val").write_text("v0\nv1\nv2\nt3\n")


def id_twice(root):
    list_file(root, "train").write_text("t0\nt1\nt2\nt3\nt4\nt5\nt1\n")


def class_without_a_label(root):
    (root / "classes.txt").write_text("background\ndisc\nsquare\nunicorn\n")


def orientation_that_sizes_do_not_show(root):
    with_orientation(image_file(root, "t1"), 3)


def transparent_image(root):
    Image.new("RGBA", (80, 60), (1, 2, 3, 4)).save(image_file(root, "t1"))


def unlisted_image(root):
    shutil.copy(image_file(root, "t1"), root / "JPEGImages" / "extra.png")


def two_images_of_one_name(root):
    Image.new("RGB", (80, 60)).save(root / "JPEGImages" / "t1.jpg")


def no_validation_list(root):
    list_file(root, "val").unlink()
