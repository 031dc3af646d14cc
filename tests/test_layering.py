"""Hold the layers apart: imports point downwards, and TensorFlow is loaded inside functions alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "deeplabctl"

# From the bottom to the top; a module may import from its own line and from those above it in this list.
LAYERS = [
    ["errors", "layers", "reporting", "parallel"],
    ["atomic", "geometry", "classes"],
    ["data", "metrics", "render", "caffe", "crf"],
    ["boundaries", "crf_grid", "voc_server"],
    ["scoring"],
    ["mask_scoring", "report_pictures", "report", "report_files"],
    ["tf_checkpoint", "pickles", "formats"],
    ["recipe", "inputs", "weights"],
    ["origins", "inference"],
    ["schedule", "precision", "checkpoint", "run_dir"],
    ["plan"],
    # ---- TensorFlow ----
    ["model", "losses", "pipeline", "solver", "model_file", "cluster", "training_step"],
    ["prediction"],
    ["evaluation", "conversion"],
    ["crf_search"],
    ["clock", "starting", "run_record", "preview"],
    ["training"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
HEAVY = {"tensorflow", "keras", "rich", "scipy", "numba", "h5py", "tqdm", "typer"}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def layer_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards_only(path):
    for name in imported(ast.parse(path.read_text())):
        if name.startswith("deeplabctl."):
            lower = name.split(".")[1]
            assert RANK[lower] <= RANK[layer_of(path)], f"{path.name} imports {name} from a layer above"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_knows_typer_and_rich_and_the_environment(path):
    if layer_of(path) == "cli":
        return
    text = path.read_text()
    names = {name.split(".")[0] for name in imported(ast.parse(text))}
    assert not names & {"typer", "rich"}
    assert "os.environ" not in text
    assert "sys.argv" not in text


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions(path):
    if path.name in ("live.py", "vectors.py"):  # themselves imported inside functions: on terminals, when a CRF runs
        return
    allowed = {"typer"} if layer_of(path) == "cli" else set()
    for node in ast.parse(path.read_text()).body:  # what stands under TYPE_CHECKING is one level deeper
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {name.split(".")[0] for name in imported(ast.Module([node], []))}
            assert not names & (HEAVY - allowed), f"{path.name} imports {names} at module level"


def test_every_job_can_be_imported_without_tensorflow():
    script = "import sys, deeplabctl.training, deeplabctl.cli.app; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
