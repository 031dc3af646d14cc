"""Compare two ways to compute fc6 (dilation 12) on a CPU: TensorFlow's dilated convolution and shifted products.

python benchmarks/atrous_convolution.py
"""

import statistics
import time
from collections.abc import Callable

import tensorflow as tf

from deeplabctl.network.ops.convolution import atrous_convolution

CASES = {"width 1.0, crop 321, batch 2": (2, 41, 512, 1024), "width 0.25, crop 129, batch 8": (8, 17, 128, 256)}


def dilated(x: tf.Tensor, kernel: tf.Tensor, dilation: int) -> tf.Tensor:
    """Convolve as keras.layers.Conv2D does."""
    return tf.nn.convolution(x, kernel, 1, "SAME", dilations=dilation)


def measured(convolve: Callable[..., tf.Tensor], x: tf.Tensor, kernel: tf.Variable) -> dict[str, Callable[[], object]]:
    """Return the compiled forward pass, and the forward pass with its gradient."""

    @tf.function
    def forward() -> tf.Tensor:
        return convolve(x, kernel, 12)

    @tf.function
    def gradient() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(convolve(x, kernel, 12)))
        return tape.gradient(loss, [x, kernel])

    return {"forward": forward, "gradient": gradient}


def main() -> None:
    """Print the ratio of medians of five, measured in turn."""
    for name, (batch, size, incoming, outgoing) in CASES.items():
        x = tf.random.stateless_normal((batch, size, size, incoming), seed=(0, 0))
        kernel = tf.Variable(tf.random.stateless_normal((3, 3, incoming, outgoing), seed=(0, 1)) * 0.01)
        theirs, ours = measured(dilated, x, kernel), measured(atrous_convolution, x, kernel)
        for part in theirs:
            times: dict[str, list[float]] = {"dilated": [], "shifted": []}
            for round_ in range(6):
                for kind, run in (("dilated", theirs[part]), ("shifted", ours[part])):
                    begin = time.perf_counter()
                    run()
                    if round_:  # the first compiles
                        times[kind].append(time.perf_counter() - begin)
            slow, fast = statistics.median(times["dilated"]), statistics.median(times["shifted"])
            print(f"{name}, {part}: dilated {slow * 1e3:.0f} ms / shifted {fast * 1e3:.0f} ms = {slow / fast:.1f}")


if __name__ == "__main__":
    main()
