"""Load a service on this machine: clients that each send pictures one after the other, for some time.

python benchmarks/serve_load.py [--weights FILE] [--clients 16] [--seconds 60] [--crf 0.25] [--hostile 0.1]

Each answer is compared with that of the library. Without weights it is the tiny network of the tests; then the numbers
are mostly those of HTTP, decoding and the CRF. With --hostile, that share of the requests are attacks: odd EXIF data,
readers that do not read, chunks of one byte, half bodies, bombs, the CRF of noise.
"""

import argparse
import collections
import http.client
import io
import itertools
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

import deeplabctl
from deeplabctl.data.images import decode_image
from deeplabctl.data.labels import mask_bytes
from deeplabctl.data.shapes import draw_sample

TINY = Path(__file__).parents[1] / "tests" / "data" / "caffe" / "lfov_tiny_v2.caffemodel"
COMMAND = "import sys; sys.argv[0] = 'deeplabctl'; from deeplabctl.cli.app import main; main()"
SIZES = ((160, 160), (240, 180), (321, 321), (375, 500), (500, 333))  # width, height


def pictures() -> list[bytes]:
    """Return JPEG files of several sizes."""
    found = []
    for number, size in enumerate(SIZES):
        buffer = io.BytesIO()
        Image.fromarray(draw_sample(3, number)[0]).resize(size).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def expected_masks(files: list[bytes], weights: str) -> dict[tuple[bytes, bool], bytes]:
    """Return the mask of each picture without and with the CRF."""
    net = deeplabctl.load(weights)
    return {
        (content, crf): mask_bytes(net(decode_image(content, "picture"), crf=crf).label)
        for content in files
        for crf in (False, True)
    }


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG file with these chunks behind its header."""
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in (head, *chunks)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def hostile_files() -> dict[str, list[bytes]]:
    """Return files that are to be sent as requests, by the kind of attack."""
    zeros = zlib.compress(bytes(200 << 20))
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3)).astype(np.uint8)
    # Orientation 6, and DateTime (0x132) as a double: sound TIFF, of types that no camera writes
    entries = struct.pack("<HHHIIHHII", 2, 0x112, 3, 1, 6, 0x132, 12, 1, 38)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entries + bytes(4) + struct.pack("<d", 1e300)
    odd, noisy = io.BytesIO(), io.BytesIO()
    Image.fromarray(draw_sample(3, 0)[0]).save(odd, "JPEG", exif=exif)
    Image.fromarray(noise).save(noisy, "PNG")
    bombs = [
        png(60_000, 60_000, (b"IDAT", zeros)),
        png(99, 99, (b"zTXt", b"a\0\0" + zeros)),
        png(99, 99, (b"IDAT", zeros)),
    ]
    return {"odd EXIF": [odd.getvalue()], "bomb": bombs, "noise": [noisy.getvalue()]}


def attack(
    port: int, chance: random.Random, files: list[bytes], bad: dict[str, list[bytes]], open_: list[socket.socket]
) -> str:
    """Send one hostile request; returns its kind and what was answered. Connections of stallers stay open."""
    kind = chance.choice([*bad, "slow reader", "one-byte chunks", "half body"])
    head = (
        "POST /api/segment?format=overlay&crf={} HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n{}\r\n\r\n"
    )
    content, connection = chance.choice(bad.get(kind, files)), socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(120)
    connection.connect(("127.0.0.1", port))
    length = f"content-length: {len(content)}"
    try:
        if kind == "slow reader":
            connection.settimeout(1)
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 500)
        elif kind == "half body":
            connection.sendall(head.format(0, length).encode() + content[: len(content) // 2])
        elif kind == "one-byte chunks":
            body = b"".join(b"1\r\n%c\r\n" % byte for byte in content)
            connection.sendall(
                head.format(0, "connection: close\r\ntransfer-encoding: chunked").encode() + body + b"0\r\n\r\n"
            )
        else:
            connection.sendall(head.format(int(kind == "noise"), f"connection: close\r\n{length}").encode() + content)
        if kind in ("slow reader", "half body"):
            open_.append(connection)
            return f"{kind}: left open"
        answer = connection.recv(64)
    except OSError:
        answer = b"        (cut)"
    if connection not in open_:
        connection.close()
    return f"{kind}: {answer[9:12].decode() or 'closed'}"


def start(options: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Start a service on a free port; returns it and the port."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "serve", "--port", "0", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving http://"), line
    return process, int(line.split()[1].rsplit(":", 1)[1])


class Load:
    """Hold what the clients send and what they saw."""

    def __init__(self, port: int, arguments: argparse.Namespace) -> None:
        self.port, self.arguments, self.files = port, arguments, pictures()
        self.masks = expected_masks(self.files, arguments.weights)
        self.bad = hostile_files() if arguments.hostile else {}
        self.results: list[tuple[float, int, bool]] = []  # of honest requests: seconds, status (0: none, 1: wrong), CRF
        self.again = 0  # requests that were sent again, as the queue was full
        self.attacks: collections.Counter[str] = collections.Counter()
        self.open: list[socket.socket] = []
        self.end = time.monotonic() + arguments.seconds

    def client(self, number: int) -> None:
        """Send pictures until the time is over, and some attacks."""
        chance = random.Random(number)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while time.monotonic() < self.end:
            if chance.random() < self.arguments.hostile:
                connection.close()  # the service does so with one that is quiet for some seconds
                self.attacks[attack(self.port, chance, self.files, self.bad, self.open)] += 1
                continue
            content, crf = chance.choice(self.files), chance.random() < self.arguments.crf
            begin = time.monotonic()
            while (status := self._ask(connection, content, crf)) == 429:
                self.again += 1
                time.sleep(1)  # as Retry-After says
            self.results.append((time.monotonic() - begin, status, crf))
            if status != 200:
                time.sleep(0.1 + 0.1 * chance.random())

    def _ask(self, connection: http.client.HTTPConnection, content: bytes, crf: bool) -> int:
        try:
            path = f"/api/segment?format=mask&crf={crf}"
            connection.request("POST", path, content, {"content-type": "image/jpeg"})
            answer = connection.getresponse()
            is_right = answer.read() == self.masks[content, crf]
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0
        return answer.status if is_right or answer.status != 200 else 1


def bare_rate(files: list[bytes], weights: str, seconds: float) -> float:
    """Return the images/s from image to label without a service, on all cores."""
    net, images = deeplabctl.load(weights), [decode_image(content, "image") for content in files]
    begin, count = time.monotonic(), 0
    pairs = itertools.takewhile(lambda _: time.monotonic() < begin + seconds, ((0, i) for i in itertools.cycle(images)))
    for count, _ in enumerate(net.labels(pairs), start=1):  # noqa: B007
        pass
    return count / (time.monotonic() - begin)


def memory(process: subprocess.Popen[str]) -> float:
    """Return the MiB that a process has in memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def run(process: subprocess.Popen[str], port: int, arguments: argparse.Namespace) -> None:
    """Run the clients, and print what they saw."""
    load = Load(port, arguments)
    threads = [threading.Thread(target=load.client, args=(number,)) for number in range(arguments.clients)]
    sizes = [memory(process)]
    for thread in threads:
        thread.start()
    while time.monotonic() < load.end:
        time.sleep(arguments.seconds / 12)
        sizes.append(memory(process))
    for thread in threads:
        thread.join()
    for connection in load.open:
        connection.close()
    results = load.results
    print(f"{arguments.clients} clients, {arguments.seconds:g} s, {os.cpu_count()} CPUs, CRF for {arguments.crf:.0%}")
    statuses = dict(sorted(collections.Counter(status for _, status, _ in results).items()))
    print(f"answers: {statuses}, sent again: {load.again}")
    for name, kinds in {"all": (False, True), "without CRF": (False,), "with CRF": (True,)}.items():
        if done := [seconds for seconds, status, crf in results if status == 200 and crf in kinds]:
            p50, p95, p99 = (float(np.percentile(done, share)) for share in (50, 95, 99))
            print(f"{name}: {len(done) / arguments.seconds:.1f} pictures/s, p50 {p50:.3f} s, p95 {p95:.3f} s, "
                  f"p99 {p99:.3f} s")  # fmt: skip
    for what, count in sorted(load.attacks.items()):
        print(f"attack {what}: {count}")
    print(f"memory in MiB: {' '.join(f'{size:.0f}' for size in sizes)}")


def main() -> None:
    """Start a service, load it and end it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=str(TINY))
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--crf", type=float, default=0.25, help="share of the requests that ask for the CRF")
    parser.add_argument("--hostile", type=float, default=0, help="share of the requests that are attacks")
    arguments = parser.parse_args()
    rate = bare_rate(pictures(), arguments.weights, arguments.seconds / 6)
    process, port = start(["--weights", arguments.weights, "--queue", str(arguments.queue)])
    try:
        run(process, port, arguments)
    finally:
        process.send_signal(signal.SIGTERM)
        print(f"exit code: {process.wait()}")
    print(f"without a service, without CRF: {rate:.1f} pictures/s")


if __name__ == "__main__":
    main()
