"""Run ``deeplabctl eval`` on a small network and set, for tests."""

import json

from caffe_files import DATA

CAFFEMODEL = DATA / "lfov_tiny_v2.caffemodel"  # 21 classes, random weights


def scores_of(deeplabctl, *arguments):
    code, out, _ = deeplabctl("eval", "--data", "set", "--json", *arguments)
    assert code == 0
    return json.loads(out)
