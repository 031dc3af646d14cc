"""The command: what is checked before anything is loaded, and how it ends."""

import json
import re
import resource
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest
from caffe_files import DATA
from command_process import fails_with_one_line, run_without_tensorflow
from png_files import blank_png
from served import Served, head, rest_of

from deeplabctl.cli.serve import _OWN_PATHS

WEIGHTS = DATA / "lfov_tiny_v2.caffemodel"
OPTIONS = ("--weights", WEIGHTS, "--engine", "numba")


def test_port_weights_and_options_are_checked_before_anything_is_loaded(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port"
        fails_with_one_line(message, "serve", *OPTIONS, "--port", port, cwd=tmp_path)
    fails_with_one_line("(127.0.0.1: Connection refused)", "serve", cwd=tmp_path)
    fails_with_one_line(
        "203.0.113.9:8000: Cannot assign requested address; choose another --host",
        "serve",
        *OPTIONS,
        "--host",
        "203.0.113.9",
        cwd=tmp_path,
    )
    for host in ("a b", "*"):
        assert "Errno" not in fails_with_one_line(f"host {host}", "serve", *OPTIONS, "--host", host, cwd=tmp_path)
    message = "files that may be open, for 9,000,000,000 --connections, got"
    fails_with_one_line(message, "serve", *OPTIONS, "--connections", "9000000000", cwd=tmp_path)
    for option, value in (
        ("--port", "70000"),
        ("--queue", "0"),
        ("--max-pixels", "0"),
        ("--scales", "x"),
        ("--timeout", "0"),
        ("--allow-host", "http://a"),
        ("--crf", "maybe"),
        ("--root-path", "photos"),
        ("--root-path", "/a/../b"),
        ("--root-path", "/api"),
    ):
        code, _, err = run_without_tensorflow("serve", *OPTIONS, option, value, cwd=tmp_path)
        assert code == 2
        assert option in err


def test_path_behind_a_proxy_is_none_of_the_services_own(serve):
    assert {route.path.split("/")[1] for route in serve().app.routes} - {""} == set(_OWN_PATHS)


def test_crf_is_refused_where_it_is_off(tmp_path):
    with Served(tmp_path / "a", *OPTIONS, "--crf", "off") as served:
        assert (served.facts["crf"], served.facts["offers_crf"], served.facts["settings"]["crf"]) == (
            False,
            False,
            None,
        )
    code, _, err = run_without_tensorflow("serve", *OPTIONS, "--crf", "off", "--crf-adaptive", cwd=tmp_path)
    assert code == 2
    assert "--crf: off, but its parameters are set" in err


def test_missing_packages_are_named_with_what_installs_them(deeplabctl, monkeypatch):
    from deeplabctl.cli import serve

    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else "found")
    code, out, err = deeplabctl("serve", *OPTIONS)
    assert (code, out) == (1, "")
    assert err == "error: serve needs the package uvicorn: pip install 'deeplabctl[serve]'\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_after_the_running_requests(tmp_path, photo, number):
    with Served(tmp_path / "a", *OPTIONS) as served, served.connect() as running, served.connect():
        assert served.facts["limits"]["queue"] == 16
        running.sendall(head(content_length=len(photo)) + photo[:100])
        assert served.get("/healthz")
        served.process.send_signal(number)
        served.wait_until_refused()
        running.sendall(photo[100:])
        assert rest_of(running).startswith(b"HTTP/1.1 200 OK")
        assert served.process.wait(20) == 0
        assert "Traceback" not in served.errors()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_it_at_once(tmp_path, photo, number):
    with Served(tmp_path / "a", *OPTIONS) as served, served.connect() as running:
        running.sendall(head(content_length=len(photo)) + photo[:100])
        assert served.get("/healthz")
        served.process.send_signal(number)
        served.wait_until_refused()
        served.process.send_signal(number)
        assert served.process.wait(10) == -number
        assert "Traceback" not in served.errors()


def test_many_connections_at_once_leave_files_to_open(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        served = Served(tmp_path / "a", *OPTIONS, "--connections", 100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with served, ExitStack() as stack:
        for _ in range(700):
            each = stack.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex((served.address[0], int(served.address[1])))
        each.settimeout(90)  # a connection that a busy machine dropped is made again after 31 s at the latest
        assert each.recv(99).startswith(b"HTTP/1.1 503")
        assert "Traceback" not in served.errors()


def test_address_of_other_machines_is_warned_of(tmp_path):
    with Served(tmp_path / "a", *OPTIONS, "--host", "0.0.0.0", "--quiet") as served:
        said = served.errors()
    found = re.match(r"warning: other machines can reach this address, http://([\d.]+):(\d+); there is neither", said)
    assert found, said
    assert ip_address(found[1]).version == 4
    with Served(tmp_path / "b", *OPTIONS, "--host", "localhost", "--quiet") as served:
        assert served.errors() == ""


def test_command_of_the_container_serves_all_addresses(tmp_path):
    text = (Path(__file__).parents[2] / "Dockerfile").read_text()
    assert re.findall(r"(?m)^ENTRYPOINT (.+)$", text) == ['["deeplabctl"]']
    command, *options = json.loads(re.findall(r"(?m)^CMD (.+)$", text)[0])
    assert command == "serve"
    assert re.findall(r"(?m)^USER (.+)$", text) == ["app"]
    with Served(tmp_path / "a", *OPTIONS, *options, "--port", "0") as served:
        assert served.url.startswith("http://0.0.0.0:")


def test_container_has_what_infer_and_serve_need_without_tensorflow(tmp_path):
    root = Path(__file__).parents[2]
    command = re.search(r"(?s)\nRUN python -c (.*?)\\\n +> /wheels", (root / "Dockerfile").read_text())[1]
    code = f'exec "$0" -c {command}'
    found = subprocess.run(["sh", "-c", code, sys.executable], cwd=root, capture_output=True, text=True, check=True)
    names = {re.match(r"[\w-]+", line)[0] for line in found.stdout.splitlines()}
    assert names == {
        "fastapi", "h5py", "llvmlite", "numba", "numpy", "onnx", "onnxruntime", "pillow", "platformdirs",
        "prometheus-client", "python-multipart", "rich", "scipy", "tomli-w", "tqdm", "typer", "uvicorn",
    }  # fmt: skip
    (tmp_path / "photo.png").write_bytes(blank_png(33, 33))
    lacking = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "def find_others(name, *more):\n"
        "    return None if name in ('tensorflow', 'keras', 'matplotlib') else find(name, *more)\n"
        "PathFinder.find_spec = find_others\n"
        "sys.argv[0] = 'deeplabctl'\n"
        "from deeplabctl.cli.app import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", lacking, "infer", "photo.png", *map(str, OPTIONS)]
    done = subprocess.run([*command, "--overlay"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command[-1] = "tensorflow"
    done = subprocess.run([*command, "--overwrite"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    without = "(infer, eval, serve and export to ONNX do without it, with --engine numba or an ONNX file)"
    expected = f"error: TensorFlow is not installed, and this needs it: pip install tensorflow {without}"
    assert done.stderr.splitlines()[-1] == expected
