"""Several processes on one port: all answer, one that is killed is replaced, and all end together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from caffe_files import DATA
from command_process import PROGRAM, fails_with_one_line
from served import Served, head, rest_of

OPTIONS = ("--weights", DATA / "lfov_tiny_v2.caffemodel", "--engine", "numba", "--workers", 2)
COMMAND = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", "--json", *map(str, OPTIONS)]


def workers_of(process):
    """Return the processes below the service's that answer requests."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return {int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition):
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + 60
        time.sleep(0.05)


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """Serve with two workers; returns the service, its processes and a function that segments a photo."""
    with Served(tmp_path_factory.mktemp("workers"), *OPTIONS) as served:

        def mask(photo):
            request = head("/api/segment?format=mask", "image/jpeg", content_length=len(photo), connection="close")
            answer = served.exchange(request, photo)
            assert answer.startswith(b"HTTP/1.1 200 OK"), answer[:300]
            return answer.partition(b"\r\n\r\n")[2]

        yield served, mask


def test_worker_that_is_killed_is_replaced_while_the_others_answer(masks, photo, client):
    served, mask = masks
    expected = client.post("/api/segment?format=mask", content=photo, headers={"content-type": "image/jpeg"}).content
    before = workers_of(served.process)
    assert len(before) == 2
    assert mask(photo) == expected
    for killed in before:  # whichever answers, the other one does after this
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: is_gone(killed))  # noqa: B023
        assert mask(photo) == expected
        wait_until(lambda: len([pid for pid in workers_of(served.process) if not is_gone(pid)]) == 2)
        wait_until(lambda: "it is being replaced" in served.errors())
    assert not workers_of(served.process) & before
    ended = r"warning: worker (\d) \(process (\d+)\) was ended by SIGKILL; it is being replaced"
    lines = re.findall(ended, served.errors())
    assert {int(pid) for _, pid in lines} == before
    assert {number for number, _ in lines} == {"1", "2"}
    assert mask(photo) == expected
    assert "Traceback" not in served.errors()
    numbers = [line for line in served.get("/metrics").decode().splitlines() if not line.startswith("#")]
    assert all(re.search(r'\bworker="[12]"', line) for line in numbers)


@pytest.mark.parametrize("to_all", [False, True])
def test_signal_ends_all_after_the_running_requests(tmp_path, photo, to_all):
    with Served(tmp_path / "a", *OPTIONS) as served, served.connect() as running:
        assert served.facts["architecture"] == "largefov"
        running.sendall(head(content_length=len(photo)) + photo[:100])
        time.sleep(0.3)
        pids = workers_of(served.process)
        for pid in [*(pids if to_all else ()), served.process.pid]:  # a terminal and systemd send it to all
            os.kill(pid, signal.SIGINT)
        served.wait_until_refused()
        running.sendall(photo[100:])
        assert rest_of(running).startswith(b"HTTP/1.1 200 OK")
        assert served.process.wait(40) == 0
        assert len(pids) == 2
        assert all(map(is_gone, pids))
        assert "Traceback" not in served.errors()


@pytest.mark.parametrize("killed", [False, True])
def test_second_signal_and_the_end_of_the_command_end_all_at_once(tmp_path, photo, killed):
    with Served(tmp_path / "a", *OPTIONS) as served, served.connect() as running:
        running.sendall(head(content_length=len(photo)) + photo[:100])
        pids = workers_of(served.process)
        if killed:
            served.process.kill()
        else:
            served.process.send_signal(signal.SIGTERM)
            served.wait_until_refused()
            served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) != 1
        running.close()
        wait_until(lambda: all(map(is_gone, pids)))


def test_signal_before_they_answer_ends_the_command_as_any_other(tmp_path):
    with subprocess.Popen(COMMAND, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline().startswith("weights ")
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.read())["error"]["exit_code"] == process.wait(60) == 143


def test_what_no_worker_can_do_is_one_line(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07")
    fails_with_one_line("broken.onnx", "serve", "--weights", "broken.onnx", *OPTIONS[2:], cwd=tmp_path)


def test_worker_does_not_answer_with_other_weights_than_the_others(tmp_path, photo):
    weights = tmp_path / "tiny.caffemodel"
    weights.write_bytes((DATA / "lfov_tiny_v2.caffemodel").read_bytes())
    with Served(tmp_path / "a", "--weights", weights, *OPTIONS[2:]) as served:
        weights.write_bytes((DATA / "lfov_tiny_v1.caffemodel").read_bytes())
        first, second = workers_of(served.process)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: "they have changed since the command began; start it again" in served.errors())
        assert served.get("/healthz")
        os.kill(second, signal.SIGKILL)
        assert served.process.wait(60) == 1
        assert served.errors().splitlines()[-1].startswith(f"error: weights {weights}: they have changed")


def test_worker_is_replaced_where_nobody_reads_the_warnings_any_more(tmp_path):
    with subprocess.Popen(COMMAND, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.stdout.readline() not in ("}\n", ""):
            pass
        process.stderr.close()
        before = workers_of(process)
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(workers_of(process) - before) == 1)
        process.terminate()
        assert process.wait(60) == 0
