"""Find what a training starts from: its weights, and the weight of each class in the loss."""

from __future__ import annotations

from pathlib import Path

from deeplabctl.data.class_weights import median_frequency_weights
from deeplabctl.network.layers import Weights
from deeplabctl.recipe import Recipe
from deeplabctl.reporting import Note, Reporter
from deeplabctl.training.plan import Plan
from deeplabctl.weights.fitting import fit_weights, random_weights
from deeplabctl.weights.model_file import imagenet_layers
from deeplabctl.weights.reading import read_origin, to_architecture


def start_weights(recipe: Recipe, num_classes: int, report: Reporter) -> tuple[Weights, list[str]]:
    """Return the weights that ``model.init`` names, and the names of the layers that start random."""
    model = recipe.model
    if model.init == "random":
        weights = random_weights(model.architecture, num_classes, model.width, recipe.run.seed)
        return weights, list(weights)
    origin = imagenet_layers() if model.init == "imagenet" else read_origin(Path(model.init))
    layers, said = to_architecture(origin, model.architecture, recipe.run.seed)
    weights, new = fit_weights(layers, model.architecture, num_classes, model.width, recipe.run.seed, model.init)
    report(Note("; ".join([f"weights from {model.init}", *said, f"new: {', '.join(new) or 'none'}"])))
    return weights, new


def class_weights(plan: Plan) -> list[float]:
    """Return the weight of each class, as the recipe gives them or of median frequency."""
    given, num_classes = plan.recipe.solver.class_weights, len(plan.dataset.classes)
    if given == "none":
        return [1.0] * num_classes
    if given == "median":
        return median_frequency_weights(plan.facts, num_classes)
    return [float(weight) for weight in given]
