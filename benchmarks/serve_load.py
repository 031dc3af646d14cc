"""Load a service on this machine: clients that each send pictures one after the other, for some time.

python benchmarks/serve_load.py [--weights FILE] [--clients 16] [--seconds 60] [--queue 16] [--crf 0.25]

Prints latencies, pictures per second, what was answered, and the memory of the service over time. Without weights it is
the tiny network of the tests; then the numbers are mostly those of HTTP, decoding and the CRF.
"""

import argparse
import collections
import http.client
import io
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

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


def start(options: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Start a service on a free port; returns it and the port."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "serve", "--port", "0", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving http://"), line
    return process, int(line.split()[1].rsplit(":", 1)[1])


def client(
    port: int, number: int, crf: float, end: float, results: list[tuple[float, int]], files: list[bytes]
) -> None:
    """Send pictures until the time is over, and note the time and the status of each answer (0: none)."""
    chance = random.Random(number)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while time.monotonic() < end:
        content, refines = chance.choice(files), chance.random() < crf
        begin = time.monotonic()
        try:
            connection.request("POST", f"/api/segment?crf={refines}", content, {"content-type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        results.append((time.monotonic() - begin, status))
        if status != 200:
            time.sleep(0.1 + 0.1 * chance.random())


def memory(process: subprocess.Popen[str]) -> float:
    """Return the MiB that a process has in memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def load(process: subprocess.Popen[str], port: int, arguments: argparse.Namespace) -> None:
    """Run the clients, and print what they saw."""
    results: list[tuple[float, int]] = []
    files, end = pictures(), time.monotonic() + arguments.seconds
    threads = [
        threading.Thread(target=client, args=(port, number, arguments.crf, end, results, files))
        for number in range(arguments.clients)
    ]
    sizes = [memory(process)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(arguments.seconds / 12)
        sizes.append(memory(process))
    for thread in threads:
        thread.join()
    done = sorted(seconds for seconds, status in results if status == 200)
    print(f"{arguments.clients} clients, {arguments.seconds:g} s, {os.cpu_count()} CPUs, CRF for {arguments.crf:.0%}")
    print(f"answers: {dict(sorted(collections.Counter(status for _, status in results).items()))}")
    if done:
        p50, p95, p99 = (float(np.percentile(done, share)) for share in (50, 95, 99))
        print(f"latency: p50 {p50:.3f} s, p95 {p95:.3f} s, p99 {p99:.3f} s, mean {statistics.mean(done):.3f} s")
        print(f"throughput: {len(done) / arguments.seconds:.1f} pictures/s")
    print(f"memory in MiB: {' '.join(f'{size:.0f}' for size in sizes)}")


def main() -> None:
    """Start a service, load it and end it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=str(TINY))
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--crf", type=float, default=0.25, help="share of the requests that ask for the CRF")
    arguments = parser.parse_args()
    process, port = start(["--weights", arguments.weights, "--queue", str(arguments.queue)])
    try:
        load(process, port, arguments)
    finally:
        process.send_signal(signal.SIGTERM)
        print(f"exit code: {process.wait()}")


if __name__ == "__main__":
    main()
