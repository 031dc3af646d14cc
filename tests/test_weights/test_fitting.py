import os

import numpy as np
import pytest

from deeplabctl.errors import RunError, WeightsError
from deeplabctl.recipe import read_recipe
from deeplabctl.training.run_directory import RunDirectory
from deeplabctl.weights.fitting import find_weights, fit_weights, random_weights, read_info
from deeplabctl.weights.reading import read_network, width_of_start


def test_random_start_follows_he_with_a_dirac_kernel_and_the_papers_classifier():
    weights = random_weights("largefov", 21, 0.5, seed=1)
    assert weights["conv1_1"][0].std() == pytest.approx(np.sqrt(2 / 27) / 7, rel=0.05)
    kernel, bias = weights["conv4_2"]
    through = kernel[1, 1, np.arange(256), np.arange(256)]
    assert through.mean() == pytest.approx(0.8 * np.sqrt(0.5), rel=0.01)
    kernel[1, 1, np.arange(256), np.arange(256)] -= through.mean()
    assert kernel.std() == pytest.approx(0.8 * np.sqrt(0.5) * np.sqrt(2 / (9 * 256)), rel=0.01)
    np.testing.assert_allclose(kernel.mean((0, 1, 2)), 0, atol=1e-4)
    assert weights["fc8_voc12"][0].std() == pytest.approx(0.01, rel=0.05)
    assert not any(bias.any() for _, bias in weights.values())
    assert bias.shape == (256,)


def test_random_start_is_a_function_of_the_seed():
    one, same, other = (random_weights("largefov", 3, 0.1, seed) for seed in (1, 1, 2))
    for name in one:
        np.testing.assert_array_equal(one[name][0], same[name][0])
        assert (one[name][0] != other[name][0]).any()


def test_classifier_of_another_class_count_starts_anew_and_the_rest_is_kept():
    found = random_weights("largefov", 21, 0.1, seed=1)
    weights, new = fit_weights(found, "largefov", 5, 0.1, seed=0, source="a.keras")
    assert new == ["fc8_voc12"]
    assert weights["fc8_voc12"][0].shape[-1] == 5
    np.testing.assert_array_equal(weights["fc7"][0], found["fc7"][0])


def test_features_alone_leave_new_layers_gaussian():
    found = {name: value for name, value in random_weights("largefov", 21, 1.0, 1).items() if name.startswith("conv")}
    weights, new = fit_weights(found, "largefov", 21, 1.0, seed=0, source="vgg")
    assert new == ["fc6", "fc7", "fc8_voc12"]
    assert weights["fc6"][0].std() == pytest.approx(0.01, rel=0.01)


def test_weights_that_do_not_fit_are_listed_with_both_shapes():
    found = random_weights("largefov", 21, 0.1, seed=1)
    found["fc6"] = [found["fc6"][0][:1], found["fc6"][1]]
    found["fc9"] = found["fc7"]
    with pytest.raises(WeightsError, match=r"\+ fc9 \(unexpected\); - fc6: expected \(3, 3, 51, 102\), got \(1, 3"):
        fit_weights(found, "largefov", 21, 0.1, seed=0, source="a.keras")


def make_run(path, age):
    path.mkdir(parents=True)
    for name in ("best.keras", "recipe.toml"):
        (path / name).write_text(name)
        os.utime(path / name, (1e9 - age, 1e9 - age))


def test_weights_are_the_best_of_the_newest_run(tmp_path):
    make_run(tmp_path / "runs" / "z-old", age=100)
    make_run(tmp_path / "runs" / "a-new", age=1)
    (tmp_path / "runs" / "newest-without-weights").mkdir()
    assert find_weights(None, tmp_path / "runs") == tmp_path / "runs" / "a-new" / "best.keras"
    assert find_weights(str(tmp_path / "runs" / "z-old"), tmp_path) == tmp_path / "runs" / "z-old" / "best.keras"


def test_no_weights_name_the_three_ways_to_get_some(tmp_path):
    with pytest.raises(WeightsError, match=r"deeplabctl train.*--weights.*DEEPLABCTL_WEIGHTS"):
        find_weights(None, tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        read_network(find_weights(str(tmp_path / "gone.keras")))
    with pytest.raises(WeightsError, match="expected a run directory"):
        find_weights(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0", b"PK\x03\x04 cut off", b"<html>"])
def test_files_that_are_no_model_are_named_in_one_line(tmp_path, content):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"expected a \.keras model file") as caught:
        read_info(path)
    assert "\n" not in str(caught.value)


def test_width_of_imagenet_features_is_one():
    assert width_of_start("random", 0.25) == 0.25
    assert width_of_start("imagenet", None) == 1
    with pytest.raises(WeightsError, match=r"expected weights of width 0\.25, got width 1"):
        width_of_start("imagenet", 0.25)


def test_run_directory_is_named_locked_and_records_its_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("shapes")
    with RunDirectory.create(None, recipe, "set", ["deeplabctl", "train"]) as run:
        assert run.path.parent.name == "runs"
        assert run.path.name.endswith("-largefov-set")
        with pytest.raises(RunError, match="another training is running in it"):
            RunDirectory.create(run.path, recipe, "set")
        with RunDirectory.create(None, recipe, "set") as second:
            assert second.path != run.path
        run.metrics(kind="train", step=1)
        run.log("hello")
    assert '"status": "finished"' in (run.path / "run.json").read_text()
    assert (run.path / "metrics.jsonl").read_text() == '{"kind": "train", "step": 1}\n'
    assert read_recipe(str(run.path / "recipe.toml")) == recipe
    with pytest.raises(RunError, match="it holds a run already; continue that"):
        RunDirectory.create(run.path, recipe, "set")
    with pytest.raises(ValueError, match="boom"), RunDirectory.create(tmp_path / "other", recipe, "set"):
        raise ValueError("boom")
    assert '"status": "failed"' in (tmp_path / "other" / "run.json").read_text()


def test_run_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"run directory .*file/run: cannot be written"):
        RunDirectory.create(tmp_path / "file" / "run", read_recipe("shapes"), "set")


def test_weights_that_are_not_finite_or_of_too_many_classes_are_refused():
    found = random_weights("largefov", 21, 0.1, seed=1)
    found["fc7"][0][0, 0, 3, 3] = np.nan
    with pytest.raises(WeightsError, match="- fc7: expected finite numbers"):
        fit_weights(found, "largefov", 21, 0.1, seed=0, source="a.keras")
    with pytest.raises(WeightsError, match="at most 255 classes, got 300"):
        fit_weights(random_weights("largefov", 300, 0.05, 0), "largefov", 300, 0.05, seed=0, source="a.keras")
