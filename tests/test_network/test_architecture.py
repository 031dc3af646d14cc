import dataclasses

from deeplabctl.network import ARCHITECTURES

LARGEFOV = ARCHITECTURES["largefov"]


def test_sizes_to_predict_at():
    assert LARGEFOV.padded_size(375, "paper") == 513
    assert LARGEFOV.padded_size(514, "paper") == 521
    assert [LARGEFOV.padded_size(size) for size in (1, 2, 9, 10, 321, 375)] == [1, 9, 9, 17, 321, 377]


def test_crop_sizes_put_label_pixels_on_cells():
    assert [size for size in range(1, 35) if LARGEFOV.is_crop_size(size)] == [9, 17, 25, 33]


def test_crops_fit_all_scales_of_a_network():
    steps = {(1.0,): 8, (1.0, 0.5): 16, (1.0, 0.75, 0.5): 32}
    for scales, step in steps.items():
        assert dataclasses.replace(LARGEFOV, scales=scales).crop_step == step
    assert [size for size in range(330) if ARCHITECTURES["resnet101"].is_crop_size(size)] == list(range(33, 330, 32))


def test_sizes_follow_another_output_stride():
    coarse = dataclasses.replace(LARGEFOV, output_stride=16)
    assert [coarse.padded_size(size) for size in (1, 2, 17, 18, 513)] == [1, 17, 17, 33, 513]
    assert [size for size in range(40) if coarse.is_crop_size(size)] == [17, 33]
    assert (coarse.cells(33), coarse.upsampled_size(3)) == (3, 33)
