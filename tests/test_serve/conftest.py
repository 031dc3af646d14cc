"""A service around a tiny network: an application in this process, and the command in one of its own."""

import io

import pytest
from caffe_files import DATA
from served import Served

WEIGHTS = DATA / "lfov_tiny_v2.caffemodel"  # 21 classes, random weights


@pytest.fixture(scope="session", autouse=True)
def _extra():
    pytest.importorskip("fastapi", reason="needs the extra serve")


@pytest.fixture(scope="session")
def segmenter():
    """Read the network; the settings have the CRF's parameters."""
    from deeplabctl.crf import CrfParams
    from deeplabctl.prediction import PredictionSettings, Segmenter
    from deeplabctl.weights.fitting import read_network

    return Segmenter.from_network(read_network(WEIGHTS), PredictionSettings(engine="numba", crf=CrfParams()))


@pytest.fixture
def serve(segmenter):
    """Start an application with some limits, and examples; returns its client, whose ``service`` is the service."""
    from contextlib import ExitStack

    from fastapi.testclient import TestClient

    from deeplabctl.serve import Limits
    from deeplabctl.serve.access import Hosts, Key
    from deeplabctl.serve.application import build_application
    from deeplabctl.serve.service import Service

    with ExitStack() as stack:

        def start(examples=(), uses_crf=False, network=segmenter, hosts=Hosts(), root_path="", key="", **limits):  # noqa: B008
            service = Service(network, Limits(**limits), name="tiny", examples=examples, uses_crf=uses_crf)
            app = build_application(service, hosts, root_path, Key(key))
            client = TestClient(app, "http://127.0.0.1", raise_server_exceptions=False)
            stack.enter_context(client)
            client.service = service
            return client

        yield start


@pytest.fixture
def client(serve):
    """Return the client of an application with the usual limits."""
    return serve()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Run the command with small limits in a process of its own."""
    options = ("--timeout", 2, "--queue", 3, "--connections", 12, "--max-body", 8, "--max-pixels", 200_000)
    with Served(tmp_path_factory.mktemp("served"), "--weights", WEIGHTS, "--engine", "numba", *options) as served:
        yield served


@pytest.fixture
def photo():
    """Return the bytes of a JPEG."""
    from PIL import Image

    from deeplabctl.data.shapes import draw_sample

    buffer = io.BytesIO()
    Image.fromarray(draw_sample(1, 1)[0]).save(buffer, "JPEG")
    return buffer.getvalue()
