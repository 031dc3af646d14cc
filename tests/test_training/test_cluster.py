import dataclasses

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.errors import RunError
from deeplabctl.training.cluster import check_workers_agree
from deeplabctl.training.plan import plan_training


class TwoWorkers:
    """Stand in for one of two workers; the other one's checksums are those of a call before."""

    workers = 2

    def __init__(self, index, others):
        self.index, self.others, self.own = index, list(others), []

    def sum(self, checksums):
        self.own.append(checksums.copy())
        return checksums + self.others.pop(0)


def checksums_of(plan):
    worker = TwoWorkers(1, np.zeros((3, 2), np.int64))
    with pytest.raises(RunError):  # nobody has a checksum of 0
        check_workers_agree(worker, plan, 0, 0)
    return worker.own


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("run", {"time": "2m"}), ("run", {"seed": 1}), ("run", {"val_every": 7}), ("data", {"max_side": 640}),
        ("eval", {"flip": True}),
    ],
)  # fmt: skip
def test_workers_with_other_options_are_named(tmp_path, section, changes):
    plan = plan_training(
        "own", ["model.init=random", "run.time=1m"], {"data.root": str(make_dataset(tmp_path / "set"))}
    )
    other = dataclasses.replace(plan, recipe=plan.recipe.with_settings(**{section: changes}))
    with pytest.raises(RunError, match="worker 1: expected the recipe of worker 0, got another; start all"):
        check_workers_agree(TwoWorkers(0, checksums_of(other)), plan, 0, 0)
