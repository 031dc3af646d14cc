import hashlib
from pathlib import Path

import numpy as np
import pytest
from family_files import family
from tensorflow_bytes import write_checkpoint
from tiny_weights import read_weights, same_as_variables, tiny_variables

from deeplabctl.errors import WeightsError
from deeplabctl.weights.fitting import read_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources.tensorflow_checkpoints import TensorFlowCheckpoint


def test_checksum_is_that_of_the_numbers_whatever_the_checkpoints_name(tmp_path):
    write_checkpoint(tmp_path / "model[1].ckpt", tiny_variables())
    numbers = (tmp_path / "model[1].ckpt.data-00000-of-00001").read_bytes()
    for suffix in ("", ".index"):
        assert open_weights(tmp_path / f"model[1].ckpt{suffix}").sha256 == hashlib.sha256(numbers).hexdigest()


@pytest.mark.tf
def test_tensorflow_1_checkpoint_comes_back_equal_by_any_of_its_names(tmp_path):
    import tensorflow.compat.v1 as tf1

    variables = tiny_variables()
    with tf1.Graph().as_default(), tf1.Session() as session:
        made = [tf1.get_variable(name, initializer=value) for name, value in variables.items()]
        made.append(tf1.get_variable("conv1_1/w/Adam", initializer=variables["conv1_1/w"]))
        made.append(tf1.get_variable("global_step", initializer=np.int64(3)))
        session.run(tf1.global_variables_initializer())
        prefix = tf1.train.Saver(made).save(session, str(tmp_path / "model.ckpt"), global_step=3)
    assert prefix.endswith("model.ckpt-3")
    for suffix in ("", ".index", ".data-00000-of-00001"):
        file = open_weights(tmp_path / f"model.ckpt-3{suffix}")
        assert isinstance(file, TensorFlowCheckpoint)
        same_as_variables(file.weights, variables)
        assert read_network(tmp_path / f"model.ckpt-3{suffix}").info.width == 1 / 32
    (tmp_path / "model.ckpt-3.data-00000-of-00001").unlink()
    with pytest.raises(WeightsError, match=r"expected model\.ckpt-3\.data-00000-of-00001 beside"):
        read_weights(tmp_path / "model.ckpt-3.index")


@pytest.mark.tf
def test_checkpoint_of_the_first_format_and_norms_come_back_equal_without_slots(tmp_path):
    import tensorflow.compat.v1 as tf1
    from tensorflow.core.protobuf import saver_pb2

    rng = np.random.default_rng(0)
    shapes = {"conv1/weights": (7, 7, 3, 4), "fc1_voc12_c0/weights": (3, 3, 8, 5), "fc1_voc12_c0/biases": (5,)}
    shapes |= {f"bn_conv1/{part}": (4,) for part in ("gamma", "beta", "moving_mean", "moving_variance")}
    variables = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    names = {"weights": "kernel", "biases": "bias"}
    for version in (saver_pb2.SaverDef.V1, saver_pb2.SaverDef.V2):
        with tf1.Graph().as_default(), tf1.Session() as session:
            made = [tf1.get_variable(name, initializer=value) for name, value in variables.items()]
            made.append(tf1.get_variable("conv1/weights/Momentum", initializer=variables["conv1/weights"]))
            made += [tf1.get_variable(name, initializer=np.float32([1, 2])) for name in ("Variable", "Variable_1")]
            made.append(tf1.get_variable("global_step", initializer=np.int64(3)))
            session.run(tf1.global_variables_initializer())
            saver = tf1.train.Saver(made, write_version=version)
            path = saver.save(session, str(tmp_path / f"model{version}.ckpt"), write_meta_graph=False)
        file = open_weights(Path(path))
        assert isinstance(file, TensorFlowCheckpoint)
        expected = {name.replace(part, names.get(part, part)): array for name, array in variables.items()
                    for part in [name.split("/")[1]]}  # fmt: skip
        assert set(file.weights) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(file.weights[name], array, strict=True)


@pytest.mark.tf
def test_cut_and_changed_checkpoints_of_the_first_format_are_one_line(tmp_path):
    whole = family("drsleep_r101_d32.ckpt").read_bytes()
    rng = np.random.default_rng(0)
    errors = []
    for trial in range(40):
        broken = bytearray(whole)
        for at in rng.integers(0, len(whole), 30) if trial % 2 else len(whole) - 1 - rng.integers(8, 30_000, 10):
            broken[at] = rng.integers(256)
        (tmp_path / "w").write_bytes(broken if trial % 4 else broken[1000:])
        try:
            read_weights(tmp_path / "w")
        except WeightsError as error:
            errors.append(str(error))
    assert len(errors) > 15
    assert not [error for error in errors if "\n" in error or len(error) > 1000]
