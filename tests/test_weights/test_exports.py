import dataclasses
import json
import zipfile

import pytest
from exports import CLASSES, small_network, write_lookalike, write_onnx
from tiny_weights import read_weights

from deeplabctl.classes import class_colors
from deeplabctl.errors import WeightsError
from deeplabctl.weights.fitting import open_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources import READERS
from deeplabctl.weights.sources.caffemodels import CaffeModel
from deeplabctl.weights.starting import start_weights


@pytest.fixture(params=READERS)
def exported(request, tmp_path):
    """Return an export's path, its format and its facts."""
    path = tmp_path / "net.dat"  # its name tells nothing
    info = write_onnx(path) if request.param == "onnx" else write_lookalike(path, request.param)
    return path, request.param, info


def test_facts_are_read_as_they_were_written(exported):
    path, format_, info = exported
    assert type(open_weights(path)) is READERS[format_]
    network = open_network(path)
    assert network.info == info
    assert (network.info.classes, network.path) == (CLASSES, path)


def test_plain_readers_find_the_facts(exported):
    path, format_, info = exported
    if format_ == "onnx":
        import onnx

        text = {entry.key: entry.value for entry in onnx.load(path).metadata_props}["deeplabctl.json"]
    elif format_ == "tflite":
        text = zipfile.ZipFile(path).read("deeplabctl.json")
    else:
        text = (path / "assets" / "deeplabctl.json").read_text()
    facts = json.loads(text)
    assert facts["classes"] == list(CLASSES)
    assert facts["palette"] == class_colors(CLASSES)[: len(CLASSES)].tolist()
    assert facts["preprocessing"] == {"channels": "BGR", "mean": [104.008, 116.669, 122.675], "scale": 1}
    assert facts["export"]["precision"] == "float32"
    assert info.export is not None


def test_facts_are_replaced_and_the_graph_stays(exported):
    path, format_, info = exported
    agreeing = dataclasses.replace(info.export, agreement={"labels": 0.5})
    before = size_of(path)
    again = READERS[format_](path).write_facts(dataclasses.replace(info, export=agreeing))
    assert again.export.sha256 == info.export.sha256
    assert open_weights(path).info == again
    assert READERS[format_](path).write_facts(info) == info
    assert size_of(path) == before


def size_of(path):
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def test_of_several_parts_that_were_changed_the_first_by_name_is_named(tmp_path):
    write_lookalike(tmp_path / "net", "savedmodel")
    for number in range(9):
        (tmp_path / "net" / f"a{number}").touch()
    with pytest.raises(WeightsError, match="expected the a0 that was exported"):
        open_network(tmp_path / "net")


def test_graph_that_was_changed_is_refused_before_any_runtime_reads_it(exported):
    path, _, _ = exported
    file = path / "variables" / "variables.index" if path.is_dir() else path
    content = bytearray(file.read_bytes())
    content[min(200, len(content) - 1)] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"expected the .* that was exported, got another: the file is damaged"):
        open_network(path)


def test_saved_model_may_have_hidden_files_but_no_others(tmp_path):
    info = write_lookalike(tmp_path / "net", "savedmodel")
    (tmp_path / "net" / ".DS_Store").write_bytes(b"x")
    assert open_weights(tmp_path / "net").info == info
    (tmp_path / "net" / "saved_model.cpb").write_bytes(b"x")  # which TensorFlow might read in place of the other
    with pytest.raises(WeightsError, match=r"expected the saved_model\.cpb that was exported, got another"):
        assert open_weights(tmp_path / "net").info
    (tmp_path / "net" / "saved_model.cpb").unlink()
    (tmp_path / "net" / "variables" / "variables.index").unlink()
    with pytest.raises(WeightsError, match=r"expected the variables/variables\.index that was exported"):
        assert open_weights(tmp_path / "net").info


def test_file_that_is_cut_off_or_of_another_program_is_refused_in_one_line(tmp_path):
    import onnx
    from onnx import helper

    foreign = helper.make_model(helper.make_graph([], "g", [], []), producer_name="pytorch")
    onnx.save(foreign, tmp_path / "foreign.onnx")
    write_onnx(tmp_path / "cut.onnx")
    cut = (tmp_path / "cut.onnx").read_bytes()[:-5000]
    (tmp_path / "cut.onnx").write_bytes(cut)
    write_lookalike(tmp_path / "net.tflite", "tflite")
    (tmp_path / "cut.tflite").write_bytes((tmp_path / "net.tflite").read_bytes()[:300])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "saved_model.pb").write_bytes(b"foreign")
    texts = {
        "foreign.onnx": "expected the ONNX file that deeplabctl export writes, got one without its deeplabctl.json",
        "cut.onnx": "the file is damaged or truncated at byte",
        "cut.tflite": "expected the TFLite file that deeplabctl export writes",
        "folder": "expected the SavedModel that deeplabctl export writes",
    }
    for name, text in texts.items():
        with pytest.raises(WeightsError, match=text) as caught:
            open_network(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"export": None}, {"export": {}}, {"classes": []}, {"classes": ["a"] * 256}, {"architecture": "x"},
        {"width": "a"}, {"export": [1]}, {"export.scales": []}, {"export.scales": [0]}, {"export.scales": ["a"]},
        {"export.format": "savedmodel"}, {"export.precision": "int4"}, {"export.flip": 1}, {"export.sha256": 3},
        {"export.sha256": {}}, {"export.agreement": 3}, {"provenance": {"recipe": [1]}}, {"width": 0}, {"width": -1},
        {"width": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_facts_that_no_export_writes_are_refused(tmp_path, change):
    path = tmp_path / "net.tflite"
    stored = json.loads(write_lookalike(path, "tflite").to_json())
    for name, value in change.items():
        section, _, key = name.rpartition(".")
        (stored[section] if section else stored)[key] = value
    graph = path.read_bytes()
    path.write_bytes(graph[: graph.index(b"PK\x03\x04")])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("deeplabctl.json", json.dumps(stored))
    with pytest.raises(WeightsError, match=r"net\.tflite") as caught:
        open_network(path)
    assert "\n" not in str(caught.value)


def test_exports_are_not_trained_or_converted_further(exported):
    path, _, _ = exported
    for read in (
        lambda: read_weights(path),
        lambda: open_weights(path).shapes,
        lambda: start_weights(open_weights(path), "largefov", CLASSES, small_network().info.width, 0),
    ):
        with pytest.raises(WeightsError, match="was exported to be run: eval and infer take it"):
            read()


def test_solver_states_and_nets_of_caffe_are_no_onnx_files(tmp_path):
    from caffe_bytes import block, number
    from caffe_files import TINY

    state = number(1, 8) + block(2, "net.caffemodel") + block(3, b"\x2a\x04abcd")
    (tmp_path / "a.solverstate").write_bytes(state)
    assert type(open_weights(tmp_path / "a.solverstate")) is CaffeModel
    assert type(open_weights(TINY)) is CaffeModel


def test_onnx_file_whose_arrays_lie_in_other_files_is_refused(tmp_path):
    import onnx

    info = write_onnx(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    del model.metadata_props[:]
    tensor = next(node for node in model.graph.node if node.op_type == "Conv").attribute.add(name="a", type=4).t
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    READERS["onnx"](tmp_path / "net.onnx").write_facts(info)  # with the right checksum, as a forger would
    with pytest.raises(WeightsError, match=r"net\.onnx: expected all arrays in the file itself, got some in other"):
        assert open_weights(tmp_path / "net.onnx").info
