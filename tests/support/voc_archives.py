"""Make VOC's and SBD's archives in miniature, with the official structure."""

import io
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat

VOC_TRAIN, VOC_VAL = ["2007_000032", "2007_000039"], ["2007_000033", "2008_000005"]
SBD_TRAIN = ["2007_000032", "2008_000002", "2008_000003", "2008_000005"]  # one of VOC's train, one of its val
SBD_VAL = ["2008_000007", "2007_000033"]
SIZE = (20, 30)


def add_member(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def jpeg(name):
    color = tuple(hash_byte(name, k) for k in range(3))
    buffer = io.BytesIO()
    Image.new("RGB", SIZE[::-1], color).save(buffer, "JPEG")
    return buffer.getvalue()


def hash_byte(name, salt):
    return (sum(map(ord, name)) * 31 + salt * 77) % 256


def palette_png(value):
    """A mask as VOC has them: a class inside of a border of 255."""
    label = np.zeros(SIZE, np.uint8)
    label[4:16, 4:16] = 255
    label[6:14, 6:14] = value
    image = Image.fromarray(label).convert("P")
    image.putpalette([k // 3 for k in range(768)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def mat(value):
    """A mask as SBD has them: MATLAB, GTcls.Segmentation, without void."""
    segmentation = np.zeros(SIZE, np.uint8)
    segmentation[5:15, 5:15] = value
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": {"Boundaries": np.zeros(SIZE), "Segmentation": segmentation, "CategoriesPresent": value}})
    return buffer.getvalue()


def voc_files():
    root = "VOCdevkit/VOC2012"
    ids = sorted({*VOC_TRAIN, *VOC_VAL, *SBD_TRAIN, *SBD_VAL, "2009_000001"})  # the last has no mask anywhere
    files = {f"{root}/Annotations/{name}.xml": b"<annotation/>" for name in ids}
    for split, names in (("train", VOC_TRAIN), ("val", VOC_VAL), ("trainval", sorted(VOC_TRAIN + VOC_VAL))):
        files[f"{root}/ImageSets/Segmentation/{split}.txt"] = "".join(f"{name}\n" for name in names).encode()
        files[f"{root}/ImageSets/Main/{split}.txt"] = b"2009_000001\n"
    files |= {f"{root}/JPEGImages/{name}.jpg": jpeg(name) for name in ids}
    files |= {f"{root}/SegmentationClass/{name}.png": palette_png(3) for name in VOC_TRAIN + VOC_VAL}
    files |= {f"{root}/SegmentationObject/{name}.png": palette_png(1) for name in VOC_TRAIN + VOC_VAL}
    return files


def sbd_files():
    root = "benchmark_RELEASE/dataset"
    files = {f"{root}/cls/{name}.mat": mat(7) for name in SBD_TRAIN + SBD_VAL}
    files |= {f"{root}/inst/{name}.mat": mat(1) for name in SBD_TRAIN + SBD_VAL}
    files |= {f"{root}/img/{name}.jpg": jpeg(name) for name in SBD_TRAIN + SBD_VAL}
    files[f"{root}/._train.txt"] = b"\x00\x05\x16\x07"
    files["benchmark_RELEASE/benchmark_code_RELEASE/train.txt"] = b"no list\n"
    for split, names in (("train", SBD_TRAIN), ("val", SBD_VAL)):
        files[f"{root}/{split}.txt"] = "".join(f"{name}\n" for name in names).encode()
    return files


def write_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            add_member(tar, name, content)
    return path


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
