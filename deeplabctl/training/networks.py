"""Hold the two copies of a network in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deeplabctl.network.keras_model import build_model
from deeplabctl.network.precision import POLICIES, Precision
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.plan import Plan

if TYPE_CHECKING:
    import keras


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

    def publish(self) -> bool:
        """Copy the trained weights to the saved network; False, and nothing is copied, where one is not finite."""
        weights = self.trained.get_weights()
        if not all(np.isfinite(array).all() for array in weights):
            return False
        self.saved.set_weights(weights)
        return True
