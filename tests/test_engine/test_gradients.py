import numpy as np
import pytest

from deeplabctl.engine.gradients import BatchConvolutions, is_worthwhile

CASES = [  # images, height, width, channels, outputs, dilation
    (2, 13, 9, 16, 32, 1),
    (1, 5, 5, 48, 16, 2),
    (3, 20, 31, 32, 64, 2),
    (2, 7, 30, 16, 48, 12),
    (1, 1, 1, 16, 16, 1),
    (5, 3, 2, 80, 16, 1),
]


def windows(images, dilation):
    """Yield (row, column, images as the kernel's place sees them), in float64."""
    _, height, width, _ = images.shape
    framed = np.pad(images.astype(float), ((0, 0), (dilation, dilation), (dilation, dilation), (0, 0)))
    for i in range(3):
        for j in range(3):
            yield i, j, framed[:, i * dilation :, j * dilation :][:, :height, :width]


def literal(images, kernel, dilation):
    return sum(seen @ kernel[i, j].astype(float) for i, j, seen in windows(images, dilation))


def problem(case):
    count, height, width, channels, outputs, _ = case
    random = np.random.default_rng(height * channels)
    shapes = ((count, height, width, channels), (3, 3, channels, outputs), (outputs,), (count, height, width, outputs))
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


def error(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_and_gradients_are_the_literal_ones(case):
    images, kernel, bias, above = problem(case)
    dilation, convolutions = case[-1], BatchConvolutions(threads=1)
    result = literal(images, kernel, dilation)
    zero = np.zeros_like(bias)
    assert error(convolutions.convolve(images, kernel, zero, dilation, relu=False), result) < 3e-6
    expected = np.maximum(result + bias, 0)
    assert error(convolutions.convolve(images, kernel, bias, dilation, relu=True), expected) < 3e-6
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    of_images = literal(above, turned, dilation)  # stride 1 and as many zeros on each side: a convolution, too
    assert error(convolutions.gradient_of_images(above, kernel, dilation), of_images) < 3e-6
    of_kernel = np.zeros(kernel.shape)
    for i, j, seen in windows(images, dilation):
        of_kernel[i, j] = np.einsum("nhwi,nhwo->io", seen, above.astype(float))
    assert error(convolutions.gradient_of_kernel(images, above, dilation), of_kernel) < 3e-6


def test_sums_over_many_blocks_of_tiles_are_the_same(monkeypatch):
    images, _, _, above = problem((3, 20, 31, 32, 64, 2))
    whole = BatchConvolutions(1).gradient_of_kernel(images, above, 2)
    monkeypatch.setattr("deeplabctl.engine.gradients.BLOCK", 36 * (32 + 64) * 7)  # 7 tiles a block
    assert error(BatchConvolutions(1).gradient_of_kernel(images, above, 2), whole) < 3e-6


@pytest.mark.parametrize("case", CASES[:4], ids=str)
def test_bytes_do_not_depend_on_the_number_of_threads_or_on_what_was_computed_before(case):
    images, kernel, bias, above = problem(case)
    dilation, found = case[-1], []
    shared = BatchConvolutions(threads=2)
    shared.gradient_of_kernel(*problem((3, 20, 31, 32, 64, 2))[::3], 1)  # leaves values in the buffers
    for convolutions in (BatchConvolutions(1), shared, shared, BatchConvolutions(5)):
        arrays = (
            convolutions.convolve(images, kernel, bias, dilation, relu=True),
            convolutions.gradient_of_images(above, kernel, dilation),
            convolutions.gradient_of_kernel(images, above, dilation),
        )
        found.append([array.tobytes() for array in arrays])
    assert found[0] == found[1] == found[2] == found[3]


def test_only_large_layers_of_whole_cache_lines_are_worthwhile():
    assert is_worthwhile(4, (321, 321), 64, 64, 1)
    assert is_worthwhile(4, (41, 41), 512, 512, 2)
    assert is_worthwhile(4, (41, 41), 512, 1024, 12)
    assert not is_worthwhile(4, (321, 321), 3, 64, 1)
    assert not is_worthwhile(4, (321, 321), 64, 72, 1)
    assert not is_worthwhile(1, (21, 21), 512, 512, 2)  # too few pixels for the kernel's transform
    assert not is_worthwhile(4, (21, 21), 512, 1024, 12)  # hardly a pixel of a tile is in the image
    assert not is_worthwhile(4, (13, 13), 64, 64, 1)
