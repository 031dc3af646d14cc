import gzip
import io
import tarfile

import numpy as np
import pytest
from tensorflow_bytes import frozen_graph, write_checkpoint
from v3_files import our_name, rule_weights

from deeplabctl.errors import WeightsError
from deeplabctl.weights.conversion import inspect_weights
from deeplabctl.weights.fitting import open_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources.tensorflow_archives import TensorFlowArchive

DILATED = {
    f"MobilenetV2/expanded_conv_{block}/depthwise/depthwise_weights": 4 if block > 13 else 2 for block in range(7, 17)
}
INDEX, DATA, GRAPH = "model.ckpt-30000.index", "model.ckpt-30000.data-00000-of-00001", "frozen_inference_graph.pb"


def contents(tmp_path, variables):
    """Return the files of a published archive."""
    write_checkpoint(tmp_path / "model.ckpt-30000", variables)
    graph = {name: array + 1 for name, array in variables.items()}  # told apart by its numbers
    files = {name: (tmp_path / name).read_bytes() for name in (INDEX, DATA)}
    return {GRAPH: frozen_graph(graph, DILATED)} | files | {"README": b"read me"}


def packed(path, files, folder="deeplabv3_mnv2_pascal_train_aug/", **changes):
    """Write an archive; changes are those of the last entry's header."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number, (name, content) in enumerate(files.items(), 1):
            info = tarfile.TarInfo(f"{folder}{name}")
            info.size = len(content)
            for key, value in (changes if number == len(files) else {}).items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_archive_gives_its_checkpoint_and_says_so(tmp_path):
    variables = rule_weights("mnv2_dm05")
    path = packed(tmp_path / "zoo", contents(tmp_path, variables))
    file = open_weights(path)
    assert isinstance(file, TensorFlowArchive)
    assert set(file.weights) == {our_name(name) for name in variables}
    for name, array in variables.items():
        np.testing.assert_array_equal(file.weights[our_name(name)], array, strict=True)
    assert inspect_weights(path)["format"] == "TensorFlow archive (.tar.gz), TensorFlow checkpoint model.ckpt-30000"
    network = open_network(path)
    assert (network.info.architecture, network.info.width) == ("deeplabv3-mnv2", 0.5)


def test_archive_without_a_checkpoint_gives_its_frozen_graph(tmp_path):
    variables = rule_weights("mnv2_dm05")
    files = contents(tmp_path, variables)
    path = packed(tmp_path / "zoo", {GRAPH: files[GRAPH]}, folder="")
    assert open_network(path).info.architecture == "deeplabv3-mnv2-os8"
    file = open_weights(path)
    assert file.dilations["expanded_conv_7_depthwise"] == (2, 2)
    np.testing.assert_array_equal(file.weights["Conv/kernel"], variables["MobilenetV2/Conv/weights"] + 1)
    assert file.words == "TensorFlow archive (.tar.gz), TensorFlow frozen graph (.pb) frozen_inference_graph.pb"


@pytest.mark.parametrize(
    ("folder", "changes", "message"),
    [
        ("../", {}, r"got '\.\./README', which points outside"),
        ("a/../../", {}, "which points outside"),
        ("/tmp/", {}, "got '/tmp/README', which points outside"),
        ("", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}, "got 'README', a link, a device"),
        ("", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd", "size": 0}, "a link, a device"),
        ("", {"type": tarfile.CHRTYPE}, "a link, a device"),
        ("", {"type": tarfile.GNUTYPE_SPARSE}, "got 'README', a link, a device or a sparse file"),
    ],
)
def test_entries_outside_and_links_are_refused(tmp_path, folder, changes, message):
    path = packed(tmp_path / "zoo", {"README": b"x" * 700}, folder, **changes)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WeightsError, match=message) as caught:
        open_network(path)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_archive_without_weights_is_named_for_what_it_has(tmp_path):
    path = packed(tmp_path / "zoo", {"README": b"read me", "a.jpg": bytes(9)}, "photos/")
    with pytest.raises(WeightsError, match=r"or a frozen graph \(\.pb\), got one with photos/README, photos/a\.jpg;"):
        open_network(path)
    rng = np.random.default_rng(0)
    path = packed(tmp_path / "many", {f"photo{number}": rng.bytes(500) for number in range(1001)})
    with pytest.raises(WeightsError, match="expected at most 1000 entries, got more"):
        open_network(path)


def test_fault_inside_names_the_archive(tmp_path):
    files = contents(tmp_path, rule_weights("mnv2_dm05", narrow=16))
    del files[DATA]
    path = packed(tmp_path / "zoo.tar.gz", files)
    with pytest.raises(WeightsError, match=rf"zoo\.tar\.gz/model\.ckpt-30000: expected {DATA} beside") as caught:
        open_network(path)
    assert "deeplabctl-" not in str(caught.value)


def test_cut_and_changed_archives_are_one_line(tmp_path):
    whole = packed(tmp_path / "zoo", contents(tmp_path, rule_weights("mnv2_dm05", narrow=16))).read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(30):
        broken = bytearray(whole[: rng.integers(600, len(whole))] if trial % 2 else whole)
        for at in rng.integers(300, len(broken), trial):
            broken[at] = rng.integers(256)
        (tmp_path / "w").write_bytes(broken)
        with pytest.raises(WeightsError) as caught:  # a narrow network has no architecture
            open_network(tmp_path / "w")
        assert "\n" not in str(caught.value)


def test_sizes_that_headers_claim_are_added_up(tmp_path):
    headers = b""
    for name in ("a", "b"):  # PAX's header claims another size than the entry's own, which moves to the next entry
        info = tarfile.TarInfo(name)
        info.pax_headers = {"GNU.sparse.realsize": "2000000"}
        headers += info.tobuf(tarfile.PAX_FORMAT)
    path = tmp_path / "zoo"
    path.write_bytes(gzip.compress(headers + np.random.default_rng(0).bytes(200_000)))
    with pytest.raises(WeightsError, match=r"expected at most 3,\d+,\d+ bytes, got 'b' of 2,000,000;"):
        open_network(path)


def test_chain_of_long_names_is_a_damaged_archive(tmp_path):
    info = tarfile.TarInfo("a")
    info.type = tarfile.GNUTYPE_LONGNAME
    (tmp_path / "zoo").write_bytes(gzip.compress(2000 * info.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(WeightsError, match="the archive is damaged or truncated"):
        open_network(tmp_path / "zoo")


def test_checkpoint_of_the_largest_step_is_taken_and_files_of_macos_are_not(tmp_path):
    variables = rule_weights("mnv2_dm05", narrow=16)
    files = {f"._{INDEX}": b"macOS"} | contents(tmp_path, variables)
    write_checkpoint(tmp_path / "model.ckpt-9", {name: array + 1 for name, array in variables.items()})
    late = {name.replace("30000", "200000"): content for name, content in files.items() if "ckpt" in name}
    early = {path.name: path.read_bytes() for path in tmp_path.glob("model.ckpt-9.*")}
    file = open_weights(packed(tmp_path / "zoo", early | late | files))
    assert file.weights
    assert file.words.endswith("model.ckpt-200000")
