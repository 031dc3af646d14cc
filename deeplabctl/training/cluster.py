"""Spread a training over devices and machines, on TensorFlow's own engine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import RunError
from deeplabctl.parallel import available_cpus

if TYPE_CHECKING:
    import tensorflow as tf


class Cluster:
    """Hold a strategy of TensorFlow and what a training asks of it.

    The replicas (devices of all workers together) work on equal shares of each batch and keep the same weights.
    Worker 0 is the chief, which alone writes files; every worker has the same number of replicas.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        import tensorflow as tf

        self.strategy = strategy or tf.distribute.get_strategy()
        resolver = self.strategy.cluster_resolver
        spec = resolver.cluster_spec().as_dict() if resolver else {}
        self.workers = sum(len(spec.get(kind, ())) for kind in ("chief", "worker")) or 1
        self.index = 0
        if resolver and resolver.task_type == "worker":
            self.index = int(resolver.task_id) + len(spec.get("chief", ()))
        self.replicas = int(self.strategy.num_replicas_in_sync)
        self.gpus = len(tf.config.list_physical_devices("GPU"))

    @classmethod
    def of_kind(cls, kind: str, batch: int) -> Cluster:
        """Make a cluster: "single", "mirrored" (this machine's GPUs) or "multi-worker" (the machines of TF_CONFIG).

        "auto" takes as many of this machine's GPUs as divide a batch of this many images, and is single without them.

        A worker does this before anything else with TensorFlow, and waits here for the others.
        """
        import tensorflow as tf

        if kind == "multi-worker":
            return cls(tf.distribute.MultiWorkerMirroredStrategy())
        if kind == "mirrored":
            return cls(tf.distribute.MirroredStrategy())
        if kind == "auto":
            gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
            used = max((count for count in range(1, len(gpus) + 1) if batch % count == 0), default=1)
            if used > 1:
                return cls(tf.distribute.MirroredStrategy(gpus[:used]))
        return cls()

    @property
    def device(self) -> str:
        """Return what this worker computes on, in words."""
        own = f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else f"CPU, {available_cpus()} cores"
        return own if self.workers == 1 else f"{own}; worker {self.index} of {self.workers}"

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which variables are made for all replicas."""
        scope: AbstractContextManager[Any] = self.strategy.scope()
        return scope

    def check_batch(self, batch: int) -> None:
        """Raise RunError if a batch does not divide among the replicas."""
        if batch % self.replicas:
            raise RunError(
                f"solver.batch_size: expected a multiple of the {self.replicas} devices that share each batch, "
                f"got {batch}"
            )

    def sum(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sum of an array over the workers; every worker must call this at the same point."""
        if self.workers == 1:
            return values
        import tensorflow as tf

        own = self.replicas // self.workers  # replicas of a worker, of which the first brings the worker's values

        def contribution(context: tf.distribute.ReplicaContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group % own == 0
            return tf.constant(values if first else np.zeros_like(values))

        spread = self.strategy.experimental_distribute_values_from_function(contribution)
        total: npt.NDArray[Any] = self.strategy.reduce(tf.distribute.ReduceOp.SUM, spread, axis=None).numpy()
        return total

    def any(self, flag: bool) -> bool:
        """Tell whether any worker says yes."""
        return bool(self.sum(np.array(int(flag), np.int64)))
