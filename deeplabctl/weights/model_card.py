"""Write the card of a model file, README.md, as the Hugging Face hub shows it: from what the file itself says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deeplabctl.network import ARCHITECTURES
from deeplabctl.version import __version__
from deeplabctl.weights.model_info import ModelInfo


def model_card(info: ModelInfo, file: str, size: int, sha256: str, repo: str, licence: str | None) -> str:
    """Return the card of a file of ``size`` bytes that goes to a repository USER/NAME.

    Paths of the machine that trained it are left out, but for the name of the data set's folder.
    """
    facts, network = info.provenance, ARCHITECTURES[info.architecture]
    recipe: dict[str, Any] = facts.get("recipe") or {}
    data = Path(str(facts.get("data") or "")).name
    preprocessing = network.preprocessing.to_dict()
    miou = facts.get("val_miou")
    lines = ["---", *_front_matter(repo, licence, data, miou), "---", "", f"# {repo.partition('/')[2]}", ""]
    lines += [
        f"Semantic segmentation: a class for every pixel, of {len(info.classes)}. `{file}` is a Keras 3 archive.",
        "",
    ]
    lines += ["    pip install 'deeplabctl[hub]'", f"    deeplabctl infer photo.jpg --weights hf://{repo}", ""]
    lines += ["Without deeplabctl, `keras.saving.load_model` opens it.", ""]
    lines += ["| fact | value |", "|---|---|"]
    rows = {
        "architecture": info.architecture,
        "width": f"{info.width:g}",
        "file": f"{size:,} bytes, sha256 `{sha256}`",
        "classes": ", ".join(f"{index} {name}" for index, name in enumerate(info.classes)),
        "input": ", ".join(f"{key} {json.dumps(value)}" for key, value in preprocessing.items()),
        "trained on": data and f"{data}, split {facts.get('split')}",
        "steps": facts.get("step"),
        "mIoU": None if miou is None else f"{100 * float(miou):.2f} %, on the validation split, in training",
        "written by": f"deeplabctl {__version__}",
    }
    lines += [f"| {name} | {_cell(value)} |" for name, value in rows.items() if value not in (None, "")]
    if recipe:
        lines += ["", "## Recipe", ""]
        for section, values in recipe.items():
            shown = (
                {key: value for key, value in values.items() if not _is_path(value)} if isinstance(values, dict) else {}
            )
            lines += [f"    [{section}]", *(f"    {key} = {json.dumps(value)}" for key, value in shown.items())]
    return "\n".join(lines) + "\n"


def _front_matter(repo: str, licence: str | None, data: str, miou: Any) -> list[str]:
    """Return the lines that the hub reads, in YAML, of which JSON's texts are a part."""
    lines = [f"license: {json.dumps(licence)}"] if licence else []
    lines += ["library_name: keras", "pipeline_tag: image-segmentation", "tags:"]
    lines += ["- deeplab", "- deeplabctl", "- semantic-segmentation"]
    if miou is not None:
        lines += [
            "model-index:",
            f"- name: {json.dumps(repo)}",
            "  results:",
            "  - task:",
            "      type: image-segmentation",
        ]
        lines += ["    dataset:", f"      name: {json.dumps(data)}", f"      type: {json.dumps(data)}", "    metrics:"]
        lines += ["    - type: mean_iou", f"      value: {float(miou):.4f}"]
    return lines


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)
