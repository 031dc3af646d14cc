"""Hold the rooms apart: imports point downwards, no two files import each other, heavy packages load late."""

import ast
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
    ["kernels"],
    ["render"],
    ["files", "classes"],
    ["arrays", "errors", "native_output", "parallel", "reporting"],
    ["version"],
]
RANK = {name: rank for rank, names in enumerate(reversed(ROOMS)) for name in names}

# The files that import these packages at all, under TYPE_CHECKING apart.
TENSORFLOW = [
    "cli/tensorflow_startup.py", "export/tensorflow_graph.py", "export/writing.py", "network/atrous.py",
    "network/keras_model.py", "network/precision.py", "network/resizing.py", "prediction/graphs.py",
    "prediction/runtimes.py", "training/cluster.py", "training/convolutions.py", "training/input_pipeline.py",
    "training/loop.py", "training/loss.py", "training/optimizer.py", "training/step.py",
    "training/tensorboard_events.py", "weights/imagenet.py",
]  # fmt: skip
NUMBA = [
    "engine/product.py", "engine/registers.py", "engine/transforms.py", "kernels/compiling.py", "kernels/vectors.py",
]  # fmt: skip
RICH = ["cli/console.py", "cli/live.py"]
WEB = {"fastapi", "prometheus_client", "pydantic", "python_multipart", "starlette", "uvicorn"}
WEB_FILES = [
    "serve/answers.py", "serve/application.py", "serve/metrics.py", "serve/server.py", "serve/service.py",
    "serve/uploads.py",
]  # fmt: skip
# Optional packages.
ONNX, ONNXRUNTIME = ["export/onnx_graph.py"], ["export/writing.py", "prediction/runtimes.py"]
LITERT = ["prediction/runtimes.py"]
RAY = ["prediction/ray_actors.py", "prediction/ray_worker.py"]
# The only files that import any of them at module level: on terminals, when a CRF or the engine runs, and to serve.
EAGER = {
    "cli/live.py": {"rich"},
    **dict.fromkeys(WEB_FILES, WEB),
    **{file: {"numba", "llvmlite"} for file in NUMBA if file != "kernels/compiling.py"},
}
HEAVY = {
    "tensorflow", "keras", "rich", "scipy", "numba", "llvmlite", "h5py", "tqdm", "matplotlib", "tomli_w", "av", "onnx",
    "onnxruntime", "ai_edge_litert", "ray", *WEB,
}  # fmt: skip

FILES = {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(file):
    return Path(file).parts[0].removesuffix(".py")


def is_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node, *, types):
    """Yield all nodes below one; those under TYPE_CHECKING only with ``types``."""
    for child in ast.iter_child_nodes(node):
        if types or not is_for_types(child):
            yield child
            yield from walk(child, types=types)


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


def files_that_import(package):
    packages = {
        file: {name.split(".")[0] for name in imported(walk(tree, types=False))} for file, tree in FILES.items()
    }
    return [file for file, names in packages.items() if names & package]


@pytest.mark.parametrize("file", FILES)
def test_imports_point_downwards_only(file):
    for name in imported(walk(FILES[file], types=True)):
        if lower := file_of(name):
            assert RANK[room_of(lower)] <= RANK[room_of(file)], f"{file} imports {name} from a room above"


def test_no_two_files_import_each_other_in_a_circle():
    graph = {}
    for file, tree in FILES.items():
        graph[file] = {lower for name in imported(walk(tree, types=True)) if (lower := file_of(name))} - {file}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the files


def test_heavy_packages_are_imported_where_they_are_listed():
    assert files_that_import({"tensorflow", "keras"}) == TENSORFLOW
    assert files_that_import({"numba", "llvmlite"}) == NUMBA
    assert files_that_import({"rich"}) == RICH
    assert files_that_import(WEB) == WEB_FILES
    assert files_that_import({"onnx"}) == ONNX
    assert files_that_import({"onnxruntime"}) == ONNXRUNTIME
    assert files_that_import({"ai_edge_litert"}) == LITERT
    assert files_that_import({"ray"}) == RAY


@pytest.mark.parametrize("file", FILES)
def test_heavy_packages_are_imported_inside_functions(file):
    for node in FILES[file].body:
        names = {name.split(".")[0] for name in imported([node])}
        assert not names & (HEAVY - EAGER.get(file, set())), f"{file} imports {names} at module level"


@pytest.mark.parametrize("file", [file for file in FILES if room_of(file) != "cli"])
def test_only_the_command_line_knows_typer_and_rich_and_the_environment(file):
    names = {name.split(".")[0] for name in imported(walk(FILES[file], types=True))}
    assert not names & {"typer", "rich"}
    used = {ast.unparse(node) for node in ast.walk(FILES[file]) if isinstance(node, ast.Attribute)}
    assert not used & {"os.environ", "os.getenv", "sys.argv"}


def test_every_job_can_be_imported_without_tensorflow():
    script = "import sys, deeplabctl.training.loop, deeplabctl.cli.app; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
