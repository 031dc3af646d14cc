"""``deeplabctl convert-caffe`` from end to end."""

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from caffe_bytes import legacy, packed, v1
from caffe_files import DATA, fixture
from dataset_files import make_dataset
from tiny_weights import tiny_variables

from deeplabctl.data.labels import read_label
from deeplabctl.network import ARCHITECTURES
from deeplabctl.training.plan import plan_training
from deeplabctl.weights.locating import open_weights

MEAN = np.array([104.008, 116.669, 122.675], np.float32)


def test_options_of_a_conversion_are_not_ignored_by_inspect(deeplabctl):
    code, out, err = deeplabctl(
        "convert-caffe",
        fixture("lfov_tiny_v1.caffemodel"),
        "--inspect",
        "--prototxt",
        "gone",
        "--out",
        "a.keras",
        "--seed",
        0,
        "--overwrite",
    )
    assert (code, out) == (2, "")
    assert "--inspect: shows the file without converting it; leave out --prototxt, --seed, --out, --overwrite" in err


@pytest.mark.tf
def test_features_are_trained_as_the_next_command_says(deeplabctl, tmp_path):
    features = {name: array for name, array in tiny_variables().items() if not name.startswith("fc8")}
    (tmp_path / "vgg.pkl").write_bytes(pickle.dumps(features, 2))
    code, out, err = deeplabctl("convert-caffe", "vgg.pkl")
    assert (code, err) == (0, "")
    *_, init, key, setting = out.splitlines()[-1].split()
    assert (key, setting) == ("--set", "model.architecture=largefov")
    make_dataset(tmp_path / "set")
    plan = plan_training("own", [setting], {"model.init": init, "data.root": "set"})
    assert plan.recipe.model.width == 1 / 32


@pytest.mark.tf
@pytest.mark.parametrize("net", ["slim", "tiny"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_converted_net_has_caffes_logits_in_plain_keras(deeplabctl, tmp_path, net, version):
    import keras
    import tensorflow as tf

    source = fixture(f"lfov_{net}_{version}.caffemodel")
    code, out, _ = deeplabctl("convert-caffe", source)
    assert code == 0
    assert "read back and equal to the source" in out
    assert f"next: deeplabctl infer IMAGE --weights lfov_{net}_{version}.keras" in out
    model = keras.saving.load_model(tmp_path / f"lfov_{net}_{version}.keras")
    with np.load(DATA / "inputs_u8.npz") as file:
        images = dict(file)
    for size in images:
        with np.load(DATA / f"fwd_{net}_{size}.npz") as file:
            expected = dict(file)
        reference = expected["fc8_voc12"].transpose(0, 2, 3, 1)
        logits = model(images[size].astype(np.float32)[None] - MEAN)
        assert np.abs(logits - reference).max() <= 2e-5 * np.abs(reference).max()
        full = [8 * cells - 7 for cells in reference.shape[1:3]]
        upsampled = tf.raw_ops.ResizeBilinear(images=logits, size=full, align_corners=True)
        np.testing.assert_array_equal(np.argmax(upsampled, -1), expected["interp_argmax"])
    assert (
        open_weights(tmp_path / f"lfov_{net}_{version}.keras").info.provenance["source"]
        == f"{source.name} (caffemodel)"
    )


@pytest.mark.tf
@pytest.mark.parametrize(
    "name",
    ["lfov_tiny_train_init_v1.caffemodel", "lfov_tiny_v1_withdiff.caffemodel", "train_tiny_step_f32_iter_8.caffemodel"],
)
def test_training_nets_and_snapshots_convert(deeplabctl, tmp_path, name):
    code, out, _ = deeplabctl("convert-caffe", fixture(name), "--json", "--out", "a.keras")
    assert code == 0
    result = json.loads(out)
    assert (result["parameters"], result["new_layers"]) == (20_939, [])
    assert open_weights(tmp_path / "a.keras").info.width == 1 / 32


def test_solver_state_is_named_for_what_it_is(deeplabctl):
    code, _, err = deeplabctl("convert-caffe", fixture("train_tiny_step_f32_iter_8.solverstate"))
    assert code == 1
    assert "solver state of iteration 8" in err


@pytest.mark.tf
def test_infer_takes_a_caffemodel_directly(deeplabctl, tmp_path):
    from PIL import Image

    image = np.load(DATA / "inputs_u8.npz")["33x33"]
    Image.fromarray(image[..., ::-1]).save(tmp_path / "photo.png")
    code, _out, _ = deeplabctl("infer", "photo.png", "--weights", DATA / "lfov_tiny_v1.caffemodel", "--out", "masks")
    assert code == 0
    expected = np.load(DATA / "fwd_tiny_33x33.npz")["interp_argmax"][0]
    np.testing.assert_array_equal(read_label(tmp_path / "masks" / "photo.png"), expected)


def test_prototxt_of_another_geometry_is_refused_with_both_values(deeplabctl, tmp_path):
    text = (DATA / "lfov_slim_v1_deploy.prototxt").read_text()
    model = fixture("lfov_slim_v1.caffemodel")
    assert "hole: 12" in text
    (tmp_path / "net.prototxt").write_text(text.replace("hole: 12", "hole: 4"))
    code, _, err = deeplabctl("convert-caffe", model, "--prototxt", "net.prototxt")
    assert code == 1
    assert "fc6" in err
    assert "12" in err
    assert "4" in err
    assert not list(tmp_path.glob("*.keras"))


@pytest.mark.tf
def test_classes_are_named_and_counted(deeplabctl, tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(f"thing {n}" for n in range(21)))
    code, _out, _ = deeplabctl("convert-caffe", DATA / "lfov_tiny_v1.caffemodel", "--classes", "classes.txt")
    assert code == 0
    assert open_weights(tmp_path / "lfov_tiny_v1.keras").info.classes[20] == "thing 20"
    (tmp_path / "classes.txt").write_text("a\nb\n")
    code, _, err = deeplabctl(
        "convert-caffe", DATA / "lfov_tiny_v1.caffemodel", "--classes", "classes.txt", "--overwrite"
    )
    assert code == 1
    assert "expected 21 names" in err


def test_nothing_is_overwritten_by_default(deeplabctl, tmp_path):
    (tmp_path / "lfov_tiny_v1.keras").write_text("mine")
    code, _, err = deeplabctl("convert-caffe", DATA / "lfov_tiny_v1.caffemodel")
    assert code == 1
    assert "use --overwrite to replace it" in err
    assert (tmp_path / "lfov_tiny_v1.keras").read_text() == "mine"
    code, _, err = deeplabctl("convert-caffe", DATA / "lfov_tiny_v1.caffemodel", "--out", "lfov_tiny_v1.KERAS")
    assert (code, "use --overwrite" in err) == (1, True)  # it would be written as lfov_tiny_v1.keras


def test_inspect_prints_layers_without_tensorflow(tmp_path):
    script = (
        "import sys, atexit; atexit.register(lambda: print('LOADED', {'tensorflow', 'keras'} & set(sys.modules)));"
        "from deeplabctl.cli.app import main; main()"
    )
    command = [sys.executable, "-c", script, "convert-caffe", str(DATA / "lfov_tiny_v1.caffemodel"), "--inspect"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "LOADED set()" in done.stdout
    assert "20,939 parameters; becomes largefov of width 0.03125 with 21 classes" in done.stdout
    assert "conv5_3" in done.stdout


@pytest.mark.parametrize("keep", [0.03, 0.5, 0.97])
def test_model_file_that_is_cut_off_is_one_line(deeplabctl, tmp_path, keep):
    with zipfile.ZipFile(tmp_path / "whole.keras", "w") as archive:
        archive.writestr("deeplabctl.json", "{}")
        archive.writestr("model.weights.h5", bytes(5000))
    whole = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: int(len(whole) * keep)])
    for name in ("cut.keras", "whole.keras"):
        code, _, err = deeplabctl("convert-caffe", name, "--inspect")
        assert code == 1
        assert len(err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.tf
def test_full_size_file_is_converted_in_little_time_and_memory(tmp_path):
    rng = np.random.default_rng(0)
    with (tmp_path / "full.caffemodel").open("wb") as file:
        for name, shape in ARCHITECTURES["largefov"].weight_shapes(21).items():
            if name.endswith("/bias"):
                continue
            kernel = rng.normal(0, 0.01, shape).astype(np.float32).transpose(3, 2, 0, 1)
            blobs = (
                legacy(*kernel.shape) + packed(5, kernel.ravel()),
                legacy(1, 1, 1, shape[-1]) + packed(5, np.zeros(shape[-1])),
            )
            file.write(v1(name.removesuffix("/kernel"), *blobs))
    assert (tmp_path / "full.caffemodel").stat().st_size > 82e6
    measure = (
        "import sys, resource, subprocess; subprocess.run(sys.argv[1:], check=True);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)"  # of the processor, whatever else it does
    )
    for arguments, seconds, gib in ((["--inspect"], 1.5, 0.5), ([], 12.0, 1.1)):
        command = [
            sys.executable,
            "-c",
            measure,
            sys.executable,
            "-m",
            "deeplabctl",
            "convert-caffe",
            "full.caffemodel",
        ]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=tmp_path, check=True)
        took, peak = map(float, done.stdout.splitlines()[-1].split())
        print(f"{' '.join(arguments) or 'conversion'}: {took:.1f} s, {peak:.2f} GiB")  # noqa: T201
        assert took < seconds  # twice what it takes
        assert peak < gib
    assert Path(tmp_path / "full.keras").stat().st_size > 82e6
