"""A thousand malformed requests: those that schemathesis makes of the API's description, and damaged pictures."""

import io
import re
import subprocess
import sys
import urllib.error
import urllib.request

import mutations
import numpy as np
import pytest
from caffe_files import DATA
from PIL import Image
from served import Served

from deeplabctl.data.shapes import draw_sample

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder, weights = tmp_path_factory.mktemp("fuzzed"), DATA / "lfov_tiny_v2.caffemodel"
    with Served(folder, "--weights", weights, "--engine", "numba", "--timeout", 5, "--max-pixels", 100_000) as served:
        yield served
        assert list(folder.iterdir()) == []
        assert "Traceback" not in served.errors()


def answers(served):
    """Return how often each status was answered."""
    counts = {}
    for line in served.get("/metrics").decode().splitlines():
        if found := re.match(r'deeplabctl_requests_total\{.*status="(\d+)"\} ([\d.]+)', line):
            counts[int(found[1])] = counts.get(int(found[1]), 0) + int(float(found[2]))
    return counts


def test_requests_of_schemathesis_are_answered_as_described(served, tmp_path):
    pytest.importorskip("schemathesis", reason="needs the package schemathesis")
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{served.url}/openapi.json",
        "--seed",
        "15",
        "--no-shrink",
    ]
    # A body that is no picture is as valid as another by the description, and refused.
    options = ["--max-examples", "1500", "--phases", "coverage,fuzzing", "--exclude-checks", "positive_data_acceptance"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    counts = answers(served)
    assert sum(count for status, count in counts.items() if status >= 400) >= 1000
    assert not [status for status in counts if status >= 500], counts


def pictures():
    picture = Image.fromarray(draw_sample(1, 1)[0][:50, :70])
    for format_, options in (("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {})):
        buffer = io.BytesIO()
        picture.save(buffer, format_, **options)
        yield buffer.getvalue()


def test_damaged_pictures_and_forms_are_answered_in_json(served):
    originals = list(pictures())
    statuses = {}
    for number in range(1000):
        random = np.random.default_rng((15, number))
        content, kind = originals[number % len(originals)], "image/png"
        if number % 4 == 0:
            kind = "multipart/form-data; boundary=b"
            head = b'--b\r\ncontent-disposition: form-data; name="image"; filename="../../x"\r\n\r\n'
            content = head + content + b"\r\n--b--\r\n"
        for _ in range(int(random.integers(1, 4))):
            content = mutations.BYTES[int(random.integers(len(mutations.BYTES)))](content, random, originals)
        request = urllib.request.Request(f"{served.url}/api/segment", content, {"content-type": kind})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, answered = answer.status, answer.headers["content-type"]
        except urllib.error.HTTPError as error:
            status, answered = error.code, error.headers["content-type"]
            error.close()
        assert answered == "application/json", number
        statuses[status] = statuses.get(status, 0) + 1
    assert set(statuses) <= {200, 413, 415, 422}, statuses
    assert min(statuses[200], statuses[415], statuses[422]) > 50, statuses
