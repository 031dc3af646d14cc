"""Check that several workers begin the same training."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from typing import Any

import numpy as np

from deeplabctl.errors import RunError
from deeplabctl.training.cluster import Cluster
from deeplabctl.training.plan import Plan


def check_workers_agree(cluster: Cluster, plan: Plan, step: int, weights_checksum: int) -> None:
    """Raise RunError, on all workers, if one has another recipe, other data, another step or other weights."""
    if cluster.workers == 1:
        return
    sections: dict[str, Any] = asdict(plan.recipe)
    sections["model"]["init"] = ""  # a path, which may differ; the weights are compared themselves
    recipe = [sections[name] for name in ("model", "augment", "solver")]
    # What workers do together at the same steps counts as well as what they compute.
    names = ("seed", "precision", "val_every", "save_every", "preview_every", "time")
    run = [sections["run"][name] for name in names]
    begin = {
        "recipe": [*recipe, *run],
        "data": [plan.fingerprint, plan.dataset.classes],
        "step or weights": [step, weights_checksum],
    }
    for what, value in begin.items():
        checksums = np.zeros(cluster.workers, np.int64)
        checksums[cluster.index] = zlib.crc32(json.dumps(value, sort_keys=True).encode())
        checksums = cluster.sum(checksums)
        if others := [index for index, checksum in enumerate(checksums) if checksum != checksums[0]]:
            raise RunError(
                f"worker{'s' if len(others) > 1 else ''} {', '.join(map(str, others))}: expected the {what} of "
                "worker 0, got another; start all workers with the same options, data and files"
            )
