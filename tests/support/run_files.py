"""Make run directories as trainings leave them, without training."""

import json

import numpy as np
from PIL import Image

from deeplabctl.recipe import read_recipe, recipe_text

CLASSES = ("background", "disc", "ring")


def train_line(step, loss=1.0, learning_rate=0.01, images_per_second=20.0):
    return {
        "kind": "train", "step": step, "loss": loss, "learning_rate": learning_rate,
        "images_per_second": images_per_second, "waiting": 0.01, "seconds_left": 3.0,
    }  # fmt: skip


def validation_line(step, miou, classes=CLASSES):
    """Return a validation whose classes have the IoUs miou, miou + 0.01, ...; without any classes, as older runs."""
    line = {
        "kind": "validation", "step": step, "miou": miou, "pixel_accuracy": 0.75, "best": True, "predicted": 1,
        "present": 3,
    }  # fmt: skip
    if classes:
        line["classes"] = [
            {"name": name, "iou": miou + 0.01 * index, "accuracy": 0.5, "pixels": 1000 + index}
            for index, name in enumerate(classes)
        ]
    return line


LINES = (
    train_line(1, 2.0), train_line(20, 1.5), validation_line(20, 0.3), train_line(40, 1.0), validation_line(40, 0.5),
    train_line(60, 0.9), validation_line(60, 0.4),
)  # fmt: skip


def write_lines(run, lines):
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_run(path, lines=LINES, *, settings=(), previews=(20, 40, 60), **facts):
    """Write a run of 60 steps of 4 images with the packaged recipe shapes; returns its path."""
    (path / "previews").mkdir(parents=True)
    changes = ["data.root=shapes", "solver.steps=60", "solver.batch_size=4", "solver.learning_rate=0.02"]
    recipe = read_recipe("shapes", [*changes, *settings])
    (path / "recipe.toml").write_text(recipe_text(recipe))
    usual = {"status": "finished", "argv": ["deeplabctl", "train"], "device": "CPU, 2 cores", "expect": None}
    (path / "run.json").write_text(json.dumps(usual | {"recipe": "shapes"} | facts))
    write_lines(path, lines)
    for step in previews:
        Image.fromarray(np.full((40, 60, 3), step, np.uint8)).save(path / "previews" / f"step-{step:06d}.png")
    return path
