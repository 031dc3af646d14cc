"""How many actors there are, and what each takes, of machines with some CPUs and GPUs."""

import pytest

from deeplabctl.errors import RecipeError
from deeplabctl.prediction.ray_actors import actors_for

HEAD = {"memory": 1e9}  # of a cluster whose head computes nothing


def machines(*cpus):
    return [HEAD, *({"CPU": float(count)} for count in cpus)]


@pytest.mark.parametrize(
    ("cpus", "workers", "expected"),
    [
        ((2,), None, (1, 2)),
        ((2,), 2, (2, 1)),
        ((8, 8, 8), None, (3, 8)),
        ((64, 16), None, (5, 16)),  # a larger machine has several
        ((8, 8), 4, (4, 4)),
        ((8, 8), 3, (3, 4)),
        ((8, 8), 16, (16, 1)),
    ],
)
def test_actors_divide_the_cpus_of_the_machines(cpus, workers, expected):
    count, each = expected
    assert actors_for(machines(*cpus), workers, by_gpu=False) == (count, {"num_cpus": each})


def test_each_gpu_has_an_actor_with_its_part_of_the_cpus():
    nodes = [{"CPU": 64.0}, {"CPU": 32.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 1.0}]
    assert actors_for(nodes, None, by_gpu=True) == (5, {"num_cpus": 8, "num_gpus": 1})
    assert actors_for(nodes, 2, by_gpu=True) == (2, {"num_cpus": 8, "num_gpus": 1})


@pytest.mark.parametrize(
    ("nodes", "workers", "by_gpu", "message"),
    [
        (machines(2), 3, False, "`ray_workers`: expected at most 2, the CPUs of the cluster, got 3"),
        ([{"CPU": 8.0, "GPU": 1.0}], 2, True, "`ray_workers`: expected at most 1, the GPUs of the cluster, got 2"),
        (machines(), None, False, "the cluster has no CPUs"),
    ],
)
def test_more_actors_than_the_cluster_has_room_for_are_refused(nodes, workers, by_gpu, message):
    with pytest.raises(RecipeError, match=message):
        actors_for(nodes, workers, by_gpu=by_gpu)
