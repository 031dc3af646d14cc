"""Choose the number format of the forward and the backward pass, and tell whether it can be computed here."""

from __future__ import annotations

from pathlib import Path

from deeplabctl.network.precision import Precision


def best_precision(gpus: int, cpu_facts: Path = Path("/proc/cpuinfo")) -> Precision:
    """Return float16 on a GPU, bfloat16 where the CPU computes it faster than float32, else float32.

    It does with AMX, and with AVX512_BF16 on AMD's processors (Zen 4 and later): a training step is 1.5 times faster.
    Intel's processors issue AVX512_BF16 products at half the rate, so that without AMX a step takes 1.7 times as long.
    """
    if gpus:
        return "float16"
    try:
        words = set(cpu_facts.read_text("utf-8", "replace").split())
    except OSError:
        return "float32"
    fast = "amx_bf16" in words or {"AuthenticAMD", "avx512_bf16"} <= words
    return "bfloat16" if fast else "float32"


def can_compute(precision: Precision) -> bool:
    """Tell whether TensorFlow's convolutions run in a format.

    They do not for bfloat16 where TensorFlow finds its instructions but oneDNN may not use them, as in some virtual
    machines and with $ONEDNN_MAX_CPU_ISA.
    """
    import tensorflow as tf

    try:
        tf.nn.conv2d(tf.ones((1, 9, 9, 16), precision), tf.ones((3, 3, 16, 16), precision), 1, "SAME").numpy()
    except tf.errors.OpError:
        return False
    return True
