"""A key: who does not bring it gets nothing of the network; the page asks for it once."""

import json
import shutil
import subprocess
from importlib import resources
from urllib.parse import quote

import pytest
from caffe_files import DATA
from command_process import run_without_tensorflow

PNG = {"content-type": "image/png"}
KEY = "s3cret"


@pytest.mark.parametrize("root_path", ["", "/photos"])
def test_only_who_brings_the_key_is_answered(serve, photo, root_path):
    client, plain = serve(key=KEY, root_path=root_path), serve()
    expected = plain.post("/api/segment?format=mask", content=photo, headers=PNG).content
    address = f"{root_path}/api/segment?format=mask"
    for headers in ({"authorization": "Bearer s3cret"}, {"Authorization": "bearer  s3cret"}, {"x-api-key": KEY}):
        assert client.post(address, content=photo, headers=PNG | headers).content == expected
    wrong = ("Bearer s3cre", "Bearer s3crets", "Bearer S3CRET", "Bearer ", "Basic s3cret", "s3cret", "Bearer \xff")
    for headers in ({}, {"x-api-key": ""}, *({"authorization": each.encode("latin-1")} for each in wrong)):
        answer = client.post(address, content=photo, headers=PNG | headers)
        assert answer.status_code == 401, headers
        assert answer.json()["error"]["code"] == "wrong_key"
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.service.metrics.text().count(b"deeplabctl_pixels_total 0.0") == 0
    for path in ("/api/model", "/metrics", "/examples/0", "//api/model", "/page/../api/model"):
        assert client.get(f"{root_path}{path}").status_code in (401, 404), path
    assert client.get(f"{root_path}/api/model").status_code == 401
    assert client.get(f"{root_path}/metrics", headers={"x-api-key": KEY}).status_code == 200
    for path in ("/", "/page/app.js", "/healthz", "/openapi.json"):
        assert client.get(f"{root_path}{path}").status_code == 200, path
    assert 'href="metrics" hidden' in client.get(f"{root_path}/").text  # a link cannot bring the key
    assert client.get(root_path or "/", follow_redirects=True).status_code == 200
    assert client.get(f"{root_path}/api/model/", headers={"x-api-key": KEY}, follow_redirects=False).status_code == 404


@pytest.mark.parametrize("key", ["with a space", ""])
def test_key_is_taken_from_the_environment_and_is_not_printed(tmp_path, monkeypatch, key):
    monkeypatch.setenv("DEEPLABCTL_API_KEY", key)
    options = ("--weights", DATA / "lfov_tiny_v2.caffemodel", "--engine", "numba", "--port", "0")
    code, _, err = run_without_tensorflow("serve", *options, cwd=tmp_path)
    assert (code, "$DEEPLABCTL_API_KEY: expected a key" in err, "with a space" in err) == (2, True, False)


SCRIPT = """
const asked = [], kept = new Map(), sent = [];
globalThis.location = { pathname: "/photos/" };
const storage = { getItem: (name) => kept.get(name) ?? null, setItem: (name, key) => kept.set(name, key) };
const get = () => { if (process.argv[2] === "blocked") throw new Error("denied"); return storage; };
Object.defineProperty(globalThis, "localStorage", { get });
const answers = ["wrong", "right"];
const form = { set onsubmit(submit) {
  asked.push(elements["key-wrong"].hidden);
  elements.key.value = answers[asked.length - 1];
  setTimeout(() => submit({ preventDefault() {} }));
} };
const elements = { "key-form": form, "key-wrong": {}, "with-key": { hidden: true }, key: { focus() {} } };
globalThis.document = { getElementById: (id) => elements[id] };
globalThis.fetch = async (path, { headers, body }) => {
  sent.push(body ?? path);
  return { status: headers.authorization === "Bearer right" ? 200 : 401, path, kind: headers.kind };
};
const { request } = await import(process.argv[1]);
const photo = { body: "photo", headers: { kind: "x" } };
const found = await Promise.all([request("api/model"), request("api/segment", photo)]);
console.log(JSON.stringify([found, asked, sent, [...kept], elements["with-key"].hidden]));
"""


@pytest.mark.parametrize("storage", ["kept", "blocked"])
def test_page_asks_for_the_key_once_and_again_after_a_wrong_one(storage):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node")
    page = resources.files("deeplabctl.serve") / "page" / "key.js"
    command = [node, "--input-type=module", "-e", SCRIPT, f"data:text/javascript,{quote(page.read_text())}", storage]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    found, asked, sent, kept, hidden = json.loads(done.stdout)
    assert found == [{"status": 200, "path": "api/model"}, {"status": 200, "path": "api/segment", "kind": "x"}]
    assert asked == [True, False]  # whether it does not say that a key was wrong
    assert sent.count("photo") == 3
    assert hidden is False  # the header of the line for curl
    assert kept == ([["deeplabctl key of /photos/", "right"]] if storage == "kept" else [])
