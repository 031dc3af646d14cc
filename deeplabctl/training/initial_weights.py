"""Find what a training starts from: its weights, and the weight of each class in the loss."""

from __future__ import annotations

from deeplabctl.data.class_weights import median_frequency_weights
from deeplabctl.network.layers import Weights
from deeplabctl.recipe import Recipe
from deeplabctl.reporting import Note, Reporter
from deeplabctl.training.plan import Plan
from deeplabctl.weights import training_start


def start_weights(recipe: Recipe, num_classes: int, report: Reporter) -> tuple[Weights, list[str]]:
    """Return the weights that ``model.init`` names, and the names of the layers that start random."""
    model = recipe.model
    weights, new_layers, notes = training_start.start_weights(
        model.init, model.architecture, num_classes, model.width, recipe.run.seed
    )
    if notes:
        report(Note("; ".join(notes)))
    return weights, new_layers


def class_weights(plan: Plan) -> list[float]:
    """Return the weight of each class, as the recipe gives them or of median frequency."""
    given, num_classes = plan.recipe.solver.class_weights, len(plan.dataset.classes)
    if given == "none":
        return [1.0] * num_classes
    if given == "median":
        return median_frequency_weights(plan.facts, num_classes)
    return [float(weight) for weight in given]
