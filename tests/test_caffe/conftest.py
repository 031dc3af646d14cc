"""Write small Caffe nets for the tests."""

import pytest
from caffe_bytes import block


@pytest.fixture
def written(tmp_path):
    """Write a net of parts to a new file; returns its path."""

    def write(*parts, name="net"):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.caffemodel"
        path.write_bytes(block(1, name) + b"".join(parts))
        return path

    return write
