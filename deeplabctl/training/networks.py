"""Hold the two copies of a network in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deeplabctl.network import Weights
from deeplabctl.network.keras_model import POLICIES, Precision, assign_weights, build_model
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.plan import Plan
from deeplabctl.weights.starting import start_weights

if TYPE_CHECKING:
    import keras


def initial_weights(plan: Plan) -> tuple[Weights, list[str], list[str]]:
    """Return the weights that a training starts from; see `start_weights`."""
    model, classes, seed = plan.recipe.model, len(plan.dataset.classes), plan.recipe.run.seed
    return start_weights(model.init, model.architecture, classes, model.width, seed)


class Networks:
    """Hold the network that is trained and the one that is validated and saved.

    The second is float32 and lives in this process only; the first may compute in another format and on several
    devices.
    """

    def __init__(self, plan: Plan, precision: Precision, cluster: Cluster) -> None:
        def build(dtype: str) -> keras.Model:
            model, classes = plan.recipe.model, len(plan.dataset.classes)
            return build_model(model.architecture, classes, width=model.width, dropout=model.dropout, dtype=dtype)

        self.saved = build("float32")
        with cluster.scope():
            self.trained = build(POLICIES[precision])

    def publish(self, weights: Weights) -> bool:
        """Give the saved network these weights; False, and nothing is changed, where one is not finite."""
        if not all(np.isfinite(array).all() for array in weights.values()):
            return False
        assign_weights(self.saved, weights)
        return True
