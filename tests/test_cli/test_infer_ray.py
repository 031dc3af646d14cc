"""``deeplabctl infer --ray``: the files of one machine, by processes of a cluster that may die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from caffe_files import DATA
from PIL import Image

CAFFEMODEL = DATA / "lfov_tiny_v2.caffemodel"  # 21 classes, random weights
WORDS = ["infer", "photos", "--weights", CAFFEMODEL, "--engine", "numba", "--overlay", "--json"]
WORDS += [word for name in ("mask", "json", "coco") for word in ("--format", name)]
RAY = ["--ray", "local", "--ray-workers", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ray", "a.png"], "HOST:PORT, ray://HOST:PORT, or nothing after it, got 'a.png'; put inputs before --ray"),
        (["a.png", "--ray", "http://head:1"], "got 'http://head:1'"),
        (["a.png", "--ray-workers", "2"], "requires --ray"),
        (["a.png", "--ray", "--ray-workers", "0"], "Invalid value for '--ray-workers'"),
        (["-", "--ray"], "cannot be used with -"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(deeplabctl, arguments, message):
    code, out, err = deeplabctl("infer", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_missing_package_is_one_line_with_its_command(tmp_path, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.cli.infer.find_spec", lambda name: None)
    code, out, err = deeplabctl("infer", "a.png", "--ray")
    assert (code, out) == (1, "")
    assert err == "error: --ray needs the package ray: pip install 'deeplabctl[ray]'\n"


@pytest.mark.parametrize("words", [["--ray", "--quiet"], ["--quiet", "--ray"], ["--ray", "--", "clip.mp4"]])
def test_address_is_optional_and_videos_are_refused(tmp_path, deeplabctl, monkeypatch, words):
    pytest.importorskip("av", reason="PyAV is not installed")
    from video_clips import write_clip

    monkeypatch.setattr("deeplabctl.cli.infer.find_spec", lambda name: True)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
    write_clip(tmp_path / "clip.mp4", range(0, 7200, 3600))
    code, out, err = deeplabctl("infer", *([] if "--" in words else ["clip.mp4"]), *words)
    assert (code, out) == (1, "")
    assert err == "error: clip.mp4 is a video: expected images only with --ray; leave it out\n"


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory):
    """Segment 40 pictures and one that is broken, without Ray; returns the folder, stdout and stderr."""
    folder = tmp_path_factory.mktemp("one_machine")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(1)
    for number in range(40):
        values = rng.integers(0, 256, (30 + number % 3, 40, 3)).astype(np.uint8)
        Image.fromarray(values).save(folder / "photos" / f"{number:03}.png")
    (folder / "photos" / "020.jpg").write_bytes(b"no picture")
    (folder / "photos" / "020.png").rename(folder / "photos" / "999.png")
    done = start(folder)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 1, err
    return folder, out, err


def start(folder, *options):
    command = [sys.executable, "-m", "deeplabctl", *map(str, WORDS), *options]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture
def on_ray(one_machine, tmp_path):
    """Start the same with two actors."""
    pytest.importorskip("ray", reason="Ray is not installed")
    (tmp_path / "photos").symlink_to(one_machine[0] / "photos")
    process = start(tmp_path, *RAY)
    yield process
    process.kill()
    process.communicate()


def wait_for_files(folder, count, seconds=90):
    end = time.monotonic() + seconds
    while len(list(folder.glob("masks/[0-9]*.png"))) < count:
        assert time.monotonic() < end, "the run does not go on"
        time.sleep(0.02)


def actors(process):
    """Return the ids of the processes below one that are actors, by the names that Ray gives them."""
    parents, found = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if (entry / "cmdline").read_text().startswith("ray::Worker"):
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue

    def ancestors(pid):
        while pid := parents.get(pid, 0):
            yield pid

    return [pid for pid in found if process.pid in ancestors(pid)]


def check_same(one_machine, folder, out, err):
    """Check that a run has the files and the document of one without Ray, times apart."""
    expected_folder, expected_out, expected_err = one_machine
    expected, got = json.loads(expected_out), json.loads(out)
    for document in (expected, got):
        for image in document["images"]:
            del image["seconds"]
    assert got == expected
    assert len(got["failed"]) == 1
    assert err.splitlines()[-1] == expected_err.splitlines()[-1]
    files = {path.name: path.read_bytes() for path in (expected_folder / "masks").iterdir()}
    assert {path.name: path.read_bytes() for path in (folder / "masks").iterdir()} == files
    assert len(files) == 2 * 40 + 2


@pytest.mark.slow
def test_two_actors_write_the_bytes_of_one_machine(one_machine, on_ray, tmp_path):
    out, err = on_ray.communicate(timeout=120)
    assert on_ray.returncode == 1, err
    check_same(one_machine, tmp_path, out, err)
    notes = [line for line in err.splitlines() if not line.startswith(("weights: ", "warning: ", "error: "))]
    assert notes[:2] == ["starting Ray", "Ray workers: 2, each with 1 CPU"]
    assert len(notes) == 3  # and the speed


@pytest.mark.slow
def test_run_is_complete_though_an_actor_is_killed_in_the_middle(one_machine, on_ray, tmp_path):
    wait_for_files(tmp_path, 10)
    os.kill(actors(on_ray)[0], signal.SIGKILL)
    out, err = on_ray.communicate(timeout=120)
    assert on_ray.returncode == 1, err
    assert "a Ray worker died and was replaced" in err
    check_same(one_machine, tmp_path, out, err)


@pytest.mark.slow
def test_interrupted_run_stops_all_processes_and_leaves_whole_files_only(one_machine, on_ray, tmp_path):
    wait_for_files(tmp_path, 4)
    running = actors(on_ray)
    assert len(running) == 2
    os.killpg(on_ray.pid, signal.SIGINT)  # as a terminal does
    out, err = on_ray.communicate(timeout=60)
    assert (on_ray.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in running)
    expected = one_machine[0] / "masks"
    for path in (tmp_path / "masks").iterdir():
        assert path.read_bytes() == (expected / path.name).read_bytes()
    assert not (tmp_path / "masks" / "areas.jsonl").exists()
