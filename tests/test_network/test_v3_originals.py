"""Whole files of the outputs of DeepLab v3's programs: all networks, sizes and engines; see tests/data/README.md."""

import re
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from v3_files import NETS, deviation, our_weights, row_of

from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import resize

pytestmark = pytest.mark.tf

LIMIT = 2e-5
PHOTOS = ("375x500", "500x375")  # TensorFlow's program pads them to 513


def pytest_generate_tests(metafunc):
    folder = metafunc.config.getoption("--originals")
    for name, pattern in (("forward", "fwd_*.npz"), ("frozen", "frozen_*x*.npz")):
        if name in metafunc.fixturenames:
            files = sorted(Path(folder).glob(pattern)) if folder else []
            metafunc.parametrize(name, files, ids=[path.stem for path in files])


@cache
def images(folder):
    with np.load(folder / "inputs_u8.npz") as file:
        return dict(file)


@lru_cache(maxsize=1)
def network(architecture, names, width):
    """Return a network as the engines have it: a Keras model, and numba's."""
    from deeplabctl.engine.network import NumbaNetwork
    from deeplabctl.network.keras_model import assign_weights, zero_model

    model = zero_model(architecture, 21, width=width)
    assign_weights(model, our_weights(names))
    return model, NumbaNetwork(architecture, our_weights(names))


def values(file, chw):
    """Yield the logits, upsampled logits and values between, and which of them they are."""
    for key in file:
        if match := re.fullmatch(r"(logits|out_coarse|up|out)_s(\d+)|tap(\d+)/(.+)", key):
            kind, step, channel, tensor = match.groups()
            step, channel = int(step or 1), int(channel or 1)
            kind = {"out_coarse": "logits", "out": "up"}.get(kind, kind)
            array = file[key].transpose(1, 2, 0) if chw else file[key]
            yield kind or tensor, np.s_[::step, ::step, ::channel], array


def test_outputs_of_every_engine_are_the_original_programs(forward):
    import tensorflow as tf

    from deeplabctl.network.keras_model import apply_rows

    net, size = re.fullmatch(r"fwd_(.+?)(?:_published)?_(\d+x\d+)", forward.stem).groups()
    is_transformers = net == "hf_mnv2_os8"
    net = "mnv2_dm10_os8" if is_transformers else net
    if net not in NETS:
        pytest.skip(f"{net} is no network of ours")
    table = ARCHITECTURES[NETS[net][0]]
    image = images(forward.parent)[size]
    if "published" in forward.stem:  # torchvision's own resizing, to a shorter side of 520
        height, width = image.shape[:2]
        image = np.asarray(Image.fromarray(image).resize((520 * width // height, 520), Image.Resampling.BILINEAR))
    pixels = table.preprocessing(image)
    if size in PHOTOS and not table.half_pixel:
        missing = [(0, 513 - side) for side in image.shape[:2]]
        pixels = np.pad(pixels, (*missing, (0, 0)))
    model, numba = network(*NETS[net])
    rows = {name: value[0].numpy()
            for name, value in apply_rows(model, tf.constant(pixels[None]), table.prediction_rows).items()}  # fmt: skip
    logits = {"graph": list(rows.values())[-1], "numba": numba.logits(pixels)}
    if not net.endswith("plus") or all(side % 16 == 1 for side in pixels.shape[:2]):
        logits["Keras"] = model(pixels[None])[0].numpy()
    half_pixel = table.half_pixel or is_transformers
    with np.load(forward) as file:
        for engine, found in logits.items():
            upsampled = resize(found[None], pixels.shape[:2], half_pixel=half_pixel)[0].numpy()
            for kind, step, expected in values(file, is_transformers or table.half_pixel):
                if kind in ("logits", "up"):
                    share = deviation((found if kind == "logits" else upsampled)[step], expected)
                elif engine == "graph":
                    share = deviation(rows[row_of(kind, table.rows)][step], expected)
                else:
                    continue
                print(f"{forward.stem} {engine} {kind}: {share:.1e}")  # noqa: T201
                assert share < LIMIT, (engine, kind)
            equal = np.mean(upsampled.argmax(-1) == file["label"])
            print(f"{forward.stem} {engine} labels: {equal:.6f}")  # noqa: T201
            assert equal >= 0.9999, engine


@pytest.mark.parametrize("engine", ["tensorflow", "numba"])
def test_frozen_graph_gives_its_labels_and_scores(frozen, engine):
    from deeplabctl.prediction import PredictionSettings, Segmenter
    from deeplabctl.weights.fitting import open_network

    graph, size = frozen.stem.rsplit("_", 1)
    network = open_network(frozen.with_name(f"{graph}.pb"))
    assert network.info.architecture == "deeplabv3-mnv2-os8"
    found = Segmenter.from_network(network, PredictionSettings("paper", engine=engine)).predict(
        images(frozen.parent)[size]
    )
    with np.load(frozen) as file:
        share, equal = deviation(found.scores[::17, ::17], file["prob_s17"]), np.mean(found.label == file["label"])
    print(f"{frozen.stem} {engine} scores: {share:.1e}, labels: {equal:.6f}")  # noqa: T201
    assert share < 1e-4
    assert equal >= 0.9999
