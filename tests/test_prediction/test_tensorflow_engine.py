from types import SimpleNamespace

import numpy as np
import pytest
from caffe_files import DATA, fixture

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction import PredictionSettings
from deeplabctl.prediction.engines.engine import Fusion, Inputs, NetworkSource
from deeplabctl.prediction.engines.tensorflow import TensorFlowEngine, fused_logits
from deeplabctl.weights.model_info import ModelInfo

pytestmark = pytest.mark.tf

NETS = {"slim": "lfov_slim_v1.caffemodel", "tiny": "lfov_tiny_v2.caffemodel"}
LOGITS = Fusion()


def engine_of(model):
    return TensorFlowEngine(NetworkSource(ModelInfo(VOC_CLASSES), model=model), "float32")


@pytest.mark.parametrize("size", ["33x33", "97x130", "321x321"])
@pytest.mark.parametrize("net", NETS)
def test_every_upsampled_label_is_caffes(net, size):
    from deeplabctl.weights import build_model

    engine = engine_of(build_model(weights=fixture(NETS[net])))
    image = np.load(DATA / "inputs_u8.npz")[size][..., ::-1]
    coarse = [engine.logits((image[..., ::-1] - np.float32([104.008, 116.669, 122.675]))[None])]
    full = [8 * (cells - 1) + 1 for cells in coarse[0].shape[1:3]]  # of Caffe's INTERP layer
    label = np.argmax(fused_logits(coarse, [full, full, full], LOGITS)[0], -1)
    blobs = np.load(DATA / f"fwd_{net}_{size}.npz")
    caffes_label, caffes_coarse = blobs["interp_argmax"][0], blobs["fc8_voc12"].transpose(0, 2, 3, 1)
    # Where Caffe's own logits are as near to each other as ours may be to them, kernels of some processors differ.
    caffes_logits = fused_logits([caffes_coarse], [full, full, full], LOGITS)[0].numpy()
    other = label != caffes_label
    lead = np.take_along_axis(caffes_logits, caffes_label[..., None].astype(int), -1)[..., 0]
    lead -= np.take_along_axis(caffes_logits, label[..., None], -1)[..., 0]
    assert (lead[other] <= 2e-5 * np.abs(caffes_coarse).max()).all()
    assert other.sum() <= 1


def test_upsampling_is_caffes_interp_layer():
    blobs = np.load(DATA / "interp.npz")
    coarse, expected = (blobs[name].transpose(0, 2, 3, 1) for name in ("a", "z8"))
    engine = engine_of(SimpleNamespace(output_shape=coarse.shape))
    inputs = Inputs((), expected.shape[1:3], PredictionSettings(), ARCHITECTURES["largefov"])
    powers = np.exp(expected)
    for index in range(len(coarse)):
        labels, scores = engine.fuse([coarse[index : index + 1]], inputs, scores=True)
        np.testing.assert_allclose(scores[0], powers[index] / powers[index].sum(-1, keepdims=True), atol=2e-6)
        np.testing.assert_array_equal(labels[0], scores[0].argmax(-1))
