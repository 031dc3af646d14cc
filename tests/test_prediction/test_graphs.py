import types

import numpy as np
import pytest
from caffe_files import DATA, fixture

pytestmark = pytest.mark.tf

NETS = {"slim": "lfov_slim_v1.caffemodel", "tiny": "lfov_tiny_v2.caffemodel"}
MEAN = np.array([104.008, 116.669, 122.675], np.float32)


@pytest.mark.parametrize("size", ["33x33", "97x130", "321x321"])
@pytest.mark.parametrize("net", NETS)
def test_every_upsampled_label_is_caffes(net, size):
    from deeplabctl.prediction.graphs import Graphs
    from deeplabctl.weights import build_model

    graphs = Graphs(build_model(weights=fixture(NETS[net])), (1.0,), flip=False)
    image = np.load(DATA / "inputs_u8.npz")[size].astype(np.float32)[None] - MEAN
    coarse = graphs.coarse(image, np.array([image.shape[1:3]], np.int32))
    full = [8 * (cells - 1) + 1 for cells in coarse[0].shape[1:3]]  # of Caffe's INTERP layer
    label = np.argmax(graphs._fused(coarse, full, full)[0], -1)
    blobs = np.load(DATA / f"fwd_{net}_{size}.npz")
    caffes_label, caffes_coarse = blobs["interp_argmax"][0], blobs["fc8_voc12"].transpose(0, 2, 3, 1)
    # Where Caffe's own logits are as near to each other as ours may be to them, kernels of some processors differ.
    caffes_logits = graphs._fused([caffes_coarse], full, full)[0].numpy()
    other = label != caffes_label
    lead = np.take_along_axis(caffes_logits, caffes_label[..., None].astype(int), -1)[..., 0]
    lead -= np.take_along_axis(caffes_logits, label[..., None], -1)[..., 0]
    assert (lead[other] <= 2e-5 * np.abs(caffes_coarse).max()).all()
    assert other.sum() <= 1


def test_upsampling_is_caffes_interp_layer():
    from deeplabctl.prediction.graphs import Graphs

    blobs = np.load(DATA / "interp.npz")
    coarse, expected = (blobs[name].transpose(0, 2, 3, 1) for name in ("a", "z8"))
    graphs = Graphs(types.SimpleNamespace(output_shape=coarse.shape), (1.0,), flip=False)
    powers = np.exp(expected)
    for index in range(len(coarse)):
        scores = graphs.fused_scores([coarse[index : index + 1]], expected.shape[1:3], expected.shape[1:3])
        np.testing.assert_allclose(scores, powers[index] / powers[index].sum(-1, keepdims=True), atol=2e-6)
