"""Hold the rooms apart: imports point downwards, no two files import each other, heavy packages load late."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "deeplabctl"

# From the top to the bottom; a file may import from its own line and from those below it.
ROOMS = [
    ["__init__"],
    ["__main__"],
    ["cli"],
    ["training"],
    ["reports"],
    ["evaluation"],
    ["serve", "export"],
    ["prediction"],
    ["weights"],
    ["recipe", "recipes"],
    ["data"],
    ["engine"],
    ["crf", "caffe"],
    ["network"],
    ["jit", "vectors"],
    ["render", "interpolation"],
    ["downloads", "files", "classes", "class_files", "damage", "protobuf"],
    ["arrays", "choices", "errors", "limits", "parallel", "reporting", "run_layout"],
    ["version"],
]
RANK = {name: rank for rank, names in enumerate(reversed(ROOMS)) for name in names}

WEB = ("fastapi", "prometheus_client", "pydantic", "python_multipart", "starlette", "uvicorn")
# The rooms that may import these packages at all, under TYPE_CHECKING apart.
LIBRARIES = {
    "tensorflow": {"training", "export", "prediction", "network"},
    "keras": {"weights", "network"},
    "numba": {"engine", "jit", "vectors"},
    "llvmlite": {"engine", "vectors"},
    "scipy": {"evaluation", "data"},
    "h5py": {"weights", "caffe"},
    "matplotlib": {"reports"},
    "tomli_w": {"recipe"},
    "tqdm": {"reporting"},
    "typer": {"cli"},
    "rich": {"cli"},
    **{name: {"serve"} for name in WEB},
    "av": {"prediction"},
    "onnx": {"export", "prediction", "network"},
    "onnxruntime": {"export", "prediction"},
    "ai_edge_litert": {"prediction"},
    "ray": {"prediction"},
    "huggingface_hub": {"weights"},
}
# Those that may import some of them at module level: their files are themselves imported inside functions.
COMPILER = {"numba", "llvmlite"}
EAGER = {"cli": {"typer", "rich"}, "serve": set(WEB), "engine": COMPILER, "vectors": COMPILER}

STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)  # and what holds some
FILES = [str(path.relative_to(PACKAGE)) for path in sorted(PACKAGE.rglob("*.py"))]


@functools.cache
def tree_of(file):
    return ast.parse((PACKAGE / file).read_text())


@functools.cache
def imports_of(file, types=True):
    """Return the full names that a file imports anywhere; those under TYPE_CHECKING only with ``types``."""
    return list(imported(statements(tree_of(file), types=types)))


def room_of(file):
    return Path(file).parts[0].removesuffix(".py")


def is_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(node, *, types):
    """Yield all statements below a node, as imports are; those under TYPE_CHECKING only with ``types``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, STATEMENTS) and (types or not is_for_types(child)):
            yield child
            yield from statements(child, types=types)


def imported(nodes):
    """Yield the full name of each imported module, or of what is imported from it."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def file_of(name):
    """Return the file of the package in which an imported name is defined, or that it is; None for other packages."""
    parts = name.split(".")
    if parts[0] != "deeplabctl":
        return None
    for length in range(len(parts), 0, -1):
        place = Path(*parts[1:length])
        for file in (str(place.with_suffix(".py")) if place.parts else "", str(place / "__init__.py")):
            if file in FILES:
                return file
    raise AssertionError(f"{name} is not in the package")


def packages(names):
    """Return those of the libraries to which imported names belong."""
    return {name.split(".")[0] for name in names} & set(LIBRARIES)


@pytest.mark.parametrize("file", FILES)
def test_imports_point_downwards_only(file):
    for name in imports_of(file):
        if lower := file_of(name):
            assert RANK[room_of(lower)] <= RANK[room_of(file)], f"{file} imports {name} from a room above"


def test_no_two_files_import_each_other_in_a_circle():
    graph = {}
    for file in FILES:
        graph[file] = {lower for name in imports_of(file) if (lower := file_of(name))} - {file}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the files


@pytest.mark.parametrize("package", LIBRARIES)
def test_package_is_imported_in_its_rooms_only(package):
    types = LIBRARIES[package] == {"cli"}  # the other rooms do not even name its types
    rooms = {room_of(file) for file in FILES if package in packages(imports_of(file, types))}
    assert rooms == LIBRARIES[package]


@pytest.mark.parametrize("file", FILES)
def test_heavy_packages_are_imported_inside_functions(file):
    assert packages(imported(tree_of(file).body)) <= EAGER.get(room_of(file), set())


@pytest.mark.parametrize(
    "file", [file for file in FILES if room_of(file) != "cli" and not file.endswith("published.py")]
)
def test_only_the_command_line_and_the_mirror_of_published_weights_read_the_environment(file):
    attributes = [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Attribute)]
    used = {ast.unparse(node) for node in attributes if node.attr in ("environ", "getenv", "argv")}
    assert not used & {"os.environ", "os.getenv", "sys.argv"}


def test_every_job_can_be_imported_without_heavy_packages():
    jobs = "deeplabctl.training.loop, deeplabctl.prediction, deeplabctl.export, deeplabctl.crf, deeplabctl.cli.app"
    script = f"import sys, {jobs}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert set(loaded) & set(LIBRARIES) == {"typer"}
