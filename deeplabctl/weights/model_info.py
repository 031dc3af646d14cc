"""Read and write the facts that a model file has beside its weights."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deeplabctl.classes import voc_palette
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE
from deeplabctl.weights.export_facts import ExportFacts
from deeplabctl.weights.formats import DAMAGED_ZIP, INFO_ENTRY

_LARGEST = 16 << 20  # bytes of the entry with the facts, which has some thousands


@dataclass(frozen=True)
class ModelInfo:
    """Hold the facts of a network: class names, architecture, width, and where its weights come from."""

    classes: tuple[str, ...]
    architecture: str = DEFAULT_ARCHITECTURE
    width: float = 1.0
    provenance: dict[str, Any] = field(default_factory=dict)  # source, recipe, data set, split trained on, step, mIoU
    export: ExportFacts | None = None  # of a file that its own runtime computes

    def to_json(self) -> str:
        """Return the text that a file has of it, with scales, palette and preprocessing for other readers."""
        palette = voc_palette()[: len(self.classes)].tolist()
        network = ARCHITECTURES[self.architecture]
        preprocessing = network.preprocessing.to_dict()
        facts = asdict(self) | {"scales": network.scales, "palette": palette, "preprocessing": preprocessing}
        if self.export is None:
            del facts["export"]
        return json.dumps(facts, indent=1)


def read_info(path: Path) -> ModelInfo:
    """Read the facts of a model file; raises WeightsError if deeplabctl did not write it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if INFO_ENTRY not in names:
                kind = "a Keras model without class names" if "config.json" in names else "another zip archive"
                raise WeightsError(f"weights {path}: expected a model file written by deeplabctl, got {kind}")
            if (size := archive.getinfo(INFO_ENTRY).file_size) > _LARGEST:
                raise ValueError(f"{INFO_ENTRY} of {size} bytes")
            return info_from_json(archive.read(INFO_ENTRY), path)
    except zipfile.BadZipFile:
        raise WeightsError(
            f"weights {path}: expected a .keras model file or a run directory, got another or a damaged file"
        ) from None
    except DAMAGED_ZIP as error:
        raise damaged(path, error) from None


def info_from_json(text: bytes, path: Path) -> ModelInfo:
    """Read the text of `ModelInfo.to_json`; raises WeightsError for any other text."""
    try:
        stored = json.loads(text)
        classes = tuple(str(name) for name in stored["classes"])
        architecture, width, provenance = stored["architecture"], float(stored["width"]), dict(stored["provenance"])
        _check_expected_score(provenance)
        export = ExportFacts.from_dict(stored["export"]) if "export" in stored else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise damaged(path, error) from None
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"weights {path}: expected one of the architectures {', '.join(ARCHITECTURES)}, got {architecture!r}; "
            "a newer version of deeplabctl wrote the file"
        )
    return ModelInfo(classes, architecture, width, provenance, export)


def damaged(path: Path, error: Exception) -> WeightsError:
    """Return the error to raise for a file whose facts cannot be read."""
    return WeightsError(f"weights {path}: the file is damaged ({type(error).__name__}: {error})")


def _check_expected_score(provenance: dict[str, Any]) -> None:
    """Raise ValueError where the score that a recipe expects, or the recipe, is not what a training writes."""
    recipe, expect = provenance.get("recipe") or {}, provenance.get("expect") or {}
    if not isinstance(recipe, dict) or not all(isinstance(section, dict | str) for section in recipe.values()):
        raise ValueError("a recipe without sections")
    kinds = {"miou": int | float, "tolerance": int | float, "images": int, "source": str}
    if expect and not all(isinstance(expect[key], kind) for key, kind in kinds.items()):
        raise ValueError("an expected score that is no number")
