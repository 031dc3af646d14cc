"""Find the Caffe fixtures and read their weights."""

import atexit
import io
import shutil
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from deeplabctl.caffe import net_weights, read_caffemodel

ROOT = Path(__file__).parents[1] / "data"
DATA = ROOT / "caffe"
TINY = DATA / "lfov_tiny_v1.caffemodel"


def fixture(name, folder="caffe"):
    """Return the path of a file in a folder of tests/data; those of its archive are unpacked."""
    path = ROOT / folder / name
    return path if path.is_file() else unpacked(folder) / name


@cache
def unpacked(folder):
    """Unpack the archive of a folder of tests/data, which is in parts; it is removed at the end of the process."""
    target = Path(tempfile.mkdtemp(prefix="fixtures-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    archive = b"".join(part.read_bytes() for part in sorted((ROOT / folder).glob("larger.tar.xz.*")))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):  # extractall has `filter` since Python 3.11.4 only
            path = target / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())
    return target


def read_blobs(path):
    """Return the weights of a ``.caffemodel``: {"layer/kernel": HWIO, "layer/bias": ...}."""
    return net_weights(read_caffemodel(path))
