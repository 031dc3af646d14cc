"""Choose what computes a network, TensorFlow, kernels that numba compiles or an export's runtime, and build it."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from deeplabctl.engine.network import NumbaNetwork
from deeplabctl.errors import RecipeError, WeightsError
from deeplabctl.jit import are_compiled
from deeplabctl.network import ARCHITECTURES, Weights
from deeplabctl.network.keras_model import (
    POLICIES,
    Precision,
    assign_weights,
    build_model,
    can_compute,
    model_variables,
)
from deeplabctl.prediction.graphs import Graphs
from deeplabctl.prediction.numba_graphs import NumbaGraphs
from deeplabctl.prediction.runtimes import ExportedGraphs
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.reporting import Note, Reporter
from deeplabctl.weights.model_info import ModelInfo

if TYPE_CHECKING:
    import keras

_MEASURED = ("x86_64", "AMD64")  # processors on which numba's kernels were measured, and were faster
_GPUS = ("nvidia[0-9]*", "kfd", "dxg")  # devices in /dev: NVIDIA's, AMD's, and those of Windows' Linux


def with_engine(settings: PredictionSettings, usual: str | None = None) -> PredictionSettings:
    """Return the settings with an engine in place of "auto": ``usual``, else numba on CPUs and TensorFlow on GPUs.

    Only TensorFlow computes in other formats than float32. It is not loaded to find out. Raises RecipeError for what no
    engine can do.
    """
    is_float32 = settings.precision == "float32"
    if settings.engine == "numba" and not is_float32:
        raise RecipeError(
            f"`precision`: the engine numba computes in float32 only, got {settings.precision}; use engine=tensorflow"
        )
    if settings.engine != "auto":
        return settings
    usual = usual or usual_engine()
    return replace(settings, engine="numba" if usual == "numba" and is_float32 else "tensorflow")


def engine_for(asked: str) -> str:
    """Return an engine in place of "auto"."""
    return usual_engine() if asked == "auto" else asked


def usual_engine() -> Literal["tensorflow", "numba"]:
    """Return what "auto" stands for here: numba on CPUs on which it was measured, else TensorFlow."""
    return "tensorflow" if has_gpu() or platform.machine() not in _MEASURED else "numba"


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Tell whether there is a GPU that TensorFlow may use."""
    return any(next(devices.glob(pattern), None) for pattern in _GPUS)


def report_compiling(engine: str, report: Reporter) -> None:
    """Say that the kernels of an engine will be compiled first, where they are not compiled yet."""
    if engine == "numba" and not are_compiled("engine"):
        report(Note("compiling the network's kernels (once on this machine, about 20 s)"))


class Networks:
    """Build what computes a network, each at its first use.

    It is made of weights, of a Keras model whose weights may change, or is the graph of an export.
    """

    def __init__(
        self, info: ModelInfo, weights: Weights | None, model: keras.Model | None, export: Path | None = None
    ) -> None:
        self._info, self._weights, self._export = info, weights, export
        self._exported: ExportedGraphs | None = None
        self.usual_engine = None if model is None else "tensorflow"  # which is loaded already
        self._models: dict[Precision, keras.Model] = {} if model is None else {"float32": model}
        self._numba: NumbaNetwork | None = None
        self._graphs: dict[tuple[str, Precision, tuple[float, ...], bool], Graphs | NumbaGraphs] = {}

    @property
    def architecture(self) -> str:
        """Return the network's architecture."""
        return self._info.architecture

    def model(self, precision: Precision = "float32") -> keras.Model:
        """Return the Keras model; TensorFlow loads here."""
        if self._export is not None:
            raise WeightsError(
                f"weights {self._export}: expected weights for a Keras model, got an export, which is run as it is; "
                "give the weights that it was made of"
            )
        if precision not in self._models:
            info = self._info
            if precision != "float32" and not can_compute(precision):
                raise RecipeError(
                    f"`precision`: expected a format that TensorFlow can compute in here, got {precision}; use float32"
                )
            model = build_model(
                info.architecture, len(info.classes), width=info.width, dtype=POLICIES[precision]
            )  # fmt: skip
            if "float32" in self._models:
                model.set_weights(self._models["float32"].get_weights())
            else:
                assert self._weights is not None
                assign_weights(model, self._weights)
            self._models[precision] = model
        return self._models[precision]

    def graphs(self, settings: PredictionSettings) -> Graphs | NumbaGraphs | ExportedGraphs:
        """Return what computes labels with these settings, whose engine is not "auto"."""
        if self._export is not None:
            self._exported = self._exported or ExportedGraphs(self._export, self._info)
            return self._exported
        precision = cast(Precision, settings.precision)  # only exports have others
        key = (settings.engine, precision, settings.scales, settings.flip)
        if key not in self._graphs:
            several = len(ARCHITECTURES[self._info.architecture].scales) > 1
            if settings.engine == "numba":
                made = NumbaGraphs(self._numba_network(), settings.scales, flip=settings.flip, fuses_coarse=several)
                self._graphs[key] = made
            else:
                model = self.model(precision)
                self._graphs[key] = Graphs(model, settings.scales, flip=settings.flip, fuses_coarse=several)
        return self._graphs[key]

    def _numba_network(self) -> NumbaNetwork:
        """Return the network as numba's kernels compute it, with the weights that a Keras model has now."""
        if self._numba is None:
            weights = self._weights
            if weights is None:
                weights = {name: variable.numpy() for name, variable in model_variables(self.model()).items()}
            self._numba = NumbaNetwork(self._info.architecture, weights)
        return self._numba
