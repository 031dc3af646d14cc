"""Write small files that become gigabytes when they are read, and read them in a process that counts its memory."""

import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

LARGE = 768 << 20  # bytes that a compressed bomb has; the others claim far more
HUGE = 200_000  # pixels of a side
HERE = Path(__file__).parent


def zeros(wbits=15):
    """Return many zeros, compressed: as zlib does (15), raw (-15) or as gzip (31)."""
    packer = zlib.compressobj(1, wbits=wbits)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(LARGE >> 20)) + packer.flush()


def png(width, height, *chunks, data=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data or zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def jpeg(width, height):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def zipped(path, members, packed=()):
    """Write a zip archive with these members, and ``packed`` ones of many zeros."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name in packed:
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                file._compressor = zlib.compressobj(1, wbits=-15)
                file._zinfo.compress_type = zipfile.ZIP_DEFLATED
                for _ in range(LARGE >> 20):
                    file.write(bytes(1 << 20))


def tar_header(name, size, kind):
    """Return the first block of a tar archive, of an entry that is not there."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def tar_of_zeros(path, name, others):
    """Write a tar.gz with some members, and one of many zeros."""

    class Zeros(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for other, content in others.items():
            info = tarfile.TarInfo(other)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo(name)
        info.size = LARGE
        tar.addfile(info, io.BufferedReader(Zeros()))


def sparse(path, size=6 << 30):
    """Write a file of many zeros that takes no space on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


def convert(source, out):
    """Convert annotations, as `deeplabctl data convert` does."""
    from deeplabctl.data.convert import write_dataset
    from deeplabctl.data.formats import read_annotations
    from deeplabctl.data.formats.annotations import ImportSettings
    from deeplabctl.reporting import silent

    write_dataset(read_annotations(source, ImportSettings(), silent), out, silent, val=0.0)


def prepare(voc, sbd, out):
    """Merge archives, as `deeplabctl data prepare-voc` does."""
    from deeplabctl.data.augmented_voc import prepare_voc
    from deeplabctl.reporting import silent

    prepare_voc(voc, sbd, out, silent, any_counts=True)


def read_weights(path):
    from deeplabctl.weights import open_weights

    file = open_weights(path)
    assert file.info or file.weights
    assert file.weights


def read_checkpoint(path):
    from deeplabctl.training.checkpoint import Checkpoint

    Checkpoint.read(path)


def read_recipe(path):
    from deeplabctl.recipe import read_recipe

    read_recipe(str(path))


def read_in_little_memory(jobs, folder):
    """Call ``module:function`` with the paths of each job; returns [message, bytes] of each: its error, its peak.

    The message of a job that is refused is that of the DeepLabError; "" says that nothing was refused.
    """
    command = [sys.executable, str(HERE / "bombs.py"), json.dumps(jobs)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def main(jobs):
    import importlib
    import resource

    from deeplabctl.errors import DeepLabError

    for name, *_ in jobs:  # what they import is not what they take
        importlib.import_module(name.partition(":")[0])
    resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))  # should one take all that it claims
    for name, *arguments in jobs:
        module, _, function = name.partition(":")
        Path("/proc/self/clear_refs").write_text("5")  # begin the peak anew
        before = _kilobytes("VmRSS")
        message = ""
        try:
            getattr(importlib.import_module(module), function)(*map(Path, arguments))
        except DeepLabError as error:
            message = str(error)
        except MemoryError:
            message = "MemoryError"
        print(json.dumps([message, (_kilobytes("VmHWM") - before) * 1024]), flush=True)  # noqa: T201


def _kilobytes(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
