"""Give every test an own home, and leave slow tests out unless they are asked for."""

import os
import sys

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")
    parser.addoption(
        "--auto-precision", choices=("float32", "bfloat16", "float16"),
        help='the format that "auto" gives, as on another machine',
    )  # fmt: skip


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    """Keep the caches and the settings of whoever runs the tests out of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for name in ("DEEPLABCTL_DATA", "DEEPLABCTL_WEIGHTS", "DEEPLABCTL_AUTO_PRECISION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _auto_precision(request, _own_home, monkeypatch):
    """Make "auto" give the format of --auto-precision, in this process and in those that tests start."""
    forced = request.config.getoption("--auto-precision")
    if forced:
        monkeypatch.setenv("DEEPLABCTL_AUTO_PRECISION", forced)
        monkeypatch.setattr("deeplabctl.training.precision.best_precision", lambda gpus: forced)


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
