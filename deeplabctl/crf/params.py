"""Hold the parameters of the dense CRF, their limits, and the papers' presets."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Literal

from deeplabctl.limits import ABOVE_0, Limit, beyond_limits, limited

# The scores would have no digits left beside products with larger weights, which float32 cannot hold from 1e38 on.
_WEIGHT = Limit("0 to 1e6", lambda value: 0 <= value <= 1e6)


@dataclass(frozen=True)
class CrfParams:
    """Set the two kernels of the dense CRF (arXiv 1606.00915, section 3.3, equation 3); names are the original's.

    The bilateral kernel has weight ``bi_w`` and standard deviations ``bi_xy_std`` (pixels) and ``bi_rgb_std`` (grey
    levels of 0 to 255); the gaussian kernel has ``pos_w`` and ``pos_xy_std`` (pixels). The normalization is "after"
    filtering, as in the original DeepLab, or "symmetric", as in newer programs. The defaults are `largefov-v1`.
    """

    pos_w: float = limited(3.0, *_WEIGHT)
    pos_xy_std: float = limited(3.0, *ABOVE_0)
    bi_w: float = limited(4.0, *_WEIGHT)
    bi_xy_std: float = limited(49.0, *ABOVE_0)
    bi_rgb_std: float = limited(5.0, *ABOVE_0)
    iterations: int = limited(10, "a whole number, 0 to 1000", lambda v: 0 <= index(v) <= 1000)
    normalization: Literal["after", "symmetric"] = limited(
        "after", "after or symmetric", ("after", "symmetric").__contains__
    )

    def check(self) -> None:
        """Raise ValueError for a value beyond its limit."""
        for wrong in beyond_limits(self):
            raise ValueError(f"CRF: {wrong}")


PRESETS = {
    "largefov-v1": CrfParams(),
    "v2-vgg": CrfParams(bi_w=4, bi_xy_std=65, bi_rgb_std=3, pos_w=2, pos_xy_std=2),
    "v2-resnet": CrfParams(bi_w=4, bi_xy_std=67, bi_rgb_std=3, pos_w=3, pos_xy_std=1),
}
