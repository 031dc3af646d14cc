"""A validation scores the weights of its moment, with either engine; one of several workers ends on all of them."""

from dataclasses import replace

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.keras_model import assign_weights, build_model
from deeplabctl.reporting import Advanced, silent
from deeplabctl.training.plan import plan_training
from deeplabctl.training.signals import TrainingStopped
from deeplabctl.training.validation import Validator

pytestmark = pytest.mark.tf


class FakeCluster:
    """Stand for a worker of several, of which another one is asked to stop."""

    workers = 2

    def __init__(self, index, stop_at=None):
        self.index, self.stop_at, self.asked = index, stop_at, 0

    def any(self, flag):
        self.asked += 1
        assert not flag
        return self.asked == self.stop_at

    def sum(self, values):
        return values


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("index", [0, 1])
def test_workers_ask_one_another_in_a_validation_equally_often_and_stop_together(tmp_path, index):
    root = make_dataset(tmp_path / "set", train=1, val=3)
    plan = plan_training("shapes", ["model.width=0.05", "augment.crop_size=33"], {"data.root": str(root)})
    plan = replace(plan, val_samples=(plan.val_samples * 50)[:47])
    model = build_model("largefov", len(plan.dataset.classes), width=plan.recipe.model.width)
    cluster = FakeCluster(index)
    assert Validator(plan, model, cluster, silent).score(lambda: False).images == 47
    assert cluster.asked == 11  # of 24 and 23 images, after every second
    cluster = FakeCluster(index, stop_at=3)
    events = []
    with pytest.raises(TrainingStopped):
        Validator(plan, model, cluster, events.append).score(lambda: False)
    assert events.count(Advanced(1)) == 6


def test_both_engines_score_the_weights_that_the_model_has_now(tmp_path):
    root = make_dataset(tmp_path / "set", train=1, val=4)
    changes = ["model.width=0.05", "augment.crop_size=33"]
    plans = [
        plan_training("shapes", [*changes, f"run.engine={engine}"], {"data.root": str(root)})
        for engine in ("numba", "tensorflow")
    ]
    classes, cluster = len(plans[0].dataset.classes), FakeCluster(0)
    cluster.workers = 1
    model = build_model("largefov", classes, width=0.05)
    validators = [Validator(plan, model, cluster, silent) for plan in plans]
    counts = []
    for seed in (0, 1):
        assign_weights(model, ARCHITECTURES["largefov"].random_weights(classes, 0.05, seed))
        by_numba, by_tensorflow = (validator.score(lambda: False).matrix.counts for validator in validators)
        np.testing.assert_array_equal(by_numba, by_tensorflow)
        counts.append(by_numba)
    assert (counts[0] != counts[1]).any()
