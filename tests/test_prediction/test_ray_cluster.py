"""Actors: how many there are, what each takes of the machines' CPUs and GPUs, and the folders that all must have."""

import socket
from pathlib import Path

import pytest
from PIL import Image

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import DataError, DeepLabError, RecipeError
from deeplabctl.prediction.outputs.plan import OutputRequest, plan_outputs
from deeplabctl.prediction.ray_cluster import Share, Worker, _check_reachable, _shared_places, actors_for
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.weights.fitting import Network
from deeplabctl.weights.model_info import ModelInfo

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


def test_machine_without_the_shared_folder_is_named_before_anything_is_loaded(tmp_path):
    worker = Worker(Share(PredictionSettings(), None, (), 1, tmp_path, (tmp_path, tmp_path / "photos")))
    with pytest.raises(
        DataError, match=r"^machine .*: expected .*/photos, as on the machine that started the run, got no such"
    ):
        worker.check(None)


def test_places_show_that_the_folder_of_the_results_is_shared_and_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (9, 9)).save("photos/a.png")
    plan = plan_outputs([Path("photos/a.png")], OutputRequest(Path("masks")))
    network = Network(ModelInfo(VOC_CLASSES), {}, [], [], 21)
    with _shared_places(network, plan) as (folder, places):
        assert folder == tmp_path
        photos, mark = places
        assert photos == tmp_path / "photos"
        assert mark.parent == tmp_path / "masks"
        assert [*mark.parent.iterdir()] == [mark]
        (tmp_path / "masks" / ".a.0123abcd.png").touch()  # of a process that died
    assert not [*(tmp_path / "masks").iterdir()]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_address_where_nobody_listens_is_refused_at_once(scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
        _check_reachable(address)
    with pytest.raises(DeepLabError, match=f"cannot join Ray at {address}: .*refused"):
        _check_reachable(address)
    _check_reachable("auto")
