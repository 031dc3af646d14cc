"""Small files that claim or hide gigabytes are refused, without taking them."""

import base64
import gzip
import io
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from annotation_files import write_coco, write_image, write_labelme
from bombs import HUGE, jpeg, png, read_in_little_memory, sparse, tar_header, tar_of_zeros, zeros, zipped
from caffe_bytes import block
from voc_archives import sbd_files, voc_files, write_tar

MOST = 400 << 20  # bytes that a reader may take before it refuses
SQUARE = [2, 2, 9, 2, 9, 9, 2, 9]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts memory in /proc")


def pictures(folder):
    packed = zeros()
    texts = {
        "sizes.png": png(60_000, 60_000),
        "data.png": png(100, 100, data=packed),  # of which only the beginning is read
        "text.png": png(10, 10, (b"zTXt", b"a\0\0" + packed)),
        "profile.png": png(10, 10, (b"iCCP", b"a\0\0" + packed)),
        "sizes.jpg": jpeg(65_500, 65_500),
    }
    for name, content in texts.items():
        (folder / name).write_bytes(content)
        yield "deeplabctl.data.images:read_image", folder / name
        yield "deeplabctl.data.inspection:inspect_image", folder / name


def texts(folder):
    for name, reader in (
        ("classes.txt", "deeplabctl.class_files:read_classes"),
        ("palette.txt", "deeplabctl.class_files:read_palette"),
        ("table.csv", "deeplabctl.crf.search_grid:best_of_table"),
        ("net.prototxt", "deeplabctl.caffe.prototxt:read_prototxt"),
    ):
        sparse(folder / name)
        yield reader, folder / name


def annotations(folder):
    coco = write_coco(folder / "sizes", [{"category_id": 1, "segmentation": [SQUARE]}])
    document = json.loads(coco.read_text())
    document["images"][0] |= {"height": HUGE, "width": HUGE}
    coco.write_text(json.dumps(document))
    yield "bombs:convert", coco, folder / "out"
    runs = {"counts": [0, HUGE * HUGE], "size": [HUGE, HUGE]}
    yield "bombs:convert", write_coco(folder / "runs", [{"category_id": 1, "segmentation": runs}]), folder / "out"
    shape = {"label": "car", "shape_type": "polygon", "points": [[2, 2], [9, 2.5], [9, 9]]}
    yield (
        "bombs:convert",
        write_labelme(folder / "labelme", [shape], imageHeight=HUGE, imageWidth=HUGE),
        folder / "out",
    )
    inside = base64.b64encode(png(60_000, 60_000)).decode()
    yield "bombs:convert", write_labelme(folder / "inside", [shape], imageData=inside), folder / "out"
    write_image(folder / "cvat" / "a.png")
    objects = '<box label="car" xtl="1" ytl="1" xbr="5" ybr="6"/><box label="tree" xtl="1" ytl="1" xbr="5" ybr="6"/>'
    mask = f'<mask label="car" rle="0, {HUGE * HUGE}" left="1" top="2" width="{HUGE}" height="{HUGE}"/>'
    for name, size, drawn in (("sizes", HUGE, objects), ("mask", 16, objects + mask)):
        path = folder / "cvat" / f"{name}.xml"
        path.write_text(
            f'<annotations><image name="a.png" width="{size}" height="{size}">{drawn}</image></annotations>'
        )
        yield "bombs:convert", path, folder / "out"
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    path = folder / "cvat" / "entities.xml"
    path.write_text(f'<!DOCTYPE annotations [<!ENTITY e0 "{"x" * 100}">{entities}]><annotations>&e11;</annotations>')
    yield "bombs:convert", path, folder / "out"


def weights(folder):
    reader = "bombs:read_weights"
    for name, dataset in (("whole", {}), ("chunks", {"chunks": (1, 1, 100, 100)})):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for index in range(13):
                group = file.create_group(f"layers/conv2d{f'_{index}' if index else ''}/vars")
                group.create_dataset("0", (3, 3, 4096, 4096), "f4", **dataset)  # 600 MiB that are not in the file
                group["1"] = np.zeros(4096, np.float32)
        (folder / f"{name}.weights.h5").write_bytes(buffer.getvalue())
        yield reader, folder / f"{name}.weights.h5"
        zipped(folder / f"{name}.keras", {"config.json": "{}", "model.weights.h5": buffer.getvalue()})
        yield reader, folder / f"{name}.keras"
    zipped(folder / "facts.keras", {"config.json": "{}"}, packed=["deeplabctl.json"])
    zipped(folder / "packed.keras", {"config.json": "{}"}, packed=["model.weights.h5"])
    yield reader, folder / "facts.keras"
    yield reader, folder / "packed.keras"
    zipped(folder / "step-000001.npz", {}, packed=["__facts__.npy"])
    yield "bombs:read_checkpoint", folder / "step-000001.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**9,)})
    zipped(folder / "step-000002.npz", {"__facts__.npy": header.getvalue()})
    yield "bombs:read_checkpoint", folder / "step-000002.npz"
    tar_of_zeros(folder / "zoo.tar.gz", "zoo/frozen_inference_graph.pb", {})
    yield reader, folder / "zoo.tar.gz"
    (folder / "header.tar.gz").write_bytes(gzip.compress(tar_header("././@PaxHeader", 1 << 34, b"x")))
    yield reader, folder / "header.tar.gz"
    layer = block(1, "conv1_1") + block(2, "Convolution")
    (folder / "net.caffemodel").write_bytes(block(1, "net") + block(100, layer + b"\x3a\x00" * (1 << 20)))  # blobs
    yield reader, folder / "net.caffemodel"
    (folder / "net.pkl").write_bytes(b"\x80\x04}\x8e" + (1 << 36).to_bytes(8, "little"))
    yield reader, folder / "net.pkl"


def archives(folder):
    voc, sbd = write_tar(folder / "voc.tar", voc_files()), write_tar(folder / "sbd.tar", sbd_files())
    root = "VOCdevkit/VOC2012"
    tar_of_zeros(folder / "image.tgz", f"{root}/JPEGImages/2007_000032.jpg", voc_files())
    tar_of_zeros(folder / "list.tgz", f"{root}/ImageSets/Segmentation/train.txt", {})
    tar_of_zeros(folder / "mask.tgz", "benchmark_RELEASE/dataset/cls/2008_000099.mat", sbd_files())
    yield "bombs:prepare", folder / "image.tgz", sbd, folder / "out1"
    yield "bombs:prepare", folder / "list.tgz", sbd, folder / "out2"
    yield "bombs:prepare", voc, folder / "mask.tgz", folder / "out3"


@pytest.mark.parametrize("kind", [pictures, texts, annotations, weights, archives], ids=lambda kind: kind.__name__)
def test_file_that_becomes_gigabytes_is_refused_in_little_memory(tmp_path, kind):
    jobs = [[name, *map(str, paths)] for name, *paths in kind(tmp_path)]
    results = read_in_little_memory(jobs, tmp_path)
    wrong = [
        f"{' '.join(job)}: {peak >> 20} MiB, {message or 'not refused'}"
        for job, (message, peak) in zip(jobs, results, strict=True)
        if message == "MemoryError" or peak > MOST or (not message and Path(job[1]).name != "data.png")
    ]
    assert not wrong, "\n".join(wrong)
