"""Read and write the facts that a model file has beside its weights."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deeplabctl.classes import voc_palette
from deeplabctl.errors import WeightsError
from deeplabctl.network.layers import ARCHITECTURES, DEFAULT_ARCHITECTURE
from deeplabctl.network.preprocessing import MEAN_BGR
from deeplabctl.weights.formats import DAMAGED_ZIP, INFO_ENTRY

_LARGEST = 16 << 20  # bytes of the entry with the facts, which has some thousands


@dataclass(frozen=True)
class ModelInfo:
    """Hold the facts of a network: class names, architecture, width, and where its weights come from."""

    classes: tuple[str, ...]
    architecture: str = DEFAULT_ARCHITECTURE
    width: float = 1.0
    provenance: dict[str, Any] = field(default_factory=dict)  # source, recipe, data set, split trained on, step, mIoU

    def to_json(self) -> str:
        """Return the text of the archive's entry, with scales, palette and preprocessing for other readers."""
        palette = voc_palette()[: len(self.classes)].tolist()
        preprocessing = {"channels": "BGR", "mean": MEAN_BGR, "scale": 1}
        scales = ARCHITECTURES[self.architecture].scales
        facts = asdict(self) | {"scales": scales, "palette": palette, "preprocessing": preprocessing}
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
            stored = json.loads(archive.read(INFO_ENTRY))
        classes = tuple(str(name) for name in stored["classes"])
        architecture, width, provenance = stored["architecture"], float(stored["width"]), dict(stored["provenance"])
    except zipfile.BadZipFile:
        raise WeightsError(
            f"weights {path}: expected a .keras model file or a run directory, got another or a damaged file"
        ) from None
    except DAMAGED_ZIP as error:
        raise WeightsError(f"weights {path}: the file is damaged ({type(error).__name__}: {error})") from None
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"weights {path}: expected one of the architectures {', '.join(ARCHITECTURES)}, got {architecture!r}; "
            "a newer version of deeplabctl wrote the file"
        )
    return ModelInfo(classes, architecture, width, provenance)
