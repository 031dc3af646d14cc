"""Spread a training over devices and machines, on TensorFlow's own engine."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabctl.choices import Precision
from deeplabctl.errors import RunError
from deeplabctl.limits import Reach
from deeplabctl.parallel import available_cpus
from deeplabctl.reporting import counted

if TYPE_CHECKING:
    import tensorflow as tf

    from deeplabctl.training.plan import Plan


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
        # In a graph: outside of one, TensorFlow starts threads for each sum, and leaves them when another worker dies.
        self._reduce = tf.function(self.strategy.reduce)

    @classmethod
    def of_kind(cls, kind: str, batch: int) -> Cluster:
        """Make a cluster: "single", "mirrored" (this machine's GPUs) or "multi-worker" (the machines of TF_CONFIG).

        "auto" uses as many of this machine's GPUs as divide a batch of ``batch`` images, and is single without them.

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
        """Describe what this worker computes on."""
        used, own = self.replicas // self.workers, f"CPU, {counted(available_cpus(), 'core')}"
        if self.gpus:
            own = f"{used} of {self.gpus} GPUs" if self.gpus > 1 else "1 GPU"
        return own if self.workers == 1 else f"{own}; worker {self.index} of {self.workers}"

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
        total: npt.NDArray[Any] = self._reduce(tf.distribute.ReduceOp.SUM, spread, axis=None).numpy()
        return total

    def any(self, flag: bool) -> bool:
        """Tell whether any worker says yes."""
        return bool(self.sum(np.array(int(flag), np.int64)))


def check_workers_agree(cluster: Cluster, plan: Plan, step: int, weights_checksum: int) -> None:
    """Raise RunError, on all workers, if one has another recipe, other data, another step or other weights."""
    if cluster.workers == 1:
        return
    recipe = plan.recipe.values(Reach.BEST)  # what workers do together at the same steps counts, too
    del recipe["model.init"]  # a path, which may differ; what it holds is compared
    for what, value in {
        "recipe": recipe,
        "data": plan.fingerprint,
        "step or weights": [step, weights_checksum],
    }.items():
        checksums = np.zeros(cluster.workers, np.int64)
        checksums[cluster.index] = zlib.crc32(json.dumps(value, sort_keys=True).encode())
        checksums = cluster.sum(checksums)
        if others := [index for index, checksum in enumerate(checksums) if checksum != checksums[0]]:
            raise RunError(
                f"worker{'s' if len(others) > 1 else ''} {', '.join(map(str, others))}: expected the {what} of "
                "worker 0, got another; start all workers with the same options, data and files"
            )


def best_precision(gpus: int, cpu_facts: Path = Path("/proc/cpuinfo")) -> Precision:
    """Return bfloat16 where it is fast, else float16 on a GPU and float32 on a CPU.

    It needs no scaling of the loss. It is fast on GPUs from NVIDIA's compute capability 8 on, and on CPUs with AMX, or
    AVX512_BF16 of AMD (Zen 4 and later), where a training step is 1.5 times faster. Intel's processors issue
    AVX512_BF16 products at half the rate: without AMX a step takes 1.7 times as long.
    """
    if gpus:
        import tensorflow as tf

        details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
        return "bfloat16" if all(one.get("compute_capability", (0,)) >= (8,) for one in details) else "float16"
    try:
        words = set(cpu_facts.read_text("utf-8", "replace").split())
    except OSError:
        return "float32"
    fast = "amx_bf16" in words or {"AuthenticAMD", "avx512_bf16"} <= words
    return "bfloat16" if fast else "float32"
