"""Compute learning rates: Caffe's policies and a linear warm-up."""

from __future__ import annotations

from deeplabctl.recipe import Solver


def learning_rate(solver: Solver, step: int) -> float:
    """Return the rate of update ``step`` (0 is the first), before any layer's multiplier.

    fixed: base; step: ``base * gamma ** (step // step_size)``; poly: ``base * (1 - step / steps) ** power``, which is
    still above zero at the last update. The warm-up multiplies its first steps by ``(step + 1) / warmup_steps``.
    """
    rate = solver.learning_rate
    if solver.policy == "step":
        rate *= solver.gamma ** (step // solver.step_size)
    elif solver.policy == "poly":
        rate *= (1 - step / solver.steps) ** solver.power
    return rate * min(1.0, (step + 1) / max(1, solver.warmup_steps))
