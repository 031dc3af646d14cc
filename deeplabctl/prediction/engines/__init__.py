"""Choose the engine that computes a network, once: from here on nobody asks which one it is."""

from __future__ import annotations

from dataclasses import replace

from deeplabctl import choices
from deeplabctl.errors import RecipeError
from deeplabctl.jit import are_compiled
from deeplabctl.network.tensorflow_startup import has_gpu, may_have_gpu
from deeplabctl.prediction.engines.engine import Engine, NetworkSource
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.reporting import Note, Reporter
from deeplabctl.weights.model_info import ModelInfo

ENGINES: tuple[type[Engine], ...] = tuple(choices.load_classes(choices.ENGINES).values())
EXPORTED: tuple[type[Engine], ...] = tuple(choices.load(kind.engine) for kind in choices.EXPORTS.values())


def engines_for(info: ModelInfo) -> tuple[type[Engine], ...]:
    """Return what can compute a network: the runtime of an export, or engines that have all its operations."""
    engines: tuple[type[Engine], ...] = ENGINES if info.export is None else EXPORTED
    return tuple(engine for engine in engines if engine.computes(info))


def engine_class(settings: PredictionSettings, info: ModelInfo, usual: str | None = None) -> type[Engine]:
    """Return what computes a network: the engine that the settings name, or, for "auto", the first one that will do.

    It computes in the settings' number format; and it is ``usual``, or, if that is None or does not, usual on this
    machine. Nothing is loaded to find out. Raises RecipeError for an engine that is unknown or cannot compute this
    network, and for a format that the engine lacks.
    """
    engines = {engine.name: engine for engine in engines_for(info)}
    if settings.engine not in ("auto", *engines):
        raise RecipeError(
            f"`engine`: expected {' or '.join(('auto', *engines))} for {info.architecture}, got {settings.engine!r}"
        )
    able = [engine for engine in engines.values() if settings.precision in engine.precisions]
    if not able:
        known = dict.fromkeys(precision for engine in engines.values() for precision in engine.precisions)
        raise RecipeError(f"`precision`: expected {' or '.join(known)}, got {settings.precision!r}")
    if settings.engine == "auto":
        preferred = [engine for engine in able if engine.name == usual]
        return (preferred or [engine for engine in able if engine.is_usual(info.architecture)] or able)[0]
    named = engines[settings.engine]
    if named not in able:
        raise RecipeError(
            f"`precision`: the engine {named.name} computes in {' and '.join(named.precisions)} only, got "
            f"{settings.precision}; use {' or '.join(f'engine={engine.name}' for engine in able)}"
        )
    return named


def with_engine(settings: PredictionSettings, info: ModelInfo, usual: str | None = None) -> PredictionSettings:
    """Return the settings with the name of the engine that `engine_class` chooses."""
    return replace(settings, engine=engine_class(settings, info, usual).name)


def training_engine(name: str, architecture: str) -> type[Engine]:
    """Return the engine of a training, by the name in its recipe."""
    if name != "auto":
        return next(engine for engine in ENGINES if engine.name == name)
    usual = (engine for engine in ENGINES if engine.is_usual(architecture))
    return next(engine for engine in usual if engine.trains or engine.follows_model)


def build_engine(source: NetworkSource, settings: PredictionSettings, *, on_one_cpu: bool = False) -> Engine:
    """Return the engine that the settings name, built at its first use; raises DeepLabError where that fails."""
    key = settings.engine, settings.precision, on_one_cpu
    if key not in source.engines:
        if on_one_cpu:
            source.engines[key] = build_engine(source, settings).on_one_cpu()
        else:
            source.engines[key] = engine_class(settings, source.info)(source, settings.precision)
    return source.engines[key]


def report_compiling(engine: type[Engine], settings: PredictionSettings, report: Reporter) -> None:
    """Say that the kernels of an engine will be compiled first, where they are not compiled yet.

    And say which device is taken, where there may be a GPU.
    """
    if may_have_gpu():
        taken = "a GPU" if has_gpu() and engine.uses_gpu else "the CPU"
        none = "is not installed, or finds no GPU that it can use, although there is a GPU device"
        report(Note(f"{engine.name} computes on {taken}: TensorFlow {'finds a GPU' if has_gpu() else none}"))
    if engine.compiles(settings) and not are_compiled("engine"):
        report(Note("compiling the network's kernels (once on this machine, about 20 s)"))
