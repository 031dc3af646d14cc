import h5py
import numpy as np
import pytest
from tiny_weights import read_weights

from deeplabctl.errors import WeightsError
from deeplabctl.weights.conversion import plan_conversion
from deeplabctl.weights.fitting import read_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.starting import build_model


@pytest.mark.tf
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_keras_vgg16_files_give_its_convolutions(tmp_path, suffix):
    import keras

    vgg = keras.applications.VGG16(include_top=False, weights=None)
    path = tmp_path / f"vgg{suffix}"
    vgg.save_weights(path) if suffix == ".weights.h5" else vgg.save(path)
    weights = read_weights(path)
    names = [f"conv{b}_{n}" for b, count in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, count + 1)]
    assert list(weights) == [f"{name}/{part}" for name in names for part in ("kernel", "bias")]
    for name in names:
        theirs = vgg.get_layer(name.replace("conv", "block").replace("_", "_conv")).get_weights()
        np.testing.assert_array_equal(weights[f"{name}/kernel"], theirs[0])
    conversion = plan_conversion(path, tmp_path / "new.keras", classes=["a", "b"])
    assert conversion.network.new_layers == ["fc6", "fc7", "fc8_voc12"]
    assert conversion.network.info.classes == ("a", "b")
    with pytest.raises(WeightsError, match=r"without a classifier.*deeplabctl train with `init=FILE`"):
        read_network(path)


def test_legacy_weight_file_of_keras_reads_with_its_top(tmp_path):
    with h5py.File(tmp_path / "vgg.h5", "w") as root:
        names = [f"block{b}_conv{n}" for b, count in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, count + 1)]
        names += ["fc1", "fc2", "predictions"]
        root.attrs["layer_names"] = np.array(["input_1", *names], "S")
        root.create_group("input_1").attrs["weight_names"] = np.array([], "S")
        for number, name in enumerate(names):
            group = root.create_group(name)
            weight_names = [f"{name}/kernel:0", f"{name}/bias:0"]
            group.attrs["weight_names"] = np.array(weight_names, "S")
            shape = (3, 3, 2, 2) if name.startswith("block") else (2, 2)
            group[weight_names[0]] = np.full(shape, number, np.float32)
            group[weight_names[1]] = np.zeros(2, np.float32)
    weights = read_weights(tmp_path / "vgg.h5")
    kernels = {name: array for name, array in weights.items() if name.endswith("/kernel")}
    assert list(kernels)[-4:] == ["conv5_3/kernel", "fc6/kernel", "fc7/kernel", "fc8/kernel"]
    assert [int(kernel.flat[0]) for kernel in kernels.values()] == list(range(16))


@pytest.mark.parametrize("elsewhere", ["external", "link", "virtual"])
def test_arrays_in_other_files_are_refused(tmp_path, elsewhere):
    (tmp_path / "secret").write_bytes(np.ones(8, np.float32).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["bias"] = np.ones(2, np.float32)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        for index in range(13):
            group = file.create_group(f"layers/conv2d{f'_{index}' if index else ''}/vars")
            group["0"] = np.zeros((3, 3, 2, 2), np.float32)
            if elsewhere == "external":
                group.create_dataset("1", (2,), "f4", external=str(tmp_path / "secret"))
            elif elsewhere == "link":
                group["1"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/bias")
            else:
                layout = h5py.VirtualLayout((2,), "f4")
                layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "bias", (2,))
                group.create_virtual_dataset("1", layout)
    with pytest.raises(WeightsError, match=r"layer conv1_1: expected floats in the file itself|the file is damaged"):
        read_weights(tmp_path / "net.h5")


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_keras_resnet101_computes_the_same_up_to_where_deeplab_dilates(tmp_path, suffix):
    import keras

    from deeplabctl.network import ARCHITECTURES
    from deeplabctl.network.keras_model import apply_rows, assign_weights, zero_model
    from deeplabctl.weights.fitting import fit_weights

    keras.utils.set_random_seed(0)
    theirs = keras.applications.ResNet101(include_top=False, weights=None)
    rng = np.random.default_rng(0)
    for variable in theirs.variables:
        if variable.name != "kernel":  # biases and statistics of a trained net are not 0 and 1
            variable.assign(rng.uniform(0.1, 1.0, variable.shape))
    path = tmp_path / f"resnet{suffix}"
    theirs.save_weights(path) if suffix == ".weights.h5" else theirs.save(path)
    network = fit_weights(open_weights(path), num_classes=2)
    assert (network.info.architecture, network.info.width) == ("resnet101", 1)
    assert network.new_layers == [f"fc1_voc12_c{number}" for number in range(4)]
    model = zero_model("resnet101", 2)
    assign_weights(model, network.weights)
    image = rng.normal(0, 60, (1, 65, 65, 3)).astype(np.float32)
    values = apply_rows(model, image, ARCHITECTURES["resnet101"].rows)
    outputs = keras.Model(theirs.input, [theirs.get_layer(f"conv{n}_block{n + 1}_out").output for n in (2, 3)])
    for name, expected in zip(("res2c", "res3b3"), outputs(image), strict=True):
        assert np.abs(values[name] - expected).max() < 1e-5 * np.abs(expected).max()
    # Keras' later stages have strides: their weights are compared themselves.
    kernel = theirs.get_layer("conv4_block23_2_conv").kernel
    np.testing.assert_array_equal(network.weights["res4b22_branch2b/kernel"], kernel)
    bias, mean = theirs.get_layer("conv5_block1_0_conv").bias, theirs.get_layer("conv5_block1_0_bn").moving_mean
    np.testing.assert_array_equal(network.weights["bn5a_branch1/moving_mean"], mean.numpy() - bias.numpy())


@pytest.mark.tf
@pytest.mark.parametrize("architecture", ["largefov", "aspp-s", "aspp-l"])
def test_network_of_an_odd_width_that_plain_keras_saved_is_read_back(tmp_path, architecture):
    model = build_model(architecture, 5, width=0.06)
    model.save(tmp_path / "a.keras")
    network = read_network(tmp_path / "a.keras")
    assert (network.info.architecture, network.info.width) == (architecture, 0.06)
    assert sum(array.size for array in network.weights.values()) == model.count_params()


def test_hdf5_file_of_another_program_is_called_so(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as root:
        root["conv1_1/kernel"] = np.zeros((3, 3, 3, 4), np.float32)
    with pytest.raises(WeightsError, match="none of the lists of layers that Keras writes; another program wrote it"):
        read_weights(tmp_path / "a.h5")
