"""Nothing is read or written outside of an array: all arrays lie at pages that end the process when touched."""

import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

pytestmark = pytest.mark.process
SUPPORT = Path(__file__).parents[1] / "support"

SCRIPT = """
import sys
sys.path.insert(0, {support!r})
import numpy as np
from guarded_memory import guarded
from deeplabctl.engine import layers, microkernel, workspace

taken = []
def aligned(size):
    taken.append(size)
    return guarded(size, at_end=at_end)
workspace.aligned = layers.aligned = aligned
workspace.Arena.arrays = lambda self, uses: [aligned(floats) for floats, _, _ in uses]
{extra}
from deeplabctl.engine.network import NumbaNetwork
from deeplabctl.engine.row_kernels import fused
from deeplabctl.network import ARCHITECTURES
for architecture, classes, width in (
    ("aspp-l", 21, 0.05), ("resnet101", 3, 0.02), ("msc-largefov", 40, 0.1), ("deeplabv3plus-mnv2", 3, 0.1),
    ("deeplabv3-mobilenetv3", 5, 0.1), ("deeplabv3plus-xception65", 3, 0.02),
):
    weights = ARCHITECTURES[architecture].random_weights(classes, width, 0)
    network = NumbaNetwork(architecture, weights, threads=threads)
    for height, wide in {sizes}:
        if architecture == "msc-largefov":  # which takes no other sizes
            height, wide = 8 * (height // 8) + 1, 8 * (wide // 8) + 1
        image = guarded(height * wide * 3, at_end=at_end).reshape(height, wide, 3)
        image[:] = np.random.default_rng(0).normal(0, 60, image.shape)
        logits = network.logits(image)
        full = tuple(8 * (side - 1) + 1 for side in logits.shape[:2])
        label, scores = fused([[logits], [logits]], full, full, network.workers, with_scores=True)
        assert np.isfinite(scores).all()
assert len(taken) > 100
"""


def run(script, cases, **facts):
    """Run a script for each (at_end, threads) in one process, whose stderr names the case that ended it."""
    head = f"import sys\nfor at_end, threads in {cases}:\n    print(at_end, threads, file=sys.stderr, flush=True)\n"
    script = head + indent(script.format(support=str(SUPPORT), **facts), "    ")
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


BATCHES = """
import sys
sys.path.insert(0, {support!r})
import numpy as np
from guarded_memory import guarded
from deeplabctl.engine import gradients, layers, workspace

def aligned(size):
    return guarded(size, at_end=at_end)
gradients.aligned = workspace.aligned = layers.aligned = aligned
gradients.BLOCK = 36 * 100 * 40
for count, height, width, incoming, outgoing, dilation in (
    (2, 13, 30, 48, 32, 1), (1, 1, 1, 16, 48, 2), (3, 9, 5, 32, 16, 12), (1, 40, 41, 64, 64, 2)
):
    def random(*shape):
        array = guarded(int(np.prod(shape)), at_end=at_end).reshape(shape)
        array[:] = np.random.default_rng(0).normal(size=shape)
        return array
    convolutions = gradients.BatchConvolutions(threads)
    images, kernel = random(count, height, width, incoming), random(3, 3, incoming, outgoing)
    result = convolutions.convolve(images, kernel, random(outgoing), dilation, relu=True)
    above = random(*result.shape)
    found = (convolutions.gradient_of_images(above, kernel, dilation),
             convolutions.gradient_of_kernel(images, above, dilation))
    assert all(np.isfinite(array).all() for array in (result, *found))
"""


def test_nothing_is_touched_outside_of_the_arrays_of_batches_and_gradients():
    result = run(BATCHES, [(False, 1), (True, 1), (False, 3), (True, 3)])
    assert result.returncode == 0, result.stderr


def test_a_guarded_page_ends_the_process():
    script = "from guarded_memory import guarded; a = guarded(10, at_end=True); a.base; a[9]; "
    script += "import numpy as np; np.lib.stride_tricks.as_strided(a, (11,), (4,))[10]"
    ended = subprocess.run([sys.executable, "-c", script], cwd=SUPPORT, capture_output=True, check=False)
    assert ended.returncode == -11


def test_nothing_is_touched_outside_of_the_arrays():
    result = run(SCRIPT, [(False, 1), (True, 1)], sizes=[(1, 1), (18, 45)], extra="")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tiles", [(4,), (6,)])
def test_nothing_is_touched_outside_of_the_arrays_with_any_tile(at_end, threads, tiles):
    extra = f"layers.TILES = {tiles}; layers.TRANSFORMS = {{{tiles[0]}: 0}}; layers.LARGER_TILE = 0.01"
    result = run(SCRIPT, [(at_end, threads)], sizes=[(1, 1), (2, 9), (33, 20), (61, 130), (97, 8)], extra=extra)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(("lanes", "rows"), [(4, 6), (4, 12), (8, 6)])
def test_nothing_is_touched_outside_of_the_arrays_with_the_vectors_of_other_processors(at_end, lanes, rows):
    extra = f"microkernel.best_simd = lambda: microkernel.simd_of({lanes}, {rows})"
    result = run(SCRIPT, [(at_end, 1)], sizes=[(1, 1), (33, 20)], extra=extra)
    assert result.returncode == 0, result.stderr
