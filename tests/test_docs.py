"""The pages: links lead somewhere, options and tests exist, Python examples run, and the tables of rooms are true."""

import ast
import json
import re
import runpy
import shutil
from functools import cache
from pathlib import Path

import pytest
from dataset_files import draw_few_shapes
from small_training import without_curves

from deeplabctl import choices
from deeplabctl.cli.infer import Format
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.sources import SOURCES

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    README,
    CONTRIBUTING,
    *(ROOT / name for name in ("CHANGELOG.md", "SECURITY.md", "tests/data/README.md")),
    *DOCS,
]
names = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=names)


def prose(page):
    """Return a page without its blocks of code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?m)^ {4}.*$", "", text)


def links(page):
    return re.findall(r"\]\(<?([^)>\s]+)>?\)", prose(page))


def anchors(page):
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_to_files_and_headings_that_exist(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_readme_links_to_every_page():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(README)}
    assert set(DOCS) <= linked
    pictures = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    assert set((ROOT / "docs" / "images").iterdir()) <= pictures


def test_site_has_every_page_and_every_public_name():
    import deeplabctl as dl

    site = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert {page.name for page in DOCS} <= set(re.findall(r": ([\w-]+\.md)\n", site))
    listed = re.findall(r"(?m)^::: deeplabctl\.(\w+)$", (ROOT / "docs" / "api.md").read_text("utf-8"))
    assert sorted(listed) == sorted(set(dl.__all__) - {"__version__"})


def said_by_the_package():
    """Return all texts of the package's source, with a line end wherever a value comes in."""
    for path in (ROOT / "deeplabctl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\n" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_faults_are_headed_by_messages_that_the_package_has():
    known = "\n".join(said_by_the_package())
    headings = re.findall(r"(?m)^### (.*)$", (ROOT / "docs" / "faults.md").read_text("utf-8"))
    assert len(headings) > 20
    for heading in headings:
        parts = [part.strip() for part in heading.strip("`").split("...")]
        assert all(part in known for part in parts), heading


@cache
def options():
    """Return the long options of each command, by its name: "train", "data check", ..."""
    from typer.main import get_command

    from deeplabctl.cli.app import app

    def collect(command, name):
        if hasattr(command, "commands"):
            for part, sub in command.commands.items():
                yield from collect(sub, f"{name} {part}".strip())
        else:
            shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
            found = (option for parameter in shown for option in (*parameter.opts, *parameter.secondary_opts))
            yield name, {option for option in found if option.startswith("--")} | {"--help"}

    return dict(collect(get_command(app), ""))


COMMON = {"--json", "--quiet", "--debug", "--help"}
OTHER_PROGRAMS = r"#SBATCH.*|\bmkdocs .*|\bpip .*|\bpytest .*|\b(?:docker|curl) .*"


def named_options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


@every_page
def test_options_that_a_page_names_exist(page):
    text = re.sub(OTHER_PROGRAMS, "", page.read_text("utf-8"))
    known = set.union(*options().values(), {"--version", "--install-completion"})
    known |= {"--crf-search"} if page.name == "CHANGELOG.md" else set()  # of 0.1.0
    assert named_options(text) <= known
    for line in re.sub(r"\\\n", "", text).splitlines():
        for command, rest in re.findall(r"\bdeeplabctl ((?:data )?[a-z-]+)((?:(?! deeplabctl)[^`|#])*)", line):
            if command in options():
                assert named_options(rest) <= options()[command], line


def test_every_command_has_a_page_with_all_of_its_options():
    for name, known in options().items():
        command = name.split()[0]
        text = (ROOT / "docs" / f"{'crf' if command == 'crf-search' else command}.md").read_text("utf-8")
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0] if command == "data" else text
        assert known - COMMON <= named_options(section), name


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("networks", ARCHITECTURES), ("infer", choices.ENGINES), ("infer", Format), ("data", choices.ANNOTATIONS),
        ("export", choices.EXPORTS), ("recipes", choices.LOSSES), ("recipes", choices.OPTIMIZERS),
        ("recipes", choices.SCHEDULES),
        ("convert-caffe", {kind.suffix for kind in SOURCES} - {"", ".onnx", ".savedmodel"}),
    ],
)  # fmt: skip
def test_every_choice_is_on_its_page(page, names):
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    assert [name for name in names if not re.search(rf"""[`"]([\w*]*(?=\.))?{re.escape(name)}[`"]""", text)] == []


def test_every_command_is_in_the_readme():
    rows = re.findall(r"(?m)^\| \[`([\w-]+)`\]", README.read_text("utf-8"))
    assert rows == list(dict.fromkeys(name.split()[0] for name in options()))


@every_page
def test_files_tests_and_variables_that_a_page_names_exist(page):
    text = page.read_text("utf-8")
    for path in re.findall(r"(?<![\w/])(?:tests|benchmarks|deeplabctl)/[\w/.]*\w", text):
        assert (ROOT / path).exists(), path
    sources = {folder: "".join(path.read_text() for path in (ROOT / folder).rglob("*.py")) for folder in SOURCES}
    for test in re.findall(r"`(test_\w+)`", text):
        assert f"def {test}(" in sources["tests"], test
    for variable in re.findall(r"\bDEEPLABCTL_[A-Z_]+", text):
        assert variable in sources["deeplabctl"], variable
    for part in re.findall(r"pytest [\w -]*-k (\w+)", text):
        assert re.search(rf"def test_\w*{part}\w*\(", sources["tests"]), part


SOURCES = ("deeplabctl", "tests")


def test_every_packaged_recipe_is_listed():
    from deeplabctl import recipes

    section = (
        (ROOT / "docs" / "recipes.md").read_text("utf-8").partition("\n## Packaged recipes\n")[2].partition("\n## ")[0]
    )
    listed = re.findall(r"(?m)^\| `([\w-]+)` \|", section)
    assert listed == recipes.names() or sorted(listed) == recipes.names()


def test_presets_of_the_crf_are_those_of_the_table():
    from deeplabctl.crf.params import PRESETS

    text = (ROOT / "docs" / "crf.md").read_text("utf-8").split("## Parameters\n")[1].split("\n## ")[0]
    rows = re.findall(r"(?m)^\| (.+) \|$", text)
    head, _, *body = [[cell.strip("` ") for cell in row.split("|")] for row in rows]
    assert head[2:] == list(PRESETS)
    for name, _, *values in body:
        assert [float(value) for value in values] == [getattr(preset, name) for preset in PRESETS.values()]


LAYERING = runpy.run_path(str(ROOT / "tests" / "test_layering.py"))
SMALL = {
    "__init__", "__main__", "recipes", "render", "interpolation", "downloads", "files", "choices", "classes",
    "arrays", "class_files", "damage", "errors", "jit", "limits", "parallel", "protobuf", "reporting",
    "run_layout", "vectors",
}  # fmt: skip
ROOMS = [name for row in LAYERING["ROOMS"] for name in row if name not in SMALL | {"version"}]


def drawing(start):
    """Return {room: text} of the indented lines of CONTRIBUTING.md after a text; a line may continue the one above."""
    block = re.search(r"(?:^ {4}.*\n)+", CONTRIBUTING.read_text("utf-8").split(start)[1], re.MULTILINE)
    lines = re.sub(r"\n {5,}", " ", block[0]).splitlines()
    return dict(line.strip().split(maxsplit=1) for line in lines)


def test_drawing_of_the_rooms_has_their_names_order_and_imports():
    uses = {name: set() for name in ROOMS}
    for file in LAYERING["FILES"]:
        for name in LAYERING["imports_of"](file):
            lower = LAYERING["file_of"](name)
            if lower and (room := LAYERING["room_of"](file)) in uses:
                uses[room].add(LAYERING["room_of"](lower))
    drawn = drawing("as they are.\n\n")
    assert drawn.pop("room") == "in -> out                          imports from"
    assert list(drawn) == ROOMS
    for room, text in drawn.items():
        expected = [other for other in ROOMS if other in uses[room] - {room}]
        assert "".join(re.split(r" {2,}", text)[1:]).split() == expected, room


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Make what the demo leaves, of a training of a few steps, and a cache with the built-in data set."""
    import deeplabctl as dl
    from deeplabctl.data.shapes import write_shapes

    folder = tmp_path_factory.mktemp("demo")
    with without_curves(), pytest.MonkeyPatch.context() as patch:
        draw_few_shapes(patch, train=12, val=21)
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        write_shapes(Path("new"), train=1, val=1, seed=2026)
        shutil.copy("new/JPEGImages/shapes_0000.jpg", "photo.jpg")
        shutil.copy(ROOT / "tests" / "data" / "caffe" / "lfov_tiny_v1.caffemodel", "train_iter_8000.caffemodel")
        dl.train("shapes", steps=2, width=0.05, precision="float32", report=dl.silent)
    return folder


def with_few_steps(code):
    return re.sub(r"steps=\d+", "steps=2", code)


@pytest.mark.tf
@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize(
    "page", [README, *(ROOT / "docs" / name for name in ("python.md", "own-loop.md"))], ids=lambda page: page.name
)
def test_python_examples_run(page, demo, tmp_path, monkeypatch):
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", page.read_text("utf-8"))
    assert blocks
    namespace = {"__name__": page.stem}
    for number, block in enumerate(blocks, start=1):
        exec(compile(with_few_steps(block), f"{page.name}, example {number}", "exec"), namespace)


@pytest.mark.tf
def test_notebook_runs_from_its_first_cell_to_its_last(demo, tmp_path, monkeypatch):
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text("utf-8"))["cells"]
    namespace = {}
    for number, cell in enumerate((cell for cell in cells if cell["cell_type"] == "code"), start=1):
        assert cell["execution_count"] == number  # it was run as a whole
        code = with_few_steps("".join(cell["source"]))
        exec(compile(code, f"notebook.ipynb, cell {number}", "exec"), namespace)
    assert namespace["scores"]["images"] == 20


def test_published_weights_of_the_page_are_those_of_the_table():
    from deeplabctl.weights.published import published

    text = (ROOT / "docs" / "weights.md").read_text("utf-8").split("## Names\n")[1]
    rows = [[cell.strip(" `") for cell in row.split("|")] for row in re.findall(r"(?m)^\| (`.+) \|$", text)]
    assert [row[:2] for row in rows] == [[name, one.network] for name, one in published().items()]
    for name, _, _, checksum, score in rows:
        one = published()[name]
        assert checksum == ("yes" if one.checksum else "no"), name
        assert score == ("none published" if one.miou is None else f"{one.miou:.2f} ({one.on})"), name


def test_continuous_integration_makes_what_contributors_are_told():
    made = re.findall(r"(?m)^make (\w+)$", (ROOT / ".ci" / "run").read_text("utf-8"))
    text = CONTRIBUTING.read_text("utf-8").split("`.ci/run`")[1].split(".")[0]
    assert re.findall(r"`make (\w+)`", text) == made


def test_networks_of_kinds_are_those_that_the_pages_name(monkeypatch):
    from deeplabctl.prediction.engines import onnx

    def named(pattern):
        return {name for name in ARCHITECTURES if re.search(pattern, name)}

    monkeypatch.setattr(onnx, "has_gpu", lambda: False)
    infer, recipes = ((ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("infer", "recipes"))
    assert "depthwise convolutions (MobileNets, Xception)" in infer
    assert {name for name in ARCHITECTURES if onnx.OnnxEngine.is_usual(name)} == named("mnv2|mobilenet|xception")
    assert "5e-4 for networks on MobileNet v2, else 1e-4" in recipes
    assert {name for name, one in ARCHITECTURES.items() if one.learning_rate == 5e-4} == named("mnv2")
    assert {one.learning_rate for one in ARCHITECTURES.values()} == {5e-4, 1e-4}


@every_page
def test_settings_that_are_lists_stand_in_quotes_as_zsh_needs_it(page):
    assert not re.search(r"--set [\w.]+=\[", page.read_text("utf-8"))
