"""Read and write the facts that model files and exports have beside their weights, as JSON."""

from __future__ import annotations

import itertools
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from deeplabctl.choices import EXPORTS, ExportFormat, ExportPrecision
from deeplabctl.classes import IGNORE_LABEL, ClassNames, class_colors
from deeplabctl.damage import refusing
from deeplabctl.errors import WeightsError
from deeplabctl.limits import FACTORS
from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE

INFO_ENTRY = "deeplabctl.json"  # in our own .keras archives and exports, beside the entries of the format
RECIPE_SECTIONS = ("data", "eval", "crf")  # of a training's recipe, those that say how its weights are applied
LARGEST_INFO = 2 << 20  # bytes of that entry, which has some thousands
_WIDEST = 1e4


@dataclass(frozen=True)
class ExportFacts:
    """Hold the facts of an exported graph.

    It takes ``image`` (N, H, W, 3) uint8 RGB and gives ``label`` (N, H, W) uint8 and ``scores`` (N, H, W, C) float32
    after softmax. The test size is "tight". Images of a longer side than ``image_size`` (0: any) are to be made smaller
    before: that is not in the graph.
    """

    format: ExportFormat
    precision: ExportPrecision
    scales: tuple[float, ...]
    flip: bool
    image_size: int = 0
    agreement: dict[str, Any] = field(default_factory=dict)  # with the network: share of equal labels, pixels, ...
    sha256: dict[str, str] = field(default_factory=dict)  # of the parts of the file, the facts apart

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> ExportFacts:
        """Return the facts as a file stores them; raises ValueError, KeyError or TypeError for other texts."""
        format_, precision, flip = stored["format"], stored["precision"], stored["flip"]
        if format_ not in EXPORTS or precision not in get_args(ExportPrecision) or not isinstance(flip, bool):
            raise ValueError("facts of another kind of export")
        scales = tuple(float(_of_kind(scale, int | float)) for scale in _of_kind(stored["scales"], list))
        if not scales or not FACTORS.holds(scales):
            raise ValueError("scales outside 0 to 4")
        sha256 = {str(name): str(value) for name, value in dict(stored["sha256"]).items()}
        size = int(_of_kind(stored.get("image_size", 0), int))
        return cls(format_, precision, scales, flip, size, dict(stored["agreement"]), sha256)

    @property
    def runtime(self) -> str:
        """Return what computes the graph."""
        return EXPORTS[self.format].runtime

    @property
    def words(self) -> str:
        """Return the name of the format."""
        return EXPORTS[self.format].words


@dataclass(frozen=True)
class ModelInfo:
    """Hold the facts of a network: class names, architecture, width, and where its weights come from."""

    classes: tuple[str, ...]
    architecture: str = DEFAULT_ARCHITECTURE
    width: float = 1.0
    provenance: dict[str, Any] = field(default_factory=dict)  # source, recipe, data set, split trained on, step, mIoU
    export: ExportFacts | None = None  # of a file that its own runtime computes

    def to_json(self) -> str:
        """Return the JSON that a file stores, with scales, palette and preprocessing for other readers."""
        palette = class_colors(self.classes)[: len(self.classes)].tolist()
        network = ARCHITECTURES[self.architecture]
        preprocessing = network.preprocessing.to_dict()
        facts = asdict(self) | {"scales": network.scales, "palette": palette, "preprocessing": preprocessing}
        if self.export is None:
            del facts["export"]
        text = json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace")  # "?" in names that are not UTF-8
        return json.dumps(json.loads(text), indent=1)

    @classmethod
    def from_json(cls, text: bytes, path: Path) -> ModelInfo:
        """Read the text of `to_json`; raises WeightsError, which names the file, for any other text."""
        with refusing(path):
            stored = json.loads(text)
            json.dumps(stored, ensure_ascii=False, allow_nan=False).encode()  # no halves of characters, no NaN
            classes, architecture = _of_kind(stored["classes"], list), _of_kind(stored["architecture"], str)
            if not all(isinstance(name, str) for name in classes) or not 1 <= len(classes) <= IGNORE_LABEL:
                raise ValueError(f"expected 1 to {IGNORE_LABEL} names of classes")
            if not 0 < (width := float(_of_kind(stored["width"], int | float))) <= _WIDEST:
                raise ValueError(f"a width of {width:g}")
            names = _colored(classes, stored.get("palette"))
            provenance = dict(_of_kind(stored["provenance"], dict))
            _check_provenance(provenance)
            export = ExportFacts.from_dict(stored["export"]) if "export" in stored else None
        if architecture not in ARCHITECTURES:
            raise WeightsError(
                f"weights {path}: expected one of the architectures {', '.join(ARCHITECTURES)}, got {architecture!r}; "
                "a newer version of deeplabctl wrote the file"
            )
        return cls(names, architecture, width, provenance, export)


def info_entry(archive: zipfile.ZipFile) -> bytes:
    """Return the text of the facts in a zip archive; raises ValueError where it is too long for them."""
    if (size := archive.getinfo(INFO_ENTRY).file_size) > LARGEST_INFO:
        raise ValueError(f"{INFO_ENTRY} of {size} bytes")
    return archive.read(INFO_ENTRY)


def _colored(classes: list[str], palette: Any) -> tuple[str, ...]:
    """Return class names with the palette of a file, unless they have it anyway; raises ValueError for no palette."""
    if palette in (None, class_colors(classes)[: len(classes)].tolist()):
        return tuple(classes)
    colors = [tuple(color) for color in _of_kind(palette, list)]
    if len(colors) != len(classes) or not all(len(color) == 3 for color in colors):
        raise ValueError("a palette of another number of colours")
    bytes(itertools.chain(*colors))  # raises for other numbers
    return ClassNames(classes, colors)


def _of_kind(value: Any, kind: Any) -> Any:
    """Return a value of JSON; raises TypeError for one of another kind (True and False are no numbers)."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"a value of another type: {value!r:.80}")
    return value


def _check_provenance(provenance: dict[str, Any]) -> None:
    """Raise ValueError or TypeError where the facts of a training are not what one writes."""
    for name, kind in {"data": str, "split": str, "val_miou": int | float}.items():
        if provenance.get(name) is not None:
            _of_kind(provenance[name], kind)
    recipe, expect = provenance.get("recipe") or {}, provenance.get("expect") or {}
    for name, section in _of_kind(recipe, dict).items():
        _of_kind(section, dict if name in RECIPE_SECTIONS else dict | str)
    for name, kind in {"miou": int | float, "tolerance": int | float, "images": int, "source": str}.items():
        if expect:
            _of_kind(_of_kind(expect, dict)[name], kind)
