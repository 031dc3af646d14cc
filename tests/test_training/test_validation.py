"""A validation scores the weights of its moment, with either engine; one of several workers ends on all of them."""

from dataclasses import replace

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.evaluation.scores import SplitScores
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.keras_model import assign_weights, zero_model
from deeplabctl.reporting import Advanced, silent
from deeplabctl.training.checkpoint import Progress
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
    model = zero_model("largefov", len(plan.dataset.classes), width=plan.recipe.model.width)
    cluster = FakeCluster(index)
    assert Validator(plan, model, cluster, silent).score(lambda: False).images == 47
    assert cluster.asked == 11  # of 24 and 23 images, after every second
    cluster = FakeCluster(index, stop_at=3)
    events = []
    with pytest.raises(TrainingStopped):
        Validator(plan, model, cluster, events.append).score(lambda: False)
    assert events.count(Advanced(1)) == 6


@pytest.mark.usefixtures("shallow")
def test_predicted_classes_are_counted_among_those_of_the_labels(tmp_path):
    root = make_dataset(tmp_path / "set", train=1, val=1)
    plan = plan_training("shapes", ["model.width=0.05", "augment.crop_size=33"], {"data.root": str(root)})
    plan = replace(plan, recipe=replace(plan.recipe, solver=replace(plan.recipe.solver, class_weights="none")))
    model = zero_model("largefov", len(plan.dataset.classes), width=plan.recipe.model.width)
    scores = SplitScores(plan.dataset.classes, {})
    scores.matrix.counts[0, [0, 2]] = 8  # labelled background and disc, predicted background and square
    scores.matrix.counts[1, 0] = 8
    events = []
    validator = Validator(plan, model, FakeCluster(0), events.append)
    event = validator.report(scores, Progress(49), 50, best=False)
    assert (event.predicted, event.present) == (1, 2)
    advice = "start a new training with --set solver.class_weights=sqrt-median"
    assert events[1].text == f"step 49: the model predicts no disc; if this continues, {advice}"
    validator.report(scores, Progress(50), 50, best=False)  # fewer steps than were planned: the last one
    assert events[3].text == "step 50: the model predicts no disc"


def test_both_engines_score_the_weights_that_the_model_has_now(tmp_path):
    root = make_dataset(tmp_path / "set", train=1, val=4)
    changes = ["model.width=0.05", "augment.crop_size=33"]
    plans = [
        plan_training("shapes", [*changes, f"run.engine={engine}"], {"data.root": str(root)})
        for engine in ("numba", "tensorflow")
    ]
    classes, cluster = len(plans[0].dataset.classes), FakeCluster(0)
    cluster.workers = 1
    model = zero_model("largefov", classes, width=0.05)
    validators = [Validator(plan, model, cluster, silent) for plan in plans]
    counts = []
    for seed in (0, 1):
        assign_weights(model, ARCHITECTURES["largefov"].random_weights(classes, 0.05, seed))
        by_numba, by_tensorflow = (validator.score(lambda: False).matrix.counts for validator in validators)
        np.testing.assert_array_equal(by_numba, by_tensorflow)
        counts.append(by_numba)
    assert (counts[0] != counts[1]).any()
