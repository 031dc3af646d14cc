from deeplabctl.network import geometry


def test_sizes_to_predict_at():
    assert geometry.padded_size(375, "paper") == 513
    assert geometry.padded_size(514, "paper") == 521
    assert [geometry.padded_size(size, "tight") for size in (1, 2, 9, 10, 321, 375)] == [1, 9, 9, 17, 321, 377]


def test_crop_sizes_put_label_pixels_on_cells():
    assert [size for size in range(1, 35) if geometry.is_crop_size(size)] == [9, 17, 25, 33]
