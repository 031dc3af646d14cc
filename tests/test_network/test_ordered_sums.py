import numpy as np
import pytest

from deeplabctl.network import ARCHITECTURES
from deeplabctl.recipe import recipe_from_dict

pytestmark = pytest.mark.tf

ADDS = {"Add", "AddV2", "AddN"}


def terms(output):
    """Return the tensors of an output's shape that a graph's optimizer may add in one AddN."""
    return [
        term
        for one in output.op.inputs
        if one.shape == output.shape
        for term in (terms(one) if one.op.type in ADDS and len(one.consumers()) == 1 else [one])
    ]


def check(graph):
    """Check that no sum has more than two terms, whose order does not matter."""
    sums = [op.outputs[0] for op in graph.get_operations() if op.type in ADDS]
    assert sums
    assert {output.name: len(terms(output)) for output in sums if len(terms(output)) > 2} == {}


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=[] if name == "aspp-l" else pytest.mark.slow) for name in ARCHITECTURES],
)
def test_no_sum_of_a_training_step_has_terms_in_an_order_of_tensorflows_choice(architecture):
    """TensorFlow adds three terms or more in any order where memory is short, so runs would differ in the last bits."""
    import tensorflow as tf

    from deeplabctl.network.keras_model import zero_model
    from deeplabctl.training.step import TrainingStep

    tree = {"model": {"architecture": architecture}, "augment": {"crop_size": 33}, "run": {"engine": "tensorflow"}}
    step = TrainingStep(zero_model(architecture, 3, width=1 / 16), recipe_from_dict(tree, "test"), [1.0] * 3)

    shapes = {(1, 33, 33, 3): tf.float32, (1, 33, 33): tf.int32, (1,): tf.int64}  # images, labels, positions
    batch = [tf.TensorSpec(shape, dtype) for shape, dtype in shapes.items()]
    check(step._graph.get_concrete_function(*batch, tf.TensorSpec(()), tf.TensorSpec((), tf.int64), True).graph)


def test_gradients_of_several_passes_are_added_in_order():
    import tensorflow as tf

    from deeplabctl.network.keras_model import apply_model, model_variables, shared_variables, zero_model

    model = zero_model("largefov", 3, width=1 / 16)
    variables = model_variables(model)

    @tf.function(autograph=False)
    def gradients(images):
        with tf.GradientTape() as tape:
            logits = []
            for scope in shared_variables(model, list(variables), 3):
                with scope:
                    logits.append(apply_model(model, images))
            loss = tf.reduce_sum(tf.stack(logits))
        return tape.gradient(loss, [variable.value for variable in variables.values()])

    check(gradients.get_concrete_function(tf.TensorSpec((1, 33, 33, 3))).graph)


def test_a_tensor_used_three_times_has_the_gradient_of_one_used_three_times():
    import tensorflow as tf

    from deeplabctl.network.ops.joins import shared

    value = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(value)
        first, second, third = shared(value, 3)
        total = tf.reduce_sum(first * 1e8 + second - third * 1e8)
    # From the last use to the first: (-1e8 + 1) + 1e8 is 0 in float32, and (1e8 - 1e8) + 1 would be 1.
    np.testing.assert_array_equal(tape.gradient(total, value), [0, 0])
