"""Weights on the Hugging Face hub: hf://user/name, and weights push; the hub is one on this machine."""

import json
import zipfile
from importlib.util import find_spec

import pytest
from caffe_files import TINY
from command_process import fails_with_one_line, run_without_tensorflow
from fake_hub import SHA, fake_hub

from deeplabctl.errors import WeightsError
from deeplabctl.weights import hub as hub_files
from deeplabctl.weights.hub import HubAddress, model_card
from deeplabctl.weights.model_info import ModelInfo

TRAINED = {
    "source": "trained by deeplabctl from /home/me/secret.keras", "data": "/home/me/leaves", "split": "train",
    "step": 400, "val_miou": 0.81234, "recipe": {"data": {"root": "/home/me/leaves", "max_side": 640}},
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Serve a hub with two repositories; needs the package, which reads its address when it is loaded."""
    if find_spec("huggingface_hub") is None:
        pytest.skip("needs huggingface_hub")
    tiny = TINY.read_bytes()
    repos = {"user/net": {"net.caffemodel": tiny, "README.md": b"#"}, "user/two": {"a.onnx": tiny, "b.onnx": tiny}}
    with fake_hub(**repos) as serving:
        monkeypatch.setenv("HF_ENDPOINT", serving.base)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield serving


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://user/net", ("user/net", None, None)),
        ("hf:/user/net/", ("user/net", None, None)),
        ("hf://a-b/n.e_t@v1.0", ("a-b/n.e_t", "v1.0", None)),
        ("hf://user/net@abc/weights/best.keras", ("user/net", "abc", "weights/best.keras")),
    ],
)
def test_address_is_read_in_its_parts(text, parts):
    found = HubAddress.read(text)
    assert (found.repo, found.revision, found.file) == parts


@pytest.mark.parametrize("text", ["hf://user", "hf://user/net@", "hf://user/net/../x", "hf://user//net", "hf://u /n"])
def test_address_that_is_wrong_is_refused(text):
    with pytest.raises(WeightsError, match="expected hf://USER/NAME"):
        HubAddress.read(text)
    assert HubAddress.read("runs/hf") is None


def test_file_is_the_preferred_or_the_only_one_of_weights():
    address = HubAddress("user/net", None, None)
    assert hub_files.chosen(address, ["README.md", "a.onnx", "best.keras"]) == "best.keras"
    assert hub_files.chosen(address, ["pytorch_model.bin", "model.safetensors", "x.h5"]) == "model.safetensors"
    assert hub_files.chosen(address, ["pytorch_model.bin", "tf_model.h5"]) == "pytorch_model.bin"
    assert hub_files.chosen(address, ["config.json", "sub/x.pth"]) == "sub/x.pth"
    with pytest.raises(WeightsError, match=r"no file of weights among saved_model\.pb, variables/variables\.index"):
        hub_files.chosen(address, ["saved_model.pb", "variables/variables.index"])
    with pytest.raises(WeightsError, match=r"which of a.onnx, b.onnx\? Add it \(hf://USER/NAME/FILE\)"):
        hub_files.chosen(address, ["a.onnx", "b.onnx"])
    with pytest.raises(WeightsError, match=r"no file of weights among README\.md"):
        hub_files.chosen(address, ["README.md"])


def test_package_that_is_missing_is_named(monkeypatch, deeplabctl):
    monkeypatch.setattr(hub_files, "find_spec", lambda name: None)
    code, _, err = deeplabctl("convert-caffe", "--inspect", "hf://user/net")
    assert code == 1
    assert err.endswith("hf://user/net: this needs the package huggingface_hub: pip install 'deeplabctl[hub]'\n")


def test_file_is_fetched_kept_and_taken_without_a_connection(hub, tmp_path, monkeypatch):
    inspect = ("convert-caffe", "--inspect")
    code, out, err = run_without_tensorflow(*inspect, "hf://user/net", cwd=tmp_path)
    assert code == 0, err
    assert "using net.caffemodel of hf://user/net (hf://user/net@0123456789ab stays the same)" in err
    expected = run_without_tensorflow(*inspect, TINY, cwd=tmp_path)[1]
    assert out.splitlines()[1:] == expected.splitlines()[1:]
    pinned = f"hf://user/net@{SHA}/net.caffemodel"
    assert run_without_tensorflow(*inspect, pinned, cwd=tmp_path)[0] == 0
    assert any(SHA in path for path in hub.asked)
    for address, message in {
        "hf://user/two": "which of a.onnx, b.onnx?",
        "hf://user/none": "weights hf://user/none: the hub refuses it (there is no such repository",
        "hf://user/net/other.keras": "there is no such file in the repository: it has net.caffemodel, README.md",
    }.items():
        fails_with_one_line(message, *inspect, address, cwd=tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, err = run_without_tensorflow(*inspect, "hf://user/net", cwd=tmp_path)
    assert code == 0, err
    assert "the hub cannot be reached: using net.caffemodel of hf://user/net from the cache" in err
    fails_with_one_line("hf://user/two: the hub cannot be reached (", *inspect, "hf://user/two", cwd=tmp_path)


def test_card_says_what_the_file_knows_and_no_paths_of_the_machine():
    info = ModelInfo(("leaf", "a|b", "<i>"), "deeplabv3-mnv2", provenance=TRAINED)
    card = model_card(info, "best.keras", 1234, "ab" * 32, "user/net", "cc-by-4.0")
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    lines = head.splitlines()
    assert {'license: "cc-by-4.0"', "pipeline_tag: image-segmentation", "      value: 0.8123"} <= set(lines)
    for part in (
        "# net\n", "--weights hf://user/net\n", "0 leaf, 1 a\\|b, 2 &lt;i>", "| mIoU | 81.23%", "| steps | 400 |",
        "| trained on | leaves, split train |", f"1,234 bytes, sha256 `{'ab' * 32}`",
        'channels "RGB"', "max_side = 640",
    ):  # fmt: skip
        assert part in body, part
    assert "/home" not in card
    assert "secret" not in card
    bare = model_card(ModelInfo(("a",)), "x.keras", 1, "", "user/net", None)
    assert "license" not in bare
    assert "mIoU" not in bare
    assert "Recipe" not in bare


@pytest.fixture
def model(tmp_path):
    """Return a small model file."""
    from fuzz_weights import write_keras_files

    write_keras_files(tmp_path)
    return (tmp_path / "net.keras").rename(tmp_path / "best.keras")


def test_dry_run_writes_the_card_and_sends_nothing(deeplabctl, model, monkeypatch):
    monkeypatch.setattr(hub_files, "find_spec", lambda name: None)
    code, out, err = deeplabctl("weights", "push", model, "user/leaves", "--dry-run")
    assert code == 0, err
    assert out.startswith("leaves.card.md: the card of best.keras, ")
    assert err.startswith("warning: the card names no licence")
    assert "# leaves\n" in (model.parent / "leaves.card.md").read_text()
    code, out, err = deeplabctl("weights", "push", model, "user/leaves", "--dry-run", "--json", "--licence", "mit")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "card": "leaves.card.md", "file": str(model), "repository": "user/leaves", "address": None,
    }  # fmt: skip
    other = model.rename(model.with_name("leaf.keras"))  # beside which the repository may have a best.keras
    assert deeplabctl("weights", "push", other, "user/leaves", "--dry-run", "--licence", "mit")[0] == 0
    assert "--weights hf://user/leaves/leaf.keras\n" in (model.parent / "leaves.card.md").read_text()
    model = other
    broken = model.with_name("broken.keras")
    with zipfile.ZipFile(model) as whole, zipfile.ZipFile(broken, "w") as archive:
        for name in ("metadata.json", "config.json", "deeplabctl.json"):
            archive.writestr(name, whole.read(name))
    for arguments, message in {
        ("push", str(broken), "user/leaves", "--dry-run"): "broken.keras: the file is damaged",
        ("push", str(model)): "expected push FILE USER/NAME",
        ("--dry-run",): "only push takes them",
        ("push", str(model), "leaves", "--dry-run"): "expected a repository USER/NAME, got 'leaves'",
        ("push", str(TINY), "user/leaves", "--dry-run"): "expected a model file of deeplabctl",
    }.items():
        code, _, err = deeplabctl("weights", *arguments)
        assert code != 0
        assert message in err


def test_push_sends_the_file_with_its_card_in_one_commit(hub, model, tmp_path, monkeypatch):
    push = ("weights", "push", model, "user/leaves", "--licence", "mit")
    fails_with_one_line("repository user/leaves: the hub refuses it (", *push, cwd=tmp_path)
    assert "user/leaves" not in hub.repos
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    code, out, err = run_without_tensorflow(*push, cwd=tmp_path)
    assert code == 0, err
    assert out == f"{hub.base}/user/leaves: deeplabctl infer IMAGE --weights hf://user/leaves\n"
    sent = hub.repos["user/leaves"]
    assert sorted(sent) == ["README.md", "best.keras"]
    assert sent["best.keras"] == model.read_bytes()
    assert b'license: "mit"' in sent["README.md"]
    assert "hf_test" not in err
