"""Give every test an own home, and leave slow tests out unless they are asked for."""

import itertools
import os
import sys

import pytest
from small_training import shallow_network, without_curves

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_COUNT = itertools.count()


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")
    parser.addoption("--originals", metavar="FOLDER", help="outputs of DeepLab v3's programs: see tests/data/README.md")
    parser.addoption(
        "--auto-precision", choices=("float32", "bfloat16", "float16"),
        help='the format that "auto" gives, as on another machine',
    )  # fmt: skip


def pytest_collection_modifyitems(config, items):
    long = {item.path for item in items if "tf" in item.keywords}
    items.sort(key=lambda item: item.path not in long)  # no process of several is left with a long file at the end
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _auto_precision(request):
    """Make "auto" give the format of --auto-precision, in this process and in those that tests start."""
    forced = request.config.getoption("--auto-precision")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DEEPLABCTL_AUTO_PRECISION", raising=False)
        if forced:
            patch.setenv("DEEPLABCTL_AUTO_PRECISION", forced)
            patch.setattr("deeplabctl.training.cluster.best_precision", lambda gpus: forced)
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    """Keep the caches and the settings of whoever runs the tests out of them, and published weights where they are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / f"cache{next(_COUNT)}"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp()))  # one list of fonts for all tests
    monkeypatch.setenv("DEEPLABCTL_WEIGHTS_URL", "http://127.0.0.1:9/nowhere")
    for name in ("DEEPLABCTL_DATA", "DEEPLABCTL_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def needs_bfloat16():
    """Skip a test where this processor, or the instructions that oneDNN may use of it, cannot compute in bfloat16."""
    from deeplabctl.network.keras_model import can_compute

    if not can_compute("bfloat16"):
        pytest.skip("bfloat16 cannot be computed here")


@pytest.fixture
def shallow():
    """Leave "largefov" few of its convolutions, for trainings in this process."""
    with shallow_network():
        yield


@pytest.fixture
def no_curves():
    """Draw no curves of trainings in this process."""
    with without_curves():
        yield


@pytest.fixture
def deeplabctl(capfd, monkeypatch, tmp_path):
    """Run the command in this process, in a folder of its own; returns (exit code, stdout, stderr)."""
    from deeplabctl.cli.app import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["deeplabctl", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        return exit_.value.code or 0, *capfd.readouterr()

    return run
