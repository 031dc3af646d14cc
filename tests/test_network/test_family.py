import numpy as np
import pytest
from family_files import NETS, blobs, deviation, family, family_model, photo

from deeplabctl.network import ARCHITECTURES

pytestmark = pytest.mark.tf

SIZES = ["33x33", "97x130", "321x321"]
SLOW = pytest.mark.slow
# ResNet-101 is compiled anew for each scale and size: one wide network and the odd size are enough for every day.
NETS_AND_SIZES = [
    pytest.param(net, size, marks=[SLOW] * (net.startswith("r101") and (net == "r101_d16" or size != "97x130")))
    for net in NETS
    for size in SIZES
]
VGG, RESNET = 1e-5, 5e-5  # of the largest value of a blob, in float32


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("net", NETS)
def test_every_blob_is_caffes(net, size):
    from deeplabctl.network.keras_model import apply_rows

    expected = blobs(f"fwd_{net}_{size}.npz")
    model = family_model(net)
    rows = ARCHITECTURES[model.name].rows
    values = apply_rows(model, photo(size), rows)
    limit = RESNET if model.name == "resnet101" else VGG
    compared = [name for name in values if name in expected]
    assert rows[-1].name in compared
    assert size == "321x321" or len(compared) > 3
    for name in compared:
        assert deviation(values[name], expected[name]) < limit, name
    assert deviation(model(photo(size)), expected[rows[-1].name]) < limit


@pytest.mark.parametrize(("net", "size"), NETS_AND_SIZES)
def test_scales_their_maximum_and_every_label_are_caffes(net, size):
    from deeplabctl.network import ARCHITECTURES
    from deeplabctl.prediction.engines.engine import Fusion, NetworkSource
    from deeplabctl.prediction.engines.tensorflow import TensorFlowEngine, fused_logits
    from deeplabctl.weights.model_info import ModelInfo

    expected = blobs(f"fwd_{net}_{size}.npz")
    model, image = family_model(net), photo(size)
    scales = ARCHITECTURES[model.name].scales
    engine = TensorFlowEngine(NetworkSource(ModelInfo(("a",), model.name), model=model), "float32")
    sizes = [[ARCHITECTURES[model.name].scaled_size(side, scale) for side in image.shape[1:3]] for scale in scales]
    coarse = [engine.logits(engine.resize(image, size) if scale != 1 else image)
              for scale, size in zip(scales, sizes, strict=True)]  # fmt: skip
    how = Fusion(scales, on_grid=len(scales) > 1)
    names = ["fc1_voc12", "fc1_voc12_res075", "fc1_voc12_res05"] if len(scales) > 1 else ["fc8_voc12"]
    for name, logits in zip(names, coarse, strict=True):
        assert deviation(logits, expected[name]) < RESNET, name
    full = [8 * (cells - 1) + 1 for cells in coarse[0].shape[1:3]]
    sizes_of_fusion = np.array([full, full, coarse[0].shape[1:3]], np.int32)
    logits = {"interp_argmax": fused_logits(coarse, sizes_of_fusion, how)[0].numpy()}
    if len(scales) > 1:
        logits["interp_argmax_single"] = fused_logits(coarse[:1], sizes_of_fusion, how)[0]
        # Cell i of the fused logits lies on pixel 8i.
        assert deviation(logits["interp_argmax"][::8, ::8], expected["fc_fusion"][0]) < RESNET
    labels = {name: np.argmax(values, -1) for name, values in logits.items()}
    for name, label in labels.items():
        assert np.mean(label == np.squeeze(expected[name])) >= (0.9999 if len(scales) > 1 else 1), name


@pytest.mark.parametrize("size", ["33x33", "321x321"])
def test_direct_paths_are_caffes_in_training_and_in_prediction(size):
    from deeplabctl.network.keras_model import apply_model, apply_rows, assign_weights, zero_model
    from deeplabctl.weights.fitting import fit_weights
    from deeplabctl.weights.locating import open_weights

    expected = blobs(f"fwd_msc_d16_{size}.npz")
    network = fit_weights(open_weights(family("msc_d16.caffemodel")))
    assert (network.info.architecture, network.info.width, network.new_layers) == ("msc-largefov", 1 / 16, [])
    model = zero_model("msc-largefov", 21, width=1 / 16)
    assign_weights(model, network.weights)
    values = apply_rows(model, photo(size), ARCHITECTURES["msc-largefov"].prediction_rows)
    for name in set(values) & set(expected):
        assert deviation(values[name], expected[name]) < VGG, name
    logits = values["fc_fusion"].numpy()
    assert deviation(logits[:, ::8, ::8], expected["fc_fusion_s8"]) < VGG
    np.testing.assert_array_equal(logits.argmax(-1)[0], np.squeeze(expected["argmax"]))
    for strided in (model(photo(size)), apply_model(model, photo(size))):
        assert deviation(strided, expected["fc_fusion_s8"]) < VGG


@pytest.mark.slow
def test_infer_on_a_padded_photo_is_the_same_as_the_net_at_513():
    """The padded image, the scales and the crop of `Segmenter`, against the network's own steps."""
    import tensorflow as tf

    from deeplabctl.prediction import PredictionSettings, Segmenter
    from deeplabctl.weights.model_info import ModelInfo

    model = family_model("r101_d32")
    info = ModelInfo(tuple(map(str, range(21))), "resnet101", 1 / 32)
    rgb = np.random.default_rng(0).integers(0, 256, (75, 101, 3)).astype(np.uint8)
    whole = Segmenter(model, info)
    assert whole.settings.scales == (1.0, 0.75, 0.5)
    label = whole.with_settings(PredictionSettings("paper", whole.settings.scales)).label(rgb)
    padded = np.zeros((1, 513, 513, 3), np.float32)
    padded[0, :75, :101] = rgb[..., ::-1].astype(np.float32) - np.float32([104.008, 116.669, 122.675])

    def resized(x, side):
        return tf.raw_ops.ResizeBilinear(images=x, size=(side, side), align_corners=True)

    parts = [resized(model(resized(padded, side)), 65) for side in (513, 385, 257)]
    logits = resized(np.maximum.reduce(parts), 513)
    agreeing = np.mean(np.argmax(logits, -1)[0, :75, :101] == label)
    assert agreeing > 0.999


@pytest.mark.parametrize(("architecture", "scales"), [("aspp-s", 1), ("resnet101", 3)])
def test_model_file_opens_in_plain_keras_with_its_scales_in_the_facts(tmp_path, architecture, scales):
    import json
    import zipfile

    import keras

    from deeplabctl.network import ARCHITECTURES
    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.weights.fitting import read_network
    from deeplabctl.weights.model_info import ModelInfo
    from deeplabctl.weights.sources.keras_files import save_model

    model = zero_model(architecture, 3, width=1 / 64)
    weights = ARCHITECTURES[architecture].random_weights(3, 1 / 64, seed=1)
    assign_weights(model, weights)
    info = ModelInfo(("a", "b", "c"), architecture, 1 / 64)
    save_model(tmp_path / "net.keras", model, info)
    image = np.random.default_rng(0).normal(0, 60, (1, 49, 66, 3)).astype(np.float32)
    plain = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(plain(image), model(image))
    assert all(type(layer).__module__.startswith("keras.") for layer in plain.layers)
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        assert len(json.loads(archive.read("deeplabctl.json"))["scales"]) == scales
    network = read_network(tmp_path / "net.keras")
    assert network.info == info
    for name, array in weights.items():
        np.testing.assert_array_equal(network.weights[name], array)
