import numpy as np
import pytest
from tiny_weights import same_as_variables, tiny_variables

from deeplabctl.errors import WeightsError
from deeplabctl.weights.formats import Format
from deeplabctl.weights.networks import read_network
from deeplabctl.weights.reading import read_weight_file

pytestmark = pytest.mark.tf


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
        file = read_weight_file(tmp_path / f"model.ckpt-3{suffix}")
        assert file.format is Format.TENSORFLOW
        same_as_variables(file.weights, variables)
        assert read_network(tmp_path / f"model.ckpt-3{suffix}").info.width == 1 / 32
    (tmp_path / "model.ckpt-3.data-00000-of-00001").unlink()
    with pytest.raises(WeightsError, match=r"expected model\.ckpt-3\.data-00000-of-00001 beside"):
        read_weight_file(tmp_path / "model.ckpt-3.index")
