"""Hold the parameters of the dense CRF, their limits, and the papers' presets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Normalization = Literal["after", "symmetric"]


@dataclass(frozen=True)
class CrfParams:
    """Set the two kernels of the dense CRF (arXiv 1606.00915, section 3.3, equation 3); names are the original's.

    The bilateral kernel has weight ``bi_w`` and standard deviations ``bi_xy_std`` (pixels) and ``bi_rgb_std`` (grey
    levels of 0 to 255); the gaussian kernel has ``pos_w`` and ``pos_xy_std`` (pixels). The normalization is "after"
    filtering, as in the original DeepLab, or "symmetric", as in newer programs. The defaults are `largefov-v1`.
    """

    pos_w: float = 3.0
    pos_xy_std: float = 3.0
    bi_w: float = 4.0
    bi_xy_std: float = 49.0
    bi_rgb_std: float = 5.0
    iterations: int = 10
    normalization: Normalization = "after"

    def check(self) -> None:
        """Raise ValueError for a value outside of its limits."""
        for name, holds, expected in LIMITS:
            if not holds(value := getattr(self, name)):
                raise ValueError(f"CRF: {name}: expected {expected}, got {value!r}")


# Parameter, whether a value is allowed, and the values that are, in words.
LIMITS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    *((name, lambda v: 0 <= v < math.inf, "at least 0") for name in ("pos_w", "bi_w")),
    *((name, lambda v: 0 < v < math.inf, "above 0") for name in ("pos_xy_std", "bi_xy_std", "bi_rgb_std")),
    ("iterations", lambda v: 0 <= v <= 1000, "0 to 1000"),
    ("normalization", get_args(Normalization).__contains__, " or ".join(get_args(Normalization))),
)

PRESETS = {
    "largefov-v1": CrfParams(),
    "v2-vgg": CrfParams(bi_w=4, bi_xy_std=65, bi_rgb_std=3, pos_w=2, pos_xy_std=2),
    "v2-resnet": CrfParams(bi_w=4, bi_xy_std=67, bi_rgb_std=3, pos_w=3, pos_xy_std=1),
}
