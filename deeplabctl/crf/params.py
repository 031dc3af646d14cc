"""Hold the parameters of the dense CRF and the papers' presets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CrfParams:
    """Set the two kernels of the dense CRF (arXiv 1606.00915, section 3.3, equation 3); names are the original's.

    The bilateral kernel has weight ``bi_w`` and standard deviations ``bi_xy_std`` (pixels) and ``bi_rgb_std`` (grey
    levels of 0 to 255); the gaussian kernel has ``pos_w`` and ``pos_xy_std`` (pixels). The normalisation is "after"
    filtering, as in the original DeepLab, or "symmetric", as newer programs have it. The defaults are `largefov-v1`.
    """

    pos_w: float = 3.0
    pos_xy_std: float = 3.0
    bi_w: float = 4.0
    bi_xy_std: float = 49.0
    bi_rgb_std: float = 5.0
    iterations: int = 10
    normalization: Literal["after", "symmetric"] = "after"

    def check(self) -> None:
        """Raise ValueError for a value that no CRF can have."""
        for name in ("pos_w", "bi_w"):
            if not 0 <= (weight := getattr(self, name)) < math.inf:
                raise ValueError(f"CRF: {name}: expected at least 0, got {weight}")
        for name in ("pos_xy_std", "bi_xy_std", "bi_rgb_std"):
            if not 0 < (deviation := getattr(self, name)) < math.inf:
                raise ValueError(f"CRF: {name}: expected more than 0, got {deviation}")
        if self.iterations < 0:
            raise ValueError(f"CRF: iterations: expected at least 0, got {self.iterations}")
        if self.normalization not in ("after", "symmetric"):
            raise ValueError(f'CRF: normalization: expected "after" or "symmetric", got "{self.normalization}"')


PRESETS = {
    "largefov-v1": CrfParams(),
    "v2-vgg": CrfParams(bi_w=4, bi_xy_std=65, bi_rgb_std=3, pos_w=2, pos_xy_std=2),
    "v2-resnet": CrfParams(bi_w=4, bi_xy_std=67, bi_rgb_std=3, pos_w=3, pos_xy_std=1),
}
