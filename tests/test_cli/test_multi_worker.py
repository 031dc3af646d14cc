"""What TF_CONFIG says of this worker."""

import json

import pytest

from deeplabctl.cli.multi_worker import worker_from_environment
from deeplabctl.errors import DeepLabError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cluster": {"worker": "ab"}}', "an address is not HOST:PORT"),
        ('{"cluster": {"worker": ["a", "b"]}}', "an address is not HOST:PORT"),
        ("{", "expected JSON with cluster and task"),
        ("[]", "expected JSON with cluster and task"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "index of 0 to 1"),
        ('{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}}', "there are no parameter servers"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "evaluator"}}', "a task of type 'evaluator'"),
    ],
)
def test_tf_config_that_is_not_valid_is_refused(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(DeepLabError, match=message):
        worker_from_environment()


def test_tf_config_of_one_worker_is_ignored(monkeypatch):
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})
    )
    assert worker_from_environment() is None
    monkeypatch.setenv("TF_CONFIG", "")
    assert worker_from_environment() is None


def test_chief_is_the_first_worker(monkeypatch):
    cluster = {"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    worker = worker_from_environment()
    assert (worker.index, str(worker)) == (2, "worker 2 of 3 (c:1)")
