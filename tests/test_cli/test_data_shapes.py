"""``deeplabctl data shapes``."""

import json

from command_process import fails_with_one_line, run_without_tensorflow


def test_shapes_are_drawn_and_counted_as_json(tmp_path):
    code, out, err = run_without_tensorflow("data", "shapes", "mine", "--train", 3, "--val", 2, "--json", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert json.loads(out) == {"root": "mine", "train": 3, "val": 2, "seed": 0}
    assert len(list((tmp_path / "mine" / "JPEGImages").iterdir())) == 5
    fails_with_one_line("mine", "data", "shapes", "mine", cwd=tmp_path)


def test_folders_that_cannot_be_written_are_one_line(tmp_path):
    fails_with_one_line("cannot write", "data", "shapes", "/proc/nowhere/x", cwd=tmp_path)
